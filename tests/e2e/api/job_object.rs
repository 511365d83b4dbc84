//! The job object, field by field, in all that a job can be.

use serde_json::{Value, json};

use super::authentication::{bearer, serve_pipelines, token};
use super::{WAIT_FOR_GO, column, is_time, keys};
use crate::space::{TestSpace, eventually};

/// Those that are always there, in their order, with `more` at its places.
#[track_caller]
fn check_keys(job: &Value, more: &[&str]) {
    let all = [
        "id",
        "pipeline",
        "user",
        "variables",
        "created",
        "start",
        "end",
        "completed",
        "canceled",
        "errored",
        "lastError",
        "status",
        "reason",
        "queuePartition",
        "startAfter",
        "durationMs",
        "tasks",
    ];
    let optional = [
        "variables",
        "lastError",
        "reason",
        "queuePartition",
        "startAfter",
        "durationMs",
    ];
    let expected: Vec<&str> = all
        .into_iter()
        .filter(|key| !optional.contains(key) || more.contains(key))
        .collect();
    assert_eq!(keys(job), expected, "{job}");
}

/// `completed`, `canceled` and `errored`, and whether there are a start and an end.
#[track_caller]
fn check_state(job: &Value, status: &str, [completed, canceled, errored]: [bool; 3], [start, end]: [bool; 2]) {
    assert_eq!(job["status"], status, "{job}");
    assert_eq!(
        [&job["completed"], &job["canceled"], &job["errored"]],
        [&json!(completed), &json!(canceled), &json!(errored)],
        "{job}"
    );
    assert!(is_time(&job["created"]), "{job}");
    for (field, is_set) in [("start", start), ("end", end)] {
        let value = job.get(field).unwrap();
        assert!(if is_set { is_time(value) } else { value.is_null() }, "{field}: {job}");
    }
    assert_eq!(job["durationMs"].is_u64(), start && end, "{job}");
    assert!(job["tasks"].is_array() && job["user"].is_string(), "{job}");
}

#[test]
fn a_job_that_waits_and_runs_and_succeeds() {
    let space = TestSpace::new(&format!(
        "pipelines: {{p: {{tasks: {{a: {{script: [{WAIT_FOR_GO:?}]}}}}}}}}"
    ));
    let server = space.serve();
    let (runs, waits) = (server.schedule("p"), server.schedule("p"));
    let job = server.job(&waits);
    check_keys(&job, &[]);
    check_state(&job, "waiting", [false; 3], [false; 2]);
    let job = server.job(&runs);
    check_keys(&job, &[]);
    check_state(&job, "running", [false; 3], [true, false]);
    assert_eq!(
        (&job["id"], &job["pipeline"], &job["user"]),
        (&json!(runs), &json!("p"), &json!("anna"))
    );
    space.go();
    for id in [runs, waits] {
        let job = server.ended(&id);
        check_keys(&job, &["durationMs"]);
        check_state(&job, "succeeded", [true, false, false], [true; 2]);
    }
}

