//! Ctrl-C at a terminal while a job is watched.

use super::PIPELINES;
use super::terminal::Terminal;
use crate::space::{Server, TestSpace, eventually};

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
fn logs_and_wait_stop_watching() {
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
    // Nothing is printed before: it has begun when it heeds the signal.
    let terminal = start(&space, &server, &["wait", &id]);
    let mut terminal = Some(terminal);
    let (seen, status) = eventually("it has begun", || {
        let mut waiting = terminal.take().unwrap();
        waiting.press(CONTROL_C);
        let ended = waiting.end();
        if ended.0.contains("goes on") {
            return Some(ended);
        }
        terminal = Some(start(&space, &server, &["wait", &id]));
        None
    });
    assert_eq!(status, Some(130), "{seen}");
    assert_eq!(server.job(&id)["status"], "running");
}
