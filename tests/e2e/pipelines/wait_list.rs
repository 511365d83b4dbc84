//! What happens to jobs that can't start at once.

use serde_json::json;

use crate::space::{Server, TestSpace, eventually};
use crate::tools::text;

/// A task that ends when there is a file `go`, and tells before in which order it ran.
const HELD: &str = "tasks: {a: {script: ['echo $PRUNNER_JOB_ID >> ran', 'until test -e go; do sleep 0.02; done']}}";

fn serve(keys: &str) -> (TestSpace, Server) {
    TestSpace::serving(&format!("pipelines: {{p: {{{keys}{HELD}}}}}"))
}

#[track_caller]
fn check_refused(server: &Server, code: &str, what: &str) {
    let answer = server.try_schedule("p");
    let expected = json!({"error": format!("Error scheduling pipeline: {what}"), "code": code});
    assert_eq!((answer.status, answer.json()), (400, expected));
}

#[track_caller]
fn check_statuses(server: &Server, ids: &[&String], expected: &[&str]) {
    let found: Vec<String> = ids.iter().map(|id| server.status_of(id)).collect();
    assert_eq!(found, expected);
}

#[track_caller]
fn check_replaced(server: &Server, id: &str, by: &str) {
    let job = server.job(id);
    assert_eq!(
        [&job["status"], &job["reason"], &job["completed"], &job["canceled"]],
        [
            &json!("replaced"),
            &json!(format!("replaced by job {by}")),
            &json!(true),
            &json!(true)
        ]
    );
    assert!(job["start"].is_null() && job["end"].is_string(), "{job}");
}

#[test]
fn the_list_has_no_end_unless_it_is_given_one() {
    let (space, server) = serve("");
    let ids: Vec<String> = (0..5).map(|_| server.schedule("p")).collect();
    space.write("go", "");
    for id in &ids {
        assert_eq!(server.ended(id)["status"], "succeeded");
    }
    assert_eq!(space.read("ran").lines().collect::<Vec<_>>(), ids);
}

#[test]
fn append_refuses_where_the_list_is_full() {
    for keys in ["queue_limit: 2, ", "queue_limit: 2, queue_strategy: append, "] {
        let (_space, server) = serve(keys);
        let [first, second, third] = [(); 3].map(|()| server.schedule("p"));
        check_refused(
            &server,
            "queue_full",
            "concurrency exceeded and queue limit reached for pipeline",
        );
        check_statuses(&server, &[&first, &second, &third], &["running", "waiting", "waiting"]);
        // A job that is canceled while it waits frees its place at once.
        server.cancel_job(&second);
        let job = server.job(&second);
        assert_eq!([&job["status"], &job["reason"]], ["canceled", "canceled by anna"]);
        assert_eq!((&job["completed"], job["end"].is_string()), (&json!(true), true));
        let fourth = server.schedule("p");
        check_statuses(&server, &[&third, &fourth], &["waiting", "waiting"]);
    }
}

#[test]
fn a_limit_of_0_takes_a_job_only_if_it_can_start() {
    let (space, server) = serve("queue_limit: 0, concurrency: 2, ");
    let [first, second] = [(); 2].map(|()| server.schedule("p"));
    let refused = "concurrency exceeded and queueing disabled for pipeline";
    check_refused(&server, "queue_disabled", refused);
    check_statuses(&server, &[&first, &second], &["running", "running"]);
    space.write("go", "");
    server.ended(&first);
    assert_eq!(server.run_job("p")["status"], "succeeded");
}

#[test]
fn replace_puts_the_new_one_in_place_of_the_newest() {
    let (space, server) = serve("queue_limit: 2, queue_strategy: replace, ");
    let [first, second, third, fourth, fifth] = [(); 5].map(|()| server.schedule("p"));
    check_statuses(&server, &[&first, &second, &fifth], &["running", "waiting", "waiting"]);
    check_replaced(&server, &third, &fourth);
    check_replaced(&server, &fourth, &fifth);
    space.write("go", "");
    server.ended(&fifth);
    assert_eq!(space.read("ran").lines().collect::<Vec<_>>(), [&first, &second, &fifth]);
}

#[test]
fn replace_without_a_limit_means_one_place() {
    let (_space, server) = serve("queue_strategy: replace, ");
    let [_, second, third] = [(); 3].map(|()| server.schedule("p"));
    check_replaced(&server, &second, &third);
    server.logged("has `queue_strategy: replace` without `queue_limit`, which means 1");
}

