//! What is answered while not all is well: a stop, a disk that takes nothing more, a log that can't be read.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;

use super::{UNKNOWN, WAIT_FOR_GO};
use crate::checks::check_error;
use crate::space::{Server, TestSpace, eventually};

#[track_caller]
fn check_health(server: &Server, status: u16, word: &str) {
    let answer = server.without_token("GET", "/health", "");
    let health = answer.json();
    assert_eq!((answer.status, &health["status"]), (status, &json!(word)), "{health}");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    if status == 503 {
        assert!(!health["error"].as_str().unwrap().is_empty(), "{health}");
        assert_ne!(answer.header("Retry-After"), "");
    }
}

#[test]
fn shutting_down() {
    let space = TestSpace::new(&format!(
        "pipelines: {{long: {{tasks: {{a: {{script: [{WAIT_FOR_GO:?}]}}}}}}, quick: {{tasks: {{a: {{}}}}}}}}"
    ));
    let mut server = space.serve();
    check_health(&server, 200, "ok");
    let (runs, waits) = (server.schedule("long"), server.schedule("long"));
    server.signal("INT");
    eventually("it is stopping", || (server.get("/health").status == 503).then_some(()));
    check_health(&server, 503, "stopping");
    for pipeline in ["long", "quick", "x"] {
        let answer = server.try_schedule(pipeline);
        let text = "Error scheduling pipeline: prunner is shutting down";
        check_error(&answer, 503, "shutting_down", text);
        assert_ne!(answer.header("Retry-After"), "");
    }
    // A request now would not be accepted.
    assert_eq!(
        server.get("/pipelines/").json()["pipelines"],
        json!([
            {"pipeline": "long", "schedulable": false, "running": true},
            {"pipeline": "quick", "schedulable": false, "running": false},
        ])
    );
    // All else is answered as ever.
    assert_eq!(server.job(&runs)["status"], "running");
    assert_eq!(server.get("/pipelines/jobs").status, 200);
    let answer = server.get(&format!("/job/detail?id={UNKNOWN}"));
    check_error(&answer, 404, "job_not_found", "Job not found");
    server.cancel_job(&waits);
    assert_eq!(server.job(&waits)["status"], "canceled");
    space.go();
    assert_eq!(server.end(), Some(0));
}

#[test]
fn storage_trouble() {
    let space = TestSpace::new(&format!(
        "pipelines: {{p: {{concurrency: 2, tasks: {{a: {{script: [{WAIT_FOR_GO:?}]}}}}}}}}"
    ));
    let server = space.serve();
    let runs = server.schedule("p");
    let pid = Pid::from_raw(server.pid().cast_signed());
    let unlimited = getrlimit(Resource::Fsize);
    let limit_files = |limit| prlimit(pid, Resource::Fsize, limit).unwrap();
    // As a full disk would: no file may grow.
    limit_files(Rlimit {
        current: Some(0),
        maximum: unlimited.maximum,
    });
    let late = server.send(
        "POST",
        "/pipelines/schedule",
        &server.authorization(),
        r#"{"pipeline": "p"}"#,
    );
    eventually("there is trouble", || {
        (server.get("/health").status == 503).then_some(())
    });
    check_health(&server, 503, "storage");
    let answer = server.try_schedule("p");
    check_error(&answer, 503, "storage", "Error scheduling pipeline: …");
    assert_ne!(answer.header("Retry-After"), "");
    assert_eq!(server.job(&runs)["status"], "running");
    let asked = Instant::now();
    assert_eq!(server.get("/schedules").json(), json!({"schedules": []}));
    assert!(asked.elapsed() < Duration::from_secs(8), "it waits for the disk");
    limit_files(unlimited);
    eventually("the trouble is over", || {
        (server.get("/health").status == 200).then_some(())
    });
    check_health(&server, 200, "ok");
    // Who asked when it began is answered now.
    let answer = late.answer();
    assert_eq!(answer.status, 202, "{answer:?}");
    server.schedule("p");
    space.go();
    assert_eq!(server.ended(&runs)["status"], "succeeded");
}

#[test]
fn a_log_that_cannot_be_read_is_500() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: ['echo a']}}}}");
    let server = space.serve();
    let id = server.schedule("p");
    server.ended(&id);
    let log = space.path.join(format!(".prunner/logs/{id}/a-stdout.log"));
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    for route in ["logs", "log"] {
        let answer = server.get(&format!("/job/{route}?id={id}&task=a"));
        check_error(&answer, 500, "internal", "…");
        // Where our files are is nobody's business.
        assert!(!answer.body.contains(".log"), "{answer:?}");
    }
    assert_eq!(server.get("/health").status, 200);
}
