//! Ctrl-C at a terminal while a job is watched.

use std::net::TcpListener;

use super::PIPELINES;
use super::terminal::Terminal;
use crate::space::{Server, TestSpace, is_alive, read_until};

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

/// The job runs, is between two attempts, or in its `on_error`, where it has come to.
const STAGES: &str = r#"pipelines:
  running: {tasks: {a: {script: ["echo $$ > pid", "exec sleep 100"]}}}
  between: {tasks: {a: {script: ["echo 1 > pid", exit 3], retry: {max: 1, delay: 1h}}}}
  after: {tasks: {a: {script: [exit 3]}}, on_error: {script: ["echo $$ > pid", "exec sleep 100"]}}
"#;

#[test]
fn a_run_ends_at_every_stage_and_leaves_nothing() {
    for (pipeline, seen_before) in [
        ("running", "a started"),
        ("between", "attempt 2 starts in 1h"),
        ("after", "on_error started"),
    ] {
        let space = TestSpace::new(STAGES);
        space.write("tmp/.keep", "");
        let mut terminal = Terminal::start(space.command(&["run", pipeline]).env("TMPDIR", space.path.join("tmp")));
        let pid = space.first_line("pid");
        terminal.read_until(seen_before);
        terminal.press(CONTROL_C);
        let (seen, status) = terminal.end();
        assert_eq!(status, Some(130), "{seen}");
        assert!(
            seen.contains("prunner: stopping the tasks; Ctrl-C kills them"),
            "{seen}"
        );
        assert!(pid == "1" || !is_alive(&pid), "{seen}");
        let left: Vec<_> = std::fs::read_dir(space.path.join("tmp")).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}

#[test]
fn a_job_that_waits_is_left_on_the_wait_list() {
    for flag in ["--wait", "--follow"] {
        let space = TestSpace::new(PIPELINES);
        let server = space.serve();
        server.schedule("long");
        space.first_line("up");
        let mut terminal = start(&space, &server, &["schedule", "long", flag, "--json"]);
        terminal.read_until("\"}\r\n");
        let jobs = server.get("/pipelines/jobs?status=waiting").json();
        let id = jobs["jobs"][0]["id"].as_str().unwrap();
        terminal.press(CONTROL_C);
        let (seen, status) = terminal.end();
        assert_eq!(status, Some(130), "{seen}");
        assert!(
            seen.contains(&format!("cancel it with `prunner cancel {id}`")),
            "{seen}"
        );
        assert_eq!(server.job(id)["status"], "waiting");
    }
}

#[test]
fn a_server_that_is_away_is_not_waited_for_any_more() {
    for command in ["schedule --wait", "schedule --follow", "logs -f"] {
        let space = TestSpace::new(PIPELINES);
        let server = space.serve();
        let id;
        let mut terminal;
        if let Some(flag) = command.strip_prefix("schedule ") {
            terminal = start(&space, &server, &["schedule", "long", flag]);
            id = running(&space, &server);
            terminal.read_until(&id);
        } else {
            id = server.schedule("gate");
            terminal = start(&space, &server, &["logs", "-f", &id]);
            terminal.read_until("waiting");
        }
        server.kill();
        terminal.press(CONTROL_C);
        let (seen, status) = terminal.end();
        assert_eq!(status, Some(130), "{seen}");
        let expected = format!("stopped watching, job {id} goes on; cancel it with `prunner cancel {id}`");
        assert!(seen.contains(&expected), "{seen}");
        // What a killed server leaves is stopped by the next one.
        drop(space.serve());
    }
}

#[test]
fn the_second_interrupt_ends_a_wait_for_an_answer() {
    let space = TestSpace::new(PIPELINES);
    space.run(&["token"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let arguments = ["schedule", "good", "--wait", "--cancel-on-interrupt"];
    let mut terminal = Terminal::start(space.command(&arguments).env("PRUNNER_ADDRESS", &address));
    let (mut stream, _) = listener.accept().unwrap();
    read_until(&mut stream, "\r\n\r\n");
    terminal.press(CONTROL_C);
    terminal.read_until("to cancel the job; Ctrl-C ends that");
    terminal.press(CONTROL_C);
    let (seen, status) = terminal.end();
    assert_eq!(status, Some(130), "{seen}");
}

#[test]
fn a_wait_for_several_tells_of_those_that_go_on() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let good = server.schedule("good");
    let (runs, waits) = (server.schedule("long"), server.schedule("long"));
    let mut terminal = start(&space, &server, &["wait", &good, &runs, &waits]);
    terminal.read_until(&format!("job {good} of pipeline `good` succeeded"));
    terminal.press(CONTROL_C);
    let (seen, status) = terminal.end();
    assert_eq!(status, Some(130), "{seen}");
    for (id, told) in [(&good, false), (&runs, true), (&waits, true)] {
        assert_eq!(seen.contains(&format!("prunner cancel {id}")), told, "{seen}");
    }
    assert_eq!(server.job(&runs)["status"], "running");
}
