//! What the API and `prunner schedules` answer.

use serde_json::{Value, json};

use super::{in_seconds, noting, seconds};
use crate::space::{Answer, Server, TestSpace};

#[track_caller]
fn check_error(answer: &Answer, status: u16, text: &str, code: &str) {
    assert_eq!(
        (answer.status, answer.json()),
        (status, json!({"error": text, "code": code}))
    );
}

#[test]
fn a_schedule_is_added_listed_and_removed() {
    let (_space, server) = TestSpace::serving(&noting(&json!([{"every": "2h"}])));
    let id = server.add(
        &json!({"pipeline": "p", "cron": "30 3 * * 1-5", "timezone": "europe/berlin", "catch_up": "one",
        "more": "is ignored", "variables": null}),
    );
    let listed = server.schedules();
    let [cron, file] = &listed[..] else {
        panic!("{listed:?}")
    };
    let (cron, file) = if cron["source"] == "api" {
        (cron, file)
    } else {
        (file, cron)
    };
    assert_eq!(
        (
            &cron["id"],
            &cron["cron"],
            &cron["timezone"],
            &cron["catch_up"],
            &cron["source"]
        ),
        (
            &json!(id),
            &json!("30 3 * * 1-5"),
            &json!("Europe/Berlin"),
            &json!("one"),
            &json!("api")
        )
    );
    assert_eq!(
        (&cron["variables"], &cron["queuePartition"], &cron["last"]),
        (&json!({}), &json!(""), &Value::Null)
    );
    assert!(cron.get("every").is_none() && cron.get("at").is_none());
    let answer = server.remove(&id);
    assert_eq!((answer.status, &*answer.body), (200, "true"));
    check_error(&server.remove(&id), 404, "Schedule not found", "schedule_not_found");
    check_error(
        &server.remove(file["id"].as_str().unwrap()),
        409,
        "the schedule is from a pipeline file; remove it there, and reload",
        "schedule_from_file",
    );
    check_error(&server.remove("x"), 400, "Invalid schedule id", "invalid_schedule_id");
    assert_eq!(server.schedules().len(), 1);
    let answer = server.request("PUT", "/schedules", &server.authorization(), "");
    assert_eq!(
        (answer.status, answer.header("Allow")),
        (405, "GET, HEAD, POST, DELETE")
    );
    assert_eq!(server.request("GET", "/schedules", "", "").status, 401);
}

#[test]
fn what_is_wrong_with_it_is_told_before_it_is_kept() {
    let (_space, server) = TestSpace::serving(&noting(&json!([])));
    let add = |body: Value| server.try_add(&body);
    check_error(
        &add(json!({"pipeline": "p", "cron": "61 * * * *"})),
        400,
        "field `cron` has a mistake: `61` as the minute; expected 0 to 59, a range such as `1-5`, a step such as `*/2`, or a \
         list of these",
        "bad_schedule",
    );
    check_error(
        &add(json!({"pipeline": "p"})),
        400,
        "expected one of the fields `cron`, `every` and `at`",
        "bad_schedule",
    );
    check_error(
        &add(json!({"pipeline": "p", "cron": "@daily", "timezone": "Mars/Olympus"})),
        400,
        "field `timezone` is `Mars/Olympus`, expected the name of a time zone such as `Europe/Berlin`",
        "bad_schedule",
    );
    check_error(
        &add(json!({"pipeline": "p", "at": "2020-01-01T00:00:00Z"})),
        400,
        "field `at` is a time that is over, expected one to come",
        "bad_schedule",
    );
    check_error(
        &add(json!({"pipeline": "q", "every": "1h"})),
        400,
        "Error scheduling pipeline: pipeline \"q\" is not defined",
        "unknown_pipeline",
    );
    let answer = add(json!({"pipeline": "p", "every": "1h", "variables": {"who": 5}}));
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (400, &json!("bad_variables")),
        "{}",
        answer.body
    );
    check_error(
        &add(json!({"pipeline": "p", "every": 5})),
        400,
        "Error decoding JSON: field `every`: invalid type: integer `5`, expected a string at line 1 column 25",
        "bad_json",
    );
    assert_eq!(server.schedules(), Vec::<Value>::new());
}

#[test]
fn an_interval_is_first_due_when_it_has_passed_once() {
    let (_space, server) = TestSpace::serving(&noting(&json!([])));
    let before = seconds(&json!(in_seconds(0)));
    server.add(&json!({"pipeline": "p", "every": "1h"}));
    let after = seconds(&json!(in_seconds(1)));
    let [listed] = &server.schedules()[..] else {
        panic!("there is one");
    };
    let next = seconds(&listed["next"]);
    assert!((before + 3_600..=after + 3_600).contains(&next), "{before} {listed}");
    assert_eq!(listed["last"], Value::Null);
}

