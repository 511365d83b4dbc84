//! Schedules of a file: what comes of them, what stays of them, and what is wrong with them.

use std::fs;

use serde_json::json;

use super::{noting, seconds};
use crate::beyond::{WAIT_FOR_GO, pipeline};
use crate::space::{Server, TestSpace, eventually};

#[test]
fn an_interval_brings_jobs_again_and_again() {
    let schedule = json!({"every": "1s", "variables": {"who": "me"}, "partition": "a"});
    let (space, server) = TestSpace::serving(&noting(&json!([schedule])));
    let jobs = server.jobs_ended(3);
    let [listed] = &server.schedules()[..] else {
        panic!("there is one");
    };
    for job in &jobs {
        assert_eq!(job["user"], "schedule");
        assert_eq!(job["scheduleId"], listed["id"]);
        assert_eq!(job["variables"], json!({"who": "me"}));
        assert_eq!(job["queuePartition"], "a");
        assert_eq!(job["status"], "succeeded");
    }
    assert!(space.read("ran").starts_with("me\nme\nme\n"));
    let created: Vec<i64> = jobs.iter().map(|job| seconds(&job["created"])).collect();
    assert!(created[2] > created[0], "{created:?}");
    assert_eq!(
        (&listed["pipeline"], &listed["every"], &listed["source"]),
        (&json!("p"), &json!("1s"), &json!("file"))
    );
    assert_eq!(
        (&listed["variables"], &listed["queuePartition"], &listed["catch_up"]),
        (&json!({"who": "me"}), &json!("a"), &json!("none"))
    );
    assert!(seconds(&listed["next"]) - seconds(&listed["last"]) <= 2, "{listed}");
    // A request's job has none.
    let job = server.run_job("p");
    assert!(job.get("scheduleId").is_none(), "{job}");
}

#[test]
fn cron_follows_the_wall_clock() {
    let (_space, server) = TestSpace::serving(&noting(&json!([{"cron": "* * * * *"}])));
    let next = seconds(&server.schedules()[0]["next"]);
    assert_eq!(next % 60, 0);
    // Up to a minute: twice the patience.
    let is_there = || (!server.jobs().is_empty()).then_some(());
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| eventually("it is due", is_there)));
    let job = &server.jobs_ended(1)[0];
    assert!((next..next + 30).contains(&seconds(&job["created"])), "{job}");
    let listed = &server.schedules()[0];
    assert_eq!(seconds(&listed["last"]), next);
    assert_eq!(seconds(&listed["next"]), next + 60);
    assert_eq!(job["scheduleId"], listed["id"]);
}

#[test]
fn the_wall_clock_is_watched_only_while_something_follows_it() {
    let threads = |server: &Server| -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
        let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.map(|name| name.trim().to_owned()).collect()
    };
    let watches = |server: &Server| threads(server).contains(&"wall clock".to_owned());
    let (space, server) = TestSpace::serving(&noting(&json!([{"every": "1h"}])));
    assert!(!watches(&server));
    space.write("pipelines.yml", &noting(&json!([{"cron": "@yearly"}])));
    assert_eq!(server.post("/pipelines/reload", "").status, 200);
    eventually("the clock is watched", || watches(&server).then_some(()));
    space.write("pipelines.yml", &noting(&json!([])));
    assert_eq!(server.post("/pipelines/reload", "").status, 200);
    eventually("the clock is watched no more", || (!watches(&server)).then_some(()));
}

#[test]
fn a_refusal_is_logged() {
    let keys = json!({"tasks": {"wait": {"script": WAIT_FOR_GO}}, "queue_limit": 0, "schedules": [{"every": "1s"}]});
    let (space, server) = TestSpace::serving(&pipeline(&keys));
    let line = server.logged("what was due is refused");
    let id = server.schedules()[0]["id"].as_str().unwrap().to_owned();
    assert!(
        line.contains("concurrency exceeded and queueing disabled for pipeline") && line.contains(&id),
        "{line}"
    );
    assert_eq!(server.jobs().len(), 1);
    space.write("go", "");
}

#[test]
fn a_due_time_waits_and_is_replaced_as_a_request_is() {
    let keys = json!({"tasks": {"wait": {"script": WAIT_FOR_GO}}, "queue_limit": 1, "queue_strategy": "replace",
        "schedules": [{"every": "1s"}]});
    let (space, server) = TestSpace::serving(&pipeline(&keys));
    let replaced = eventually("one is replaced", || {
        server.jobs().into_iter().find(|job| job["status"] == "replaced")
    });
    assert_eq!(replaced["user"], "schedule");
    space.write("go", "");
}