#[test]
fn a_job_that_fails() {
    let space = TestSpace::new(
        r#"pipelines:
  deploy:
    tasks:
      build: {script: ["until test -e up; do sleep 0.01; done", exit 7]}
      watch: {script: [touch up; exec sleep 60]}
      upload: {script: ["true"], depends_on: [build]}
"#,
    );
    let server = space.serve();
    let request = json!({"pipeline": "deploy", "variables": {"release": "42"}});
    let id = server.accepted(&request);
    let mut job = server.ended(&id);
    check_keys(&job, &["variables", "lastError", "durationMs"]);
    check_state(&job, "failed", [true, false, true], [true; 2]);
    // As the contract shows it, but for the moments.
    let time = "2026-11-24T03:27:47Z";
    job["durationMs"] = json!(5);
    for field in ["created", "start", "end"] {
        job[field] = json!(time);
    }
    for task in job["tasks"].as_array_mut().unwrap() {
        for field in ["start", "end", "durationMs"] {
            if task.get(field).is_some_and(|value| !value.is_null()) {
                task[field] = if field == "durationMs" { json!(5) } else { json!(time) };
            }
        }
    }
    let expected = json!({"id": id, "pipeline": "deploy", "user": "anna", "variables": {"release": "42"},
        "created": time, "start": time, "end": time, "completed": true, "canceled": false, "errored": true,
        "lastError": "exit status 7", "status": "failed", "durationMs": 5, "tasks": [
            {"name": "build", "status": "error", "start": time, "end": time, "durationMs": 5, "skipped": false,
                "exitCode": 7, "errored": true, "error": "exit status 7"},
            {"name": "watch", "status": "canceled", "start": time, "end": time, "durationMs": 5, "skipped": false,
                "exitCode": -1, "errored": false},
            {"name": "upload", "dependsOn": ["build"], "status": "canceled", "start": null, "end": null,
                "skipped": false, "exitCode": 0, "errored": false}]});
    assert_eq!(job, expected);
}

#[test]
fn last_error_is_of_the_first_task_that_failed() {
    let space = TestSpace::new(&format!(
        "pipelines:
  p:
    continue_running_tasks_after_failure: true
    tasks:
      late: {{script: [{WAIT_FOR_GO:?}, exit 8]}}
      first: {{script: [exit 7]}}
    on_error: {{script: [exit 9]}}
"
    ));
    let server = space.serve();
    let id = server.schedule("p");
    let job = eventually("it has failed", || {
        let job = server.job(&id);
        (job["errored"] == true).then_some(job)
    });
    assert_eq!(
        (&job["lastError"], &job["status"]),
        (&json!("exit status 7"), &json!("running"))
    );
    space.go();
    let job = server.ended(&id);
    assert_eq!(
        (&job["status"], &job["lastError"]),
        (&json!("failed"), &json!("exit status 7"))
    );
    assert_eq!(
        column(&job["tasks"], "error"),
        ["exit status 8", "exit status 7", "exit status 9"]
    );
}

#[test]
fn a_job_that_is_canceled_while_it_waits() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: [exec sleep 60]}}}}");
    let server = space.serve();
    let (runs, waits) = (server.schedule("p"), server.schedule("p"));
    server.cancel_job(&waits);
    let job = server.job(&waits);
    check_keys(&job, &["lastError", "reason"]);
    check_state(&job, "canceled", [true, true, false], [false, true]);
    assert_eq!([&job["reason"], &job["lastError"]], ["canceled by anna"; 2]);
    // It was let go before its turn, so the next takes it.
    server.cancel_job(&runs);
    server.ended(&runs);
    assert_eq!(server.job(&server.schedule("p"))["status"], "running");
}

#[test]
fn a_job_that_is_canceled_while_it_runs() {
    let space = TestSpace::new(&format!(
        r#"pipelines: {{p: {{tasks: {{a: {{script: ["trap '' INT; echo up > up; {WAIT_FOR_GO}"]}}}}}}}}"#
    ));
    let server = space.serve();
    let id = server.schedule("p");
    space.first_line("up");
    server.cancel_job(&id);
    // It isn't canceled before it has ended, and has no reason so long.
    let job = server.job(&id);
    check_keys(&job, &[]);
    check_state(&job, "running", [false; 3], [true, false]);
    space.go();
    let job = server.ended(&id);
    check_keys(&job, &["lastError", "reason", "durationMs"]);
    check_state(&job, "canceled", [true, true, false], [true; 2]);
    assert_eq!([&job["reason"], &job["lastError"]], ["canceled by anna"; 2]);
}

