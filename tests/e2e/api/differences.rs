//! In what we differ from the server that we replace, on purpose.

use serde_json::json;

use super::authentication::{serve, token};
use super::{UNKNOWN, column, is_time};
use crate::checks::{check_error, check_task};
use crate::space::TestSpace;

#[test]
fn the_exit_code_of_success_is_0() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: ['true']}, marker: {}}}}");
    let server = space.serve();
    let job = server.ended(&server.schedule("p"));
    assert_eq!(column(&job["tasks"], "exitCode"), [0, 0]);
}

#[test]
fn failed_and_stopped_tasks_have_an_end_and_a_failed_job_is_not_canceled() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: ['until test -e up; do sleep 0.01; done', exit 1]}, \
         b: {script: [touch up; exec sleep 60]}}}}",
    );
    let server = space.serve();
    let job = server.ended(&server.schedule("p"));
    check_task(&job, "a", "error", 1, true);
    check_task(&job, "b", "canceled", -1, true);
    assert_eq!([&job["errored"], &job["canceled"]], [true, false], "{job}");
}

#[test]
fn jobs_canceled_or_replaced_while_they_waited_are_completed_and_leave_the_wait_list() {
    let space = TestSpace::new(
        "pipelines:
  append: {queue_limit: 1, tasks: {a: {script: [exec sleep 60]}}}
  replace: {queue_limit: 1, queue_strategy: replace, tasks: {a: {script: [exec sleep 60]}}}
",
    );
    let server = space.serve();
    let (runs, canceled) = (server.schedule("append"), server.schedule("append"));
    server.cancel_job(&canceled);
    let (_, replaced, newer) = (
        server.schedule("replace"),
        server.schedule("replace"),
        server.schedule("replace"),
    );
    for id in [&canceled, &replaced] {
        let job = server.job(id);
        assert_eq!([&job["completed"], &job["canceled"]], [true, true], "{job}");
        assert!(is_time(&job["end"]) && job["start"].is_null(), "{job}");
        check_task(&job, "a", "canceled", 0, false);
    }
    // The place is free again, and it is the newer one that waits.
    let next = server.schedule("append");
    server.cancel_job(&runs);
    server.ended(&runs);
    assert_eq!(server.job(&next)["status"], "running");
    let waiting = server.get("/pipelines/jobs?status=waiting").json();
    assert_eq!(column(&waiting["jobs"], "id"), [&newer]);
}

#[test]
fn tasks_is_never_null() {
    let space = TestSpace::new("pipelines: {p: {}, q: {start_delay: 1h}}");
    let server = space.serve();
    let (ended, waits) = (server.schedule("p"), server.schedule("q"));
    assert_eq!(server.ended(&ended).get("tasks"), Some(&json!([])));
    assert_eq!(server.job(&waits).get("tasks"), Some(&json!([])));
}

#[test]
fn errors_but_401_are_always_json() {
    let space = TestSpace::new("pipelines: {p: {}}");
    let server = space.serve();
    let id = server.schedule("p");
    server.ended(&id);
    for (method, target, status, code) in [
        ("GET", "/nowhere", 404, "not_found"),
        ("PUT", "/pipelines/", 405, "method_not_allowed"),
        ("POST", "/pipelines/schedule", 400, "bad_json"),
        ("GET", "/job/detail", 400, "invalid_job_id"),
        ("GET", &format!("/job/detail?id={UNKNOWN}"), 404, "job_not_found"),
        ("POST", &format!("/job/cancel?id={id}"), 409, "already_ended"),
        ("GET", &format!("/job/logs?id={id}&task=a"), 404, "task_not_found"),
    ] {
        let answer = server.request(method, target, &server.authorization(), "");
        check_error(&answer, status, code, "…");
    }
    let answer = server.without_token("GET", &format!("/job/detail?id={UNKNOWN}"), "");
    assert_eq!(
        (answer.status, answer.header("Content-Type")),
        (401, "text/plain; charset=utf-8")
    );
    serde_json::from_str::<serde_json::Value>(&answer.body).unwrap_err();
}

