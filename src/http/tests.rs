//! Real sockets against a little service.

use std::collections::VecDeque;
use std::io::{self, Cursor, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tiny_http::StatusCode;

use super::{Limits, Server, bind};
use crate::api::exchange::{Answer, BadRequest, Head, Later, Next, Response, Service, Stream};
use crate::waker::Waker;

/// How long anything may take that is expected to happen. Long, as the machine may be busy.
const SOON: Duration = Duration::from_secs(20);

fn text(status: u16, body: impl Into<String>) -> Response {
    let body: String = body.into();
    let length = body.len();
    tiny_http::Response::new(StatusCode(status), Vec::new(), Cursor::new(body), Some(length), None).boxed()
}

/// What a test says to a long poll or a stream of the service.
struct Line {
    waker: Waker,
    pieces: Mutex<VecDeque<Piece>>,
}

#[derive(Clone)]
enum Piece {
    Data(&'static str),
    End,
    Broken,
    Panic,
}

impl Line {
    fn say(&self, piece: Piece) {
        self.pieces.lock().unwrap().push_back(piece);
        self.waker.wake();
    }

    fn take(&self) -> Option<Piece> {
        self.pieces.lock().unwrap().pop_front()
    }
}

/// The end of a line that the server holds.
struct Held {
    line: Arc<Line>,
    deadline: Instant,
    asked: Arc<AtomicUsize>,
    released: Sender<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.released.send(());
    }
}

impl Later for Held {
    fn waker(&self) -> BorrowedFd<'_> {
        self.line.waker.as_fd()
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn answer(&mut self) -> Option<Response> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match self.line.take() {
            Some(Piece::Data(data)) => Some(text(200, data)),
            Some(Piece::Panic) => panic!("a long poll that panics"),
            Some(Piece::End | Piece::Broken) => None,
            None => (Instant::now() >= self.deadline).then(|| text(200, "nothing")),
        }
    }
}

impl Stream for Held {
    fn head(&self) -> Response {
        text(200, "")
    }

    fn waker(&self) -> BorrowedFd<'_> {
        self.line.waker.as_fd()
    }

    fn next(&mut self, buffer: &mut Vec<u8>) -> Next {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match self.line.take() {
            Some(Piece::Data(data)) => {
                buffer.extend_from_slice(data.as_bytes());
                Next::Data
            }
            Some(Piece::End) => Next::End,
            Some(Piece::Broken) => Next::Broken,
            Some(Piece::Panic) => panic!("a stream that panics"),
            None => Next::Wait,
        }
    }
}

struct Little {
    lines: Sender<Arc<Line>>,
    released: Sender<()>,
    asked: Arc<AtomicUsize>,
}

impl Little {
    fn hold(&self, wait: Duration) -> Held {
        let line = Arc::new(Line {
            waker: Waker::new().unwrap(),
            pieces: Mutex::default(),
        });
        self.lines.send(Arc::clone(&line)).unwrap();
        Held {
            line,
            deadline: Instant::now() + wait,
            asked: Arc::clone(&self.asked),
            released: self.released.clone(),
        }
    }
}

impl Service for Little {
    fn refuse(&self, head: &Head) -> Option<Response> {
        match head.path.as_str() {
            "/refused" => Some(text(401, "no")),
            "/refuse-panic" => panic!("a refusal that panics"),
            _ => None,
        }
    }

    fn handle(&self, head: &Head, body: &[u8]) -> Answer {
        match head.path.as_str() {
            "/hello" => Answer::Ready(text(200, "hello")),
            "/echo" => Answer::Ready(text(200, String::from_utf8_lossy(body))),
            "/length" => Answer::Ready(text(200, body.len().to_string())),
            "/target" => Answer::Ready(text(200, format!("{} {} {}", head.method, head.path, head.query))),
            "/big" => {
                let length = head.query.parse().unwrap();
                let body = io::repeat(b'x').take(length as u64);
                Answer::Ready(tiny_http::Response::new(StatusCode(200), vec![], body, Some(length), None).boxed())
            }
            "/unsized" => {
                let body = Cursor::new("y".repeat(200_000));
                Answer::Ready(tiny_http::Response::new(StatusCode(200), vec![], body, None, None).boxed())
            }
            "/short" => {
                let body = Cursor::new("y");
                Answer::Ready(tiny_http::Response::new(StatusCode(200), vec![], body, Some(2), None).boxed())
            }
            "/later" => Answer::Later(Box::new(self.hold(SOON))),
            "/soon" => Answer::Later(Box::new(self.hold(Duration::from_millis(50)))),
            "/stream" => Answer::Stream(Box::new(self.hold(SOON))),
            "/panic" => panic!("a handler that panics"),
            _ => Answer::Ready(text(404, "not found")),
        }
    }