#[test]
fn a_failing_job_that_is_canceled() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [exit 7]}}, on_error: {script: ['echo up > up; exec sleep 60']}}}",
    );
    let server = space.serve();
    let id = server.schedule("p");
    space.first_line("up");
    server.cancel_job(&id);
    let job = server.ended(&id);
    check_keys(&job, &["lastError", "reason", "durationMs"]);
    check_state(&job, "canceled", [true, true, true], [true; 2]);
    assert_eq!(
        [&job["reason"], &job["lastError"]],
        ["canceled by anna", "exit status 7"]
    );
}

#[test]
fn a_token_without_a_user() {
    let (_space, server) = serve_pipelines("pipelines: {p: {tasks: {a: {script: [exec sleep 60]}}}}");
    let nobody = bearer(&token(&json!({})));
    let answer = server.request("POST", "/pipelines/schedule", &nobody, r#"{"pipeline": "p"}"#);
    let scheduled = answer.json();
    let id = scheduled["jobId"].as_str().unwrap();
    assert_eq!(server.job(id).get("user"), Some(&json!("")));
    let cancel = |id: &str, headers: &str| {
        let answer = server.request("POST", &format!("/job/cancel?id={id}"), headers, "");
        assert_eq!(answer.status, 200, "{answer:?}");
        server.ended(id)
    };
    let job = cancel(id, &nobody);
    assert_eq!([&job["reason"], &job["lastError"]], ["canceled"; 2]);
    let job = cancel(&server.schedule("p"), &bearer(&token(&json!({"sub": "ben"}))));
    assert_eq!([&job["reason"], &job["lastError"]], ["canceled by ben"; 2]);
    assert_eq!(job["user"], "anna");
}

#[test]
fn a_job_that_is_replaced() {
    let space = TestSpace::new(
        "pipelines: {p: {queue_limit: 1, queue_strategy: replace, tasks: {a: {script: [exec sleep 60]}}}}",
    );
    let server = space.serve();
    let (_runs, replaced, newer) = (server.schedule("p"), server.schedule("p"), server.schedule("p"));
    let job = server.job(&replaced);
    check_keys(&job, &["lastError", "reason"]);
    check_state(&job, "replaced", [true, true, false], [false, true]);
    let reason = format!("replaced by job {newer}");
    assert_eq!([&job["reason"], &job["lastError"]], [&reason; 2]);
    assert_eq!(column(&job["tasks"], "status"), ["canceled"]);
    assert_eq!(server.job(&newer)["status"], "waiting");
}

#[test]
fn a_job_that_is_interrupted() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: ['echo up > up; exec sleep 60']}}}}");
    let server = space.serve();
    let id = server.schedule("p");
    space.first_line("up");
    server.kill();
    let server = space.serve();
    let job = server.job(&id);
    check_keys(&job, &["lastError", "reason", "durationMs"]);
    check_state(&job, "interrupted", [true, true, false], [true; 2]);
    assert_eq!(
        [&job["reason"], &job["lastError"]],
        ["prunner ended while the job ran"; 2]
    );
    let answer = server.post(&format!("/job/cancel?id={id}"), "");
    crate::checks::check_error(&answer, 409, "already_ended", "job has already ended");
}

#[test]
fn variables_and_queue_partition_are_omitted_when_empty() {
    let space = TestSpace::new(
        "pipelines: {p: {queue_strategy: partitioned_replace, queue_partition_limit: 1, tasks: {a: {script: ['true']}}}}",
    );
    let server = space.serve();
    for (variables, partition, more) in [
        (json!(null), json!(null), &[][..]),
        (json!({}), json!(""), &[]),
        (json!({"a": null}), json!(""), &["variables"]),
        (json!({}), json!("tenant"), &["queuePartition"]),
    ] {
        let request = json!({"pipeline": "p", "variables": variables, "queuePartition": partition});
        let job = server.ended(&server.accepted(&request));
        check_keys(&job, &[&["durationMs"], more].concat());
        if more.contains(&"queuePartition") {
            assert_eq!(job["queuePartition"], "tenant");
        }
    }
}

