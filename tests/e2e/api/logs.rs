//! `GET /job/logs`: what a task printed, as JSON.

use serde_json::{Value, json};

use super::{WAIT_FOR_GO, keys};
use crate::space::{Server, TestSpace, eventually};

#[track_caller]
fn logs(server: &Server, id: &str, task: &str) -> Value {
    let answer = server.get(&format!("/job/logs?id={id}&task={task}"));
    assert_eq!(
        (answer.status, answer.header("Content-Type")),
        (200, "application/json")
    );
    answer.json()
}

#[test]
fn both_streams_are_shown() {
    let space = TestSpace::new(
        r"pipelines:
  p:
    tasks:
      both: {script: ['echo out; echo err >&2', 'printf more']}
      quiet: {script: ['true'], depends_on: both}
      bytes: {script: ['printf ''a\377b\303\050 \342\202\254 \000 \t''; printf ''\360\237'' >&2'], depends_on: both}
      fails: {script: ['exit 1'], depends_on: [bytes, quiet]}
      never: {script: ['echo never'], depends_on: fails}
    on_error: {script: ['echo sorry']}
",
    );
    let server = space.serve();
    let id = server.schedule("p");
    server.ended(&id);
    let both = logs(&server, &id, "both");
    assert_eq!(both, json!({"stdout": "out\nmore", "stderr": "err\n"}));
    assert_eq!(keys(&both), ["stdout", "stderr"]);
    let nothing = json!({"stdout": "", "stderr": ""});
    assert_eq!(logs(&server, &id, "quiet"), nothing);
    assert_eq!(logs(&server, &id, "never"), nothing);
    // What is not UTF-8 is replaced, and nothing else.
    assert_eq!(
        logs(&server, &id, "bytes"),
        json!({"stdout": "a\u{FFFD}b\u{FFFD}( € \0 \t", "stderr": "\u{FFFD}"})
    );
    assert_eq!(logs(&server, &id, "on_error")["stdout"], "sorry\n");
}

#[test]
fn they_are_shown_while_they_grow() {
    let space = TestSpace::new(&format!(
        "pipelines: {{p: {{tasks: {{a: {{script: [echo first, {WAIT_FOR_GO:?}, echo second]}}, b: {{depends_on: a}}}}}}}}"
    ));
    let server = space.serve();
    let (id, waits) = (server.schedule("p"), server.schedule("p"));
    eventually("the first line is shown", || {
        (logs(&server, &id, "a")["stdout"] == "first\n").then_some(())
    });
    assert_eq!(server.job(&id)["status"], "running");
    let nothing = json!({"stdout": "", "stderr": ""});
    assert_eq!(logs(&server, &id, "b"), nothing);
    assert_eq!(logs(&server, &waits, "a"), nothing);
    space.go();
    server.ended(&id);
    assert_eq!(logs(&server, &id, "a")["stdout"], "first\nsecond\n");
}

#[test]
fn only_the_last_8_mib_are_shown() {
    let space = TestSpace::new(
        r"pipelines:
  p:
    tasks:
      whole: {script: ['head -c 8388608 /dev/zero | tr ''\0'' x']}
      cut: {script: ['printf lost; head -c 8388608 /dev/zero | tr ''\0'' x; echo err >&2']}
      err: {script: ['printf lost >&2; head -c 8388608 /dev/zero | tr ''\0'' x >&2']}
",
    );
    let server = space.serve();
    let id = server.schedule("p");
    server.ended(&id);
    // Compared as text: these are large.
    let expected = |start: &str, end: &str| format!("{start}{}{end}", "x".repeat(8 << 20));
    for (task, expected) in [
        ("whole", expected(r#"{"stdout":""#, r#"","stderr":""}"#)),
        (
            "cut",
            expected(r#"{"stdout":""#, r#"","stderr":"err\n","truncated":true}"#),
        ),
        ("err", expected(r#"{"stdout":"","stderr":""#, r#"","truncated":true}"#)),
    ] {
        let answer = server.get(&format!("/job/logs?id={id}&task={task}"));
        assert!(answer.body == expected, "{task}");
    }
}
