//! Schedules: what there are, and what a client adds and removes.
//!
//! Unaware of when anything is due.

use std::sync::Arc;

use serde::Serialize;
use serde::de::MapAccess;

use super::body::{self, field};
use super::error::Error;
use super::exchange::Response;
use super::query::Query;
use super::{Api, reply};
use crate::requests::Request;
use crate::schedule::{Added, ScheduleId, ScheduleView};
use crate::scheduler::{AddError, RemoveError};

#[derive(Serialize)]
struct List {
    schedules: Vec<ScheduleView>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScheduleAdded {
    schedule_id: ScheduleId,
}

pub(super) fn list(api: &Api) -> Result<Response, Error> {
    let mut schedules = api.ask(|reply| Request::Schedules { reply })?;
    let image = api.parts.model.read();
    // What is not on disk yet is not shown; one from a file is, in that file. One that is being removed is gone already: it
    // brings no job any more.
    schedules.retain_mut(|view| {
        let record = image.schedule(view.id);
        view.last_ms = record.and_then(|record| record.last_ms);
        record.is_some() || view.is_from_file
    });
    drop(image);
    Ok(reply::json(200, &List { schedules }))
}

pub(super) fn add(api: &Api, body: &[u8]) -> Result<Response, Error> {
    let added: Added = body::parse(body).map_err(Error::Json)?;
    let schedule = added.read().map_err(Error::BadSchedule)?;
    let answer = api.ask_to_accept(|reply| Request::AddSchedule {
        added: Box::new(added),
        schedule: Box::new(schedule),
        reply,
    })?;
    match answer {
        Ok(schedule_id) => Ok(reply::json(201, &ScheduleAdded { schedule_id })),
        Err(AddError::Refused(error)) => Err(Error::Schedule(error)),
        Err(error @ (AddError::TooMany | AddError::TooLarge { .. })) => Err(Error::TooManySchedules(error.to_string())),
        Err(error @ AddError::Over) => Err(Error::BadSchedule(error.to_string())),
    }
}

pub(super) fn remove(api: &Api, query: &Query) -> Result<Response, Error> {
    let id = query.first("id").unwrap_or_default();
    let schedule = id.parse().map_err(|()| Error::ScheduleId)?;
    api.ask(|reply| Request::RemoveSchedule { schedule, reply })?
        .map_err(|error| match error {
            RemoveError::Unknown => Error::UnknownSchedule,
            RemoveError::FromFile => Error::ScheduleFromFile,
        })?;
    Ok(reply::json(200, &true))
}

impl body::Fields for Added {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, entries: &mut A) -> Result<bool, A::Error> {
        match key {
            "pipeline" => self.pipeline = field(entries, key)?.unwrap_or_default(),
            "cron" => self.cron = field(entries, key)?,
            "every" => self.every = field(entries, key)?,
            "at" => self.at = field(entries, key)?,
            "timezone" => self.timezone = field(entries, key)?,
            "catch_up" => self.catch_up = field(entries, key)?,
            "variables" => self.variables = Arc::new(field(entries, key)?.unwrap_or_default()),
            "queuePartition" => self.partition = field(entries, key)?.unwrap_or_default(),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: impl AsRef<[u8]>) -> Result<Added, String> {
        body::parse(body.as_ref())
    }

    #[track_caller]
    fn check_error(body: impl AsRef<[u8]>, expected: &str) {
        assert_eq!(parse(body).unwrap_err(), expected);
    }

    #[test]
    fn a_body_says_what_to_add() {
        let body = r#"{"pipeline": "p", "every": "1m", "cron": null, "variables": {"a": 1.10}, "queuePartition": "x", "next": 1}"#;
        let expected = Added {
            pipeline: "p".to_owned(),
            every: Some("1m".to_owned()),
            variables: serde_json::from_str(r#"{"a": 1.10}"#).unwrap(),
            partition: "x".to_owned(),
            ..Added::default()
        };
        assert_eq!(parse(body), Ok(expected));
        assert_eq!(parse("{}"), Ok(Added::default()));
    }

    #[test]
    fn a_body_of_the_wrong_type_names_the_field() {
        check_error(
            r#"{"cron": 5}"#,
            "field `cron`: invalid type: integer `5`, expected a string at line 1 column 10",
        );
        check_error(
            r#"{"at": ["x"]}"#,
            "field `at`: invalid type: sequence, expected a string at line 1 column 7",
        );
        check_error(
            r#"{"variables": "x"}"#,
            r#"field `variables`: invalid type: string "x", expected a map at line 1 column 17"#,
        );
        check_error("[]", "invalid type: sequence, expected an object at line 1 column 0");
        check_error("{", "EOF while parsing an object at line 1 column 1");
        check_error("{} x", "trailing characters at line 1 column 4");
        check_error(
            r#"{"every": "1h", "every": "2h"}"#,
            "field `every` is there twice at line 1 column 30",
        );
        check_error(b"{\"x\":\n\"\xff\"}", "expected UTF-8 at line 2 column 2");
    }
}
