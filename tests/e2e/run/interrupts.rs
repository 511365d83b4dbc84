//! Signals while a job runs: what becomes of its tasks, and what prunner ends with.

use rustix::process::Signal;

use super::{Running, names};
use crate::space::{TestSpace, eventually, is_alive};

const LONG: &str =
    "pipelines: {p: {tasks: {a: {script: ['echo $$ > pid', exec sleep 60]}, b: {script: [touch b], depends_on: [a]}}}}";

#[track_caller]
fn check(signal: Signal, status: i32, why: &str) {
    let space = TestSpace::new(LONG);
    let mut run = Running::start(&space, &["p"]);
    let pid = space.first_line("pid");
    run.signal(signal);
    assert_eq!(run.end(), Some(status));
    assert!(!is_alive(&pid));
    assert_eq!(names(&space, "."), ["pid", "pipelines.yml"]);
    run.says("stopping the tasks");
    assert!(run.says("p was canceled").ends_with(why));
}

#[test]
fn a_signal_stops_the_tasks_as_a_cancel_would() {
    check(Signal::INT, 130, ": canceled by anna");
    check(Signal::TERM, 143, ": prunner was stopped");
    check(Signal::HUP, 129, ": prunner was stopped");
}

/// A task that does not stop by itself.
const STUBBORN: &str =
    "pipelines: {p: {tasks: {a: {script: [\"trap '' INT TERM; echo $$ > pid; while :; do sleep 0.1; done\"]}}}}";

#[test]
fn the_second_interrupt_kills() {
    let space = TestSpace::new(STUBBORN);
    let mut run = Running::start(&space, &["p", "--kill-grace", "1h"]);
    let pid = space.first_line("pid");
    run.signal(Signal::INT);
    run.says("stopping the tasks; Ctrl-C kills them");
    assert!(is_alive(&pid));
    run.signal(Signal::INT);
    run.says("killing the tasks");
    assert_eq!(run.end(), Some(130));
    assert!(!is_alive(&pid));
}

#[test]
fn a_second_hang_up_kills_nothing_but_ctrl_c_then_does() {
    let space = TestSpace::new(STUBBORN);
    let mut run = Running::start(&space, &["p", "--kill-grace", "1h"]);
    let pid = space.first_line("pid");
    run.signal(Signal::HUP);
    run.says("stopping the tasks");
    run.signal(Signal::HUP);
    run.says("stopping the tasks");
    assert!(is_alive(&pid));
    run.signal(Signal::INT);
    assert_eq!(run.end(), Some(129));
    assert!(!is_alive(&pid));
}

#[test]
fn an_interrupted_on_error_leaves_nothing() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [echo x, exit 1]}}, on_error: {script: ['echo $$ > pid', exec sleep 60]}}}",
    );
    space.write("tmp/.keep", "");
    let tmp = space.path.join("tmp");
    let mut command = space.command(&["run", "p"]);
    let mut child = command
        .env("TMPDIR", &tmp)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pid = space.first_line("pid");
    assert_eq!(names(&space, "tmp").len(), 2);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!is_alive(&pid));
    assert_eq!(names(&space, "tmp"), [".keep"]);
}

#[test]
fn what_a_task_makes_of_the_interrupt_is_seen() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [\"trap 'echo cleaned up; exit 3' INT; echo > up; while :; do sleep 0.02; done\"]}}}}",
    );
    let mut run = Running::start(&space, &["p"]);
    space.first_line("up");
    run.signal(Signal::INT);
    assert_eq!(run.end(), Some(130));
    assert_eq!(run.stdout.iter().collect::<Vec<_>>(), ["a | cleaned up"]);
    run.says("x a failed after");
}

#[test]
fn json_is_whole_at_an_interrupt() {
    let space = TestSpace::new(LONG);
    let mut run = Running::start(&space, &["p", "--json"]);
    space.first_line("pid");
    run.signal(Signal::INT);
    assert_eq!(run.end(), Some(130));
    let events: Vec<serde_json::Value> = run
        .stdout
        .iter()
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect();
    let seen: Vec<(&str, &str)> = events
        .iter()
        .map(|event| (event["event"].as_str().unwrap(), event["status"].as_str().unwrap()))
        .collect();
    let ended = ("ended", "canceled");
    assert_eq!(seen, [("started", "running"), ended, ended, ("job", "canceled")]);
    assert_eq!(run.stderr.iter().count(), 0);
}

#[test]
fn a_reader_that_reads_nothing_does_not_keep_prunner() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: ['echo $$ > pid', yes]}}}}");
    let mut child = space
        .command(&["run", "p"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pid = space.first_line("pid");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT).unwrap();
    // The pipe stays open, and full.
    let status = eventually("it ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(130));
    assert!(!is_alive(&pid));
}
