//! `GET /job/log`: one stream as it is, in parts and while it grows.

use std::io::Read;

use super::WAIT_FOR_GO;
use crate::checks::check_error;
use crate::space::{Server, TestSpace, read_until};

/// Bytes of an answer's body.
fn body_of(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    &answer[end + 4..]
}

/// The target of a task that printed `first`, `second`, and `error` to the other stream, and has ended.
fn ended(space: &TestSpace) -> (Server, String) {
    let server = space.serve();
    let id = server.schedule("p");
    server.ended(&id);
    (server, format!("/job/log?id={id}&task=a"))
}

const TALK: &str = "pipelines: {p: {tasks: {a: {script: [echo first; echo second; echo error >&2]}, quiet: {}}}}";

#[test]
fn a_stream_is_sent_as_it_is() {
    let space = TestSpace::new(TALK);
    let (server, target) = ended(&space);
    for (query, body) in [
        ("", "first\nsecond\n"),
        ("&stream=stdout", "first\nsecond\n"),
        ("&stream=stderr", "error\n"),
        ("&follow=false", "first\nsecond\n"),
    ] {
        let answer = server.get(&format!("{target}{query}"));
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{query}");
        assert_eq!(answer.header("Content-Type"), "text/plain; charset=utf-8");
        assert_eq!(answer.header("Content-Length"), body.len().to_string());
    }
    let answer = server.get(&target.replace("task=a", "task=quiet"));
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    for query in [
        "&stream=",
        "&stream=both",
        "&stream=STDOUT",
        "&follow=",
        "&follow=yes",
        "&follow=true&offset=-1",
        "&follow=true&offset=a",
        "&follow=true&offset=",
    ] {
        let answer = server.get(&format!("{target}{query}"));
        check_error(&answer, 400, "bad_request", "…");
    }
}

#[test]
fn no_byte_is_changed() {
    let space = TestSpace::new(r"pipelines: {p: {tasks: {a: {script: ['printf ''\377\000\r\n\303''']}}}}");
    let (server, target) = ended(&space);
    let mut answer = Vec::new();
    let mut stream = server.send("GET", &target, &server.authorization(), "");
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(body_of(&answer), b"\xff\0\r\n\xc3");
    let mut answer = Vec::new();
    let mut stream = server.send("GET", &format!("{target}&follow=true"), &server.authorization(), "");
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(body_of(&answer), b"5\r\n\xff\0\r\n\xc3\r\n0\r\n\r\n");
}

#[test]
fn ranges_are_sent() {
    let space = TestSpace::new(TALK);
    let (server, target) = ended(&space);
    let ask = |target: &str, range: &str| {
        let headers = format!("{}Range: {range}\r\n", server.authorization());
        server.request("GET", target, &headers, "")
    };
    for (range, content_range, body) in [
        ("bytes=0-", "bytes 0-12/13", "first\nsecond\n"),
        ("bytes=6-", "bytes 6-12/13", "second\n"),
        ("bytes=12-", "bytes 12-12/13", "\n"),
        ("bytes=2-4", "bytes 2-4/13", "rst"),
        ("bytes=2-2", "bytes 2-2/13", "r"),
        ("bytes=6-99999999999999999999999", "bytes 6-12/13", "second\n"),
        ("bytes=-3", "bytes 10-12/13", "nd\n"),
        ("bytes=-99", "bytes 0-12/13", "first\nsecond\n"),
    ] {
        let answer = ask(&target, range);
        let found = (answer.status, answer.header("Content-Range"), answer.body.as_str());
        assert_eq!(found, (206, content_range, body), "{range}");
        assert_eq!(answer.header("Content-Type"), "text/plain; charset=utf-8");
    }
    for range in ["bytes=13-", "bytes=13-20", "bytes=99999999999999999999999-", "bytes=-0"] {
        let answer = ask(&target, range);
        check_error(&answer, 416, "range_not_satisfiable", "…");
        assert_eq!(answer.header("Content-Range"), "bytes */13", "{range}");
    }
    let answer = ask(&target.replace("task=a", "task=quiet"), "bytes=0-");
    assert_eq!((answer.status, answer.header("Content-Range")), (416, "bytes */0"));
    let answer = ask(&format!("{target}&stream=stderr"), "bytes=1-2");
    assert_eq!((answer.status, answer.body.as_str()), (206, "rr"));
    for range in [
        "lines=1-",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=4-2",
        "bytes=0-1,3-4",
        "2-4",
    ] {
        let answer = ask(&target, range);
        let found = (answer.status, answer.header("Content-Range"), answer.body.as_str());
        assert_eq!(found, (200, "", "first\nsecond\n"), "{range}");
    }
}

