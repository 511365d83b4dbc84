//! What a shell script or a Makefile counts on, with a real shell and a real make.

use std::path::Path;
use std::process::{Command, Output};

use super::PIPELINES;
use super::terminal::Terminal;
use crate::space::TestSpace;
use crate::tools::{is_there, say_skipped};

/// A program that finds `prunner` in its path, and the server by its variable.
fn by(space: &TestSpace, address: &str, program: &str, arguments: &[&str]) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_prunner")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let mut command = space.command_by(Command::new("timeout"), &["60", program]);
    command
        .args(arguments)
        .env("PATH", path)
        .env("PRUNNER_ADDRESS", address);
    command
}

/// Exit status and standard output.
#[track_caller]
fn check(output: &Output, status: i32, stdout: &str) {
    let found = (output.status.code(), std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!(found, (Some(status), stdout), "{output:?}");
}

#[test]
fn a_script_that_stops_at_failures_stops_where_a_command_fails() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    for (script, status, stdout) in [
        (
            "id=$(prunner schedule needs --var what=42); prunner wait \"$id\"; prunner logs \"$id\" say; prunner logs -f \"$id\"",
            0,
            "42\nsay | 42\n",
        ),
        ("id=$(prunner schedule bad); prunner wait \"$id\"; echo not here", 1, ""),
        (
            "id=$(prunner schedule bad); prunner wait \"$id\" || echo \"ended with $?\"; echo here",
            0,
            "ended with 1\nhere\n",
        ),
        ("id=$(prunner schedule goood); echo not here", 3, ""),
        ("prunner schedule good --wiat; echo not here", 2, ""),
        ("prunner run bad >/dev/null; echo not here", 1, ""),
        ("prunner run good; echo here", 0, "say | hello\nhere\n"),
        ("prunner jobs --address :1; echo not here", 5, ""),
    ] {
        let output = by(&space, &server.address, "sh", &["-euc", script]).output().unwrap();
        check(&output, status, stdout);
    }
}

#[test]
fn a_reader_of_one_line_is_enough_for_a_whole_pipe() {
    if !is_there("bash") {
        return say_skipped("bash", "nobody has looked at all statuses of a pipe");
    }
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let id = server.schedule("good");
    server.ended(&id);
    for command in [
        "jobs",
        "pipelines",
        "jobs --json",
        &format!("job {id}"),
        &format!("logs {id}"),
        "--help",
        "debug",
        "validate",
        "schema",
        "completions bash",
        "graph good",
    ] {
        let script = format!("set -eo pipefail; prunner {command} | head -n 1 | wc -l");
        let output = by(&space, &server.address, "bash", &["-c", &script]).output().unwrap();
        check(&output, 0, "1\n");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{command}");
    }
}

#[test]
fn make_runs_pipelines_at_the_same_time_and_stops_where_one_fails() {
    // The two can only end together; the third hands the places of make on to a make of its own.
    let space = TestSpace::new(
        "pipelines:
  one: {tasks: {a: {script: [echo 1 > to-two, read line < to-one]}}}
  two: {tasks: {a: {script: [read line < to-two, echo 2 > to-one]}}}
  inner: {tasks: {a: {script: [make -f inner.mk]}}}
  bad: {tasks: {a: {script: [exit 7]}}}
",
    );
    space.write(
        "Makefile",
        "all: one two inner\none two bad:\n\tprunner run --quiet $@\ninner:\n\t+prunner run --quiet $@\n\
         deploy: bad\n\ttouch deployed\n.PHONY: all one two inner bad deploy\n",
    );
    space.write("inner.mk", "both: l r\nl r:\n\t@touch $@\n");
    let make = |arguments: &[&str]| {
        let output = by(&space, "", "make", &[&["-s", "-j3"], arguments].concat()).output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stderr.clone()).unwrap();
        (output.status.code(), said)
    };
    let mkfifo = space.command_by(Command::new("mkfifo"), &["to-one", "to-two"]).status();
    assert!(mkfifo.unwrap().success());
    // A make that found no places would say so.
    assert_eq!(make(&["all"]), (Some(0), String::new()));
    assert!(space.path.join("l").exists() && space.path.join("r").exists());
    let (status, said) = make(&["deploy"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("Error 1") && said.contains("bad failed after"), "{said}");
    assert!(!space.path.join("deployed").exists());
}

#[test]
fn nothing_asks_back_at_a_terminal() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let id = server.schedule("good");
    server.ended(&id);
    for arguments in [
        &["schedule", "good", "--wait"][..],
        &["reload"],
        &["forget", &id],
        &["forget", "--pipeline", "good", "--older-than", "0"],
        &["token"],
        &["run", "good"],
    ] {
        let terminal = Terminal::start(space.command(arguments).env("PRUNNER_ADDRESS", &server.address));
        let (seen, status) = terminal.end();
        assert_eq!(status, Some(0), "{arguments:?}: {seen}");
    }
}
