//! Bytes of a client → head and body of a request, within bounds.
//!
//! Unaware of what is answered. It is strict where two readers could understand different things (both framings, two
//! lengths, folded headers), as the other reader may be a proxy that lets requests pass for what it understood.

use std::str::FromStr;
use std::time::Instant;

use tiny_http::{Header, Method};

use super::Limits;
use super::chunked::Chunked;
use super::socket::{NotReceived, Socket};
use crate::api::exchange::{BadRequest, Head};

/// What a head takes in most cases, a token included.
const FIRST_BYTES: usize = 2 << 10;

/// Browsers send some 20. More than fit here are answered as a head that is too large.
const HEADERS: usize = 100;

/// A body in one piece is read in steps that grow from this, so that one that is only announced takes no memory.
const BODY_STEP: usize = 64 << 10;

/// A request without its body.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) head: Head,
    /// Else 1.0: it knows no chunks and no 100.
    pub(super) is_http_1_1: bool,
    /// The client would send another request on this connection.
    pub(super) keeps_alive: bool,
    /// The client waits for a 100 before it sends the body.
    pub(super) expects_continue: bool,
    pub(super) framing: Framing,
}

/// How the end of the body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    /// Of so many bytes, at least one.
    Length(u64),
    Chunked,
}

/// Why there is no request, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoRequest {
    Bad(BadRequest),
    /// There is nobody to tell.
    Gone,
}

impl From<BadRequest> for NoRequest {
    fn from(why: BadRequest) -> NoRequest {
        NoRequest::Bad(why)
    }
}

impl From<NotReceived> for NoRequest {
    fn from(why: NotReceived) -> NoRequest {
        match why {
            NotReceived::Late => NoRequest::Bad(BadRequest::Timeout),
            NotReceived::Gone => NoRequest::Gone,
        }
    }
}

/// What a client sends, one request after the other.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    socket: &'a Socket,
    limits: &'a Limits,
    /// Received and not yet used: never more than `Limits::head_bytes`.
    buffer: Vec<u8>,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(socket: &'a Socket, limits: &'a Limits) -> Incoming<'a> {
        Incoming {
            socket,
            limits,
            buffer: Vec::new(),
        }
    }

    /// Whether nothing has been received that was not asked for yet.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Waits for the first byte of a request, holding no memory; false where none came in time.
    pub(super) fn wait(&mut self, deadline: Instant) -> bool {
        assert!(
            self.buffer.is_empty(),
            "requests that are here already are not waited for"
        );
        self.buffer = Vec::new();
        self.socket.wait_readable(deadline)
    }

    pub(super) fn read_head(&mut self) -> Result<Request, NoRequest> {
        let deadline = Instant::now() + self.limits.head_time;
        let mut unsearched = 0;
        let mut empty_lines = 0;
        // What is no head is refused early, not when its time is up; but parsing again after every byte would cost the
        // square of the length.
        let mut parse_at = 1;
        loop {
            // Some clients end a body with a line end that belongs to nothing.
            let line_ends = self
                .buffer
                .iter()
                .take_while(|byte| matches!(byte, b'\r' | b'\n'))
                .count();
            if line_ends > 0 {
                self.buffer.drain(..line_ends);
                empty_lines += line_ends;
                unsearched = 0;
            }
            if has_empty_line(&self.buffer[unsearched..]) || self.buffer.len() >= parse_at {
                if let Some((length, request)) = parse(&self.buffer)? {
                    if length > self.limits.head_bytes {
                        return Err(BadRequest::HeadTooLarge.into());
                    }
                    self.buffer.drain(..length);
                    return Ok(request);
                }
                parse_at = 2 * self.buffer.len().max(FIRST_BYTES / 2);
            }
            // An empty line is up to three bytes long behind the byte that ends the line before.
            unsearched = self.buffer.len().saturating_sub(3);
            if self.buffer.len() + empty_lines >= self.limits.head_bytes {
                return Err(BadRequest::HeadTooLarge.into());
            }
            if self.buffer.len() == self.buffer.capacity() {
                let more = self.buffer.len().max(FIRST_BYTES);
                self.reserve(more);
            }
            match self.socket.receive(&mut self.buffer, deadline) {
                // Nothing but an empty line was begun: that needs no answer.
                Ok(0) | Err(NotReceived::Late) if self.buffer.is_empty() => return Err(NoRequest::Gone),
                Ok(0) => return Err(BadRequest::Malformed("the request ends within its head").into()),
                Ok(_) => {}
                Err(why) => return Err(why.into()),
            }
        }
    }

    pub(super) fn read_body(&mut self, framing: Framing) -> Result<Vec<u8>, NoRequest> {
        let deadline = Instant::now() + self.limits.body_time;
        match framing {
            Framing::None => Ok(Vec::new()),
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= self.limits.body_bytes => self.read_body_of(length, deadline),
                Ok(_) | Err(_) => Err(BadRequest::BodyTooLarge.into()),
            },
            Framing::Chunked => self.read_chunked_body(deadline),
        }
    }

    fn read_body_of(&mut self, length: usize, deadline: Instant) -> Result<Vec<u8>, NoRequest> {
        let received = self.buffer.len().min(length);
        let mut body: Vec<u8> = self.buffer.drain(..received).collect();
        while body.len() < length {
            if body.len() == body.capacity() {
                body.reserve_exact((length - body.len()).min(BODY_STEP.max(body.len())));
            }
            let count = self.socket.receive(&mut body, deadline)?;
            if count == 0 {
                return Err(ENDS_WITHIN_BODY.into());
            }
        }
        // An allocator may give more room than was asked for.
        self.buffer.extend(body.drain(length..));
        Ok(body)
    }

    fn read_chunked_body(&mut self, deadline: Instant) -> Result<Vec<u8>, NoRequest> {
        let mut chunked = Chunked::new(self.limits);
        let mut body = Vec::new();
        loop {
            let used = chunked.decode(&self.buffer, &mut body)?;
            self.buffer.drain(..used);
            if chunked.is_complete() {
                return Ok(body);
            }
            self.reserve(self.limits.head_bytes);
            if self.socket.receive(&mut self.buffer, deadline)? == 0 {
                return Err(ENDS_WITHIN_BODY.into());
            }
        }
    }

    /// Reads a body and keeps nothing of it.
    pub(super) fn discard_body_of(&mut self, length: usize) -> Result<(), NoRequest> {
        let deadline = Instant::now() + self.limits.body_time;
        let mut left = length;
        loop {
            let received = self.buffer.len().min(left);
            self.buffer.drain(..received);
            left -= received;
            if left == 0 {
                return Ok(());
            }
            self.reserve(self.limits.head_bytes);
            if self.socket.receive(&mut self.buffer, deadline)? == 0 {
                return Err(NoRequest::Gone);
            }
        }
    }

    /// Makes room for up to so many bytes more, within the bound.
    fn reserve(&mut self, more: usize) {
        let free = self.limits.head_bytes.saturating_sub(self.buffer.len());
        self.buffer.reserve_exact(more.min(free));
    }
}