#[test]
fn it_is_the_same_one_after_a_reload_and_a_restart() {
    let schedules = |catch_up, partition| json!([{"every": "1s"}, {"cron": "@yearly", "catch_up": catch_up, "partition": partition, "variables": {"who": "x"}}]);
    let (space, server) = TestSpace::serving(&noting(&schedules("none", "a")));
    server.jobs_ended(1);
    let ids = |server: &Server| -> Vec<String> {
        let mut ids: Vec<String> = server.schedules().iter().map(|found| found["id"].to_string()).collect();
        ids.sort();
        ids
    };
    let before = ids(&server);
    space.write("pipelines.yml", &noting(&schedules("one", "a")));
    assert_eq!(server.post("/pipelines/reload", "").status, 200);
    assert_eq!(ids(&server), before);
    let last = |server: &Server| {
        let every = server.schedules().into_iter().find(|found| found["every"] == "1s");
        seconds(&every.unwrap()["last"])
    };
    let last_before = last(&server);
    server.kill();
    let server = space.serve();
    assert_eq!(ids(&server), before);
    assert!(last(&server) >= last_before);
    // Another partition is another schedule.
    space.write("pipelines.yml", &noting(&schedules("one", "b")));
    assert_eq!(server.post("/pipelines/reload", "").status, 200);
    assert_ne!(ids(&server), before);
    space.write("pipelines.yml", &noting(&json!([])));
    assert_eq!(server.post("/pipelines/reload", "").status, 200);
    assert_eq!(server.schedules().len(), 0);
}

#[test]
fn a_bad_expression_is_an_error_with_the_field_named() {
    let space = TestSpace::new(&noting(
        &json!([{"cron": "30 3 * * 1-5"}, {"cron": "0 25 * * *"}, {"cron": "0 0 30 2 *"}]),
    ));
    for command in [&["validate"][..], &["serve", "--address", "127.0.0.1:0"]] {
        let output = space.run(command);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(
            output.status.code(),
            Some(if command.len() == 1 { 1 } else { 2 }),
            "{text}"
        );
        assert!(
            text.contains("pipeline `p` has a mistake in `cron` of schedule 2: `25` as the hour; expected 0 to 23"),
            "{text}"
        );
        assert!(
            text.contains("schedule 3: `30` as the day of month with `2` as the month"),
            "{text}"
        );
    }
}

#[test]
fn validate_shows_the_next_three_times() {
    let space = TestSpace::new(&noting(&json!([
        {"cron": "0 0 29 2 *", "timezone": "Asia/Kathmandu"}, {"cron": "0 12 1 1 *"}, {"every": "12h"}])));
    let output = space.run_with(&["validate"], &[("TZ", "Europe/Berlin")]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("pipeline `p` is due by `cron: 0 0 29 2 *` (Asia/Kathmandu) at "),
        "{text}"
    );
    assert_eq!(lines[0].matches("-02-29 00:00 +0545").count(), 3, "{text}");
    assert!(lines[1].contains("(Europe/Berlin)"), "{text}");
    assert_eq!(lines[1].matches("-01-01 12:00 CET").count(), 3, "{text}");
    assert_eq!(lines[2].matches(" CE").count(), 3, "{text}");
    let output = space.run(&["validate", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["schedules"][0]["next"].as_array().unwrap().len(), 3);
}

#[test]
fn the_default_time_zone_is_the_machines() {
    let space = TestSpace::new(&noting(
        &json!([{"cron": "@daily"}, {"cron": "@daily", "timezone": "Europe/Berlin"}]),
    ));
    let flags = ["--address", "127.0.0.1:0"];
    let zones = |tz: &str| {
        let server = space.serve_with(&flags, &[("TZ", tz)]);
        let mut zones: Vec<String> = server
            .schedules()
            .iter()
            .map(|found| found["timezone"].as_str().unwrap().to_owned())
            .collect();
        zones.sort();
        (zones, server.log())
    };
    assert_eq!(zones("Asia/Kathmandu").0, ["Asia/Kathmandu", "Europe/Berlin"]);
    let (zones, log) = zones("Mars/Olympus");
    assert_eq!(zones, ["Europe/Berlin", "UTC"]);
    assert_eq!(
        log.matches("schedules without a time zone follow UTC").count(),
        1,
        "{log}"
    );
}
