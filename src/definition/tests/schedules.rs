//! `schedules`: what a list may say, and what is said about the others.

use serde_json::json;

use super::{check_pipeline, with_keys};
use crate::calendar::{Cron, When, Zone};
use crate::definition::schedules::Schedule;

fn only(keys: &str) -> Schedule {
    let mut schedules = with_keys(&format!("schedules: [{{{keys}}}]")).schedules;
    assert_eq!(schedules.len(), 1);
    schedules.remove(0)
}

#[track_caller]
fn check(keys: &str, expected: &[&str]) {
    check_pipeline(&format!("schedules: [{{{keys}}}]"), expected);
}

#[test]
fn without_them_there_are_none() {
    for keys in ["", "schedules: ~", "schedules: []"] {
        assert_eq!(with_keys(keys).schedules, Vec::new(), "{keys}");
    }
}

#[test]
fn a_schedule_says_when_and_with_what() {
    let plain = only("cron: 30 3 * * 1-5");
    assert_eq!(plain.when, When::Cron(Cron::parse("30 3 * * 1-5").unwrap()));
    assert_eq!((&plain.zone, &*plain.partition, plain.makes_up), (&None, "", false));
    assert!(plain.variables.is_empty());
    let every = When::Every {
        ms: 900_000,
        text: "15m".to_owned(),
    };
    assert_eq!(only("every: 15m").when, every);
    let full = only(
        "cron: '@daily', timezone: Europe/Berlin, partition: 7, catch_up: one, \
         variables: {a: 1.10, b: [true, ~, x], c: {d: 0x1F}, e: 1e3, f: .inf, g: '5', h: True}",
    );
    assert_eq!(full.zone, Zone::named("Europe/Berlin"));
    assert_eq!((&*full.partition, full.makes_up), ("7", true));
    assert_eq!(
        serde_json::to_string(&*full.variables).unwrap(),
        r#"{"a":1.10,"b":[true,null,"x"],"c":{"d":31},"e":1e3,"f":".inf","g":"5","h":true}"#
            .replace("1e3", &json_number("1e3"))
    );
    assert!(!only("every: 1s, catch_up: none").makes_up);
}

/// As this way of keeping numbers prints it.
fn json_number(text: &str) -> String {
    serde_json::from_str::<serde_json::Value>(text).unwrap().to_string()
}

#[test]
fn the_same_one_is_there_once() {
    let twice =
        |number| format!("W has schedule {number} twice in `schedules`, and it is due once; remove one of them");
    let text = "schedules: [{every: 1m}, {every: 1m, catch_up: one}, {every: 1m}]";
    check_pipeline(text, &[&*twice(2), &*twice(3)]);
    let text = "schedules: [{every: 1m, variables: {a: 1, b: 2}}, {every: 1m, variables: {b: 2, a: 1}}]";
    check_pipeline(text, &[&*twice(2)]);
    let text = "schedules: [{every: 1m}, {every: 1m, partition: a}, {every: 1m, variables: {a: 1}}]";
    assert_eq!(with_keys(text).schedules.len(), 3);
    assert_eq!(json!(1), with_keys(text).schedules[2].variables["a"]);
}

#[test]
fn mistakes_name_schedule_and_field() {
    check(
        "cron: 61 * * * *",
        &[
            "E has a mistake in `cron` of schedule 1: `61` as the minute; expected 0 to 59, a range such as `1-5`, a step such \
           as `*/2`, or a list of these",
        ],
    );
    check_pipeline(
        "schedules: [{every: 1h}, {cron: 0 0 30 2 *}]",
        &[
            "E has a mistake in `cron` of schedule 2: `30` as the day of month with `2` as the month, which never come \
           together; expected a day that there is",
        ],
    );
    check(
        "cron: 5",
        &["E has the number `5` as `cron` of schedule 1; expected five fields such as `30 3 * * 1-5`"],
    );
    check(
        "cron: '@daily', every: 1m",
        &["E has both `cron` and `every` in schedule 1; expected one of them"],
    );
    check(
        "timezone: UTC",
        &["E has neither `cron` nor `every` in schedule 1; expected one of them"],
    );
    check(
        "every: 500ms",
        &["E has a mistake in `every` of schedule 1: `500ms` is too short; expected at least `1s`"],
    );
    check(
        "every: 0",
        &["E has a mistake in `every` of schedule 1: `0` is too short; expected at least `1s`"],
    );
    check(
        "every: 5",
        &["E has the `every` `5`, which has no unit behind `5`; expected `ms`, `s`, `m`, `h` or `d`, as in `5s`"],
    );
    check(
        "every: 1m, timezone: Europe/Atlantis",
        &[
            "E has a mistake in `timezone` of schedule 1: `Europe/Atlantis` is not known; expected the name of a time zone such as \
           `Europe/Berlin`",
        ],
    );
    check(
        "every: 1m, variables: [a]",
        &["E has a list as `variables` of schedule 1; expected a mapping of names to values"],
    );
    check(
        "every: 1m, partition: [a]",
        &["E has a list as `partition` of schedule 1; expected a text"],
    );
    check(
        "every: 1m, catch_up: all",
        &["E has the text `all` as `catch_up`; expected one of `none`, `one`"],
    );
    check(
        "at: '2026-11-24T03:30:00Z'",
        &["E has `at` in schedule 1, which is for schedules that are added over the API; expected `cron` or `every`"],
    );
    check(
        "every: 1m, timezon: UTC",
        &["W has the unknown key `timezon`, which is ignored; did you mean `timezone`?"],
    );
    check_pipeline(
        "schedules: {every: 1m}",
        &["E has a mapping as `schedules`; expected a list such as `[{cron: \"30 3 * * 1-5\"}, {every: 15m}]`"],
    );
    check_pipeline(
        "schedules: [~]",
        &["E has null as item 1 of `schedules`; expected a mapping"],
    );
    check_pipeline(
        "schedules: [daily]",
        &["E has the text `daily` as an item of `schedules`; expected a mapping with the key `cron` or `every`"],
    );
}
