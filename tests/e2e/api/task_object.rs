//! The task object, field by field.

use serde_json::{Value, json};

use super::{WAIT_FOR_GO, is_time, keys};
use crate::space::{TestSpace, eventually};

/// Those that are always there, in their order, with `more` at its places.
#[track_caller]
fn check_keys(task: &Value, more: &[&str]) {
    let all = [
        "name",
        "dependsOn",
        "status",
        "start",
        "end",
        "durationMs",
        "skipped",
        "exitCode",
        "errored",
        "error",
        "note",
    ];
    let optional = ["dependsOn", "durationMs", "error", "note"];
    let expected: Vec<&str> = all
        .into_iter()
        .filter(|key| !optional.contains(key) || more.contains(key))
        .collect();
    assert_eq!(keys(task), expected, "{task}");
    assert_eq!(task["skipped"], false, "{task}");
    assert_eq!(task["errored"], task["status"] == "error", "{task}");
}

#[track_caller]
fn check_times(task: &Value, start: bool, end: bool) {
    for (field, is_set) in [("start", start), ("end", end)] {
        let value = task.get(field).unwrap();
        assert!(if is_set { is_time(value) } else { value.is_null() }, "{field}: {task}");
    }
}

/// The first task of a job of that one task, whose script is this.
#[track_caller]
fn run(more: &str, script: &str) -> Value {
    let space = TestSpace::new(&format!(
        "pipelines: {{p: {{tasks: {{a: {{{more} script: [{script:?}]}}}}}}}}"
    ));
    let server = space.serve();
    server.ended(&server.schedule("p"))["tasks"][0].take()
}

#[test]
fn tasks_wait_and_run_and_are_done() {
    let space = TestSpace::new(&format!(
        "pipelines: {{p: {{tasks: {{a: {{script: [{WAIT_FOR_GO:?}]}}, b: {{depends_on: [a], script: ['true']}}}}}}}}"
    ));
    let server = space.serve();
    let id = server.schedule("p");
    let job = eventually("it runs", || {
        let job = server.job(&id);
        (job["tasks"][0]["status"] == "running").then_some(job)
    });
    let [a, b] = [&job["tasks"][0], &job["tasks"][1]];
    check_keys(a, &[]);
    check_times(a, true, false);
    assert_eq!(
        (&a["name"], &a["status"], &a["exitCode"]),
        (&json!("a"), &json!("running"), &json!(0))
    );
    check_keys(b, &["dependsOn"]);
    check_times(b, false, false);
    assert_eq!(
        (&b["status"], &b["exitCode"], &b["dependsOn"]),
        (&json!("waiting"), &json!(0), &json!(["a"]))
    );
    space.go();
    let job = server.ended(&id);
    for (task, more) in [
        (&job["tasks"][0], &["durationMs"][..]),
        (&job["tasks"][1], &["dependsOn", "durationMs"]),
    ] {
        check_keys(task, more);
        check_times(task, true, true);
        assert_eq!(
            (&task["status"], &task["exitCode"]),
            (&json!("done"), &json!(0)),
            "{task}"
        );
    }
}

#[test]
fn exit_codes_and_errors_of_tasks_that_fail() {
    for (script, exit_code, error) in [
        ("exit 7", 7, "exit status 7"),
        ("false", 1, "exit status 1"),
        ("exit 255", 255, "exit status 255"),
        ("no-such-command", 127, "exit status 127"),
        ("./pipelines.yml", 126, "exit status 126"),
        ("kill -KILL $$", 137, "signal: killed"),
        ("kill -TERM $$", 143, "signal: terminated"),
        ("exec sh -c 'kill -INT $$'", 130, "signal: interrupt"),
        ("ulimit -c 0; kill -SEGV $$", 139, "signal: segmentation fault"),
        // It exited, though with a number that looks like a signal's.
        ("exit 137", 137, "exit status 137"),
    ] {
        let task = run("", script);
        check_keys(&task, &["durationMs", "error"]);
        check_times(&task, true, true);
        assert_eq!(
            (&task["status"], &task["exitCode"]),
            (&json!("error"), &json!(exit_code)),
            "{script}: {task}"
        );
        assert_eq!(task["error"], error, "{script}");
    }
}

