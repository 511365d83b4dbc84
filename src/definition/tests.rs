//! Definitions in, pipelines or complaints out: every key, every check, and YAML as real files use it.
//!
//! Here are the helpers that the tests share; none touches a file.

mod bounds;
mod intake;
mod mistakes;
mod samples;
mod schedules;
mod schema;
mod valid;

use std::path::Path;

use super::check;
use super::fields::Findings;
use super::parse::parse;
use super::{Pipeline, Task};
use crate::template::{Delimiters, Template};

/// The complaints as they are printed, errors marked `E`, warnings `W`, and the pipelines without errors.
fn read(yaml: &str) -> (Vec<String>, Vec<Pipeline>) {
    let mut findings = Findings::new();
    let mut complaints = Vec::new();
    let mut pipelines = Vec::new();
    match parse(yaml.as_bytes()) {
        Ok(root) => {
            let checked = check::check(Path::new("p.yml"), &root, &mut findings);
            pipelines.extend(checked.into_iter().filter_map(|checked| checked.pipeline));
        }
        Err(message) => complaints.push(format!("E p.yml: {message}")),
    }
    complaints.extend(findings.errors.iter().map(|complaint| format!("E {complaint}")));
    complaints.extend(findings.warnings.iter().map(|complaint| format!("W {complaint}")));
    (complaints, pipelines)
}

/// The only pipeline of a file without complaints.
#[track_caller]
fn only(yaml: &str) -> Pipeline {
    let (complaints, mut pipelines) = read(yaml);
    assert_eq!(complaints, Vec::<String>::new(), "{yaml}");
    assert_eq!(pipelines.len(), 1, "{yaml}");
    pipelines.remove(0)
}

/// A pipeline `p` with these keys, in flow or block style.
#[track_caller]
fn with_keys(keys: &str) -> Pipeline {
    only(&pipeline_text(keys))
}

fn pipeline_text(keys: &str) -> String {
    format!("pipelines:\n  p:\n    {}\n", keys.replace('\n', "\n    "))
}

/// The only task `t` of a pipeline, with these keys in flow style.
#[track_caller]
fn with_task(keys: &str) -> Task {
    with_keys(&format!("tasks: {{t: {{{keys}}}}}")).tasks.remove(0)
}

#[track_caller]
fn check_file(yaml: &str, expected: &[&str]) {
    assert_eq!(read(yaml).0, expected, "{yaml}");
}

/// What is said about pipeline `p` with these keys.
#[track_caller]
fn check_pipeline(keys: &str, expected: &[&str]) {
    let expected: Vec<String> = expected
        .iter()
        .map(|expected| {
            let (mark, message) = expected.split_at(2);
            if message.starts_with("task ") {
                format!("{mark}p.yml: {message}")
            } else {
                format!("{mark}p.yml: pipeline `p` {message}")
            }
        })
        .collect();
    assert_eq!(read(&pipeline_text(keys)).0, expected, "{keys}");
}

/// What is said about task `t` of pipeline `p` with these keys, in flow style.
#[track_caller]
fn check_task(keys: &str, expected: &[&str]) {
    let expected: Vec<String> = expected
        .iter()
        .map(|expected| {
            let (mark, message) = expected.split_at(2);
            format!("{mark}p.yml: task `t` of pipeline `p` {message}")
        })
        .collect();
    let keys = format!("tasks: {{t: {{{keys}}}}}");
    assert_eq!(read(&pipeline_text(&keys)).0, expected, "{keys}");
}

fn script(lines: &[&str]) -> Vec<Template> {
    lines
        .iter()
        .map(|line| Template::parse(line, Delimiters::Both).unwrap())
        .collect()
}

fn names(pipeline: &Pipeline) -> Vec<&str> {
    pipeline.tasks.iter().map(|task| task.name.as_ref()).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}
