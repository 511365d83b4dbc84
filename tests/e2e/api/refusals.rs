//! What clients are told that ask for something that is not to be had: the texts and codes that they match.

use serde_json::json;

use super::UNKNOWN;
use crate::checks::check_error;
use crate::space::{Server, TestSpace};

const QUICK: &str = "pipelines: {quick: {tasks: {a: {script: ['true']}}}}";

/// The routes that take a job's id, and how they are asked.
fn with_id(server: &Server, check: impl Fn(&dyn Fn(&str) -> crate::space::Answer)) {
    check(&|query| server.get(&format!("/job/detail?{query}")));
    check(&|query| server.get(&format!("/job/detail?wait=1s&{query}")));
    check(&|query| server.get(&format!("/job/logs?task=a&{query}")));
    check(&|query| server.get(&format!("/job/log?task=a&{query}")));
    check(&|query| server.get(&format!("/job/log?task=a&follow=true&{query}")));
    check(&|query| server.post(&format!("/job/cancel?{query}"), ""));
}

#[test]
fn id_missing_or_no_uuid_in_its_usual_form() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    let id = server.schedule("quick");
    let bare = id.replace('-', "");
    with_id(&server, |ask| {
        for query in [
            String::new(),
            "id".to_owned(),
            "id=".to_owned(),
            "id=7".to_owned(),
            "id=..%2f..".to_owned(),
            "ID=0193aaaa-0000-7000-8000-000000000000".to_owned(),
            format!("id={bare}"),
            format!("id={{{id}}}"),
            format!("id=urn:uuid:{id}"),
            format!("id={id}0"),
            format!("id=%20{id}"),
            format!("id={}", &id[..35]),
            format!("id={}x", &id[..35]),
        ] {
            check_error(&ask(&query), 400, "invalid_job_id", "Invalid job id");
        }
    });
    let answer = server.get("/pipelines/jobs?before=7");
    check_error(&answer, 400, "invalid_job_id", "Invalid job id");
}

#[test]
fn job_not_known() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    with_id(&server, |ask| {
        let answer = ask(&format!("id={UNKNOWN}"));
        check_error(&answer, 404, "job_not_found", "Job not found");
    });
    let answer = server.get(&format!("/pipelines/jobs?before={UNKNOWN}"));
    check_error(&answer, 404, "job_not_found", "Job not found");
}

#[test]
fn task_missing() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    let id = server.schedule("quick");
    for route in ["logs", "log"] {
        for query in ["", "&task", "&task=", "&Task=a"] {
            let answer = server.get(&format!("/job/{route}?id={id}{query}"));
            check_error(&answer, 400, "invalid_task_name", "Invalid task name");
        }
    }
}

#[test]
fn no_such_task_in_the_job() {
    let space = TestSpace::new(
        "pipelines: {quick: {tasks: {a: {script: ['echo a']}}, on_error: {script: ['true']}}, b: {tasks: {b: {}}}}",
    );
    let server = space.serve();
    let id = server.schedule("quick");
    server.ended(&id);
    space.write("secret-stdout.log", "secret");
    for route in ["logs", "log"] {
        for task in [
            "b",
            "A",
            "a%20",
            "on_error",
            "..%2f..%2f..%2fsecret",
            "a-stdout.log",
            "%00",
            ".",
        ] {
            let answer = server.get(&format!("/job/{route}?id={id}&task={task}"));
            check_error(&answer, 404, "task_not_found", "Task not found");
        }
    }
}