#[test]
fn there_is_a_most_that_can_be_added() {
    let (_space, server) = TestSpace::serving(&noting(&json!([])));
    for _ in 0..1_000 {
        server.add(&json!({"pipeline": "p", "every": "1h"}));
    }
    check_error(
        &server.try_add(&json!({"pipeline": "p", "every": "1h"})),
        400,
        "there are 1000 schedules already, the most that can be added",
        "too_many_schedules",
    );
    let id = server.schedules()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(server.remove(&id).status, 200);
    server.add(&json!({"pipeline": "p", "every": "1h"}));
}

/// Runs a command against the server: its status and what it prints.
#[track_caller]
fn run(space: &TestSpace, server: &Server, arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments = [&["--address", &*server.address], arguments].concat();
    let output = space.run_with(&arguments, &[("TZ", "UTC")]);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_adds_lists_and_removes() {
    let (space, server) = TestSpace::serving(&noting(&json!([{"cron": "0 0 29 2 *", "timezone": "Europe/Berlin"}])));
    let at = in_seconds(3_600);
    let mut ids = Vec::new();
    for when in [["--cron", "@daily"], ["--every", "15m"], ["--at", &at]] {
        let arguments = [
            &["schedules", "add", "p", "--var", "who=me", "--partition", "a"],
            &when[..],
        ]
        .concat();
        let (status, out, err) = run(&space, &server, &arguments);
        assert_eq!(status, Some(0), "{err}");
        ids.push(out.trim_end().to_owned());
    }
    for listed in server.schedules().iter().filter(|found| found["source"] == "api") {
        assert!(ids.contains(&listed["id"].as_str().unwrap().to_owned()));
        assert_eq!(
            (&listed["variables"], &listed["queuePartition"]),
            (&json!({"who": "me"}), &json!("a"))
        );
    }
    let (status, out, _) = run(&space, &server, &["schedules"]);
    assert_eq!(status, Some(0));
    let line = |part: &str| out.lines().find(|line| line.contains(part)).unwrap().to_owned();
    assert!(out.starts_with("ID"), "{out}");
    // The next three times, in the schedule's own zone.
    assert_eq!(line("cron 0 0 29 2 *").matches("-02-29 00:00 CET").count(), 3, "{out}");
    assert_eq!(line("cron @daily").matches(" 00:00 UTC").count(), 3, "{out}");
    assert_eq!(line("every 15m").matches(" UTC").count(), 3, "{out}");
    assert_eq!(line(&format!("at {at}")).matches(" UTC").count(), 1, "{out}");
    let (_, out, _) = run(&space, &server, &["schedules", "--json"]);
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["schedules"].as_array().unwrap().len(), 4);

    let (status, out, _) = run(&space, &server, &["schedules", "remove", &ids[0], &ids[1]]);
    assert_eq!((status, &*out), (Some(0), ""));
    assert_eq!(server.schedules().len(), 2);
    let file = server.schedules();
    let file = file.iter().find(|found| found["source"] == "file").unwrap()["id"]
        .as_str()
        .unwrap();
    let (status, _, err) = run(&space, &server, &["schedules", "remove", file]);
    assert_eq!(status, Some(3));
    assert!(err.contains("the schedule is from a pipeline file"), "{err}");
    let (status, _, err) = run(&space, &server, &["schedules", "remove", &ids[0]]);
    assert_eq!(status, Some(3));
    assert!(err.contains("Schedule not found"), "{err}");
}

#[test]
fn wrong_use_of_the_command_is_told() {
    let (space, server) = TestSpace::serving(&noting(&json!([])));
    for (arguments, status, expected) in [
        (&["schedules", "add", "p"][..], 2, "--cron"),
        (
            &["schedules", "add", "p", "--cron", "@daily", "--every", "1h"],
            2,
            "--every",
        ),
        (&["schedules", "add", "p", "--every", "1x"], 2, "field `every` is "),
        (
            &["schedules", "add", "q", "--every", "1h"],
            3,
            "pipeline `q` is not defined",
        ),
        (&["schedules", "add", "p", "--every", "1h", "--var", "who:=5"], 3, "who"),
        (&["schedules", "remove"], 2, "ID"),
        (&["schedules", "remove", "x"], 3, "`x` is no id of a schedule; "),
    ] {
        let (found, _, err) = run(&space, &server, arguments);
        assert_eq!(found, Some(status), "{arguments:?}: {err}");
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
}
