//! The pipeline object.

use serde_json::json;

use super::keys;
use crate::space::{Server, TestSpace};

const PIPELINES: &str = "pipelines:
  idle: {tasks: {a: &task {script: [exec sleep 60]}}}
  unlimited: {tasks: {a: *task}}
  limited: {queue_limit: 1, tasks: {a: *task}}
  closed: {queue_limit: 0, tasks: {a: *task}}
  replacing: {queue_limit: 1, queue_strategy: replace, tasks: {a: *task}}
  parallel: {queue_limit: 0, concurrency: 2, tasks: {a: *task}}
  delayed: {start_delay: 1h, queue_limit: 1, tasks: {a: *task}}
  parted: {queue_strategy: partitioned_replace, queue_partition_limit: 1, tasks: {a: *task}}
";

#[track_caller]
fn check(server: &Server, pipeline: &str, schedulable: bool, running: bool) {
    let list = server.get("/pipelines/").json();
    let mut pipelines = list["pipelines"].as_array().unwrap().iter();
    let found = pipelines.find(|found| found["pipeline"] == pipeline).unwrap();
    assert_eq!(keys(found), ["pipeline", "schedulable", "running"]);
    assert_eq!(
        *found,
        json!({"pipeline": pipeline, "schedulable": schedulable, "running": running})
    );
}

#[test]
fn schedulable_and_running() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    for pipeline in [
        "idle",
        "unlimited",
        "limited",
        "closed",
        "replacing",
        "parallel",
        "delayed",
        "parted",
    ] {
        check(&server, pipeline, true, false);
    }
    // What `schedulable` says, a request shows.
    for (pipeline, after_each) in [
        ("unlimited", &[true, true, true][..]),
        ("limited", &[true, false]),
        ("closed", &[false]),
        ("replacing", &[true, true, true]),
        ("parallel", &[true, false]),
        ("parted", &[true, true, true]),
    ] {
        for schedulable in after_each {
            server.schedule(pipeline);
            check(&server, pipeline, *schedulable, true);
        }
        if after_each.ends_with(&[false]) {
            assert_eq!(server.try_schedule(pipeline).status, 400, "{pipeline}");
        }
    }
    // One that waits for its time does not run.
    let id = server.schedule("delayed");
    check(&server, "delayed", false, false);
    assert_eq!(server.try_schedule("delayed").status, 400);
    server.cancel_job(&id);
    check(&server, "delayed", true, false);
    check(&server, "idle", true, false);
}

#[test]
fn a_job_that_ends_frees_its_pipeline() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let id = server.schedule("closed");
    check(&server, "closed", false, true);
    server.cancel_job(&id);
    server.ended(&id);
    check(&server, "closed", true, false);
}
