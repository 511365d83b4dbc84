//! When schedules are due, in cases that random histories seldom come to, and what may be added.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use crate::calendar::Zone;
use crate::definition::{Pipeline, Pipelines};
use crate::job::JobId;
use crate::schedule::{Added, ScheduleId, ScheduleRecord};
use crate::scheduler::schedules::AddError;
use crate::scheduler::{Limits, Retention, Scheduler};
use crate::template::Variables;
use crate::timestamp::{Timestamp, parse_rfc3339, rfc3339};

fn scheduler() -> Scheduler {
    let limits = Limits {
        max_tasks: 1,
        kill_grace_ms: 0,
        retention: Retention::default(),
    };
    let mut pipelines = Pipelines::new();
    pipelines.insert("p".into(), Arc::new(Pipeline::unknown("p".into())));
    Scheduler::new(limits, pipelines)
}

fn id(number: usize) -> ScheduleId {
    ScheduleId(Uuid::from_u128(number as u128))
}

fn at(wall: &str, mono_ms: i64) -> Timestamp {
    Timestamp {
        wall_ms: parse_rfc3339(wall).unwrap(),
        mono_ms,
    }
}

/// A machine without a clock of its own boots in 1970, which is put right after ten seconds: what is due then, and when it
/// is due next.
#[track_caller]
fn check_boot(catch_up: &str, last: Option<&str>, put_right: &str, expected: &[&str], expected_next: &str) {
    let added = Added {
        pipeline: "p".to_owned(),
        cron: Some("30 3 * * *".to_owned()),
        timezone: Some("UTC".to_owned()),
        catch_up: Some(catch_up.to_owned()),
        ..Added::default()
    };
    let record = ScheduleRecord {
        id: id(1),
        since_ms: parse_rfc3339("2026-11-20T00:00:00Z").unwrap(),
        last_ms: last.map(|last| parse_rfc3339(last).unwrap()),
        added: Some(Box::new(added)),
    };
    let mut scheduler = scheduler();
    let boot = at("1970-01-01T00:00:05Z", 5_000);
    assert!(scheduler.start_schedules(boot, Zone::utc(), vec![record]).is_empty());
    assert!(scheduler.take_due(boot).is_none());
    let now = at(put_right, 15_000);
    let mut found = Vec::new();
    while let Some(request) = scheduler.take_due(now) {
        found.push(rfc3339(request.due.unwrap().at_ms));
        scheduler.schedule_due(now, JobId(Uuid::from_u128(7)), request).unwrap();
    }
    assert_eq!(found, expected);
    let next_ms = scheduler.schedule_views(now)[0].next_ms.unwrap();
    assert_eq!(rfc3339(next_ms), expected_next);
}

#[test]
fn a_clock_that_is_put_right_after_the_boot_makes_nothing_due_again() {
    let (last, next) = (Some("2026-11-24T03:30:00Z"), "2026-11-25T03:30:00Z");
    for catch_up in ["none", "one"] {
        check_boot(catch_up, last, "2026-11-24T10:00:00Z", &[], next);
    }
    // What was missed while the machine was off is made up for where that is wanted.
    let missed = "2026-11-24T03:30:00Z";
    for last in [Some("2026-11-23T03:30:00Z"), None] {
        check_boot("none", last, "2026-11-24T10:00:00Z", &[], next);
    }
    check_boot(
        "one",
        Some("2026-11-23T03:30:00Z"),
        "2026-11-24T10:00:00Z",
        &[missed],
        next,
    );
    // What came due since the boot was not missed by that.
    check_boot("none", None, "2026-11-24T03:30:05Z", &[missed], next);
}

#[test]
fn what_all_say_that_are_added_is_bounded() {
    let now = at("2026-11-24T10:00:00Z", 0);
    let mut scheduler = scheduler();
    scheduler.start_schedules(now, Zone::utc(), Vec::new());
    let add = |scheduler: &mut Scheduler, number: usize, length: usize| {
        let text = Value::String("x".repeat(length));
        let added = Added {
            pipeline: "p".to_owned(),
            every: Some("1h".to_owned()),
            variables: Arc::new(Variables::from_iter([("x".to_owned(), text)])),
            ..Added::default()
        };
        let schedule = added.read().unwrap();
        scheduler.add_schedule(now, id(number), added, schedule)
    };
    for number in 1..=16 {
        assert_eq!(add(&mut scheduler, number, 1_000_000), Ok(()));
    }
    let left = (16 << 20) - 16 * 1_000_050;
    let error = add(&mut scheduler, 17, 1_000_000).unwrap_err();
    assert_eq!(error, AddError::TooLarge { bytes: 1_000_050, left });
    assert_eq!(
        error.to_string(),
        format!(
            "the schedule has 1000050 bytes with its variables, expected at most {left}: those that are added have 16 MiB \
             together"
        )
    );
    // What is removed makes room.
    scheduler.remove_schedule(id(3)).unwrap();
    assert_eq!(add(&mut scheduler, 17, 1_000_000), Ok(()));
}