const ENDS_WITHIN_BODY: BadRequest = BadRequest::Malformed("the request ends within its body");

fn has_empty_line(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|two| two == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

/// The head at the start of `bytes` and its length; `None` where it is not complete.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Request)>, BadRequest> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(explain(error)),
    };
    let is_http_1_1 = parsed.version == Some(1);
    let method = Method::from_str(parsed.method.expect("a complete head has a method"))
        .map_err(|()| BadRequest::Malformed("the method is not a token"))?;
    let (path, query) = split_target(parsed.path.expect("a complete head has a target"));
    let connection = connection_options(parsed.headers);
    let request = Request {
        is_http_1_1,
        keeps_alive: !connection.close && (is_http_1_1 || connection.keep_alive),
        expects_continue: is_http_1_1
            && values(parsed.headers, "expect").any(|value| value.eq_ignore_ascii_case(b"100-continue")),
        framing: framing(parsed.headers, is_http_1_1)?,
        head: Head {
            method,
            path,
            query,
            headers: parsed.headers.iter().map(header).collect(),
        },
    };
    match values(parsed.headers, "host").count() {
        0 if is_http_1_1 => Err(BadRequest::Malformed("header `Host` is missing")),
        0 | 1 => Ok(Some((length, request))),
        _ => Err(BadRequest::Malformed("header `Host` is there more than once")),
    }
}

fn explain(error: httparse::Error) -> BadRequest {
    BadRequest::Malformed(match error {
        httparse::Error::TooManyHeaders => return BadRequest::HeadTooLarge,
        httparse::Error::Version => "the version is not HTTP/1.1 or HTTP/1.0",
        httparse::Error::HeaderName => "a header has no proper name, or is folded",
        httparse::Error::HeaderValue => "a header has a control character in its value",
        httparse::Error::NewLine => "a line end is broken",
        httparse::Error::Token | httparse::Error::Status => "the request line is not `METHOD target HTTP/1.1`",
    })
}

fn values<'a>(headers: &'a [httparse::Header<'_>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}

/// `tiny_http`'s headers are ASCII. What is not becomes `?`, as nothing that is decided by a header has more.
fn header(header: &httparse::Header<'_>) -> Header {
    let value: Vec<u8> = header
        .value
        .iter()
        .map(|byte| if byte.is_ascii() { *byte } else { b'?' })
        .collect();
    Header::from_bytes(header.name.as_bytes(), value).expect("a header of a parsed head is ASCII")
}

#[derive(Debug, Default)]
struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
}

