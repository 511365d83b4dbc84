//! One HTTP request on a connection of its own, and its answer while it comes.
//!
//! Unaware of what is asked for. Surprise: a body that ends before its framing says so is an error, so that what broke
//! off is never taken for the whole.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl, set_tcp_nodelay,
};

/// A machine that is there answers sooner.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// Servers of ours need far less.
const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// The line before a chunk is a number of at most 16 digits, and extensions, which nobody sends.
const MAX_SIZE_LINE_BYTES: u64 = 256;

#[derive(Debug)]
pub(super) struct Request<'a> {
    pub method: &'static str,
    /// Path and query, encoded.
    pub target: &'a str,
    pub token: &'a str,
    /// One more header and its value, if there is one.
    pub header: Option<(&'static str, String)>,
    pub body: &'a [u8],
    /// How long nothing may come; `None`: as long as the other side is there.
    pub patience: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Answer<R: Read = TcpStream> {
    pub status: u16,
    /// The value of `Content-Range`, where there is one.
    pub content_range: Option<String>,
    /// The value of `ETag`, where there is one.
    pub tag: Option<String>,
    pub body: Body<R>,
}

/// Sends a request to `address` (`host:port`) and reads the head of the answer.
pub(super) fn send(address: &str, request: &Request<'_>) -> io::Result<Answer> {
    let stream = connect(
        address,
        CONNECT_PATIENCE.min(request.patience.unwrap_or(CONNECT_PATIENCE)),
    )?;
    set_tcp_nodelay(&stream, true)?;
    stream.set_write_timeout(Some(CONNECT_PATIENCE))?;
    stream.set_read_timeout(request.patience)?;
    if request.patience.is_none() {
        // Who waits without an end must hear of a machine that is gone without a word.
        set_socket_keepalive(&stream, true)?;
        set_tcp_keepidle(&stream, Duration::from_secs(15))?;
        set_tcp_keepintvl(&stream, Duration::from_secs(5))?;
        set_tcp_keepcnt(&stream, 3)?;
    }
    let header = request
        .header
        .as_ref()
        .map_or_else(String::new, |(name, value)| format!("{name}: {value}\r\n"));
    let mut message = format!(
        "{} {} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n{header}Connection: close\r\nContent-Length: {}\r\n\r\n",
        request.method,
        request.target,
        request.token,
        request.body.len(),
    )
    .into_bytes();
    message.extend_from_slice(request.body);
    (&stream).write_all(&message)?;
    read_head(BufReader::new(stream))
}

fn connect(address: &str, patience: Duration) -> io::Result<TcpStream> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "9009"));
    let addresses: Vec<SocketAddr> = if host.eq_ignore_ascii_case("localhost") {
        // A static binary has no resolver where there is no `/etc/hosts`.
        let port = port.parse().map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))]
    } else {
        address.to_socket_addrs()?.collect()
    };
    let mut failure = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn read_head<R: Read>(mut reader: BufReader<R>) -> io::Result<Answer<R>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let left = (MAX_HEAD_BYTES - head.len()) as u64;
        if (&mut reader).take(left).read_until(b'\n', &mut head)? == 0 {
            return Err(if left == 0 { malformed() } else { broken_off() });
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let status = match parsed.parse(&head) {
        Ok(httparse::Status::Complete(_)) => parsed.code.unwrap_or_default(),
        Ok(httparse::Status::Partial) | Err(_) => return Err(malformed()),
    };
    let header = |name: &str| {
        let found = parsed
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))?;
        str::from_utf8(found.value).ok().map(str::trim)
    };
    let framing = if matches!(status, 204 | 304) {
        Framing::Length(0)
    } else if header("Transfer-Encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        Framing::Chunk {
            left: 0,
            is_first: true,
        }
    } else if let Some(length) = header("Content-Length") {
        Framing::Length(length.parse().map_err(|_| malformed())?)
    } else {
        Framing::ToTheEnd
    };
    let content_range = header("Content-Range").map(str::to_owned);
    let tag = header("ETag").map(str::to_owned);
    Ok(Answer {
        status,
        content_range,
        tag,
        body: Body { reader, framing },
    })
}

fn malformed() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the answer is not HTTP")
}

fn broken_off() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "it broke off before its answer was whole")
}

