//! Servers that are none, break off, or answer with an error of their own.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use super::{PIPELINES, check_failure};
use crate::space::TestSpace;

const ID: &str = "11111111-1111-4111-8111-111111111111";

fn commands() -> [&'static [&'static str]; 11] {
    [
        &["jobs"],
        &["pipelines"],
        &["job", ID],
        &["logs", ID],
        &["logs", "-f", ID, "task"],
        &["wait", ID],
        &["cancel", ID],
        &["reload"],
        &["schedule", "good"],
        &["schedule", "good", "--wait"],
        &["schedule", "good", "--follow"],
    ]
}

#[test]
fn a_server_that_is_not_there_is_5() {
    let space = TestSpace::new(PIPELINES);
    space.run(&["token"]);
    // Bound and closed again: nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let port = address.rsplit(':').next().unwrap();
    let error = format!("no server listens at `{address}`; start one with `prunner serve`, or give the `--address` of");
    for arguments in commands() {
        for form in [&*address, &format!(":{port}"), &format!("0.0.0.0:{port}")] {
            check_failure(&space.run(&[arguments, &["--address", form]].concat()), 5, &error);
        }
    }
}

/// What each command says to a server that answers this.
#[track_caller]
fn check(answer: &'static [u8], status: i32, error: &str) {
    let space = TestSpace::new(PIPELINES);
    space.run(&["token"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let _ = stream.write_all(answer);
        }
    });
    for arguments in commands() {
        let output = space.run(&[arguments, &["--address", &address]].concat());
        check_failure(&output, status, &error.replace("ADDRESS", &address));
    }
}

#[test]
fn a_server_with_a_bug_is_5() {
    check(
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 46\r\n\r\n{\"error\":\"internal error\",\"code\":\"internal\"}  ",
        5,
        "the server answers 500: internal error; its log says more\n",
    );
}

#[test]
fn a_server_that_breaks_off_is_5() {
    check(
        b"",
        5,
        "the server at `ADDRESS` broke off before its answer was whole; ",
    );
    check(
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"id\":",
        5,
        "the server at `ADDRESS` broke off before its answer was whole; ",
    );
}

#[test]
fn what_is_no_prunner_is_5() {
    check(
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        5,
        "what listens at `ADDRESS` is no prunner: ",
    );
    check(
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>",
        5,
        "the answer is none that prunner gives; is it the right `--address`?\n",
    );
}

#[test]
fn a_server_that_has_no_time_is_3() {
    check(
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 59\r\n\r\n{\"error\":\"prunner is shutting down\",\"code\":\"shutting_down\"} ",
        3,
        "prunner is shutting down; try again later\n",
    );
}

#[test]
fn a_token_of_another_server_is_3() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    for arguments in commands() {
        let given = ["--address", &server.address, "--jwt-secret", "0123456789abcdef-other"];
        let output = space.run(&[arguments, &given].concat());
        check_failure(
            &output,
            3,
            "the server refuses the token: token is unauthorized; give the `--config`",
        );
    }
}