    fn bad_request(&self, why: &BadRequest) -> Response {
        match why {
            BadRequest::Malformed(why) => text(400, *why),
            BadRequest::Timeout => text(408, "late"),
            BadRequest::BodyTooLarge => text(413, "large"),
            BadRequest::HeadTooLarge => text(431, "large"),
            BadRequest::TooManyConnections => text(503, "full"),
        }
    }

    fn internal_error(&self) -> Response {
        text(500, "bug")
    }
}

/// A running server with the little service.
struct Running {
    server: Server,
    lines: Receiver<Arc<Line>>,
    released: Receiver<()>,
    /// How often long polls and streams were asked for news.
    asked: Arc<AtomicUsize>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.stop(Duration::ZERO);
    }
}

impl Running {
    fn start(limits: Limits) -> Running {
        let (lines_in, lines) = unbounded();
        let (released_in, released) = unbounded();
        let asked = Arc::new(AtomicUsize::new(0));
        let service = Arc::new(Little {
            lines: lines_in,
            released: released_in,
            asked: Arc::clone(&asked),
        });
        let server = Server::start_with(bind("localhost:0").unwrap(), service, limits).unwrap();
        Running {
            server,
            lines,
            released,
            asked,
        }
    }

    fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }

    #[track_caller]
    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            received: Vec::new(),
        }
    }

    /// The next long poll or stream.
    #[track_caller]
    fn line(&self) -> Arc<Line> {
        self.lines.recv_timeout(SOON).expect("a long poll or stream has begun")
    }

    #[track_caller]
    fn expect_released(&self) {
        self.released
            .recv_timeout(SOON)
            .expect("the server has let the long poll or stream go");
    }

    #[track_caller]
    fn expect_connections(&self, expected: usize) {
        eventually(|| self.server.pool.counts().0 == expected);
    }

    /// That it still does its work.
    #[track_caller]
    fn expect_hello(&self) {
        let mut client = self.connect();
        client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
        client.expect("200", "hello");
    }
}

#[track_caller]
fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "it did not come true in time");
        thread::park_timeout(Duration::from_millis(1));
    }
}

struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    #[track_caller]
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Receives more; false at the end.
    fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        let count = self.stream.read(&mut buffer)?;
        self.received.extend_from_slice(&buffer[..count]);
        Ok(count > 0)
    }

    /// Receives what ends with that.
    #[track_caller]
    fn receive_until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self
                .received
                .windows(end.len())
                .position(|window| window == end.as_bytes())
            {
                let taken = self.received.drain(..at + end.len()).collect();
                return String::from_utf8(taken).unwrap();
            }
            let more = self.receive();
            let so_far = String::from_utf8_lossy(&self.received);
            assert!(matches!(more, Ok(true)), "{more:?} instead of {end:?} after {so_far:?}");
        }
    }

    /// Receives the head of an answer.
    #[track_caller]
    fn head(&mut self) -> String {
        self.receive_until("\r\n\r\n")
    }

    #[track_caller]
    fn receive_exactly(&mut self, length: usize) -> Vec<u8> {
        while self.received.len() < length {
            assert!(self.receive().unwrap(), "the answer ends early");
        }
        self.received.drain(..length).collect()
    }

    /// Receives an answer with a length: its head and body.
    #[track_caller]
    fn answer(&mut self) -> (String, String) {
        let head = self.head();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .expect("the answer has a length")
            .parse()
            .unwrap();
        let body = self.receive_exactly(length);
        (head, String::from_utf8(body).unwrap())
    }

    /// Receives an answer of that status and body, and gives its head.
    #[track_caller]
    fn expect(&mut self, status: &str, body: &str) -> String {
        let (head, received) = self.answer();
        assert_eq!(head.split(' ').nth(1), Some(status), "{head} {received}");
        assert_eq!(received, body);
        head
    }

    /// That the server closes in an orderly way, with nothing more to say.
    #[track_caller]
    fn expect_end(&mut self) {
        while self.receive().expect("the connection is not reset") {}
        assert_eq!(String::from_utf8_lossy(&self.received), "");
    }

    /// Sends a byte now and then until there is an answer.
    #[track_caller]
    fn trickle(&mut self, bytes: impl Iterator<Item = u8>) {
        self.stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        for byte in bytes {
            self.send([byte]);
            match self.receive() {
                Ok(_) => {
                    self.stream.set_read_timeout(Some(SOON)).unwrap();
                    return;
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        panic!("the server takes a trickle for good");
    }

    /// Goes away without a word.
    fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).unwrap();
    }
}

