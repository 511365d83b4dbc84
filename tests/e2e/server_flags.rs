//! Every flag of the server and its variable, its log, and the exit statuses of all commands.

mod addresses;
mod files;
mod logs;
mod statuses;
mod tasks;

use crate::space::{Server, TestSpace};

/// One pipeline that says where it ran.
const PIPELINES: &str = "pipelines: {p: {tasks: {a: {script: echo ran}}}}";

/// Where nothing else listens.
const FREE: [&str; 2] = ["--address", "127.0.0.1:0"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&FREE, more].concat()
}

#[track_caller]
fn check_refused(space: &TestSpace, arguments: &[&str], variables: &[(&str, &str)], complaint: &str) {
    let output = space.run_with(arguments, variables);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?} {variables:?}: {stderr}");
    let expected = format!("prunner: error: {complaint}");
    let last = stderr.lines().last().unwrap_or_default();
    let matches = match expected.strip_suffix('…') {
        Some(start) => last.starts_with(start),
        None => last == expected,
    };
    assert!(matches, "{arguments:?} {variables:?}:\n{last}\n{expected}");
    assert!(output.stdout.is_empty());
}

fn names(server: &Server) -> Vec<String> {
    let pipelines = server.get("/pipelines/").json();
    let pipelines = pipelines["pipelines"].as_array().unwrap().iter();
    pipelines
        .map(|pipeline| pipeline["pipeline"].as_str().unwrap().to_owned())
        .collect()
}
