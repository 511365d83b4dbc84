//! Answers → bytes, with as few system calls as possible: head and body go out together where they are small.
//!
//! Unaware of requests beyond what an answer's form depends on. `tiny_http` prints the head; the body is copied here, as
//! its own loop would send a body that is shorter than was said, and would leave the next answer to be taken for the rest.

use std::io::{self, Read, Write};
use std::time::Duration;

use tiny_http::HTTPVersion;

use super::socket::{Gone, Socket};
use crate::api::exchange::Response;

/// The most of an answer that is held in memory.
const BUFFER_BYTES: usize = 64 << 10;

/// What an answer's form depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) is_http_1_1: bool,
    /// The answer to HEAD.
    pub(super) without_body: bool,
    pub(super) keeps_alive: bool,
}

/// Where the client finds the end of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// There is none, whatever its length is said to be.
    NoBody,
    Length(u64),
    /// Behind the last chunk.
    Chunked,
    /// Where the connection is closed: the client knows no chunks.
    Close,
}

/// Why an answer was not sent whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSent {
    /// Its body can't be read; nothing was sent, so that another answer is possible.
    NothingSent,
    /// The client is gone, or does not get the rest.
    Broken,
}

impl From<Gone> for NotSent {
    fn from(Gone: Gone) -> NotSent {
        NotSent::Broken
    }
}

impl Form {
    /// For a request that could not be read.
    pub(super) const UNKNOWN: Form = Form {
        is_http_1_1: true,
        without_body: false,
        keeps_alive: false,
    };

    /// Whether the connection can be used again after such an answer.
    pub(super) fn keeps_alive_after(self, response: &Response) -> bool {
        self.keeps_alive && self.body_end(response) != BodyEnd::Close
    }

    fn body_end(self, response: &Response) -> BodyEnd {
        if self.without_body || matches!(response.status_code().0, 100..=199 | 204 | 304) {
            return BodyEnd::NoBody;
        }
        match response.data_length() {
            Some(length) => BodyEnd::Length(length as u64),
            None if self.is_http_1_1 => BodyEnd::Chunked,
            None => BodyEnd::Close,
        }
    }
}