#[test]
fn a_task_that_cannot_be_started() {
    let task = run("shell: ./no-such-shell,", "true");
    check_keys(&task, &["durationMs", "error"]);
    check_times(&task, true, true);
    assert_eq!(
        (&task["status"], &task["exitCode"]),
        (&json!("error"), &json!(-1)),
        "{task}"
    );
    assert!(task["error"].as_str().unwrap().contains("no-such-shell"), "{task}");
}

#[test]
fn a_failure_that_is_allowed() {
    let task = run("allow_failure: true,", "exit 7");
    check_keys(&task, &["durationMs"]);
    assert_eq!(
        (&task["status"], &task["exitCode"]),
        (&json!("done"), &json!(7)),
        "{task}"
    );
}

#[test]
fn a_marker() {
    let task = run("", "");
    check_keys(&task, &["durationMs"]);
    check_times(&task, true, true);
    assert_eq!(task["start"], task["end"], "{task}");
    assert_eq!(
        (&task["durationMs"], &task["exitCode"], &task["status"]),
        (&json!(0), &json!(0), &json!("done"))
    );
}

#[test]
fn tasks_that_are_stopped() {
    let space = TestSpace::new(
        r#"pipelines:
  p:
    tasks:
      killed: {script: ["echo up > up-1; exec sleep 60"]}
      stubborn: {script: ["trap '' INT TERM; echo up > up-2; while :; do sleep 0.05; done"]}
      handles: {script: ["trap 'exit 143' INT; echo up > up-3; while :; do sleep 0.01; done"]}
      finishes: {script: ["trap 'exit 0' INT; echo up > up-4; while :; do sleep 0.01; done"]}
      as_by_signal: {script: ["trap 'exit 130' INT; echo up > up-5; while :; do sleep 0.01; done"]}
      never: {script: ["true"], depends_on: [killed]}
"#,
    );
    let server = space.serve_with(&["--address", "127.0.0.1:0", "--kill-grace", "300ms"], &[]);
    let id = server.schedule("p");
    for number in 1..=5 {
        space.first_line(&format!("up-{number}"));
    }
    server.cancel_job(&id);
    let job = server.ended(&id);
    assert_eq!(
        (&job["status"], &job["errored"]),
        (&json!("canceled"), &json!(false)),
        "{job}"
    );
    for (index, status, exit_code, more) in [
        (0, "canceled", -1, &["durationMs"][..]),
        (1, "canceled", -1, &["durationMs"]),
        (2, "error", 143, &["durationMs", "error"]),
        (3, "done", 0, &["durationMs"]),
        (4, "canceled", -1, &["durationMs"]),
    ] {
        let task = &job["tasks"][index];
        check_keys(task, more);
        check_times(task, true, true);
        assert_eq!(
            (&task["status"], &task["exitCode"]),
            (&json!(status), &json!(exit_code)),
            "{task}"
        );
    }
    assert_eq!(job["tasks"][2]["error"], "exit status 143");
    let never = &job["tasks"][5];
    check_keys(never, &["dependsOn"]);
    check_times(never, false, false);
    assert_eq!((&never["status"], &never["exitCode"]), (&json!("canceled"), &json!(0)));
}

#[test]
fn a_note_says_that_output_was_cut_off() {
    let space =
        TestSpace::new("pipelines: {p: {tasks: {a: {script: ['(until test -e go; do sleep 0.01; done) & echo a']}}}}");
    let server = space.serve();
    let task = server.ended(&server.schedule("p"))["tasks"][0].take();
    space.go();
    check_keys(&task, &["durationMs", "note"]);
    assert_eq!(task["status"], "done", "{task}");
    assert!(!task["note"].as_str().unwrap().is_empty(), "{task}");
}