/// The body of an answer, to be read while it comes.
#[derive(Debug)]
pub(super) struct Body<R: Read = TcpStream> {
    reader: BufReader<R>,
    framing: Framing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// So many bytes are to come.
    Length(u64),
    /// So many bytes of the current chunk are to come.
    Chunk {
        left: u64,
        is_first: bool,
    },
    ToTheEnd,
    Complete,
}

impl<R: Read> Body<R> {
    /// The line with the size of the next chunk; behind a chunk there is an empty one before it.
    fn next_chunk(&mut self, is_first: bool) -> io::Result<()> {
        if !is_first && !self.read_line()?.is_empty() {
            return Err(malformed());
        }
        let line = self.read_line()?;
        let size = line.split(';').next().expect("a split has a first part").trim();
        let left = u64::from_str_radix(size, 16).map_err(|_| malformed())?;
        self.framing = Framing::Chunk { left, is_first: false };
        if left == 0 {
            while !self.read_line()?.is_empty() {}
            self.framing = Framing::Complete;
        }
        Ok(())
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        (&mut self.reader)
            .take(MAX_SIZE_LINE_BYTES)
            .read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Err(if line.len() as u64 == MAX_SIZE_LINE_BYTES {
                malformed()
            } else {
                broken_off()
            });
        }
        let text = String::from_utf8(line).map_err(|_| malformed())?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn read_at_most(&mut self, buffer: &mut [u8], left: u64) -> io::Result<u64> {
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.reader.read(&mut buffer[..length])?;
        if count == 0 && length > 0 {
            return Err(broken_off());
        }
        Ok(count as u64)
    }
}

impl<R: Read> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = loop {
            match self.framing {
                Framing::Complete | Framing::Length(0) => return Ok(0),
                Framing::ToTheEnd => return self.reader.read(buffer),
                Framing::Length(left) => {
                    let count = self.read_at_most(buffer, left)?;
                    self.framing = Framing::Length(left - count);
                    break count;
                }
                Framing::Chunk { left: 0, is_first } => self.next_chunk(is_first)?,
                Framing::Chunk { left, is_first } => {
                    let count = self.read_at_most(buffer, left)?;
                    self.framing = Framing::Chunk {
                        left: left - count,
                        is_first,
                    };
                    break count;
                }
            }
        };
        Ok(usize::try_from(count).expect("no more was read than the buffer holds"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status and body, or why there is none; the answer comes in pieces of one byte.
    fn read(text: &str) -> Result<(u16, String), String> {
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = buffer.len().min(1);
                self.0.read(&mut buffer[..length])
            }
        }
        let mut answer = read_head(BufReader::new(Slow(text.as_bytes()))).map_err(|error| error.to_string())?;
        let mut body = String::new();
        answer
            .body
            .read_to_string(&mut body)
            .map_err(|error| error.to_string())?;
        Ok((answer.status, body))
    }

    #[track_caller]
    fn check(text: &str, status: u16, body: &str) {
        assert_eq!(read(text), Ok((status, body.to_owned())));
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        assert_eq!(read(text), Err(expected.to_owned()));
    }

    #[test]
    fn bodies_end_where_their_framing_says() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", 200, "ab");
        check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nabc", 200, "");
        check("HTTP/1.1 404 Not Found\r\n\r\nto the end", 404, "to the end");
        check("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, "");
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: x\r\n\r\nmore",
            200,
            "abc0123456789",
        );
    }

    #[test]
    fn what_broke_off_is_not_the_whole() {
        let broken_off = "it broke off before its answer was whole";
        let malformed = "the answer is not HTTP";
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        check_error("", broken_off);
        check_error("HTTP/1.1 200 OK\r\n", broken_off);
        check_error("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", broken_off);
        for body in ["", "3\r\nab", "3\r\nabc\r\n", "3\r\nabc\r\n0\r\n", "3"] {
            check_error(&format!("{chunked}{body}"), broken_off);
        }
        check_error(&format!("{chunked}3\r\nabcd\r\n"), malformed);
        check_error(&format!("{chunked}xyz\r\n"), malformed);
        check_error(&format!("{chunked}{}", "1".repeat(300)), malformed);
        check_error("SSH-2.0-OpenSSH_9.6\r\n\r\n", malformed);
        check_error(
            &format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(MAX_HEAD_BYTES)),
            malformed,
        );
    }
}