fn connection_options(headers: &[httparse::Header<'_>]) -> ConnectionOptions {
    let mut options = ConnectionOptions::default();
    for value in values(headers, "connection") {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            options.close |= option.eq_ignore_ascii_case(b"close");
            options.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    options
}

fn framing(headers: &[httparse::Header<'_>], is_http_1_1: bool) -> Result<Framing, BadRequest> {
    let mut lengths = values(headers, "content-length");
    let mut codings = values(headers, "transfer-encoding");
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(Framing::None),
        (Some(_), Some(_)) => Err(BadRequest::Malformed(
            "headers `Content-Length` and `Transfer-Encoding` exclude each other",
        )),
        (Some(length), None) => {
            if lengths.next().is_some() {
                return Err(BadRequest::Malformed("header `Content-Length` is there more than once"));
            }
            if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
                return Err(BadRequest::Malformed("header `Content-Length` is not a number"));
            }
            // One that fits in no integer is too large like any other.
            let length = length.iter().fold(0_u64, |length, digit| {
                length.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
            });
            Ok(if length == 0 {
                Framing::None
            } else {
                Framing::Length(length)
            })
        }
        (None, Some(coding)) => {
            if !is_http_1_1 {
                return Err(BadRequest::Malformed(
                    "header `Transfer-Encoding` is not known in HTTP/1.0",
                ));
            }
            if codings.next().is_some() || !coding.eq_ignore_ascii_case(b"chunked") {
                return Err(BadRequest::Malformed("header `Transfer-Encoding` is not `chunked`"));
            }
            Ok(Framing::Chunked)
        }
    }
}

/// Path and query of a target, which may also be a whole URL, as a proxy is asked for it.
fn split_target(target: &str) -> (String, String) {
    let local = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => {
            &rest[rest.find(['/', '?']).unwrap_or(rest.len())..]
        }
        Some(_) | None => target,
    };
    let (path, query) = local.split_once('?').unwrap_or((local, ""));
    let path = if path.is_empty() { "/" } else { path };
    (path.to_owned(), query.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_target(target: &str, path: &str, query: &str) {
        assert_eq!(split_target(target), (path.to_owned(), query.to_owned()), "{target}");
    }

    #[test]
    fn splits_targets() {
        check_target("/", "/", "");
        check_target("/a/b?c=d?e", "/a/b", "c=d?e");
        check_target("/a?", "/a", "");
        check_target("?a", "/", "a");
        check_target("*", "*", "");
        check_target("host:443", "host:443", "");
        check_target("http://host", "/", "");
        check_target("http://host/", "/", "");
        check_target("HTTPS://host:1/a%20b?c", "/a%20b", "c");
        check_target("http://host?c=/d", "/", "c=/d");
        check_target("ftp://host/a", "ftp://host/a", "");
        check_target("/a?to=http://host/", "/a", "to=http://host/");
    }

    /// What came out of a head: `method path?query version keep/close framing`, or what is wrong with it.
    #[track_caller]
    fn check(head: &str, expected: &str) {
        let text = match parse(head.as_bytes()) {
            Ok(None) => "incomplete".to_owned(),
            Ok(Some((length, request))) => {
                assert_eq!(length, head.len());
                format!(
                    "{} {} {} {} {} {:?}{}",
                    request.head.method,
                    request.head.path,
                    request.head.query,
                    if request.is_http_1_1 { "1.1" } else { "1.0" },
                    if request.keeps_alive { "keep" } else { "close" },
                    request.framing,
                    if request.expects_continue { " continue" } else { "" },
                )
            }
            Err(BadRequest::Malformed(why)) => why.to_owned(),
            Err(why) => format!("{why:?}"),
        };
        assert_eq!(text, expected, "{head:?}");
    }

    /// The same for a header beside a `Host`, in HTTP/1.1.
    #[track_caller]
    fn check_header(headers: &str, expected: &str) {
        check(&format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n"), expected);
    }

    #[test]
    fn parses_heads() {
        check("", "incomplete");
        check("GET / HTTP/1.1\r\nHost: h\r\n", "incomplete");
        check("GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a b 1.1 keep None");
        check("GET /a?b HTTP/1.1\nHost: h\n\n", "GET /a b 1.1 keep None");
        check("FOO * HTTP/1.1\r\nhOST:h\r\n\r\n", "FOO *  1.1 keep None");
        check("GET / HTTP/1.0\r\n\r\n", "GET /  1.0 close None");
        check(
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "GET /  1.0 keep None",
        );
        check(
            "GET / HTTP/1.0\r\nConnection: Keep-Alive, close\r\n\r\n",
            "GET /  1.0 close None",
        );
        check(
            "GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n",
            "GET /  1.0 close None",
        );
        check("GET /ä HTTP/1.1\r\nHost: h\r\n\r\n", "GET /ä  1.1 keep None");
        check_header("X: y", "POST /  1.1 keep None");
        check_header("Connection: close", "POST /  1.1 close None");
        check_header(
            "Connection: a , CLOSE\r\nConnection: keep-alive",
            "POST /  1.1 close None",
        );
        check_header("Content-Length: 5", "POST /  1.1 keep Length(5)");
        check_header("Content-Length: 0", "POST /  1.1 keep None");
        check_header("Content-Length: 0005 ", "POST /  1.1 keep Length(5)");
        check_header(
            "Content-Length: 100000000000000",
            "POST /  1.1 keep Length(100000000000000)",
        );
        check_header(
            "Content-Length: 99999999999999999999999",
            "POST /  1.1 keep Length(18446744073709551615)",
        );
        check_header("Transfer-Encoding: Chunked", "POST /  1.1 keep Chunked");
        check_header("Expect: 100-Continue", "POST /  1.1 keep None continue");
    }

    #[test]
    fn refuses_what_can_be_misunderstood() {
        let not_a_number = "header `Content-Length` is not a number";
        for length in ["", "-1", "+5", "5, 5", "5 5", "0x5", "1e3", "5;", "٥"] {
            check_header(&format!("Content-Length: {length}"), not_a_number);
        }
        let twice = "header `Content-Length` is there more than once";
        check_header("Content-Length: 5\r\nContent-Length: 5", twice);
        let both = "headers `Content-Length` and `Transfer-Encoding` exclude each other";
        check_header("Content-Length: 5\r\nTransfer-Encoding: chunked", both);
        check_header("Transfer-Encoding: x\r\nContent-Length: 0", both);
        let coding = "header `Transfer-Encoding` is not `chunked`";
        check_header("Transfer-Encoding: gzip", coding);
        check_header("Transfer-Encoding: gzip, chunked", coding);
        check_header("Transfer-Encoding: chunked, chunked", coding);
        check_header("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", coding);
        check_header("Transfer-Encoding: identity", coding);
        check_header("Transfer-Encoding:", coding);
        check_header("Host: h", "header `Host` is there more than once");
        check("GET / HTTP/1.1\r\n\r\n", "header `Host` is missing");
        check(
            "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
            "header `Host` is there more than once",
        );
        check(
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "header `Transfer-Encoding` is not known in HTTP/1.0",
        );
        let name = "a header has no proper name, or is folded";
        check_header("A: b\r\n c", name);
        check_header("A: b\r\n\tc: d", name);
        check_header("A : b", name);
        check_header(": b", name);
        check_header("A\0: b", name);
        check_header("no colon", name);
        check("GET / HTTP/1.1\r\n Host: h\r\n\r\n", name);
        let value = "a header has a control character in its value";
        check_header("A: b\0c", value);
        check_header("A: b\rc", value);
        check_header("A: b\x7f", value);
        let line = "the request line is not `METHOD target HTTP/1.1`";
        check("G(T / HTTP/1.1\r\n\r\n", line);
        check("GET  HTTP/1.1\r\n\r\n", line);
        check("GET /\r\n\r\n", line);
        check("GET /\0 HTTP/1.1\r\n\r\n", line);
        check("\u{16}\u{3}\u{1}", line);
        let version = "the version is not HTTP/1.1 or HTTP/1.0";
        check("GET / b HTTP/1.1\r\n\r\n", version);
        check("GET / HTTP/2.0\r\n\r\n", version);
        check("GET / HTTP/0.9\r\n\r\n", version);
        check("GET / HTTP/1.11\r\n\r\n", "a line end is broken");
        check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", version);
        check("GET / HTTP/1.1\rHost: h\r\n\r\n", "a line end is broken");
        check_header(&"A: b\r\n".repeat(HEADERS), "HeadTooLarge");
    }

    #[test]
    fn headers_that_are_not_ascii_are_kept() {
        let (_, request) = parse("GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: ä b\r\n\r\n".as_bytes())
            .unwrap()
            .unwrap();
        assert_eq!(request.head.header("user-agent"), Some("?? b"));
    }

    #[test]
    fn finds_empty_lines() {
        for (bytes, expected) in [
            ("\n\n", true),
            ("a\n\r\nb", true),
            ("\r\n\r\n", true),
            ("\r\n", false),
            ("\n\r", false),
        ] {
            assert_eq!(has_empty_line(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }
}