fn limits() -> Limits {
    Limits::default()
}

#[test]
fn keeps_a_connection_alive() {
    let running = Running::start(limits());
    let mut client = running.connect();
    for _ in 0..3 {
        client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = client.expect("200", "hello");
        assert!(!head.contains("Connection:"), "{head}");
        client.send("HEAD /hello HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = client.head();
        assert!(head.contains("\r\nContent-Length: 5\r\n"), "{head}");
        client.send("GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n");
        client.expect("404", "not found");
        client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nb\r\n\0");
        client.expect("200", "b\r\n\0");
    }
    assert_eq!(running.server.pool.counts().0, 1);
    assert!(running.server.pool.all_send_at_once());
    client.send("GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let head = client.expect("200", "hello");
    assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    client.expect_end();
}

#[test]
fn keeps_a_connection_of_http_1_0_alive_only_if_asked_to() {
    let running = Running::start(limits());
    let mut client = running.connect();
    for _ in 0..2 {
        client.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let head = client.expect("200", "hello");
        assert!(head.contains("\r\nConnection: keep-alive\r\n"), "{head}");
    }
    client.send("GET /hello HTTP/1.0\r\n\r\n");
    let head = client.expect("200", "hello");
    assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    client.expect_end();
}

#[test]
fn answers_one_that_has_closed_its_sending_side() {
    let running = Running::start(limits());
    let mut client = running.connect();
    client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    client.stream.shutdown(Shutdown::Write).unwrap();
    client.expect("200", "hello");
    client.expect_end();
}

#[test]
fn answers_pipelined_requests_in_order() {
    let running = Running::start(limits());
    let mut client = running.connect();
    let mut requests = Vec::new();
    for number in 0..1000 {
        write!(requests, "GET /target?{number} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        // With a line end that belongs to nothing, as some clients send it.
        write!(
            requests,
            "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n{number:03}\r\n"
        )
        .unwrap();
        let chunked = b"POST /length HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        requests.extend_from_slice(chunked);
    }
    let mut sender = client.stream.try_clone().unwrap();
    let sending = thread::Builder::new()
        .spawn(move || sender.write_all(&requests))
        .unwrap();
    for number in 0..1000 {
        client.expect("200", &format!("GET /target {number}"));
        client.expect("200", &format!("{number:03}"));
        client.expect("200", "1");
    }
    sending.join().unwrap().unwrap();
}

#[test]
fn takes_targets_in_every_form() {
    let running = Running::start(limits());
    let mut client = running.connect();
    client.send("GET http://there:80/target?a=%20 HTTP/1.1\r\nHost: h\r\n\r\n");
    client.expect("200", "GET /target a=%20");
    client.send("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    client.expect("404", "not found");
    client.send("OPTIONS /target HTTP/1.1\r\nHost: h\r\n\r\n");
    client.expect("200", "OPTIONS /target ");
    client.send("BREW /target HTTP/1.1\r\nHost: h\r\n\r\n");
    client.expect("200", "BREW /target ");
}

#[test]
fn takes_requests_cut_anywhere() {
    let running = Running::start(limits());
    let mut client = running.connect();
    let request = "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: z\r\n\r\n";
    for at in 1..request.len() {
        client.send(&request[..at]);
        client.send(&request[at..]);
        client.expect("200", "abcde");
    }
    for byte in request.bytes() {
        client.send([byte]);
    }
    client.expect("200", "abcde");
}

#[test]
fn keeps_the_bound_of_a_head() {
    let running = Running::start(limits());
    let head = |length: usize| {
        let start = "GET /hello HTTP/1.1\r\nHost: h\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4))
    };
    let mut client = running.connect();
    client.send(head(16 << 10));
    client.expect("200", "hello");
    client.send(head(16 << 10));
    client.expect("200", "hello");
    client.send(head((16 << 10) + 1));
    let answer = client.expect("431", "large");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    client.expect_end();
    for endless in ["X: y\r\n", "x", "\r\n", "Host: h\r\n\t"] {
        let mut client = running.connect();
        if endless != "\r\n" {
            client.send("GET /hello HTTP/1.1\r\nX: ");
        }
        // Not all of it is taken: less than a megabyte is read after the answer.
        let _ = client
            .stream
            .write_all(endless.repeat(100_000 / endless.len()).as_bytes());
        let (answer, _) = client.answer();
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        client.expect_end();
    }
    running.expect_connections(0);
}

#[test]
fn keeps_the_bound_of_a_body() {
    let running = Running::start(limits());
    let mut client = running.connect();
    let largest = "x".repeat(1 << 20);
    client.send(format!(
        "POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{largest}",
        1 << 20
    ));
    client.expect("200", "1048576");
    let chunked = "POST /length HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{chunked}100000\r\n{largest}\r\n0\r\n\r\n"));
    client.expect("200", "1048576");
    // Many chunks, which have an overhead, are measured by what is in them.
    client.send(format!("{chunked}{}0\r\n\r\n", "0001;x\r\nx\r\n".repeat(50_000)));
    client.expect("200", "50000");
    client.send(format!("{chunked}100000\r\n{largest}\r\n1\r\n"));
    client.expect("413", "large");
    client.expect_end();
    for length in ["1048577", "100000000000000", "99999999999999999999999999"] {
        let mut client = running.connect();
        client.send(format!(
            "POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n"
        ));
        client.expect("413", "large");
        client.expect_end();
    }
}

#[test]
fn an_answer_reaches_one_that_goes_on_sending() {
    let running = Running::start(limits());
    let mut client = running.connect();
    let body = "x".repeat(500_000);
    client.send(format!(
        "POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n{body}"
    ));
    client.expect("413", "large");
    client.stream.shutdown(Shutdown::Write).unwrap();
    client.expect_end();
}

#[test]
fn refuses_what_is_no_request() {
    let running = Running::start(limits());
    for (request, status) in [
        ("rubbish\r\n\r\n", "400"),
        ("\u{16}\u{3}\u{1}\u{2}", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: h\r\nA: \0\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", "400"),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", "400"),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "400",
        ),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
    ] {
        let mut client = running.connect();
        // What comes behind is not taken for a request.
        client.send(format!("{request}GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"));
        let (head, body) = client.answer();
        assert_eq!(head.split(' ').nth(1), Some(status), "{request:?}: {head} {body}");
        assert!(head.contains("\r\nConnection: close\r\n"), "{request:?}: {head}");
        client.expect_end();
    }
    for cut in ["GET / HT", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabc"] {
        let mut client = running.connect();
        client.send(cut);
        client.stream.shutdown(Shutdown::Write).unwrap();
        let (head, _) = client.answer();
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        client.expect_end();
    }
}

#[test]
fn asks_for_a_body_that_is_held_back() {
    let running = Running::start(limits());
    let mut client = running.connect();
    for framing in ["Content-Length: 2", "Transfer-Encoding: chunked"] {
        client.send(format!(
            "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n{framing}\r\n\r\n"
        ));
        assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
        client.send(if framing.starts_with('C') {
            "hi"
        } else {
            "2\r\nhi\r\n0\r\n\r\n"
        });
        client.expect("200", "hi");
    }
    // There is nothing to ask for: the answer comes at once.
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n");
    client.expect("200", "");
    // It is refused before it is sent, and whether it comes nevertheless can't be known.
    client.send("POST /refused HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    let head = client.expect("401", "no");
    assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    client.expect_end();
    let mut client = running.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2000000\r\n\r\n");
    client.expect("413", "large");
    client.expect_end();
}

#[test]
fn refuses_before_the_body() {
    let running = Running::start(limits());
    let mut client = running.connect();
    // A small body is thrown away, and the connection stays.
    for _ in 0..2 {
        client.send("POST /refused HTTP/1.1\r\nHost: h\r\nContent-Length: 65536\r\n\r\n");
        let head = client.expect("401", "no");
        assert!(!head.contains("Connection:"), "{head}");
        client.send("x".repeat(65536));
        client.send("GET /refused HTTP/1.1\r\nHost: h\r\n\r\n");
        client.expect("401", "no");
    }
    for framing in [
        "Content-Length: 65537",
        "Content-Length: 5000000000",
        "Transfer-Encoding: chunked",
    ] {
        let mut client = running.connect();
        client.send(format!("POST /refused HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n"));
        let head = client.expect("401", "no");
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        client.expect_end();
    }
}

#[test]
fn a_trickle_does_not_extend_a_deadline() {
    let running = Running::start(Limits {
        head_time: Duration::from_millis(300),
        body_time: Duration::from_millis(300),
        ..limits()
    });
    for start in [
        "GET /hello HTTP/1.1\r\nHost: h\r\nX: ",
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10000\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n",
    ] {
        let mut client = running.connect();
        client.send(start);
        client.trickle(std::iter::repeat_n(b'x', 2000));
        let head = client.expect("408", "late");
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        client.stream.shutdown(Shutdown::Write).unwrap();
        client.expect_end();
    }
    // A silent one is told as well.
    let mut client = running.connect();
    client.send("GET /hello HTTP/1.1\r\n");
    client.expect("408", "late");
}

#[test]
fn closes_what_is_idle_for_long() {
    let running = Running::start(Limits {
        idle_time: Duration::from_millis(200),
        ..limits()
    });
    let mut fresh = running.connect();
    let mut used = running.connect();
    used.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    used.expect("200", "hello");
    fresh.expect_end();
    used.expect_end();
    running.expect_connections(0);
}

#[test]
fn one_that_does_not_read_is_given_up() {
    let running = Running::start(Limits {
        send_time: Duration::from_millis(200),
        ..limits()
    });
    let mut client = running.connect();
    // More than the kernel keeps for a client, several times.
    let request = "GET /big?100000000 HTTP/1.1\r\nHost: h\r\n\r\n";
    client.send(request.repeat(100));
    eventually(|| running.server.pool.counts() == (0, 1, 1));
    running.expect_hello();
}

#[test]
fn sends_large_answers_whole() {
    let running = Running::start(limits());
    let mut client = running.connect();
    for length in [0, 1, 65_000, 65_535, 65_536, 65_537, 10_000_000] {
        client.send(format!("GET /big?{length} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let (_, body) = client.answer();
        assert!(body.len() == length && body.bytes().all(|byte| byte == b'x'));
    }
    client.send("GET /unsized HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(client.head().contains("\r\nTransfer-Encoding: chunked\r\n"));
    let body = client.receive_until("\r\n0\r\n\r\n");
    assert_eq!(body.matches('y').count(), 200_000);
    // A body that can't be sent as announced.
    client.send("GET /short HTTP/1.1\r\nHost: h\r\n\r\n");
    client.expect("500", "bug");
    client.expect_end();
}

#[test]
fn serves_256_and_closes_the_longest_idle_for_others() {
    let running = Running::start(limits());
    let mut clients = Vec::new();
    for _ in 0..300 {
        let mut client = running.connect();
        client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
        client.expect("200", "hello");
        clients.push(client);
        // It has its answer a moment before it counts as idle, and the order in which they become idle matters.
        eventually(|| running.server.pool.idle() == clients.len().min(256));
    }
    running.expect_connections(256);
    let (closed, open) = clients.split_at_mut(44);
    for client in closed {
        client.expect_end();
    }
    for client in open {
        client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
        client.expect("200", "hello");
    }
    drop(clients);
    // The threads go as well, but for one.
    eventually(|| running.server.pool.counts() == (0, 1, 1));
}

#[test]
fn turns_away_where_none_is_idle() {
    let running = Running::start(Limits {
        connections: 3,
        ..limits()
    });
    let mut waiting: Vec<Client> = Vec::new();
    let mut lines = Vec::new();
    for _ in 0..3 {
        let mut client = running.connect();
        client.send("GET /later HTTP/1.1\r\nHost: h\r\n\r\n");
        waiting.push(client);
        lines.push(running.line());
    }
    // More than are kept to let them read why.
    for _ in 0..100 {
        let mut client = running.connect();
        let head = client.expect("503", "full");
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        client.expect_end();
    }
    // One becomes idle, and makes place.
    lines[1].say(Piece::Data("now"));
    waiting[1].expect("200", "now");
    // It has its answer a moment before it counts as idle.
    eventually(|| running.server.pool.idle() == 1);
    let mut client = running.connect();
    client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    client.expect("200", "hello");
    waiting[1].expect_end();
    for at in [0, 2] {
        lines[at].say(Piece::Data("then"));
        waiting[at].expect("200", "then");
    }
}

#[test]
fn an_answer_may_come_later() {
    let running = Running::start(limits());
    let mut client = running.connect();
    // What is sent meanwhile is neither read nor waited for.
    client.send("GET /later HTTP/1.1\r\nHost: h\r\n\r\nGET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    let line = running.line();
    client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually(|| running.asked.load(Ordering::SeqCst) == 1);
    line.say(Piece::End);
    eventually(|| running.asked.load(Ordering::SeqCst) == 2);
    line.say(Piece::Data("news"));
    client.expect("200", "news");
    assert_eq!(running.asked.load(Ordering::SeqCst), 3);
    running.expect_released();
    client.expect("200", "hello");
    client.expect("200", "hello");
    // At its deadline.
    client.send("GET /soon HTTP/1.1\r\nHost: h\r\n\r\n");
    client.expect("200", "nothing");
    assert_eq!(running.asked.load(Ordering::SeqCst), 5);
}

#[test]
fn a_client_that_stops_waiting_is_noticed() {
    let running = Running::start(limits());
    for path in ["/later", "/stream"] {
        for reset in [false, true] {
            for pipelined in [false, true] {
                let mut client = running.connect();
                client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
                if pipelined {
                    client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
                }
                let _line = running.line();
                assert!(running.released.is_empty());
                if reset {
                    client.reset();
                } else {
                    drop(client);
                }
                running.expect_released();
                running.expect_connections(0);
            }
        }
    }
}

#[test]
fn streams_as_it_comes() {
    let running = Running::start(limits());
    let mut client = running.connect();
    for _ in 0..2 {
        client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
        let line = running.line();
        let head = client.head();
        assert!(
            head.contains("\r\nTransfer-Encoding: chunked\r\n") && !head.contains("Content-Length"),
            "{head}"
        );
        for data in ["a", "bc\r\n", "0\r\n\r\n"] {
            line.say(Piece::Data(data));
            assert_eq!(
                client.receive_until(&format!("{data}\r\n")),
                format!("{:x}\r\n{data}\r\n", data.len())
            );
        }
        // An empty piece is not the end, but nothing new.
        line.say(Piece::Data(""));
        eventually(|| line.pieces.lock().unwrap().is_empty());
        line.say(Piece::Data("d"));
        assert_eq!(client.receive_until("d\r\n"), "1\r\nd\r\n");
        line.say(Piece::End);
        assert_eq!(client.receive_until("\r\n\r\n"), "0\r\n\r\n");
        running.expect_released();
    }
    client.send("HEAD /stream HTTP/1.1\r\nHost: h\r\n\r\nGET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    client.head();
    running.expect_released();
    client.expect("200", "hello");
    running.line();
    for end in [Piece::Broken, Piece::Panic] {
        let mut client = running.connect();
        client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
        let line = running.line();
        line.say(Piece::Data("a"));
        client.receive_until("1\r\na\r\n");
        line.say(end);
        client.expect_end();
        running.expect_released();
    }
}

#[test]
fn streams_to_a_client_that_knows_no_chunks() {
    let running = Running::start(limits());
    let mut client = running.connect();
    client.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let line = running.line();
    let head = client.head();
    assert!(
        !head.contains("chunked") && !head.contains("Length") && head.contains("Connection: close"),
        "{head}"
    );
    line.say(Piece::Data("abc"));
    assert_eq!(client.receive_exactly(3), b"abc");
    line.say(Piece::End);
    client.expect_end();
    let mut client = running.connect();
    client.send("GET /stream HTTP/1.0\r\n\r\n");
    let line = running.line();
    client.head();
    line.say(Piece::Broken);
    assert_eq!(client.receive().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_panic_costs_one_connection() {
    let running = Running::start(limits());
    for path in ["/panic", "/refuse-panic", "/later"] {
        let mut client = running.connect();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"));
        if path == "/later" {
            running.line().say(Piece::Panic);
        }
        let head = client.expect("500", "bug");
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        client.expect_end();
        running.expect_hello();
    }
    running.expect_connections(0);
}

#[test]
fn survives_a_reset_at_every_point() {
    let running = Running::start(limits());
    let request = "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
                   GET /big?1000000 HTTP/1.1\r\nHost: h\r\n\r\n";
    for at in 0..=request.len() {
        for reset in [false, true] {
            let mut client = running.connect();
            client.send(&request[..at]);
            if reset {
                client.reset();
            }
        }
    }
    running.expect_connections(0);
    running.expect_hello();
}

#[test]
fn survives_rubbish() {
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
    let running = Running::start(limits());
    let mut state = SEED;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    let proper = "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
                  POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    for round in 0..500 {
        let mut bytes = proper.as_bytes().to_vec();
        if round % 4 == 0 {
            bytes.fill_with(|| u8::try_from(random(256)).unwrap());
        } else {
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = u8::try_from(random(256)).unwrap(),
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, b"\r\n\0:; 9"[random(7)]),
                }
            }
        }
        let mut client = running.connect();
        // It may be closed before all is sent.
        let _ = client
            .stream
            .write_all(&bytes)
            .and_then(|()| client.stream.shutdown(Shutdown::Write));
        while matches!(client.receive(), Ok(true)) {}
        let received = String::from_utf8_lossy(&client.received);
        assert!(
            received.is_empty() || received.starts_with("HTTP/1.1 "),
            "round {round}: {received}"
        );
    }
    running.expect_connections(0);
    running.expect_hello();
}

#[test]
fn bad_clients_do_not_delay_a_good_one() {
    // A good one that had to wait for a bad one would wait for longer than it does.
    let running = Running::start(Limits {
        head_time: 10 * SOON,
        body_time: 10 * SOON,
        send_time: 10 * SOON,
        ..limits()
    });
    let mut bad = Vec::new();
    for number in 0..200 {
        let mut client = running.connect();
        client.send(match number % 4 {
            0 => "GET /hello HTTP/1.1\r\nX:",
            1 => "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nx",
            2 => "GET /big?100000000 HTTP/1.1\r\nHost: h\r\n\r\n",
            _ => "",
        });
        bad.push(client);
    }
    for _ in 0..100 {
        running.expect_hello();
    }
}

#[test]
fn stops_at_once_where_all_is_idle() {
    let running = Running::start(limits());
    let address = running.address();
    let mut clients = vec![running.connect(), running.connect(), running.connect()];
    for client in &mut clients[1..] {
        client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
        client.expect("200", "hello");
    }
    let start = Instant::now();
    running.server.stop(SOON);
    assert!(start.elapsed() < SOON / 2);
    for mut client in clients {
        client.expect_end();
    }
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(running.server.pool.counts(), (0, 0, 0));
    // Nor is there a thread that holds on to the pool.
    eventually(|| Arc::strong_count(&running.server.pool) == 1);
}

#[test]
fn a_stop_lets_answers_be_finished() {
    let running = Running::start(limits());
    let mut client = running.connect();
    client.send("GET /later HTTP/1.1\r\nHost: h\r\n\r\n");
    let line = running.line();
    let mut idle = running.connect();
    running.expect_connections(2);
    thread::scope(|scope| {
        let stopping = thread::Builder::new()
            .spawn_scoped(scope, || running.server.stop(SOON))
            .unwrap();
        // From then on it stops.
        idle.expect_end();
        line.say(Piece::Data("news"));
        let head = client.expect("200", "news");
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        client.expect_end();
        stopping.join().unwrap();
    });
    assert_eq!(running.server.pool.counts(), (0, 0, 0));
}

#[test]
fn a_stop_breaks_off_what_takes_too_long() {
    let running = Running::start(limits());
    let mut clients = Vec::new();
    for request in [
        "GET /later HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /big?1000000000 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /hello",
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabc",
    ] {
        let mut client = running.connect();
        client.send(request);
        clients.push(client);
    }
    running.line();
    running.line();
    running.expect_connections(5);
    running.server.stop(Duration::from_millis(50));
    assert_eq!(running.server.pool.counts(), (0, 0, 0));
    eventually(|| Arc::strong_count(&running.server.pool) == 1);
}