#[test]
fn partitions_have_places_of_their_own() {
    let (space, server) = serve("queue_partition_limit: 1, queue_strategy: partitioned_replace, ");
    let first = server.schedule_in("p", "a");
    let in_a = server.schedule_in("p", "a");
    let in_b = server.schedule_in("p", "b");
    let in_none = server.schedule("p");
    check_statuses(
        &server,
        &[&first, &in_a, &in_b, &in_none],
        &["running", "waiting", "waiting", "waiting"],
    );
    // No partition is the one with the empty name.
    let in_empty = server.schedule_in("p", "");
    check_replaced(&server, &in_none, &in_empty);
    assert!(server.job(&in_empty).get("queuePartition").is_none());
    let also_in_a = server.schedule_in("p", "a");
    check_replaced(&server, &in_a, &also_in_a);
    check_statuses(
        &server,
        &[&in_b, &in_empty, &also_in_a],
        &["waiting", "waiting", "waiting"],
    );
    assert_eq!(server.job(&in_b)["queuePartition"], "b");
    space.write("go", "");
    for id in [&in_b, &in_empty, &also_in_a] {
        server.ended(id);
    }
    // Each in the order in which it came, but for who took over a place.
    let mut ran: Vec<String> = space.read("ran").lines().map(str::to_owned).collect();
    assert_eq!(ran.remove(0), first);
    ran.sort();
    let mut expected = [in_b, in_empty, also_in_a];
    expected.sort();
    assert_eq!(ran, expected);
}

#[test]
fn a_job_waits_for_its_delay_even_where_nothing_runs() {
    let (space, server) = TestSpace::serving(&format!(
        "pipelines: {{p: {{start_delay: 150ms, {HELD}}}, later: {{start_delay: 1h, {HELD}}}}}"
    ));
    space.write("go", "");
    let id = server.schedule("p");
    let job = server.job(&id);
    // Or it has begun already, on a busy machine.
    assert!(job["status"] != "waiting" || job["startAfter"].is_string(), "{job}");
    let job = server.ended(&id);
    assert_eq!(job["status"], "succeeded");
    assert!(job.get("startAfter").is_none(), "{job}");
    let later = server.job(&server.schedule("later"));
    assert_eq!(
        (&later["status"], later["startAfter"].is_string()),
        (&json!("waiting"), true)
    );
    assert!(!space.read("ran").contains(&text(&later["id"])));
}

#[test]
fn requests_faster_than_the_delay_starve_the_job_unless_there_are_two_places() {
    for (limit, kept) in [(1, 3), (2, 0)] {
        let keys = format!("start_delay: 1h, queue_strategy: replace, queue_limit: {limit}, ");
        let (_space, server) = serve(&keys);
        let ids = [(); 4].map(|()| server.schedule("p"));
        let waiting: Vec<usize> = (0..4).filter(|&at| server.status_of(&ids[at]) == "waiting").collect();
        let expected = if limit == 1 { vec![kept] } else { vec![kept, 3] };
        assert_eq!(waiting, expected, "{limit}");
    }
}

#[test]
fn a_reload_brings_other_limits_and_cancels_nothing() {
    let (space, server) = serve("concurrency: 2, ");
    let ids = [(); 3].map(|()| server.schedule("p"));
    let reload = |text: &str| {
        space.write("pipelines.yml", text);
        let answer = server.post("/pipelines/reload", "");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["pipelines"].as_u64().unwrap()
    };
    let [first, second, third] = &ids;
    // One fewer at once, and no place: who is there stays, no one more gets in.
    assert_eq!(reload(&format!("pipelines: {{p: {{queue_limit: 0, {HELD}}}}}")), 1);
    check_statuses(&server, &[first, second, third], &["running", "running", "waiting"]);
    check_refused(
        &server,
        "queue_disabled",
        "concurrency exceeded and queueing disabled for pipeline",
    );
    server.cancel_job(first);
    server.ended(first);
    check_statuses(&server, &[second, third], &["running", "waiting"]);
    // The limits of the old definition stay where the pipeline is gone.
    assert_eq!(reload("pipelines: {}"), 0);
    check_refused(&server, "unknown_pipeline", r#"pipeline "p" is not defined"#);
    check_statuses(&server, &[second, third], &["running", "waiting"]);
    server.cancel_job(second);
    server.ended(second);
    eventually("the next one starts", || {
        (server.status_of(third) == "running").then_some(())
    });
    space.write("go", "");
    assert_eq!(server.ended(third)["status"], "succeeded");
}
