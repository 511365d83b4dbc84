//! The commands that talk to a server, as people and scripts run them.

mod completions;
mod interrupt;
mod jobs;
mod local;
mod logs;
mod order;
mod pictures;
mod restart;
mod schedule;
mod scripts;
pub(crate) mod terminal;
mod unreachable;

use std::process::{Output, Stdio};

use serde_json::Value;

use crate::space::{Server, TestSpace};

/// Jobs that end in each way; `long` says `up` in a file and then runs until it is stopped.
pub(crate) const PIPELINES: &str = r#"pipelines:
  good: {tasks: {say: {script: ["echo hello"]}}}
  bad: {tasks: {fail: {script: ["echo out; echo wrong >&2; exit 7"]}}}
  long: {tasks: {sleep: {script: ["echo up > up", "exec sleep 100"]}}}
  gate: {concurrency: 9, tasks: {wait: {script: ["echo waiting; until test -e go; do sleep 0.02; done; echo gone"]}}}
  never_queued: {queue_limit: 0, tasks: {sleep: {script: ["exec sleep 100"]}}}
  needs: {tasks: {say: {script: ['echo << .what >>']}}}
"#;

/// Runs a command that finds the server by its variable.
pub(crate) fn run(space: &TestSpace, server: &Server, arguments: &[&str]) -> Output {
    space
        .command(arguments)
        .env("PRUNNER_ADDRESS", &server.address)
        .output()
        .unwrap()
}

/// Runs a command with this standard input.
pub(crate) fn run_with_input(space: &TestSpace, server: &Server, arguments: &[&str], input: &str) -> Output {
    space.write("input", input);
    space
        .command(arguments)
        .env("PRUNNER_ADDRESS", &server.address)
        .stdin(Stdio::from(std::fs::File::open(space.path.join("input")).unwrap()))
        .output()
        .unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
pub(crate) fn check_status(output: &Output, status: i32) {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
}

/// Exit status, standard output, and what standard error begins with: nothing else than its single line, where there is
/// one.
#[track_caller]
pub(crate) fn check_failure(output: &Output, status: i32, error: &str) {
    check_status(output, status);
    assert_eq!(text(&output.stdout), "", "{output:?}");
    let found = text(&output.stderr);
    let expected = format!("prunner: error: {error}");
    assert!(
        found.starts_with(&expected),
        "`{found}` does not begin with `{expected}`"
    );
    assert_eq!(found.matches('\n').count(), 1, "{found}");
}

/// The JSON objects that are on the lines.
#[track_caller]
pub(crate) fn objects(output: &Output) -> Vec<Value> {
    let text = text(&output.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The only line on standard output.
#[track_caller]
pub(crate) fn only_line(output: &Output) -> String {
    let text = text(&output.stdout);
    let line = text.strip_suffix('\n').unwrap_or_else(|| panic!("{output:?}"));
    assert!(!line.contains('\n') && !line.is_empty(), "{output:?}");
    line.to_owned()
}
