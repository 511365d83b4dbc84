//! A schedule as it is kept and served: its id, its record, and what a client says about a new one.
//!
//! Unaware of when anything is due, and of files and sockets.
//!
//! Surprise: when a schedule was due last is for the most part not written down with it but with the job that came of it,
//! in the one line that says that the job was accepted. So no crash can come between the two.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::calendar::{Cron, LEAST_INTERVAL_MS, When, Zone};
use crate::definition::schedules::Schedule;
use crate::definition::{duration, shown};
use crate::id::parse_id;
use crate::template::Variables;
use crate::timestamp::{parse_rfc3339, rfc3339};

/// The id of a schedule: a UUID, printed in its usual form. One from a file has the same in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ScheduleId(pub Uuid);

impl fmt::Display for ScheduleId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(formatter)
    }
}

impl FromStr for ScheduleId {
    type Err = ();

    fn from_str(text: &str) -> Result<ScheduleId, ()> {
        parse_id(text).map(ScheduleId).ok_or(())
    }
}

impl ScheduleId {
    /// Of one from a file: the same as long as pipeline, expression, time zone, partition and variables are.
    pub(crate) fn of_file(pipeline: &str, schedule: &Schedule) -> ScheduleId {
        let digest = schedule.digest(pipeline);
        ScheduleId(uuid::Builder::from_custom_bytes(digest.to_be_bytes()).into_uuid())
    }
}

/// Which due time of which schedule a job came of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Due {
    pub id: ScheduleId,
    /// By the wall.
    pub at_ms: i64,
}

/// What is kept of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScheduleRecord {
    pub id: ScheduleId,
    /// When it became known.
    pub since_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ms: Option<i64>,
    /// `None`: the rest stands in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<Box<Added>>,
}

impl ScheduleRecord {
    /// It is over once it was due.
    pub(crate) fn is_once(&self) -> bool {
        self.added.as_ref().is_some_and(|added| added.at.is_some())
    }
}

/// A schedule that a client added, as it said it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Added {
    pub pipeline: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    #[serde(default, rename = "catch_up", skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty_map")]
    pub variables: Arc<Variables>,
    #[serde(default, rename = "queuePartition", skip_serializing_if = "String::is_empty")]
    pub partition: String,
}

fn is_empty_map(map: &Arc<Variables>) -> bool {
    map.is_empty()
}

impl Added {
    /// How long it is as JSON text.
    pub(crate) fn json_bytes(&self) -> usize {
        serde_json::to_vec(self).expect("it came from JSON").len()
    }

    /// What it means. The error names the field.
    pub(crate) fn read(&self) -> Result<Schedule, String> {
        let when = match (&self.cron, &self.every, &self.at) {
            (Some(cron), None, None) => {
                When::Cron(Cron::parse(cron).map_err(|error| format!("field `cron` has a mistake: {error}"))?)
            }
            (None, Some(every), None) => {
                let ms = duration::parse(every).map_err(|error| format!("field `every` is {error}"))?;
                if ms < LEAST_INTERVAL_MS {
                    return Err(format!("field `every` is `{}`, expected at least `1s`", shown(every)));
                }
                When::Every {
                    ms,
                    text: every.trim().to_owned(),
                }
            }
            (None, None, Some(at)) => When::At {
                wall_ms: parse_rfc3339(at).ok_or_else(|| {
                    format!(
                        "field `at` is `{}`, expected a time such as `2026-11-24T03:30:00Z`",
                        shown(at)
                    )
                })?,
            },
            _ => return Err("expected one of the fields `cron`, `every` and `at`".to_owned()),
        };
        let zone = match &self.timezone {
            None => None,
            Some(name) => Some(Zone::named(name).ok_or_else(|| {
                format!(
                    "field `timezone` is `{}`, expected the name of a time zone such as `Europe/Berlin`",
                    shown(name)
                )
            })?),
        };
        let makes_up = match self.catch_up.as_deref() {
            None | Some("none") => false,
            Some("one") => true,
            Some(other) => {
                return Err(format!(
                    "field `catch_up` is `{}`, expected `none` or `one`",
                    shown(other)
                ));
            }
        };
        Ok(Schedule {
            when,
            zone,
            variables: Arc::clone(&self.variables),
            partition: self.partition.clone(),
            makes_up,
        })
    }
}