/// Appends the head of an answer.
pub(super) fn print_head(response: &Response, form: Form, out: &mut Vec<u8>) -> BodyEnd {
    let body_end = form.body_end(response);
    // Without headers of a request nothing depends on them: its `TE` would choose the framing.
    let head = tiny_http::Response::new(
        response.status_code(),
        response.headers().to_vec(),
        io::empty(),
        response.data_length(),
        None,
    )
    .with_chunked_threshold(usize::MAX);
    // 1.1 is what we speak, also to a client of 1.0, which is told so.
    head.raw_print(&mut *out, HTTPVersion(1, 1), &[], true, None)
        .expect("writing to memory does not fail");
    out.truncate(out.len() - END_OF_LINE.len());
    if !form.is_http_1_1 && out.ends_with(CHUNKED) {
        // tiny_http would need a length in its place, for which it would read the whole body into memory.
        out.truncate(out.len() - CHUNKED.len());
    }
    if !form.keeps_alive_after(response) {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if !form.is_http_1_1 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(END_OF_LINE);
    body_end
}

const END_OF_LINE: &[u8] = b"\r\n";

/// How `tiny_http` ends a head without a length.
const CHUNKED: &[u8] = b"Transfer-Encoding: chunked\r\n";

/// What ends a body in chunks.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends a piece of a body. An empty one would be taken for the end, and is left out.
pub(super) fn print_chunk(data: &[u8], out: &mut Vec<u8>) {
    if !data.is_empty() {
        write!(out, "{:x}\r\n", data.len()).expect("writing to memory does not fail");
        out.extend_from_slice(data);
        out.extend_from_slice(END_OF_LINE);
    }
}

/// Sends an answer.
pub(super) fn send(socket: &Socket, response: Response, form: Form, patience: Duration) -> Result<(), NotSent> {
    let mut out = Vec::with_capacity(512 + response.data_length().unwrap_or(0).min(BUFFER_BYTES));
    let body_end = print_head(&response, form, &mut out);
    let mut sent = false;
    let mut flush = |out: &mut Vec<u8>| {
        sent = true;
        let result = socket.send(out, patience);
        out.clear();
        result
    };
    let copied = copy_body(response.into_reader(), body_end, &mut out, &mut flush);
    match copied {
        Ok(()) => Ok(flush(&mut out)?),
        Err(NotSent::NothingSent) if sent => Err(NotSent::Broken),
        Err(why) => Err(why),
    }
}

/// The whole of a small answer that closes the connection.
pub(super) fn in_full(response: Response) -> Vec<u8> {
    let mut out = Vec::new();
    let body_end = print_head(&response, Form::UNKNOWN, &mut out);
    // A body that can't be read leaves a head that is understood anyway.
    let _ = copy_body(response.into_reader(), body_end, &mut out, &mut |_| Err(Gone));
    out
}

/// Appends the body to `out`, which is flushed whenever it is full.
fn copy_body(
    mut reader: impl Read,
    body_end: BodyEnd,
    out: &mut Vec<u8>,
    flush: &mut impl FnMut(&mut Vec<u8>) -> Result<(), Gone>,
) -> Result<(), NotSent> {
    match body_end {
        BodyEnd::NoBody => {}
        BodyEnd::Length(mut left) => {
            while left > 0 {
                if out.len() >= BUFFER_BYTES {
                    flush(out)?;
                }
                let room = (BUFFER_BYTES - out.len()) as u64;
                let count = append(&mut reader, left.min(room), out)?;
                if count == 0 {
                    // Shorter than was said. If it is longer, the rest is not sent.
                    return Err(NotSent::NothingSent);
                }
                left -= count;
            }
        }
        BodyEnd::Chunked | BodyEnd::Close => {
            let mut data = Vec::new();
            while append(&mut reader, BUFFER_BYTES as u64, &mut data)? > 0 {
                if body_end == BodyEnd::Chunked {
                    print_chunk(&data, out);
                } else {
                    out.extend_from_slice(&data);
                }
                data.clear();
                if out.len() >= BUFFER_BYTES {
                    flush(out)?;
                }
            }
            if body_end == BodyEnd::Chunked {
                out.extend_from_slice(LAST_CHUNK);
            }
        }
    }
    Ok(())
}

/// Appends up to so many bytes, fewer only at the end.
fn append(reader: impl Read, count: u64, out: &mut Vec<u8>) -> Result<u64, NotSent> {
    match reader.take(count).read_to_end(out) {
        Ok(count) => Ok(count as u64),
        Err(_) => Err(NotSent::NothingSent),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tiny_http::{Header, StatusCode};

    use super::*;

    const KEEP: Form = Form {
        is_http_1_1: true,
        without_body: false,
        keeps_alive: true,
    };
    const OLD: Form = Form {
        is_http_1_1: false,
        ..KEEP
    };
    const HEAD: Form = Form {
        without_body: true,
        ..KEEP
    };

    fn response(status: u16, body: &str, length: Option<usize>) -> Response {
        let date = Header::from_bytes("Date", "then").unwrap();
        let server = Header::from_bytes("Server", "this").unwrap();
        let body = Cursor::new(body.to_owned());
        tiny_http::Response::new(StatusCode(status), vec![date, server], body, length, None).boxed()
    }

    /// The answer without what is the same in all, with `|` for line ends.
    fn print(response: Response, form: Form) -> Result<String, NotSent> {
        let mut out = Vec::new();
        let body_end = print_head(&response, form, &mut out);
        copy_body(response.into_reader(), body_end, &mut out, &mut |_| Err(Gone))?;
        let text = String::from_utf8(out).unwrap();
        let text = text.strip_prefix("HTTP/1.1 ").unwrap();
        Ok(text
            .replacen("Date: then\r\nServer: this\r\n", "", 1)
            .replace("\r\n", "|"))
    }

    #[track_caller]
    fn check(response: Response, form: Form, expected: &str) {
        assert_eq!(print(response, form).as_deref(), Ok(expected));
    }

    #[test]
    fn prints() {
        check(response(200, "hello", Some(5)), KEEP, "200 OK|Content-Length: 5||hello");
        check(
            response(200, "hello", Some(5)),
            Form::UNKNOWN,
            "200 OK|Content-Length: 5|Connection: close||hello",
        );
        check(
            response(200, "hello", Some(5)),
            OLD,
            "200 OK|Content-Length: 5|Connection: keep-alive||hello",
        );
        check(response(200, "hello", Some(5)), HEAD, "200 OK|Content-Length: 5||");
        check(
            response(304, "hello", Some(5)),
            KEEP,
            "304 Not Modified|Content-Length: 5||",
        );
        check(response(200, "", Some(0)), KEEP, "200 OK|Content-Length: 0||");
        check(
            response(200, "hello", None),
            KEEP,
            "200 OK|Transfer-Encoding: chunked||5|hello|0||",
        );
        check(
            response(200, "hello", None),
            HEAD,
            "200 OK|Transfer-Encoding: chunked||",
        );
        check(response(200, "hello", None), OLD, "200 OK|Connection: close||hello");
        check(response(200, "", None), KEEP, "200 OK|Transfer-Encoding: chunked||0||");
    }

    #[test]
    fn a_body_is_as_long_as_was_said() {
        check(
            response(200, "hello, you", Some(5)),
            KEEP,
            "200 OK|Content-Length: 5||hello",
        );
        assert_eq!(print(response(200, "hell", Some(5)), KEEP), Err(NotSent::NothingSent));
    }
}
