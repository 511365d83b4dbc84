//! Schedules: what there are, and what a client adds and removes.
//!
//! Unaware of when anything is due.

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::Error;
use super::exchange::Response;
use super::query::Query;
use super::{Api, guard, reply};
use crate::definition::shown;
use crate::requests::Request;
use crate::schedule::{Added, ScheduleId, ScheduleView};
use crate::scheduler::{AddError, RemoveError, ScheduleError};

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
    let schedules = api.ask(|reply| Request::Schedules { reply })?;
    Ok(reply::json(200, &List { schedules }))
}

pub(super) fn add(api: &Api, body: &[u8]) -> Result<Response, Error> {
    let added = parse(body).map_err(Error::Json)?;
    let schedule = added.read().map_err(Error::BadSchedule)?;
    let answer = api.ask(|reply| Request::AddSchedule {
        added: Box::new(added),
        schedule: Box::new(schedule),
        reply,
    });
    let answer = answer.map_err(|error| {
        if matches!(error, Error::Stopping) {
            Error::Schedule(ScheduleError::ShuttingDown)
        } else {
            error
        }
    })?;
    match answer {
        Ok(schedule_id) => Ok(reply::json(201, &ScheduleAdded { schedule_id })),
        Err(AddError::Refused(error)) => Err(Error::Schedule(error)),
        Err(error @ AddError::TooMany) => Err(Error::TooManySchedules(error.to_string())),
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

/// Keys that are not known are ignored, and null is as good as none.
fn parse(body: &[u8]) -> Result<Added, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    guard::check(text)?;
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(mut fields) = value else {
        return Err("expected an object".to_owned());
    };
    Ok(Added {
        pipeline: text_of(&mut fields, "pipeline")?.unwrap_or_default(),
        cron: text_of(&mut fields, "cron")?,
        every: text_of(&mut fields, "every")?,
        at: text_of(&mut fields, "at")?,
        timezone: text_of(&mut fields, "timezone")?,
        catch_up: text_of(&mut fields, "catch_up")?,
        variables: match fields.remove("variables") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(variables)) => variables,
            Some(other) => return Err(format!("field `variables`: expected an object, found {}", kind(&other))),
        },
        partition: text_of(&mut fields, "queuePartition")?.unwrap_or_default(),
    })
}

fn text_of(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!("field `{name}`: expected a string, found {}", kind(&other))),
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            format!("`{}`", shown(&value.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_error(body: &str, expected: &str) {
        assert_eq!(parse(body.as_bytes()).unwrap_err(), expected);
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
        assert_eq!(parse(body.as_bytes()), Ok(expected));
        assert_eq!(parse(b"{}"), Ok(Added::default()));
    }

    #[test]
    fn a_body_of_the_wrong_type_names_the_field() {
        check_error(r#"{"cron": 5}"#, "field `cron`: expected a string, found `5`");
        check_error(r#"{"at": ["x"]}"#, "field `at`: expected a string, found an array");
        check_error(
            r#"{"variables": "x"}"#,
            r#"field `variables`: expected an object, found `"x"`"#,
        );
        check_error("[]", "expected an object");
        check_error("{", "EOF while parsing an object at line 1 column 1");
        check_error("{} x", "trailing characters at line 1 column 4");
    }
}
