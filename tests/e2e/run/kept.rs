//! `run --data`: a job that is kept, beside those of the server.

use serde_json::Value;

use super::{check, stderr, stdout};
use crate::space::TestSpace;

#[test]
fn the_job_is_kept_with_its_outputs_and_found_by_the_server() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: [echo out, exit 3]}}}}");
    let said = check(&space, &["--data", ".prunner", "--var", "x=1"], 1, "a | out\n");
    let hint = said.lines().last().unwrap();
    assert!(
        hint.starts_with("  the outputs are in `") && hint.contains("/.prunner/logs/"),
        "{said}"
    );
    let server = space.serve();
    let jobs: Value = server.get("/pipelines/jobs").json();
    let job = &jobs["jobs"][0];
    assert_eq!(
        (&job["status"], &job["user"], &job["variables"]["x"]),
        (&"failed".into(), &"anna".into(), &"1".into())
    );
    let logs = server
        .get(&format!("/job/logs?id={}&task=a", job["id"].as_str().unwrap()))
        .json();
    assert_eq!(logs["stdout"], "out\n");
}

#[test]
fn a_directory_in_use_is_refused() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: [touch ran]}}}}");
    let server = space.serve();
    let output = space.run(&["run", "p", "--data", ".prunner"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(3), ""), "{output:?}");
    assert!(stderr(&output).contains(&format!("is in use by process {}", server.pid())));
    assert!(!space.path.join("ran").exists());
    // Without it there is nothing to be in the way of.
    check(&space, &[], 0, "");
}

#[test]
fn jobs_that_wait_are_left_alone() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [echo ran]}}}, q: {start_delay: 1h, tasks: {a: {script: [touch q]}}}}",
    );
    let server = space.serve();
    let waits = server.schedule("q");
    assert_eq!(server.stop(), Some(0));
    check(&space, &["--data", ".prunner"], 0, "a | ran\n");
    let server = space.serve();
    assert_eq!(server.job(&waits)["status"], "waiting");
    let jobs = server.get("/pipelines/jobs").json();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 2, "{jobs}");
    assert!(!space.path.join("q").exists());
}

#[test]
fn what_is_kept_has_the_bounds_of_the_pipeline() {
    let space = TestSpace::new("pipelines: {p: {retention_count: 2, tasks: {a: {script: [echo ran]}}}}");
    for _ in 0..4 {
        check(&space, &["--data", "data"], 0, "a | ran\n");
    }
    assert_eq!(super::names(&space, "data/logs").len(), 2);
}

#[test]
fn a_wait_list_that_is_full_is_not_in_the_way() {
    let space = TestSpace::new("pipelines: {p: {start_delay: 1h, queue_limit: 1, tasks: {a: {script: [echo ran]}}}}");
    let server = space.serve();
    let waits = server.schedule("p");
    assert_eq!(server.try_schedule("p").status, 400);
    assert_eq!(server.stop(), Some(0));
    check(&space, &["--data", ".prunner"], 0, "a | ran\n");
    let server = space.serve();
    assert_eq!(server.job(&waits)["status"], "waiting");
}
