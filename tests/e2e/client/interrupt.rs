//! Ctrl-C at a terminal while a job is watched.

use std::net::TcpListener;

use super::PIPELINES;
use super::terminal::Terminal;
use crate::space::{Server, TestSpace, read_until};

const CONTROL_C: &str = "\x03";

fn start(space: &TestSpace, server: &Server, arguments: &[&str]) -> Terminal {
    Terminal::start(space.command(arguments).env("PRUNNER_ADDRESS", &server.address))
}

/// The id of the only job, which runs.
fn running(space: &TestSpace, server: &Server) -> String {
    space.first_line("up");
    let jobs = server.get("/pipelines/jobs?status=running").json();
    jobs["jobs"][0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_job_that_is_watched_goes_on() {
    for arguments in [
        &["schedule", "long", "--wait"][..],
        &["schedule", "long", "--follow"],
        &["schedule", "long", "--follow", "--json"],
    ] {
        let space = TestSpace::new(PIPELINES);
        let server = space.serve();
        let mut terminal = start(&space, &server, arguments);
        let id = running(&space, &server);
        // It is watched as soon as the id has been printed.
        terminal.read_until(&id);
        terminal.press(CONTROL_C);
        let (seen, status) = terminal.end();
        assert_eq!(status, Some(130), "{seen}");
        let expected = format!("stopped watching, job {id} goes on; cancel it with `prunner cancel {id}`");
        assert!(seen.contains(&expected), "{seen}");
        assert_eq!(server.job(&id)["status"], "running");
    }
}

#[test]
fn a_job_is_canceled_where_that_is_wanted() {
    for flag in ["--wait", "--follow"] {
        let space = TestSpace::new(PIPELINES);
        let server = space.serve();
        let mut terminal = start(&space, &server, &["schedule", "long", flag, "--cancel-on-interrupt"]);
        let id = running(&space, &server);
        terminal.read_until(&id);
        terminal.press(CONTROL_C);
        let (seen, status) = terminal.end();
        assert_eq!(status, Some(130), "{seen}");
        assert!(seen.contains(&format!("canceled job {id}")), "{seen}");
        assert_eq!(server.ended(&id)["status"], "canceled");
    }
}

#[test]
fn logs_stop_watching() {
    let space = TestSpace::new(
        "pipelines: {long: {tasks: {sleep: {script: ['echo up > up', 'echo begun', 'exec sleep 100']}}}}",
    );
    let server = space.serve();
    let id = server.schedule("long");
    space.first_line("up");
    for arguments in [&["logs", "-f", &id][..], &["logs", "-f", &id, "sleep"]] {
        let mut terminal = start(&space, &server, arguments);
        terminal.read_until("begun");
        terminal.press(CONTROL_C);
        let (seen, status) = terminal.end();
        assert_eq!(status, Some(130), "{seen}");
        assert!(
            seen.contains(&format!("cancel it with `prunner cancel {id}`")),
            "{seen}"
        );
    }
    assert_eq!(server.job(&id)["status"], "running");
}

#[test]
fn a_request_that_is_not_answered_is_left() {
    let space = TestSpace::new(PIPELINES);
    space.run(&["token"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for (arguments, expected) in [
        (
            &["wait", "1"][..],
            "stopped watching, job 1 goes on; cancel it with `prunner cancel 1`",
        ),
        (
            &["logs", "-f", "1"],
            "stopped watching, job 1 goes on; cancel it with `prunner cancel 1`",
        ),
        (
            &["schedule", "good", "--wait"],
            "stopped before the server answered; `prunner jobs` shows",
        ),
    ] {
        let mut terminal = Terminal::start(space.command(arguments).env("PRUNNER_ADDRESS", &address));
        // It has asked, so it listens to signals too.
        let (mut stream, _) = listener.accept().unwrap();
        read_until(&mut stream, "\r\n\r\n");
        terminal.press(CONTROL_C);
        let (seen, status) = terminal.end();
        assert_eq!(status, Some(130), "{seen}");
        assert!(seen.contains(expected), "{seen}");
    }
}