fn talking() -> TestSpace {
    TestSpace::new(&format!(
        "pipelines: {{p: {{tasks: {{a: {{script: [echo first, {WAIT_FOR_GO:?}, echo second]}}, after: {{depends_on: a, script: [echo after]}}}}}}}}"
    ))
}

#[test]
fn a_follower_gets_it_until_the_task_has_ended() {
    let space = talking();
    let server = space.serve();
    let id = server.schedule("p");
    let follow = |task: &str| {
        let target = format!("/job/log?id={id}&task={task}&follow=true");
        server.send("GET", &target, &server.authorization(), "")
    };
    // One that begins before its task does, one that watches, and one that comes late.
    let (mut before, mut stream) = (follow("after"), follow("a"));
    let mut read = read_until(&mut stream, "first\n");
    assert!(read.contains("Transfer-Encoding: chunked"), "{read}");
    assert!(read.contains("Content-Type: text/plain; charset=utf-8"), "{read}");
    assert!(!read.contains("second"), "{read}");
    assert_eq!(server.job(&id)["status"], "running");
    space.go();
    stream.read_to_string(&mut read).unwrap();
    assert!(read.ends_with("\r\n7\r\nsecond\n\r\n0\r\n\r\n"), "{read}");
    let mut read = String::new();
    before.read_to_string(&mut read).unwrap();
    assert!(read.ends_with("\r\n\r\n6\r\nafter\n\r\n0\r\n\r\n"), "{read}");
    server.ended(&id);
    let mut read = String::new();
    follow("a").read_to_string(&mut read).unwrap();
    assert!(read.ends_with("\r\n\r\nd\r\nfirst\nsecond\n\r\n0\r\n\r\n"), "{read}");
}

#[test]
fn a_follower_begins_at_its_offset() {
    let space = talking();
    let server = space.serve();
    let id = server.schedule("p");
    let follow = |query: &str| {
        let headers = format!("{}Range: bytes=0-1\r\n", server.authorization());
        server.send(
            "GET",
            &format!("/job/log?id={id}&task=a&follow=true{query}"),
            &headers,
            "",
        )
    };
    // The last of them lie behind what is there: they wait for it.
    let mut followers: Vec<_> = [
        ("", "first\nsecond\n"),
        ("&offset=0", "first\nsecond\n"),
        ("&offset=2", "rst\nsecond\n"),
        ("&offset=6", "second\n"),
        ("&offset=9", "ond\n"),
        ("&offset=13", ""),
        ("&offset=99999999999999999999999", ""),
    ]
    .map(|(query, expected)| (query, follow(query), expected))
    .into();
    read_until(&mut follow(""), "first\n");
    space.go();
    for (query, stream, expected) in &mut followers {
        let mut read = String::new();
        stream.read_to_string(&mut read).unwrap();
        let (head, body) = read.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(!head.contains("Content-Range"), "{head}");
        assert_eq!(unchunked(body), *expected, "{query}");
    }
}

/// A body without the frame of its chunks.
#[track_caller]
fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            assert_eq!(rest, "\r\n");
            return text;
        }
        text.push_str(&rest[..length]);
        body = rest[length..].strip_prefix("\r\n").unwrap();
    }
}

#[test]
fn a_follower_of_a_task_that_never_runs_is_told_the_end() {
    let space = talking();
    let server = space.serve();
    let (_runs, waits) = (server.schedule("p"), server.schedule("p"));
    let target = format!("/job/log?id={waits}&task=a&follow=true");
    let mut stream = server.send("GET", &target, &server.authorization(), "");
    let mut read = read_until(&mut stream, "\r\n\r\n");
    server.cancel_job(&waits);
    stream.read_to_string(&mut read).unwrap();
    assert!(read.ends_with("\r\n\r\n0\r\n\r\n"), "{read}");
}
