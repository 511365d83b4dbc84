//! What is kept of schedules over restarts and kills, and what is made up for.

use serde_json::{Value, json};

use super::{in_seconds, noting, seconds};
use crate::space::{Server, TestSpace, eventually};

/// A day, in seconds.
const DAY: i64 = 86_400;

/// Starts the server anew after so many seconds, as far as schedules can tell.
fn restarted_after(space: &TestSpace, server: Server, seconds: i64) -> Server {
    // Those of files are listed before that.
    eventually("all schedules are on disk", || {
        let schedules = server.schedules();
        let journal = space.read(".prunner/journal.jsonl");
        let is_kept = |id: &Value| {
            let line = format!(r#"{{"schedule":{{"id":{id}"#);
            journal.lines().any(|kept| kept.contains(&line))
        };
        schedules.iter().all(|schedule| is_kept(&schedule["id"])).then_some(())
    });
    server.kill();
    space.age_schedules(seconds);
    space.serve()
}

/// A server whose schedule was loaded so many days ago, and the jobs that come of it by the time that a second has passed.
fn jobs_after_days(schedule: &Value, days: i64) -> Vec<Value> {
    let (space, server) = TestSpace::serving(&noting(&json!([schedule])));
    let server = restarted_after(&space, server, days * DAY);
    // What is made up for is due at the start, before this is.
    let id = server.add(&json!({"pipeline": "p", "at": in_seconds(0)}));
    let jobs = eventually("the other one ran", || {
        let jobs = server.jobs();
        jobs.iter().any(|job| job["scheduleId"] == *id).then_some(jobs)
    });
    jobs.into_iter().filter(|job| job["scheduleId"] != *id).collect()
}

#[test]
fn what_was_missed_is_made_up_for_once_where_that_is_wanted() {
    for (when, days) in [
        (json!({"every": "1h"}), 3),
        (json!({"cron": "0 * * * *"}), 3),
        (json!({"cron": "@yearly"}), 800),
    ] {
        let mut schedule = when.clone();
        for (catch_up, count) in [("none", 0), ("one", 1)] {
            schedule["catch_up"] = json!(catch_up);
            assert_eq!(jobs_after_days(&schedule, days).len(), count, "{schedule}");
        }
        assert_eq!(jobs_after_days(&when, days).len(), 0, "{when}");
    }
}

#[test]
fn what_was_made_up_for_is_so_over_restarts() {
    let (space, server) = TestSpace::serving(&noting(&json!([{"cron": "0 * * * *", "catch_up": "one"}])));
    let mut server = restarted_after(&space, server, 3 * DAY);
    server.jobs_ended(1);
    for _ in 0..2 {
        server.kill();
        server = space.serve();
        assert_eq!(server.jobs_ended(1).len(), 1);
    }
}

#[test]
fn an_interval_counts_from_what_is_on_disk() {
    let (space, server) = TestSpace::serving(&noting(&json!([{"every": "1h"}])));
    let first = seconds(&server.schedules()[0]["next"]);
    // A quarter of an hour ago it was loaded.
    let server = restarted_after(&space, server, 900);
    let next = seconds(&server.schedules()[0]["next"]);
    assert!((first - 902..=first - 900 + 2).contains(&next), "{first} {next}");
    // Two hours and a half ago, with the times between missed.
    let server = restarted_after(&space, server, 8100);
    let later = seconds(&server.schedules()[0]["next"]);
    assert!((next - 902..=next - 900 + 2).contains(&later), "{next} {later}");
    assert_eq!(server.jobs().len(), 0);
}

#[test]
fn a_single_time_is_due_once_and_gone() {
    let (space, server) = TestSpace::serving(&noting(&json!([])));
    let at = in_seconds(2);
    let id = server.add(&json!({"pipeline": "p", "at": at, "variables": {"who": "x"}, "queuePartition": "a"}));
    let listed = server.schedules();
    assert_eq!(
        listed,
        [
            json!({"id": id, "pipeline": "p", "at": at, "timezone": null, "variables": {"who": "x"},
            "queuePartition": "a", "catch_up": "none", "next": at, "last": null, "source": "api"})
        ]
    );
    // It is there after a kill.
    server.kill();
    let server = space.serve();
    let jobs = server.jobs_ended(1);
    assert_eq!(jobs.len(), 1);
    assert_eq!(
        (&jobs[0]["scheduleId"], &jobs[0]["user"]),
        (&json!(id), &json!("schedule"))
    );
    assert!(seconds(&jobs[0]["created"]) >= seconds(&json!(at)));
    assert_eq!(server.schedules(), Vec::<Value>::new());
    // Not again, however often prunner is started.
    server.kill();
    let server = space.serve();
    assert_eq!(server.stop(), Some(0));
    let server = space.serve();
    assert_eq!(server.schedules(), Vec::<Value>::new());
    assert_eq!(server.jobs().len(), 1);
    assert_eq!(space.read("ran"), "x\n");
}

#[test]
fn a_single_time_that_was_missed_is_gone_too() {
    for (catch_up, count) in [("none", 0), ("one", 1)] {
        let (space, server) = TestSpace::serving(&noting(&json!([])));
        let at = json!({"pipeline": "p", "at": in_seconds(3_600), "catch_up": catch_up});
        let id = server.add(&at);
        let mut server = restarted_after(&space, server, 7_200);
        eventually("it is gone", || server.schedules().is_empty().then_some(()));
        if count == 0 {
            let line = server.logged("was missed while prunner was down; it is removed");
            assert!(line.contains(&id), "{line}");
        }
        for _ in 0..2 {
            assert_eq!(server.jobs_ended(count).len(), count);
            server.kill();
            server = space.serve();
            assert_eq!(server.schedules(), Vec::<Value>::new());
        }
    }
}

#[test]
fn no_due_time_brings_two_jobs_however_prunner_dies() {
    let space = TestSpace::new(&noting(&json!([{"every": "1s", "catch_up": "one"}])));
    let mut ended = Vec::new();
    for round in 1..=6 {
        let server = space.serve();
        // Just when the next one is accepted.
        eventually("one more", || (server.jobs().len() > ended.len()).then_some(()));
        ended = server.jobs();
        assert!(ended.len() >= round);
        server.kill();
    }
    let due: Vec<i64> = space
        .read(".prunner/journal.jsonl")
        .lines()
        .filter_map(|line| {
            let value: Value = serde_json::from_str(&line[9..]).unwrap();
            value["job"]["due"]["atMs"].as_i64()
        })
        .collect();
    assert!(due.len() >= 6, "{due:?}");
    assert!(due.windows(2).all(|pair| pair[1] - pair[0] >= 900), "{due:?}");
}

#[test]
fn a_clean_exit_and_a_new_journal_keep_them() {
    let (space, server) = TestSpace::serving(&noting(&json!([{"every": "1h"}])));
    server.add(&json!({"pipeline": "p", "cron": "@yearly", "timezone": "Europe/Berlin", "variables": {"n": 1.10}}));
    let before = server.schedules();
    assert_eq!(before.len(), 2);
    assert_eq!(server.stop(), Some(0));
    for _ in 0..2 {
        let server = space.serve();
        let after = server.schedules();
        let without_next = |list: &[Value]| -> Vec<Value> {
            let mut list = list.to_vec();
            list.iter_mut()
                .for_each(|found| drop(found.as_object_mut().unwrap().remove("next")));
            list
        };
        assert_eq!(without_next(&after), without_next(&before));
        assert_eq!(server.stop(), Some(0));
    }
}

#[test]
fn what_was_added_is_on_disk_before_the_answer() {
    let (space, mut server) = TestSpace::serving(&noting(&json!([])));
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(server.add(&json!({"pipeline": "p", "every": "1h"})));
        server.kill();
        server = space.serve();
        let listed = server.schedules();
        assert!(
            ids.iter().all(|id| listed.iter().any(|found| found["id"] == **id)),
            "{listed:?}"
        );
    }
    for id in &ids {
        assert_eq!(server.remove(id).status, 200);
        server.kill();
        server = space.serve();
        assert!(server.schedules().iter().all(|found| found["id"] != **id));
    }
}

#[test]
fn a_job_that_is_run_without_a_server_leaves_them_alone() {
    let (space, server) = TestSpace::serving(&noting(&json!([{"every": "1s", "catch_up": "one"}])));
    let id = server.add(&json!({"pipeline": "p", "at": in_seconds(3_600)}));
    assert_eq!(server.stop(), Some(0));
    let count = space.read("ran").lines().count();
    let output = space.run(&["run", "p", "--data", ".prunner"]);
    assert_eq!(output.status.code(), Some(0));
    // What is due meanwhile is a server's.
    assert_eq!(space.read("ran").lines().count(), count + 1);
    let server = space.serve();
    assert!(server.schedules().iter().any(|found| found["id"] == *id));
}
