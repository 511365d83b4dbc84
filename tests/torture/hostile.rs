//! Clients that do what no client should.
//!
//! Each kind is one attempt, made again and again by a thread of its own. Where a client reads an answer, that must be one
//! that such a request deserves: what is refused must not pass only because so much else is going on.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::random::Random;

/// How long a client holds what it does not give back on its own.
const HOLD: Duration = Duration::from_millis(1500);
/// A client does no more than it would over a network: this is about clients that are bad, not about a machine that is slow.
const PAUSE: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_secs(2);
/// No answer to rubbish needs more than this from the client.
const MOST_SENT: usize = 4 << 20;
/// What is refused for its framing would be accepted without it.
const QUICK: &str = r#"{"pipeline": "quick"}"#;

/// Ends all clients at once, also those that wait.
#[derive(Default)]
pub(crate) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub(crate) fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits for so long; true where it is over.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        *self
            .changed
            .wait_timeout_while(stopped, time, |stopped| !*stopped)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

/// What the clients know of the server.
pub(crate) struct Target {
    pub address: SocketAddr,
    /// As it stands in a header.
    pub token: String,
    /// A job whose task `a` has printed more than any socket holds.
    pub talkative: String,
    /// A job that runs as long as the test.
    pub endless: String,
}

/// One client.
pub(crate) struct Hostile<'a> {
    pub target: &'a Target,
    pub stop: &'a Stop,
    pub random: Random,
}

/// What came of an attempt: the status of the answer, where one was read. `None` is an end without an answer.
type Outcome = Option<u16>;

pub(crate) struct Kind {
    pub name: &'static str,
    pub attempt: fn(&mut Hostile<'_>) -> Outcome,
    /// 503 is fine for each: there may be no place.
    pub expected: &'static [u16],
}

macro_rules! kinds {
    ($($name:ident: [$($expected:literal),*],)*) => {
        &[$(Kind { name: stringify!($name), attempt: |hostile| hostile.$name(), expected: &[$($expected),*] }),*]
    };
}

pub(crate) const KINDS: &[Kind] = kinds! {
    silent: [],
    byte_by_byte: [408],
    endless_headers: [431],
    one_endless_header: [431],
    endless_request_line: [431, 414],
    two_hundred_headers: [431],
    huge_content_length: [413],
    huge_content_length_without_token: [401],
    length_beyond_all_numbers: [413],
    chunked_nonsense: [400],
    chunk_beyond_all_numbers: [400, 413],
    endless_chunks: [400, 413],
    both_framings: [400],
    two_lengths: [400],
    folded_header: [400],
    nul_in_header: [400],
    pipelines_without_reading: [],
    resets_at_once: [],
    resets_in_body: [],
    half_closed_in_head: [400],
    half_closed_behind_request: [200],
    short_connections: [],
    follower_that_never_reads: [],
    follower_of_what_never_ends: [],
    long_poll_dropped: [],
    bad_token: [401],
    body_without_token: [401],
    slow_body: [408],
    unknown_method: [400, 401, 404, 405, 501],
    http_0_9: [400, 505],
    http_2: [400, 505],
    tls: [400],
    rubbish: [400, 431, 505],
    expect_without_body: [100],
    head_flood: [401],
    options_flood: [401, 404, 405],
    upgrade: [200],
};

impl Hostile<'_> {
    /// Makes attempts of a kind until the end; returns how many, and what was answered that should not have been.
    pub(crate) fn run(mut self, kind: &Kind) -> (usize, BTreeSet<String>) {
        let mut attempts = 0;
        let mut wrong = BTreeSet::new();
        while !self.stop.wait(PAUSE) {
            attempts += 1;
            if let Some(status) = (kind.attempt)(&mut self)
                && status != 503
                && !kind.expected.contains(&status)
            {
                wrong.insert(format!("{} got {status}", kind.name));
            }
        }
        (attempts, wrong)
    }

    fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.target.address, TIMEOUT).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).ok()?;
        stream.set_write_timeout(Some(TIMEOUT)).ok()?;
        Some(stream)
    }

    fn send(&self, bytes: impl AsRef<[u8]>) -> Option<TcpStream> {
        let mut stream = self.connect()?;
        stream.write_all(bytes.as_ref()).ok()?;
        Some(stream)
    }

    fn ask(&self, bytes: impl AsRef<[u8]>) -> Outcome {
        status(&mut self.send(bytes)?)
    }

    /// A request that would be good, but for what is to follow.
    fn head(&self, method: &str, path: &str, headers: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: torture\r\nAuthorization: {}\r\n{headers}",
            self.target.token
        )
    }

    fn schedule(&self, rest: &str) -> String {
        self.head("POST", "/pipelines/schedule", rest)
    }

    /// Sends a beginning, then the same piece as often as it is taken.
    fn flood(&self, beginning: &str, piece: &str) -> Outcome {
        let mut stream = self.send(beginning)?;
        let mut sent = 0;
        while sent < MOST_SENT && stream.write_all(piece.as_bytes()).is_ok() {
            sent += piece.len();
        }
        status(&mut stream)
    }

    /// Sends a byte at a time, until it is over or for as long as a client is held.
    fn trickle(&self, beginning: &str, rest: &[u8]) -> Outcome {
        let mut stream = self.send(beginning)?;
        let end = Instant::now() + HOLD * 10;
        for byte in rest {
            if self.stop.wait(Duration::from_millis(60)) || Instant::now() > end || stream.write_all(&[*byte]).is_err()
            {
                break;
            }
        }
        stream.set_read_timeout(Some(Duration::from_millis(100))).ok()?;
        status(&mut stream)
    }

    fn hold(&self, stream: Option<TcpStream>) -> Outcome {
        self.stop.wait(HOLD);
        drop(stream);
        None
    }

    fn silent(&mut self) -> Outcome {
        self.hold(self.connect())
    }

    fn byte_by_byte(&mut self) -> Outcome {
        let head = self.head("GET", "/pipelines/jobs", &"X-Slow: yes\r\n".repeat(100));
        self.trickle("", head.as_bytes())
    }

    fn endless_headers(&mut self) -> Outcome {
        self.flood("GET / HTTP/1.1\r\n", "X-More: and more\r\n")
    }

    fn one_endless_header(&mut self) -> Outcome {
        self.flood("GET / HTTP/1.1\r\nX-Long: ", &"x".repeat(4096))
    }

    fn endless_request_line(&mut self) -> Outcome {
        self.flood("GET /", &"a".repeat(4096))
    }

    fn two_hundred_headers(&mut self) -> Outcome {
        self.ask(self.head("GET", "/health", &("X: y\r\n".repeat(200) + "\r\n")))
    }

    fn huge_content_length(&mut self) -> Outcome {
        self.ask(self.schedule("Content-Length: 100000000000000\r\n\r\n{"))
    }

    fn huge_content_length_without_token(&mut self) -> Outcome {
        self.ask("POST /pipelines/schedule HTTP/1.1\r\nHost: torture\r\nContent-Length: 100000000000000\r\n\r\n{")
    }

    fn length_beyond_all_numbers(&mut self) -> Outcome {
        self.ask(self.schedule(&format!("Content-Length: {}\r\n\r\n{{", "9".repeat(200))))
    }

    fn chunked_nonsense(&mut self) -> Outcome {
        self.ask(self.schedule("Transfer-Encoding: chunked\r\n\r\nnonsense\r\n-1\r\n\r\n"))
    }

    fn chunk_beyond_all_numbers(&mut self) -> Outcome {
        self.ask(self.schedule("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}"))
    }

    fn endless_chunks(&mut self) -> Outcome {
        let piece = format!("1;{}\r\nx\r\n", "e".repeat(100));
        self.flood(&self.schedule("Transfer-Encoding: chunked\r\n\r\n"), &piece)
    }

    fn both_framings(&mut self) -> Outcome {
        let chunks = format!("{:x}\r\n{QUICK}\r\n0\r\n\r\n", QUICK.len());
        let headers = format!("Content-Length: {}\r\nTransfer-Encoding: chunked", chunks.len());
        self.ask(self.schedule(&format!("{headers}\r\n\r\n{chunks}")))
    }

    fn two_lengths(&mut self) -> Outcome {
        let length = QUICK.len();
        let headers = format!("Content-Length: {length}\r\nContent-Length: {length}");
        self.ask(self.schedule(&format!("{headers}\r\n\r\n{QUICK}")))
    }

    fn folded_header(&mut self) -> Outcome {
        self.ask(self.head("GET", "/health", "X-Folded: a\r\n b\r\n\r\n"))
    }

    fn nul_in_header(&mut self) -> Outcome {
        self.ask(self.head("GET", "/health", "X-Nul: a\0b\r\n\r\n"))
    }

    fn pipelines_without_reading(&mut self) -> Outcome {
        let mut stream = self.connect()?;
        let request = self.head("GET", "/pipelines/jobs", "\r\n").repeat(20);
        let end = Instant::now() + HOLD;
        while Instant::now() < end && stream.write_all(request.as_bytes()).is_ok() {
            if self.stop.wait(Duration::from_millis(5)) {
                break;
            }
        }
        self.hold(Some(stream))
    }

    fn resets_at_once(&mut self) -> Outcome {
        for _ in 0..5 {
            reset(self.connect()?);
        }
        None
    }

    fn resets_in_body(&mut self) -> Outcome {
        let stream = self.send(self.schedule("Content-Length: 5000\r\n\r\n{\"pipeline\":"))?;
        self.stop.wait(Duration::from_millis(2));
        reset(stream);
        None
    }

    fn half_closed_in_head(&mut self) -> Outcome {
        let mut stream = self.send("GET /health HTTP/1.1\r\nHost: tor")?;
        stream.shutdown(Shutdown::Write).ok()?;
        status(&mut stream)
    }

    fn half_closed_behind_request(&mut self) -> Outcome {
        let mut stream = self.send(self.head("GET", "/health", "\r\n"))?;
        stream.shutdown(Shutdown::Write).ok()?;
        status(&mut stream)
    }

    fn short_connections(&mut self) -> Outcome {
        for _ in 0..10 {
            drop(self.connect()?);
        }
        None
    }

    fn follower_that_never_reads(&mut self) -> Outcome {
        let path = format!("/job/log?id={}&task=a&follow=true", self.target.talkative);
        self.hold(self.send(self.head("GET", &path, "\r\n")))
    }

    fn follower_of_what_never_ends(&mut self) -> Outcome {
        let path = format!("/job/log?id={}&task=a&follow=true", self.target.endless);
        self.hold(self.send(self.head("GET", &path, "\r\n")))
    }

    fn long_poll_dropped(&mut self) -> Outcome {
        let path = format!("/job/detail?id={}&wait=60s", self.target.endless);
        let stream = self.send(self.head("GET", &path, "\r\n"));
        self.stop.wait(Duration::from_millis(100));
        drop(stream);
        None
    }

    fn bad_token(&mut self) -> Outcome {
        let cut = self.random.between(8, 60).unsigned_abs();
        let token = &self.target.token[..usize::try_from(cut).unwrap()];
        self.ask(format!(
            "GET /pipelines/jobs HTTP/1.1\r\nHost: torture\r\nAuthorization: {token}\r\n\r\n"
        ))
    }

    fn body_without_token(&mut self) -> Outcome {
        let mut stream = self.send(
            "POST /pipelines/schedule HTTP/1.1\r\nHost: torture\r\nContent-Length: 500000\r\n\r\n{\"pipeline\": \"quick\"}",
        )?;
        // What is not taken any more is not the matter.
        let _ = stream.write_all(&vec![b' '; 200_000]);
        status(&mut stream)
    }

    fn slow_body(&mut self) -> Outcome {
        self.trickle(&self.schedule("Content-Length: 1000\r\n\r\n"), &[b' '; 900])
    }

    fn unknown_method(&mut self) -> Outcome {
        self.ask(self.head("BREW", "/pipelines/jobs", "Content-Length: 0\r\n\r\n"))
    }

    fn http_0_9(&mut self) -> Outcome {
        self.ask("GET /health\r\n\r\n")
    }

    fn http_2(&mut self) -> Outcome {
        self.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
    }

    fn tls(&mut self) -> Outcome {
        self.ask(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    }

    fn rubbish(&mut self) -> Outcome {
        let length = self.random.below(3000) + 1;
        let mut bytes: Vec<u8> = (0..length)
            .map(|_| u8::try_from(self.random.below(256)).unwrap())
            .collect();
        // Line ends alone may stand before a request.
        bytes[0] = 0xff;
        bytes.extend_from_slice(b"\r\n\r\n");
        self.ask(bytes)
    }

    fn expect_without_body(&mut self) -> Outcome {
        let mut stream = self.send(self.schedule("Expect: 100-continue\r\nContent-Length: 100\r\n\r\n"))?;
        let status = first_status(&mut stream);
        self.hold(Some(stream));
        status
    }

    fn head_flood(&mut self) -> Outcome {
        self.ask("HEAD /pipelines/jobs HTTP/1.1\r\nHost: torture\r\n\r\n".repeat(50))
    }

    fn options_flood(&mut self) -> Outcome {
        self.ask("OPTIONS /pipelines/jobs HTTP/1.1\r\nHost: torture\r\n\r\n".repeat(50))
    }

    fn upgrade(&mut self) -> Outcome {
        self.ask(self.head("GET", "/health", "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"))
    }
}

/// The end without goodbye.
fn reset(stream: TcpStream) {
    let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    drop(stream);
}

/// Of the first answer. Reads on to the end or until nothing comes, but no more than a client would that gives up.
fn status(stream: &mut TcpStream) -> Outcome {
    let status = first_status(stream)?;
    stream.set_read_timeout(Some(Duration::from_millis(20))).ok()?;
    let mut rest = [0; 4096];
    for _ in 0..16 {
        if !matches!(stream.read(&mut rest), Ok(1..)) {
            break;
        }
    }
    Some(status)
}

fn first_status(stream: &mut TcpStream) -> Outcome {
    let mut line = [0; 12];
    stream.read_exact(&mut line).ok()?;
    std::str::from_utf8(&line).ok()?.strip_prefix("HTTP/1.")?[2..]
        .parse()
        .ok()
}
