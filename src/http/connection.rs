//! One connection from its first byte to its end: read a request, answer it, wait for the next.
//!
//! Unaware of other connections but for [`Connection`], through which others may close it while it is idle.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::Limits;
use super::pool::{Connection, Pool};
use super::request::{Framing, Incoming, NoRequest, Request};
use super::response::{self, BodyEnd, Form, LAST_CHUNK, NotSent, print_chunk, print_head};
use super::socket::{Gone, News, Socket};
use crate::api::exchange::{Answer, BadRequest, Later, Next, Response, Stream};

/// What becomes of the connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    NextRequest,
    /// Nothing more is to be expected from the client.
    Close,
    /// The client may still be sending, and is to see the answer before the end.
    CloseGently,
}

pub(super) fn serve(connection: &Connection, pool: &Pool) {
    let limits = pool.limits();
    let mut conversation = Conversation {
        pool,
        limits,
        socket: &connection.socket,
        incoming: Incoming::new(&connection.socket, limits),
    };
    loop {
        if conversation.incoming.is_empty() {
            let now = Instant::now();
            // In this order: a stop that comes between the two closes what is idle.
            if !connection.becomes_idle(now) || pool.is_stopping() {
                return;
            }
            if !conversation.incoming.wait(now + limits.idle_time) || !connection.becomes_busy() {
                return;
            }
        }
        match conversation.exchange() {
            Then::NextRequest => {}
            Then::Close => return,
            Then::CloseGently => {
                // It has its answer: from here on its place may be given to another.
                if connection.becomes_idle(Instant::now()) {
                    connection.socket.linger(limits.linger_time, limits.linger_bytes);
                }
                return;
            }
        }
    }
}

struct Conversation<'a> {
    pool: &'a Pool,
    limits: &'a Limits,
    socket: &'a Socket,
    incoming: Incoming<'a>,
}

