//! What cron expressions mean, as `prunner validate` tells it: their forms, their days, and what a change of the clock does.

use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::{Value, json};

use super::noting;
use crate::space::TestSpace;

/// The next three times of each of these expressions.
#[track_caller]
fn next(expressions: &[&str], zone: &str) -> Vec<Vec<Timestamp>> {
    let schedules: Vec<Value> = expressions
        .iter()
        .map(|cron| json!({"cron": cron, "timezone": zone}))
        .collect();
    let space = TestSpace::new(&noting(&json!(schedules)));
    let output = space.run(&["validate", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{found}");
    let times = |schedule: &Value| {
        let next = schedule["next"].as_array().unwrap().iter();
        next.map(|time| time.as_str().unwrap().parse().unwrap()).collect()
    };
    found["schedules"].as_array().unwrap().iter().map(times).collect()
}

#[track_caller]
fn check_equal(expressions: &[&str]) {
    let found = next(expressions, "UTC");
    for (expression, times) in expressions.iter().zip(&found) {
        assert_eq!((times.len(), times), (3, &found[0]), "{expression}");
    }
}

#[test]
fn names_ranges_steps_lists_and_short_forms() {
    check_equal(&["0 0 * * 0", "0 0 * * 7", "0 0 * * sun", "0 0 * * SUN", "@weekly"]);
    check_equal(&[
        "0 0 * * 1-5",
        "0 0 * * mon-fri",
        "0 0 * * 1,2,3,4,5",
        "0 0 * * mon,tue-thu,fri",
    ]);
    check_equal(&["0 0 * * 5-7", "0 0 * * 0,5,6"]);
    check_equal(&["0 */8 * * *", "0 0-23/8 * * *", "0 0,8,16 * * *"]);
    check_equal(&["0 0 1 jan *", "0 0 1 1 *", "@yearly", "@annually"]);
    check_equal(&["0 0 1 * *", "@monthly"]);
    check_equal(&["0 0 * * *", "@daily", "@midnight"]);
    check_equal(&["0 * * * *", "@hourly"]);
}

#[test]
fn of_two_restricted_days_either_one_will_do() {
    let found = next(&["0 12 29 2 fri", "0 12 29 2 *"], "UTC");
    let dates =
        |times: &[Timestamp]| -> Vec<DateTime> { times.iter().map(|time| TimeZone::UTC.to_datetime(*time)).collect() };
    let is_friday = |time: &DateTime| time.date().weekday() == Weekday::Friday;
    let either = dates(&found[0]);
    let fits = |time: &DateTime| time.month() == 2 && (time.day() == 29 || is_friday(time));
    assert!(either.iter().all(fits), "{found:?}");
    assert!(
        either.iter().any(|time| is_friday(time) && time.day() != 29),
        "{found:?}"
    );
    assert!(dates(&found[1]).iter().all(|time| time.day() == 29), "{found:?}");
}

#[test]
fn what_a_change_of_the_clock_skips_runs_right_after_it_and_what_it_repeats_runs_once() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let mut changes = zone.following(Timestamp::now()).map(|change| change.timestamp());
    let (first, second) = (changes.next().unwrap(), changes.next().unwrap());
    // From 2 to 3 in spring, from 3 to 2 in autumn.
    let (forward, back) = if zone.to_datetime(first).hour() == 3 {
        (first, second)
    } else {
        (second, first)
    };
    let half_past_two = |change: Timestamp| {
        let date = zone.to_datetime(change).date();
        format!("30 2 {} {} *", date.day(), date.month())
    };
    let found = next(&[&half_past_two(forward), &half_past_two(back)], "Europe/Berlin");
    assert_eq!(found[0][0], forward, "{found:?}");
    // The first of both, and then a year later.
    assert_eq!(found[1][0], back - Span::new().minutes(30), "{found:?}");
    let years: Vec<i16> = found[1].iter().map(|time| zone.to_datetime(*time).year()).collect();
    assert_eq!(years, [years[0], years[0] + 1, years[0] + 2], "{found:?}");
}
