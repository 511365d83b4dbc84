//! Pictures of pipelines, read by the programs that they are made for.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{check_failure, check_status, text};
use crate::space::TestSpace;
use crate::tools::{is_there, say_skipped};

/// Names that mean something to one of the programs, and what each depends on.
const TASKS: [(&str, Option<usize>); 16] = [
    ("end", None),
    ("graph", Some(0)),
    ("subgraph", Some(0)),
    ("a \"quoted\" name", Some(1)),
    ("b ] ) } | <b>x & #35; #quot; `code` \\ $x", Some(1)),
    ("ünïcode 世界 🎉", Some(3)),
    ("class; style", None),
    ("-->", None),
    ("1. list", None),
    ("\\N", None),
    ("back\\", None),
    ("\"`**md**`\"", None),
    ("&amp; &quot; <br>", None),
    ("%% comment", None),
    ("<table>", Some(13)),
    ("'it''s", None),
];

fn space() -> TestSpace {
    let mut tasks = serde_json::Map::new();
    for (name, before) in TASKS {
        let depends_on: Vec<&str> = before.into_iter().map(|place| TASKS[place].0).collect();
        tasks.insert(name.to_owned(), json!({"script": ["true"], "depends_on": depends_on}));
    }
    let pipelines = json!({"pipelines": {"p \"q\\\" ü": {"tasks": tasks, "on_error": {"script": ["true"]}}}});
    TestSpace::new(&pipelines.to_string())
}

fn graph(space: &TestSpace, flags: &[&str]) -> String {
    let output = space.run(&[&["graph", "p \"q\\\" ü"], flags].concat());
    check_status(&output, 0);
    text(&output.stdout)
}

/// What the program makes of it.
#[track_caller]
fn read_by(command: &mut Command, picture: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(picture.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    check_status(&output, 0);
    assert_eq!(text(&output.stderr), "", "{picture}");
    text(&output.stdout)
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

fn names() -> Vec<String> {
    let names = TASKS.iter().map(|(name, _)| *name).chain(["on_error"]);
    sorted(names.map(str::to_owned).collect())
}

fn edges() -> Vec<String> {
    let edges = TASKS
        .iter()
        .filter_map(|(name, before)| Some(format!("{} → {name}", TASKS[(*before)?].0)));
    sorted(edges.collect())
}

/// A text of an SVG file.
fn plain(markup: &str) -> String {
    let mut plain = String::new();
    let mut rest = markup;
    while let Some((before, behind)) = rest.split_once('&') {
        let (entity, behind) = behind.split_once(';').unwrap();
        plain.push_str(before);
        plain.push(match entity {
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "amp" => '&',
            number => char::from_u32(number.strip_prefix('#').unwrap().parse().unwrap()).unwrap(),
        });
        rest = behind;
    }
    (plain + rest).replace('\u{a0}', " ")
}

#[test]
fn graphviz_draws_what_is_meant() {
    if !is_there("dot") {
        return say_skipped("dot", "nothing has read the picture for it");
    }
    let svg = read_by(Command::new("dot").arg("-Tsvg"), &graph(&space(), &["--format", "dot"]));
    let (ended, _) = svg.rsplit_once("</text>").unwrap();
    let texts = ended.split("</text>").filter_map(|part| part.rsplit_once('>'));
    assert_eq!(sorted(texts.map(|(_, text)| plain(text)).collect()), names());
    assert_eq!(svg.matches(r#"class="edge""#).count(), edges().len());
}

#[test]
fn mermaid_draws_what_is_meant() {
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mermaid");
    if !is_there("node") || !reader.join("node_modules").is_dir() {
        return say_skipped(
            "npm install --prefix tests/mermaid",
            "nothing has read the picture for Mermaid",
        );
    }
    let picture = graph(&space(), &["--format", "mermaid"]);
    let read = read_by(Command::new("node").arg(reader.join("read.mjs")), &picture);
    let read: Value = serde_json::from_str(&read).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let labels: Vec<String> = read["labels"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(sorted(labels), names());
    let found: Vec<String> = read["edges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| format!("{} → {}", text(&edge[0]), text(&edge[1])))
        .collect();
    assert_eq!(sorted(found), edges());
}

#[test]
fn programs_read_json() {
    let space = space();
    let picture: Value = serde_json::from_str(&graph(&space, &["--json"])).unwrap();
    assert_eq!(
        (&picture["pipeline"], &picture["onError"]),
        (&json!("p \"q\\\" ü"), &json!(true))
    );
    let tasks = picture["tasks"].as_array().unwrap();
    let last = json!({"name": "ünïcode 世界 🎉", "dependsOn": ["a \"quoted\" name"], "level": 3, "marker": false});
    assert_eq!((tasks.len(), tasks.last()), (TASKS.len(), Some(&last)));
    check_failure(
        &space.run(&["graph", "p", "--json", "--format", "dot"]),
        2,
        "the argument `--json` cannot be used with `--format <FORMAT>`",
    );
}