impl Conversation<'_> {
    fn exchange(&mut self) -> Then {
        let request = match self.incoming.read_head() {
            Ok(request) => request,
            Err(why) => return self.answer_no_request(&why, Form::UNKNOWN),
        };
        match guarded(|| self.pool.service().refuse(&request.head)) {
            Ok(None) => {}
            Ok(Some(response)) => return self.refuse(&request, response),
            Err(Panicked) => return self.answer_panic(&request),
        }
        let body = match self.read_body(&request) {
            Ok(body) => body,
            Err(why) => return self.answer_no_request(&why, Self::closing_form(&request)),
        };
        let answer = guarded(|| self.pool.service().handle(&request.head, &body));
        // What follows may take minutes.
        drop(body);
        match answer {
            Ok(Answer::Ready(response)) => self.respond(&request, response),
            Ok(Answer::Later(later)) => self.wait_for_answer(&request, later),
            Ok(Answer::Stream(stream)) => self.stream(&request, stream),
            Err(Panicked) => self.answer_panic(&request),
        }
    }

    /// Answers a request whose body nobody has asked for yet.
    fn refuse(&mut self, request: &Request, response: Response) -> Then {
        let to_discard = match request.framing {
            Framing::None => Some(0),
            // A client that waits for a 100 may send the body now, or not: what comes next can't be told.
            Framing::Length(_) if request.expects_continue && self.incoming.is_empty() => None,
            Framing::Length(length) => usize::try_from(length)
                .ok()
                .filter(|length| *length <= self.limits.discard_bytes),
            Framing::Chunked => None,
        };
        let Some(to_discard) = to_discard else {
            return match self.send(response, Self::closing_form(request)) {
                Ok(()) => Then::CloseGently,
                Err(NotSent::Broken | NotSent::NothingSent) => Then::Close,
            };
        };
        let then = self.respond(request, response);
        if then == Then::NextRequest && self.incoming.discard_body_of(to_discard).is_err() {
            return Then::Close;
        }
        // Where the client wants no other request its body is still to come.
        if then == Then::Close && to_discard > 0 {
            Then::CloseGently
        } else {
            then
        }
    }

    fn read_body(&mut self, request: &Request) -> Result<Vec<u8>, NoRequest> {
        if let Framing::Length(length) = request.framing
            && length > self.limits.body_bytes as u64
        {
            // Before it is asked for.
            return Err(BadRequest::BodyTooLarge.into());
        }
        if request.expects_continue && request.framing != Framing::None && self.incoming.is_empty() {
            self.socket
                .send(b"HTTP/1.1 100 Continue\r\n\r\n", self.limits.send_time)
                .map_err(|_| NoRequest::Gone)?;
        }
        self.incoming.read_body(request.framing)
    }

    fn answer_no_request(&mut self, why: &NoRequest, form: Form) -> Then {
        let NoRequest::Bad(why) = why else { return Then::Close };
        let response = guarded(|| self.pool.service().bad_request(why));
        self.send_and_close(response, form)
    }

    fn answer_panic(&mut self, request: &Request) -> Then {
        let response = guarded(|| self.pool.service().internal_error());
        self.send_and_close(response, Self::closing_form(request))
    }

    fn send_and_close(&self, response: Result<Response, Panicked>, form: Form) -> Then {
        match response.map(|response| self.send(response, form)) {
            Ok(Ok(())) => Then::CloseGently,
            Ok(Err(NotSent::Broken | NotSent::NothingSent)) | Err(Panicked) => Then::Close,
        }
    }

    /// Sends the answer to a request.
    fn respond(&mut self, request: &Request, response: Response) -> Then {
        let form = self.form(request);
        let keeps_alive = form.keeps_alive_after(&response);
        match self.send(response, form) {
            Ok(()) if keeps_alive => Then::NextRequest,
            Ok(()) => self.close(),
            Err(NotSent::NothingSent) => self.answer_panic(request),
            Err(NotSent::Broken) => Then::Close,
        }
    }

    fn wait_for_answer(&mut self, request: &Request, mut later: Box<dyn Later>) -> Then {
        let mut is_late = false;
        loop {
            match guarded(|| (later.answer(), later.deadline())) {
                Ok((Some(response), _)) => {
                    // What it holds on to is not needed while the client takes its time.
                    drop(later);
                    return self.respond(request, response);
                }
                Ok((None, deadline)) if !is_late => match self.socket.wait_for_news(later.waker(), Some(deadline)) {
                    News::Woken => is_late = Instant::now() >= deadline,
                    News::Deadline => is_late = true,
                    News::Gone => return Then::Close,
                },
                // It was to answer at its deadline.
                Ok((None, _)) | Err(Panicked) => return self.answer_panic(request),
            }
        }
    }

    fn stream(&mut self, request: &Request, mut stream: Box<dyn Stream>) -> Then {
        let mut out = Vec::new();
        let form = self.form(request);
        let Ok((body_end, keeps_alive)) = guarded(|| {
            // Its body is not looked at, so neither is a length.
            let head = stream.head();
            let head = without_length(&head);
            (print_head(&head, form, &mut out), form.keeps_alive_after(&head))
        }) else {
            return self.answer_panic(request);
        };
        self.socket.probe_when_silent();
        let sent = if body_end == BodyEnd::NoBody {
            self.socket.send(&out, self.limits.send_time)
        } else {
            self.send_as_it_comes(&mut *stream, out, body_end)
        };
        // What it holds on to is not needed for the next request.
        drop(stream);
        match sent {
            Ok(()) if keeps_alive => Then::NextRequest,
            Ok(()) => self.close(),
            Err(Gone) => Then::Close,
        }
    }

    /// Sends what is in `out`, and behind it the body.
    fn send_as_it_comes(&self, stream: &mut dyn Stream, mut out: Vec<u8>, body_end: BodyEnd) -> Result<(), Gone> {
        let mut data = Vec::new();
        loop {
            data.clear();
            let next = guarded(|| stream.next(&mut data)).unwrap_or(Next::Broken);
            if body_end == BodyEnd::Chunked {
                print_chunk(&data, &mut out);
                if next == Next::End {
                    out.extend_from_slice(LAST_CHUNK);
                }
            } else {
                out.extend_from_slice(&data);
            }
            // The head goes out with the first piece, where there is one.
            self.socket.send(&out, self.limits.send_time)?;
            out.clear();
            match next {
                Next::Data if !data.is_empty() => {}
                // Also where there was no data after all: asking again at once would never end.
                Next::Data | Next::Wait => {
                    // It may be long: the buffers are not kept.
                    out = Vec::new();
                    data = Vec::new();
                    if self.socket.wait_for_news(stream.waker(), None) != News::Woken {
                        return Err(Gone);
                    }
                }
                Next::End => return Ok(()),
                Next::Broken => {
                    // A client that knows no chunks takes an orderly end for the end of the body.
                    if body_end == BodyEnd::Close {
                        self.socket.reset_at_close();
                    }
                    return Err(Gone);
                }
            }
        }
    }

    fn send(&self, response: Response, form: Form) -> Result<(), NotSent> {
        response::send(self.socket, response, form, self.limits.send_time)
    }

    /// After the last answer: gently where there is something that would be left unread.
    fn close(&self) -> Then {
        if self.incoming.is_empty() {
            Then::Close
        } else {
            Then::CloseGently
        }
    }

    fn form(&self, request: &Request) -> Form {
        Form {
            keeps_alive: request.keeps_alive && !self.pool.is_stopping(),
            ..Self::closing_form(request)
        }
    }

    fn closing_form(request: &Request) -> Form {
        Form {
            is_http_1_1: request.is_http_1_1,
            without_body: request.head.method == tiny_http::Method::Head,
            keeps_alive: false,
        }
    }
}

fn without_length(head: &Response) -> Response {
    let headers = head.headers().to_vec();
    tiny_http::Response::new(head.status_code(), headers, std::io::empty(), None, None).boxed()
}

/// The service panicked. The panic hook has said so already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Panicked;

/// Calls the service. Its locks are its own affair: it must not leave half of a change behind one.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| Panicked)
}