#[test]
fn body_is_not_json_or_of_the_wrong_type() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    for (body, place) in [
        ("", "line 1 column 0"),
        ("{", "line 1 column 1"),
        ("pipeline=quick", "line 1 column 1"),
        ("{\"pipeline\":\n\"quick\",}", "line 2 column 9"),
        ("{'pipeline': 'quick'}", "line 1 column 2"),
        ("null", "line 1"),
        ("[]", "line 1"),
        ("\"quick\"", "line 1"),
        (r#"{"pipeline": 1}"#, "`pipeline`"),
        (r#"{"pipeline": ["quick"]}"#, "`pipeline`"),
        (r#"{"pipeline": "quick", "variables": []}"#, "`variables`"),
        (r#"{"pipeline": "quick", "variables": "a"}"#, "`variables`"),
        (r#"{"pipeline": "quick", "variables": 0}"#, "`variables`"),
        (r#"{"pipeline": "quick", "queuePartition": 1}"#, "`queuePartition`"),
        (r#"{"pipeline": "quick"} {}"#, "line 1 column 23"),
    ] {
        let answer = server.post("/pipelines/schedule", body);
        check_error(&answer, 400, "bad_json", "Error decoding JSON: …");
        let error = answer.json();
        assert!(error["error"].as_str().unwrap().contains(place), "{body}: {error}");
    }
    assert_eq!(server.get("/pipelines/jobs").json()["jobs"], json!([]));
}

#[test]
fn pipeline_not_known() {
    let space = TestSpace::new(QUICK);
    let server = space.serve();
    for (pipeline, text) in [
        ("x", r#"Error scheduling pipeline: pipeline "x" is not defined"#),
        ("Quick", r#"Error scheduling pipeline: pipeline "Quick" is not defined"#),
        ("", r#"Error scheduling pipeline: pipeline "" is not defined"#),
    ] {
        check_error(&server.try_schedule(pipeline), 400, "unknown_pipeline", text);
    }
    let answer = server.post("/pipelines/schedule", "{}");
    let text = r#"Error scheduling pipeline: pipeline "" is not defined"#;
    check_error(&answer, 400, "unknown_pipeline", text);
}

#[test]
fn wait_list_full() {
    let space = TestSpace::new("pipelines: {short: {queue_limit: 1, tasks: {a: {script: [exec sleep 60]}}}}");
    let server = space.serve();
    let (_runs, waits) = (server.schedule("short"), server.schedule("short"));
    let text = "Error scheduling pipeline: concurrency exceeded and queue limit reached for pipeline";
    check_error(&server.try_schedule("short"), 400, "queue_full", text);
    server.cancel_job(&waits);
    server.schedule("short");
}

#[test]
fn queueing_disabled_and_busy() {
    let space = TestSpace::new("pipelines: {closed: {queue_limit: 0, tasks: {a: {script: [exec sleep 60]}}}}");
    let server = space.serve();
    let id = server.schedule("closed");
    let text = "Error scheduling pipeline: concurrency exceeded and queueing disabled for pipeline";
    check_error(&server.try_schedule("closed"), 400, "queue_disabled", text);
    server.cancel_job(&id);
    server.ended(&id);
    server.schedule("closed");
}

#[test]
fn undefined_variable_or_reserved_name() {
    let space = TestSpace::new(
        r#"pipelines:
  uses: {tasks: {first: {script: ["true"]}, build: {depends_on: first, script: ["true", 'echo << .release >>']}}}
  quick: {tasks: {a: {script: ["true"]}}}
"#,
    );
    let server = space.serve();
    let check = |pipeline: &str, variables: serde_json::Value, parts: &[&str]| {
        let request = json!({"pipeline": pipeline, "variables": variables}).to_string();
        let answer = server.post("/pipelines/schedule", &request);
        check_error(&answer, 400, "bad_variables", "Error scheduling pipeline: …");
        let error = answer.json();
        for part in parts {
            assert!(error["error"].as_str().unwrap().contains(part), "`{part}`: {error}");
        }
    };
    check("uses", json!({}), &["release", "build", "line 2"]);
    check("uses", json!({"Release": "1"}), &["release"]);
    for name in [
        "__jobID",
        "failedTaskName",
        "failedTaskExitCode",
        "failedTaskError",
        "failedTaskStdout",
        "failedTaskStderr",
    ] {
        check("quick", json!({name: "1"}), &[name]);
    }
    check("quick", json!({"a\0b": "1"}), &[]);
    check("quick", json!({"a": "1\u{0}2"}), &["a"]);
    assert_eq!(server.get("/pipelines/jobs").json()["jobs"], json!([]));
}

#[test]
fn a_cancel_after_the_end() {
    let space =
        TestSpace::new("pipelines: {good: {tasks: {a: {script: ['true']}}}, bad: {tasks: {a: {script: ['false']}}}}");
    let server = space.serve();
    for (pipeline, status) in [("good", "succeeded"), ("bad", "failed")] {
        let id = server.schedule(pipeline);
        assert_eq!(server.ended(&id)["status"], status);
        let answer = server.post(&format!("/job/cancel?id={id}"), "");
        check_error(&answer, 409, "already_ended", "job has already ended");
        assert_eq!(
            answer.json(),
            json!({"error": "job has already ended", "code": "already_ended"})
        );
        assert_eq!(server.job(&id)["status"], status);
    }
}
