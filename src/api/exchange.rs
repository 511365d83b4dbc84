//! What goes in and out of the API: requests and answers without sockets.

use std::fmt;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use tiny_http::{Header, Method};

/// The head of a request: all that is known before its body is read.
#[derive(Debug)]
pub(crate) struct Head {
    pub method: Method,
    /// As the client sent it, up to the `?`; not decoded.
    pub path: String,
    /// What stands behind the `?`; not decoded; empty where there is none.
    pub query: String,
    pub headers: Vec<Header>,
}

impl Head {
    /// The value of the first header of that name, in any case.
    pub(crate) fn header(&self, name: &'static str) -> Option<&str> {
        self.headers
            .iter()
            .find(|header| header.field.equiv(name))
            .map(|header| header.value.as_str())
    }
}

/// A response whose length is known.
pub(crate) type Response = tiny_http::Response<Box<dyn Read + Send>>;

/// What a request is answered with.
pub(crate) enum Answer {
    Ready(Response),
    /// A response that is to come: the connection's own thread waits for it.
    Later(Box<dyn Later>),
    /// A body that grows: sent in chunks until it ends or the client goes away.
    Stream(Box<dyn Stream>),
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Answer::Ready(_) => "Ready",
            Answer::Later(_) => "Later",
            Answer::Stream(_) => "Stream",
        })
    }
}

/// A long poll.
pub(crate) trait Later: Send {
    /// Becomes readable when there may be news. It is a [`Waker`](crate::waker::Waker) of this long poll alone: the
    /// connection clears it itself before it asks again, so that no news are missed.
    fn waker(&self) -> BorrowedFd<'_>;
    /// When `answer` must be called at the latest.
    fn deadline(&self) -> Instant;
    /// Called first of all, after every wake, and at the deadline: the response, or `None` to wait on (never `None`
    /// at or after the deadline).
    fn answer(&mut self) -> Option<Response>;
}

/// A body that grows while it is read.
pub(crate) trait Stream: Send {
    /// Status and headers; its body and length are not looked at.
    fn head(&self) -> Response;
    /// Becomes readable when there may be news: as in [`Later::waker`].
    fn waker(&self) -> BorrowedFd<'_>;
    /// Appends what there is now to `buffer` (which is empty), at most some 64 KiB.
    fn next(&mut self, buffer: &mut Vec<u8>) -> Next;
}

/// What became of a call of [`Stream::next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The buffer holds more of the body: send it, then ask again. With an empty buffer it is taken for `Wait`.
    Data,
    /// Nothing new: wait for the waker.
    Wait,
    /// The body is complete.
    End,
    /// The body can't be completed: break the connection off, so that the client sees it.
    Broken,
}

/// Why a request can't be read. The connection is closed after the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadRequest {
    /// 400: it is not HTTP as we accept it; says what is wrong.
    Malformed(&'static str),
    /// 408: head or body did not come whole in time.
    Timeout,
    /// 413
    BodyTooLarge,
    /// 431
    HeadTooLarge,
    /// 503: more connections than can be served.
    TooManyConnections,
}

/// The API as the connections see it.
pub(crate) trait Service: Send + Sync {
    /// Called with the head before a body is read or asked for (`Expect: 100-continue`): the answer if the head alone
    /// decides (no token, unknown path, wrong method, stopping), so that nobody without a token can send a body to what needs one.
    fn refuse(&self, head: &Head) -> Option<Response>;
    /// Answers a request that `refuse` let pass. A panic in it is the caller's to turn into `internal_error`.
    fn handle(&self, head: &Head, body: &[u8]) -> Answer;
    fn bad_request(&self, why: &BadRequest) -> Response;
    /// 500
    fn internal_error(&self) -> Response;
}