#[test]
fn no_cookie_lets_anybody_in() {
    let (_space, server) = serve();
    let headers = format!("Cookie: jwt={}\r\n", token(&json!({"sub": "anna"})));
    let answer = server.request("POST", "/pipelines/schedule", &headers, r#"{"pipeline": "quick"}"#);
    assert_eq!((answer.status, answer.body.as_str()), (401, "no token found"));
    assert_eq!(server.get("/pipelines/jobs").json()["jobs"], json!([]));
}

#[test]
fn an_undefined_variable_is_refused_at_once() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: ['echo a > ran']}, b: {depends_on: a, script: ['echo {{ .x }}']}}, \
         on_error: {script: [echo sorry > sorry]}}}",
    );
    let server = space.serve();
    check_error(
        &server.try_schedule("p"),
        400,
        "bad_variables",
        "Error scheduling pipeline: …",
    );
    assert_eq!(server.get("/pipelines/jobs").json()["jobs"], json!([]));
    server.ended(&server.accepted(&json!({"pipeline": "p", "variables": {"x": 1}})));
    assert_eq!(
        (space.read("ran"), space.read("sorry")),
        ("a\n".to_owned(), String::new())
    );
}

#[test]
fn a_pipeline_that_never_queues_runs() {
    let space = TestSpace::new("pipelines: {p: {queue_limit: 0, tasks: {a: {script: ['true']}}}}");
    let server = space.serve();
    for _ in 0..3 {
        assert_eq!(server.ended(&server.schedule("p"))["status"], "succeeded");
    }
}

#[test]
fn replace_works_without_a_queue_limit() {
    let space = TestSpace::new("pipelines: {p: {queue_strategy: replace, tasks: {a: {script: [exec sleep 60]}}}}");
    let server = space.serve();
    let ids = [(); 4].map(|()| server.schedule("p"));
    let statuses = ids.each_ref().map(|id| server.job(id)["status"].clone());
    assert_eq!(statuses, ["running", "replaced", "replaced", "waiting"]);
}

#[test]
fn waiting_jobs_survive_a_restart() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: ['echo << .x >> >> ran', exec sleep 60]}}}}");
    let server = space.serve();
    let ids = ["1", "2", "3"].map(|x| server.accepted(&json!({"pipeline": "p", "variables": {"x": x}})));
    space.first_line("ran");
    assert_eq!(server.stop(), Some(0));
    let server = space.serve();
    assert_eq!(server.job(&ids[0])["status"], "canceled");
    for id in &ids[1..] {
        crate::space::eventually("its turn comes", || {
            (server.job(id)["status"] == "running").then_some(())
        });
        crate::space::eventually("it has written", || {
            let lines = space.read("ran").lines().count();
            (lines == ids.iter().position(|other| other == id).unwrap() + 1).then_some(())
        });
        server.cancel_job(id);
        server.ended(id);
    }
    assert_eq!(space.read("ran"), "1\n2\n3\n");
}

#[test]
fn values_print_plainly_and_are_never_rendered_again() {
    let space = TestSpace::new(
        r#"pipelines: {p: {tasks: {a: {script: ["cat <<'EOF'\n{{ .million }} << .fraction >> {{ .big }} {{ .yes }} {{ .nothing }}.\n{{ .list }} {{ .object }} {{ .template }}\nEOF"]}}}}"#,
    );
    let server = space.serve();
    let variables = r#"{"million": 1000000, "fraction": 0.5, "big": 123456789012345678901234567890, "yes": true,
        "nothing": null, "list": [1, "a"], "object": {"b": 1, "a": null}, "template": "{{ .million }} << .x >>"}"#;
    let answer = server.post(
        "/pipelines/schedule",
        &format!(r#"{{"pipeline": "p", "variables": {variables}}}"#),
    );
    assert_eq!(answer.status, 202, "{answer:?}");
    let scheduled = answer.json();
    let id = scheduled["jobId"].as_str().unwrap();
    server.ended(id);
    let logs = server.get(&format!("/job/logs?id={id}&task=a")).json();
    assert_eq!(
        logs["stdout"],
        "1000000 0.5 123456789012345678901234567890 true .\n[1,\"a\"] {\"b\":1,\"a\":null} {{ .million }} << .x >>\n"
    );
}
