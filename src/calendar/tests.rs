//! What expressions mean, and when they are due: beside single cases, some thousands of due times around every change of
//! the clock in three years, which another program has calculated (`tests/due_times.txt`).

use super::{Cron, Zone};
use crate::timestamp::{parse_rfc3339, rfc3339};

fn ms(text: &str) -> i64 {
    parse_rfc3339(text).unwrap()
}

/// The due times behind `after`, so many as are expected.
#[track_caller]
fn check_due(expression: &str, zone: &str, after: &str, expected: &[&str]) {
    let cron = Cron::parse(expression).unwrap();
    let zone = Zone::named(zone).unwrap();
    let mut at = ms(after);
    let due: Vec<String> = expected
        .iter()
        .map_while(|_| {
            at = cron.due_after(&zone, at)?;
            Some(rfc3339(at))
        })
        .collect();
    assert_eq!(due, expected, "`{expression}`");
}

#[track_caller]
fn check_same(expression: &str, other: &str) {
    let due = |text: &str| {
        let cron = Cron::parse(text).unwrap();
        let mut at = ms("2026-01-01T00:00:00Z");
        let mut all = Vec::new();
        for _ in 0..60 {
            at = cron.due_after(&Zone::utc(), at).unwrap();
            all.push(at);
        }
        all
    };
    assert_eq!(due(expression), due(other), "`{expression}`");
}

#[track_caller]
fn check_error(expression: &str, expected: &str) {
    assert_eq!(Cron::parse(expression).unwrap_err(), expected);
}

#[test]
fn due_times_are_those_that_another_calculation_finds() {
    let mut count = 0;
    for line in include_str!("tests/due_times.txt").lines() {
        if line.starts_with('#') {
            continue;
        }
        let parts: Vec<&str> = line.split(" | ").collect();
        let [zone, expression, start, end, ..] = parts[..] else {
            panic!("`{line}`");
        };
        let expected: Vec<&str> = parts.get(4).map_or(Vec::new(), |due| due.split_whitespace().collect());
        count += expected.len();
        let (cron, zone) = (Cron::parse(expression).unwrap(), Zone::named(zone).unwrap());
        let minute = |text: &str| ms(&text.replace('Z', ":00Z"));
        let mut at = minute(start) - 1;
        let mut due = Vec::new();
        while let Some(next) = cron.due_after(&zone, at).filter(|next| *next < minute(end)) {
            due.push(rfc3339(next).replace(":00Z", "Z"));
            at = next;
        }
        // A skipped time is due at the change: the first minute of a window can't tell what was before it.
        assert_eq!(due, expected, "{line}");
    }
    assert!(count > 1_000, "{count} due times");
}

#[test]
fn a_skipped_time_is_due_right_after_the_change() {
    let skipped = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"];
    check_due("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", &skipped);
    // All that was skipped at once.
    let once = ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"];
    check_due("*/10 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", &once);
}

#[test]
fn a_repeated_time_is_due_once_but_for_every_hour() {
    let once = ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
    check_due("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", &once);
    let twice = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"];
    check_due("30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", &twice);
    check_due("30 0-23 * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", &twice);
}

#[test]
fn days_that_are_rare_are_found() {
    check_due(
        "0 0 29 2 *",
        "UTC",
        "2026-01-01T00:00:00Z",
        &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"],
    );
    // No leap year, and eight years without one.
    check_due("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", &["2104-02-29T00:00:00Z"]);
    // A Monday by chance: days and weekdays that begin with a star must both fit.
    check_due("0 0 29 2 */6", "UTC", "2026-01-01T00:00:00Z", &["2032-02-29T00:00:00Z"]);
    check_due(
        "0 0 31 * *",
        "UTC",
        "2026-03-31T00:00:00Z",
        &["2026-05-31T00:00:00Z", "2026-07-31T00:00:00Z"],
    );
    assert_eq!(
        Cron::parse("* * * * *").unwrap().due_after(&Zone::utc(), i64::MAX),
        None
    );
}

#[test]
fn a_due_time_lies_behind_the_instant() {
    check_due("* * * * *", "UTC", "2026-11-24T03:30:00Z", &["2026-11-24T03:31:00Z"]);
    check_due("* * * * *", "UTC", "2026-11-24T03:29:59.9Z", &["2026-11-24T03:30:00Z"]);
    // Before 1970.
    check_due("0 0 * * *", "UTC", "1969-12-31T12:00:00Z", &["1970-01-01T00:00:00Z"]);
}

#[test]
fn either_day_fits_where_both_are_restricted() {
    check_due(
        "0 0 13 * 5",
        "UTC",
        "2026-11-10T00:00:00Z",
        &["2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z", "2026-11-27T00:00:00Z"],
    );
    check_due("0 0 30 2 1", "UTC", "2026-02-20T00:00:00Z", &["2026-02-23T00:00:00Z"]);
    check_due(
        "0 0 */2 * 5",
        "UTC",
        "2026-11-10T00:00:00Z",
        &["2026-11-13T00:00:00Z", "2026-11-27T00:00:00Z"],
    );
}

