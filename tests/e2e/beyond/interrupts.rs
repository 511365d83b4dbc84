//! `interrupt_running`: a job that would have to wait stops one that runs.

use serde_json::{Value, json};

use super::{FLAGS, TELL, WAIT_FOR_GO, pipeline};
use crate::space::{Server, TestSpace, eventually};
use crate::tools::{ends_of, text};

const BUSY: &str = "exec sleep 60";

fn keys(more: &Value) -> Value {
    let mut keys = json!({
        "interrupt_running": true, "queue_strategy": "replace", "queue_limit": 1, "tasks": {"a": {"script": BUSY}},
    });
    keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    keys
}

fn serving(more: &Value) -> (TestSpace, Server) {
    TestSpace::serving(&pipeline(&keys(more)))
}

#[track_caller]
fn running(server: &Server, id: &str) {
    eventually("it runs", || (server.status_of(id) == "running").then_some(()));
}

#[test]
fn the_running_job_ends_as_replaced_without_on_error() {
    let (_space, server) = serving(&json!({"on_error": {"script": TELL}}));
    let old = server.schedule("p");
    let new = server.schedule("p");
    let job = server.ended(&old);
    assert_eq!(
        (text(&job["status"]), text(&job["reason"])),
        ("replaced".to_owned(), format!("replaced by job {new}"))
    );
    assert_eq!((&job["canceled"], &job["errored"]), (&json!(true), &json!(false)));
    assert_eq!(ends_of(&job), "a canceled -1");
    running(&server, &new);
}

#[test]
fn only_one_that_would_have_to_wait_does_so_and_the_oldest_is_stopped() {
    let (_space, server) = serving(&json!({"concurrency": 2}));
    let first = server.schedule("p");
    let second = server.schedule("p");
    assert_eq!(
        (server.status_of(&first), server.status_of(&second)),
        ("running".to_owned(), "running".to_owned())
    );
    let third = server.schedule("p");
    assert_eq!(server.ended(&first)["status"], "replaced");
    running(&server, &third);
    assert_eq!(server.status_of(&second), "running");
}

#[test]
fn with_partitions_it_is_one_of_the_same() {
    let partitions = json!({
        "queue_strategy": "partitioned_replace", "queue_limit": null, "queue_partition_limit": 1, "concurrency": 2,
    });
    let (_space, server) = serving(&partitions);
    let one = server.schedule_in("p", "one");
    let two = server.schedule_in("p", "two");
    let other = server.schedule_in("p", "other");
    let newer = server.schedule_in("p", "two");
    assert_eq!(server.ended(&two)["reason"], format!("replaced by job {newer}"));
    assert_eq!(server.status_of(&one), "running");
    // The place goes to the one that waits longer.
    running(&server, &other);
    assert_eq!(server.status_of(&newer), "waiting");
}

#[test]
fn a_task_that_must_not_be_interrupted_ends_first() {
    let tasks = json!({
        "spared": {"script": [WAIT_FOR_GO, "echo whole"], "interruptible": false},
        "stopped": {"script": BUSY},
        "later": {"script": "true", "depends_on": "spared"},
    });
    let (space, server) = serving(&json!({"tasks": tasks}));
    let old = server.schedule("p");
    let new = server.schedule("p");
    eventually("the others are stopped", || {
        (ends_of(&server.job(&old)) == "spared running, later canceled, stopped canceled -1"
            || ends_of(&server.job(&old)) == "spared running, stopped canceled -1, later canceled")
            .then_some(())
    });
    assert_eq!(
        (server.status_of(&old), server.status_of(&new)),
        ("running".to_owned(), "waiting".to_owned())
    );
    space.write("go", "");
    let job = server.ended(&old);
    assert_eq!(
        (&job["status"], server.stdout_of(&job, "spared")),
        (&json!("replaced"), "whole\n".to_owned())
    );
    running(&server, &new);
}

#[test]
fn a_cancel_on_top_wins() {
    let tasks = json!({"spared": {"script": BUSY, "interruptible": false}});
    let (_space, server) = serving(&json!({"tasks": tasks}));
    let old = server.schedule("p");
    let new = server.schedule("p");
    server.cancel_job(&old);
    let job = server.ended(&old);
    assert_eq!(
        (&job["status"], &job["reason"], ends_of(&job)),
        (
            &json!("canceled"),
            &json!("canceled by anna"),
            "spared canceled -1".to_owned()
        )
    );
    running(&server, &new);
}

#[test]
fn a_delayed_job_lets_it_run_until_its_delay_is_over() {
    let (space, server) =
        serving(&json!({"start_delay": "300ms", "tasks": {"a": {"script": ["touch started", BUSY]}}}));
    let old = server.schedule("p");
    eventually("it runs", || space.path.join("started").exists().then_some(()));
    let new = server.schedule("p");
    let job = server.ended(&old);
    assert_eq!(job["reason"], format!("replaced by job {new}"));
    running(&server, &new);
}

/// The decision is on disk, and so it holds after a crash.
#[test]
fn a_job_that_was_being_replaced_when_prunner_died_ends_so() {
    let tasks = json!({"spared": {"script": BUSY, "interruptible": false}});
    let (space, server) = serving(&json!({"tasks": tasks}));
    let old = server.schedule("p");
    let new = server.schedule("p");
    server.kill();
    let server = space.serve_with(&FLAGS, &[]);
    let job = server.job(&old);
    assert_eq!(
        (text(&job["status"]), text(&job["reason"])),
        ("replaced".to_owned(), format!("replaced by job {new}"))
    );
    running(&server, &new);
}

#[test]
fn a_stream_of_requests_leaves_the_newest() {
    let (_space, server) = serving(&json!({}));
    let ids: Vec<String> = (0..10).map(|_| server.schedule("p")).collect();
    let (newest, older) = ids.split_last().unwrap();
    for id in older {
        assert_eq!(server.ended(id)["status"], "replaced");
    }
    running(&server, newest);
}

#[test]
fn without_replacement_there_is_no_interruption() {
    let space = TestSpace::new(&pipeline(&json!({"interrupt_running": true})));
    let validated = space.run(&["validate"]);
    assert_eq!(validated.status.code(), Some(1));
    let text = String::from_utf8(validated.stdout).unwrap();
    assert!(
        text.contains("has `interrupt_running` without `queue_strategy: replace`"),
        "{text}"
    );
}
