//! The API as its clients see it, row by row of its contract.

mod authentication;
mod differences;
mod ground_rules;
mod job_object;
mod lists;
mod logs;
mod openapi;
mod pipeline_object;
mod raw_log;
mod refusals;
mod routes;
mod task_object;
mod trouble;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::contract;
use crate::space::{Answer, Server, TestSpace};

/// A script line that ends when there is a file `go`.
const WAIT_FOR_GO: &str = "until test -e go; do sleep 0.01; done";

/// A job id that nobody has.
const UNKNOWN: &str = "0193aaaa-0000-7000-8000-000000000000";

/// The keys of an object, in their order.
#[track_caller]
fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Whether it is a time as all clients read it: RFC 3339 in UTC without a fraction.
fn is_time(value: &Value) -> bool {
    let shape = |text: &str| text.replace(|digit: char| digit.is_ascii_digit(), "0");
    value.as_str().is_some_and(|text| shape(text) == "0000-00-00T00:00:00Z")
}

/// The values of one field of a list's elements.
#[track_caller]
fn column<'a>(list: &'a Value, field: &str) -> Vec<&'a Value> {
    list.as_array().unwrap().iter().map(|element| &element[field]).collect()
}

impl Server {
    /// The answer to a request without a token.
    fn without_token(&self, method: &str, target: &str, headers: &str) -> Answer {
        self.request(method, target, headers, "")
    }
}

impl TestSpace {
    /// Lets tasks go on that wait for a file `go`.
    fn go(&self) {
        self.write("go", "");
    }
}

/// A connection that outlives an answer.
struct Connection {
    reader: BufReader<TcpStream>,
    /// Methods and targets whose answers have not been read.
    sent: VecDeque<(String, String)>,
}

impl Connection {
    fn open(server: &Server) -> Connection {
        let stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Connection {
            reader: BufReader::new(stream),
            sent: VecDeque::new(),
        }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.reader.get_mut().write_all(bytes).unwrap();
        for line in String::from_utf8_lossy(bytes).lines() {
            let words: Vec<&str> = line.rsplitn(3, ' ').collect();
            if let ["HTTP/1.1", target, method] = words[..] {
                // It may stand right behind the body of the one before.
                let method = method.rsplit('}').next().unwrap();
                self.sent.push_back((method.to_owned(), target.to_owned()));
            }
        }
    }

    /// The head of the next answer, with its empty line; empty where the connection has ended.
    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && self.reader.read_line(&mut head).unwrap() > 0 {}
        head
    }

    /// The next answer; of a body so much as its head says.
    #[track_caller]
    fn answer(&mut self) -> Answer {
        let head = self.head();
        let length = Answer::new(&head).header("Content-Length").parse().unwrap();
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).unwrap();
        let answer = Answer::new(&(head + std::str::from_utf8(&body).unwrap()));
        // What is no request at all has an answer of a form that any of them may have.
        let (method, target) = self.sent.pop_front().unwrap_or_default();
        contract::check(&method, &target, &answer);
        answer
    }

    /// Whether the other side has ended it, and nothing more came.
    fn has_ended(&mut self) -> bool {
        self.reader.fill_buf().is_ok_and(<[u8]>::is_empty)
    }
}
