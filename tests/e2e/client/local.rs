//! Commands that need no server.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::{PIPELINES, check_failure, check_status, objects, text};
use crate::space::TestSpace;

#[test]
fn a_graph_is_drawn_from_the_files() {
    let space = TestSpace::new(
        "pipelines: {deploy: {tasks: {build: {script: [x]}, upload: {script: [x], depends_on: [build]}}}, odd: {}}",
    );
    for (arguments, expected) in [
        (
            &["graph", "deploy"][..],
            "deploy\n\n┌───────┐\n│ build │\n└───────┘\n     ▼\n┌─────────┐\n│ upload  │\n│ ← build │\n└─────────┘\n",
        ),
        (
            &["graph", "--format", "dot", "deploy"],
            "digraph \"deploy\" {\n  rankdir=LR;\n  node [shape=box];\n  t0 [label=\"build\"];\n  t1 [label=\"upload\"];\n  t0 -> t1;\n}\n",
        ),
        (
            &["graph", "deploy", "--format=mermaid"],
            "flowchart LR\n  t0[\"build\"]\n  t1[\"upload\"]\n  t0 --> t1\n",
        ),
    ] {
        let output = space.run(arguments);
        check_status(&output, 0);
        assert_eq!(text(&output.stdout), expected);
    }
    let graph = |name: &str| space.run(&["graph", name]);
    check_failure(
        &graph("deplyo"),
        3,
        "pipeline `deplyo` is not defined; did you mean `deploy`?",
    );
    check_failure(&graph("x"), 3, "pipeline `x` is not defined; defined are deploy, odd");
    space.write(
        "pipelines.yml",
        "pipelines: {deploy: {concurrency: 0}, odd: {concurrency: 0}}",
    );
    check_failure(
        &graph("deploy"),
        2,
        "pipelines.yml: pipeline `deploy` has the number `0` as `concurrency`",
    );
    check_failure(
        &space.run(&["graph", "deploy", "--pattern", "*.x"]),
        2,
        "no file below `.` matches `*.x`",
    );
}

#[test]
fn commands_for_a_server_make_no_secret() {
    let space = TestSpace::new(PIPELINES);
    for arguments in [
        &["jobs"][..],
        &["pipelines"],
        &["job", "1"],
        &["schedule", "good"],
        &["wait", "1"],
        &["cancel", "1"],
        &["forget", "1"],
        &["logs", "1"],
        &["reload"],
        &["schedules"],
    ] {
        check_failure(
            &space.run(arguments),
            2,
            "`.prunner.yml` does not exist, so there is no secret",
        );
    }
    // These need none.
    for arguments in [
        &["run", "good"][..],
        &["validate"],
        &["graph", "good"],
        &["schema"],
        &["completions", "bash"],
        &["version"],
        &["help"],
    ] {
        check_status(&space.run(arguments), 0);
    }
    assert!(!space.path.join(".prunner.yml").exists());
}

#[test]
fn a_secret_is_made_for_a_token() {
    for arguments in [&["token"][..], &["debug"]] {
        let space = TestSpace::new(PIPELINES);
        check_status(&space.run(arguments), 0);
        let file = space.path.join(".prunner.yml");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let written = space.read(".prunner.yml");
        let secret = written.strip_prefix("jwt_secret: ").unwrap().trim_end();
        assert!(secret.len() >= 16, "{arguments:?}");
        // It stays what it is.
        check_status(&space.run(arguments), 0);
        assert_eq!(space.read(".prunner.yml"), written);
    }
}

#[test]
fn findings_are_json_where_that_is_wanted() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: [x], depends_on: [b]}}}}");
    let output = space.run(&["validate", "--json"]);
    check_status(&output, 1);
    let [findings] = &objects(&output)[..] else {
        panic!("{output:?}")
    };
    let text = "pipelines.yml: task `a` of pipeline `p` depends on `b`, which is not defined";
    assert_eq!(
        findings,
        &json!({"files": 1, "pipelines": 0, "warnings": [], "schedules": [], "errors": [
            {"file": "pipelines.yml", "pipeline": "p", "task": "a", "text": text}]})
    );
    space.write(
        "pipelines.yml",
        "pipelines: {p: {tasks: {a: {script: [x], scirpt: [y]}}}}",
    );
    let output = space.run(&["validate", "--json", "pipelines.yml"]);
    check_status(&output, 1);
    assert_eq!(objects(&output)[0]["warnings"].as_array().unwrap().len(), 1);
    check_status(&space.run(&["validate", "--json", "--lenient"]), 0);
}