#[test]
fn one_thing_can_be_written_in_several_ways() {
    check_same("0 0 * * 7", "0 0 * * 0");
    check_same("0 0 * * sun", "0 0 * * 0");
    check_same("0 0 * * Mon-FRI", "0 0 * * 1-5");
    check_same("0 0 * * sat-sun", "0 0 * * 6,0");
    check_same("0 0 * * 5-7", "0 0 * * 5,6,0");
    check_same("0 0 1 jan,Jul *", "0 0 1 1,7 *");
    check_same("*/15 * * * *", "0,15,30,45 * * * *");
    check_same("5/20 * * * *", "5,25,45 * * * *");
    check_same("0 8-18/5 * * *", "0 8,13,18 * * *");
    check_same("  0   0  *\t* * ", "0 0 * * *");
    check_same("@hourly", "0 * * * *");
    check_same("@Daily", "0 0 * * *");
    check_same("@midnight", "0 0 * * *");
    check_same("@weekly", "0 0 * * 0");
    check_same("@monthly", "0 0 1 * *");
    check_same("@yearly", "0 0 1 1 *");
    check_same("@annually", "0 0 1 1 *");
}

#[test]
fn an_error_names_the_field() {
    let numbers = "a step such as `*/2`, or a list of these";
    for minute in [
        "60",
        "-1",
        "+1",
        "",
        "5-1",
        "*/0",
        "1-",
        "a",
        "1,,2",
        "*/x",
        "*5",
        "99999999999",
    ] {
        let part = if minute == "1,,2" { "" } else { minute };
        let expression = format!("{minute} * * * *");
        if minute.is_empty() {
            continue;
        }
        check_error(
            &expression,
            &format!("`{part}` as the minute; expected 0 to 59, a range such as `1-5`, {numbers}"),
        );
    }
    check_error(
        "0 24 * * *",
        &format!("`24` as the hour; expected 0 to 23, a range such as `1-5`, {numbers}"),
    );
    check_error(
        "0 0 0 * *",
        &format!("`0` as the day of month; expected 1 to 31, a range such as `2-6`, {numbers}"),
    );
    check_error(
        "0 0 * foo *",
        &format!("`foo` as the month; expected 1 to 12 or `jan` to `dec`, a range such as `2-6`, {numbers}"),
    );
    check_error(
        "0 0 * * 8",
        &format!("`8` as the day of week; expected 0 to 7 or `sun` to `sat`, a range such as `1-5`, {numbers}"),
    );
    check_error(
        "0 0 * *",
        "4 fields in `0 0 * *`; expected five: minute, hour, day of month, month, day of week",
    );
    check_error(
        "0 0 30 2,2 *",
        "`30` as the day of month with `2,2` as the month, which never come together; expected a day that there is",
    );
    check_error(
        "0 0 31 apr,jun *",
        "`31` as the day of month with `apr,jun` as the month, which never come together; expected a day that there is",
    );
    check_error(
        "@reboot",
        "the short form `@reboot`; expected one of `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, \
         `@hourly`",
    );
    let long = format!("0 0 {}1 * *", "1,".repeat(500));
    assert!(
        Cron::parse(&long)
            .unwrap_err()
            .starts_with("an expression of more than 1000 bytes")
    );
}

#[test]
fn zones_go_by_their_names() {
    assert_eq!(&**Zone::named("Europe/Berlin").unwrap().name(), "Europe/Berlin");
    assert_eq!(&**Zone::named("europe/berlin").unwrap().name(), "Europe/Berlin");
    assert_eq!(Zone::named("Europe/Atlantis"), None);
    assert_eq!(
        &**Zone::of_machine(Some(":Asia/Kathmandu")).unwrap().name(),
        "Asia/Kathmandu"
    );
    assert_eq!(&**Zone::of_machine(Some("")).unwrap().name(), "UTC");
    assert_eq!(
        &**Zone::of_machine(Some("EST5EDT,M3.2.0,M11.1.0")).unwrap().name(),
        "EST5EDT,M3.2.0,M11.1.0"
    );
    assert_eq!(
        Zone::of_machine(Some("nowhere")).unwrap_err(),
        "`TZ` is `nowhere`, which is no time zone"
    );
}

#[test]
fn a_moment_is_shown_as_the_zone_has_it() {
    let berlin = Zone::named("Europe/Berlin").unwrap();
    assert_eq!(berlin.show(ms("2026-11-24T03:30:00Z")), "2026-11-24 04:30 CET");
    assert_eq!(berlin.show(ms("2026-07-01T22:00:05Z")), "2026-07-02 00:00:05 CEST");
}