/// A schedule as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScheduleView {
    pub id: ScheduleId,
    pub pipeline: Arc<str>,
    pub schedule: Schedule,
    /// The one that counts; `None`: none does.
    pub zone: Option<Arc<str>>,
    pub next_ms: Option<i64>,
    pub last_ms: Option<i64>,
    pub is_from_file: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Served<'a> {
    id: ScheduleId,
    pipeline: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cron: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<&'a str>,
    timezone: Option<&'a str>,
    variables: &'a Variables,
    queue_partition: &'a str,
    #[serde(rename = "catch_up")]
    catch_up: &'a str,
    next: Option<String>,
    last: Option<String>,
    source: &'a str,
}

impl Serialize for ScheduleView {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, text) = self.schedule.when.key_and_text();
        let text_of = |wanted| (key == wanted).then_some(&*text);
        Served {
            id: self.id,
            pipeline: &self.pipeline,
            cron: text_of("cron"),
            every: text_of("every"),
            at: text_of("at"),
            timezone: self.zone.as_deref(),
            variables: &self.schedule.variables,
            queue_partition: &self.schedule.partition,
            catch_up: if self.schedule.makes_up { "one" } else { "none" },
            next: self.next_ms.map(rfc3339),
            last: self.last_ms.map(rfc3339),
            source: if self.is_from_file { "file" } else { "api" },
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(every: &str, timezone: Option<&str>, partition: &str, variables: &str) -> Schedule {
        let added = Added {
            every: Some(every.to_owned()),
            timezone: timezone.map(str::to_owned),
            partition: partition.to_owned(),
            variables: serde_json::from_str(variables).unwrap(),
            ..Added::default()
        };
        added.read().unwrap()
    }

    #[test]
    fn the_id_of_one_from_a_file_is_made_of_what_it_says() {
        let id = |pipeline, every, zone, partition, variables| {
            ScheduleId::of_file(pipeline, &schedule(every, zone, partition, variables))
        };
        let first = id("p", "1m", None, "", "{}");
        // A later version must find it again.
        assert_eq!(first.to_string(), "1baafebe-263b-8fa4-9121-a64a2d18a3e2");
        assert_eq!(first, id("p", "1m", None, "", "{}"));
        assert_eq!(first.to_string().parse(), Ok(first));
        let others = [
            id("q", "1m", None, "", "{}"),
            id("p", "60s", None, "", "{}"),
            id("p", "1m", Some("UTC"), "", "{}"),
            id("p", "1m", None, "a", "{}"),
            id("p", "1m", None, "", r#"{"a":1}"#),
            id("p", "1m", None, "", r#"{"a":1,"b":{"c":1,"d":2}}"#),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(*other, first);
            assert!(!others[..index].contains(other));
        }
        let other_order = id("p", "1m", None, "", r#"{"b":{"d":2,"c":1},"a":1}"#);
        assert_eq!(other_order, others[5]);
        // What it makes up for does not make it another one.
        let mut makes_up = schedule("1m", None, "", "{}");
        makes_up.makes_up = true;
        assert_eq!(ScheduleId::of_file("p", &makes_up), first);
    }

    #[track_caller]
    fn check_error(fields: &str, expected: &str) {
        let mut fields: serde_json::Value = serde_json::from_str(fields).unwrap();
        fields["pipeline"] = "p".into();
        let added: Added = serde_json::from_value(fields).unwrap();
        assert_eq!(added.read().unwrap_err(), expected);
    }

    #[test]
    fn an_error_names_the_field() {
        let one = "expected one of the fields `cron`, `every` and `at`";
        check_error("{}", one);
        check_error(r#"{"cron": "@daily", "every": "1m"}"#, one);
        check_error(
            r#"{"cron": "@never"}"#,
            "field `cron` has a mistake: the short form `@never`; expected one of `@yearly`, `@annually`, `@monthly`, \
             `@weekly`, `@daily`, `@midnight`, `@hourly`",
        );
        check_error(
            r#"{"every": "5"}"#,
            "field `every` is `5`, which has no unit behind `5`; expected `ms`, `s`, `m`, `h` or `d`, as in `5s`",
        );
        check_error(
            r#"{"every": "999ms"}"#,
            "field `every` is `999ms`, expected at least `1s`",
        );
        check_error(
            r#"{"at": "noon"}"#,
            "field `at` is `noon`, expected a time such as `2026-11-24T03:30:00Z`",
        );
        check_error(
            r#"{"every": "1m", "timezone": "Mars"}"#,
            "field `timezone` is `Mars`, expected the name of a time zone such as `Europe/Berlin`",
        );
        check_error(
            r#"{"every": "1m", "catch_up": "all"}"#,
            "field `catch_up` is `all`, expected `none` or `one`",
        );
    }
}