#[test]
fn start_after_is_there_until_the_delay_is_over() {
    let space = TestSpace::new(&format!(
        "pipelines: {{p: {{start_delay: 1s, tasks: {{a: {{script: [{WAIT_FOR_GO:?}]}}}}}}, long: {{start_delay: 1h}}}}"
    ));
    let server = space.serve();
    let (first, second) = (server.schedule("p"), server.schedule("p"));
    for id in [&first, &second] {
        let job = server.job(id);
        check_keys(&job, &["startAfter"]);
        check_state(&job, "waiting", [false; 3], [false; 2]);
        assert!(
            is_time(&job["startAfter"]) && job["startAfter"].as_str() > job["created"].as_str(),
            "{job}"
        );
    }
    let job = eventually("its delay is over", || {
        let job = server.job(&first);
        (job["status"] == "running").then_some(job)
    });
    check_keys(&job, &[]);
    // So it is for one that must wait on.
    let job = eventually("its delay is over too", || {
        let job = server.job(&second);
        job.get("startAfter").is_none().then_some(job)
    });
    assert_eq!(job["status"], "waiting");
    space.go();
    let long = server.schedule("long");
    check_keys(&server.job(&long), &["startAfter"]);
    server.cancel_job(&long);
    check_keys(&server.job(&long), &["lastError", "reason"]);
}

#[test]
fn duration_is_from_start_to_end() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [sleep 0.15]}, b: {depends_on: a, script: [sleep 0.15]}}}}",
    );
    let server = space.serve();
    let begun = std::time::Instant::now();
    let job = server.ended(&server.schedule("p"));
    let took = u64::try_from(begun.elapsed().as_millis()).unwrap();
    let duration = job["durationMs"].as_u64().unwrap();
    assert!((300..=took + 1).contains(&duration), "{took}: {job}");
    for task in job["tasks"].as_array().unwrap() {
        let part = task["durationMs"].as_u64().unwrap();
        assert!((150..=duration - 148).contains(&part), "{job}");
    }
}

#[test]
fn tasks_stand_behind_what_they_depend_on() {
    let space = TestSpace::new(
        r"pipelines:
  p:
    tasks:
      late: {depends_on: [middle, other]}
      last: {depends_on: late}
      middle: {depends_on: first}
      first: {}
      other: {}
      lone: {}
  empty: {}
  null_tasks: {tasks: }
",
    );
    let server = space.serve();
    let job = server.ended(&server.schedule("p"));
    // Again and again the first of the file all of whose dependencies are listed.
    assert_eq!(
        column(&job["tasks"], "name"),
        ["first", "middle", "other", "late", "last", "lone"]
    );
    for pipeline in ["empty", "null_tasks"] {
        let job = server.ended(&server.schedule(pipeline));
        assert_eq!((&job["tasks"], &job["status"]), (&json!([]), &json!("succeeded")));
    }
}

#[test]
fn on_error_is_listed_last_once_it_runs() {
    let space = TestSpace::new(&format!(
        "pipelines: {{p: {{tasks: {{a: {{script: [{WAIT_FOR_GO:?}, exit 7]}}, b: {{depends_on: a}}}}, \
         on_error: {{script: ['until test -e end; do sleep 0.01; done']}}}}}}"
    ));
    let server = space.serve();
    let id = server.schedule("p");
    assert_eq!(column(&server.job(&id)["tasks"], "name"), ["a", "b"]);
    space.go();
    // The task runs before it is shown: a start of a task waits for no disk.
    let job = eventually("it is listed", || {
        let job = server.job(&id);
        (column(&job["tasks"], "name") == ["a", "b", "on_error"]).then_some(job)
    });
    assert_eq!(column(&job["tasks"], "status"), ["error", "canceled", "running"]);
    check_state(&job, "running", [false, false, true], [true, false]);
    space.write("end", "");
    let job = server.ended(&id);
    assert_eq!(column(&job["tasks"], "status"), ["error", "canceled", "done"]);
    check_state(&job, "failed", [true, false, true], [true; 2]);
}
