//! The body of a request for a job.
//!
//! Unaware of what the pipeline needs. Surprise: neither keys that are not known nor absent ones are errors: without a
//! pipeline it is one with an empty name that is asked for, which is not defined.

use std::fmt;
use std::sync::Arc;

use serde::Deserializer as _;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor};

use super::auth::User;
use super::error::Error;
use super::guard;
use crate::job::IdempotencyKey;
use crate::scheduler::{RequestKey, ScheduleRequest};
use crate::template::Variables;

/// Of a body's hash: no two bodies have the same.
const HASH_BYTES: usize = 16;

/// What is asked for. `None` also where it is null.
#[derive(Debug, Default)]
struct Fields {
    pipeline: Option<String>,
    variables: Option<Variables>,
    partition: Option<String>,
}

pub(super) fn parse(body: &[u8], user: User) -> Result<ScheduleRequest, Error> {
    let fields = parse_fields(body).map_err(Error::Json)?;
    Ok(ScheduleRequest {
        pipeline: fields.pipeline.unwrap_or_default(),
        variables: Arc::new(fields.variables.unwrap_or_default()),
        partition: fields.partition.unwrap_or_default(),
        user: user.0,
        key: None,
        due: None,
    })
}

/// What names the request with this body, where it is named.
pub(super) fn key(header: Option<&str>, body: &[u8]) -> Result<Option<RequestKey>, Error> {
    let Some(key) = header.map(str::trim) else {
        return Ok(None);
    };
    if !IdempotencyKey::accepts(key) {
        return Err(Error::Parameter(format!(
            "`Idempotency-Key` has {} bytes, expected {}",
            key.len(),
            IdempotencyKey::EXPECTED
        )));
    }
    let body_hash = hmac_sha256::Hash::hash(body);
    Ok(Some(RequestKey {
        key: key.to_owned(),
        body_hash: body_hash[..HASH_BYTES]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    }))
}

fn parse_fields(body: &[u8]) -> Result<Fields, String> {
    // The JSON parser does not look into strings that are skipped.
    let text = std::str::from_utf8(body).map_err(|error| not_utf8(body, error.valid_up_to()))?;
    guard::check(text)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fields = deserializer
        .deserialize_map(Object)
        .and_then(|fields| deserializer.end().map(|()| fields));
    fields.map_err(|error| error.to_string())
}

fn not_utf8(body: &[u8], position: usize) -> String {
    let before = &body[..position];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let column = position - line_start + 1;
    format!("expected UTF-8 at line {line} column {column}")
}

/// A derived implementation would take an array for an object.
struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Fields;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        let mut seen = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            match &*key {
                "pipeline" => fields.pipeline = field(&mut entries, &key)?,
                "variables" => fields.variables = field(&mut entries, &key)?,
                "queuePartition" => fields.partition = field(&mut entries, &key)?,
                _ => {
                    entries.next_value::<IgnoredAny>()?;
                    continue;
                }
            }
            if seen.contains(&key) {
                return Err(A::Error::custom(format_args!("field `{key}` is there twice")));
            }
            seen.push(key);
        }
        Ok(fields)
    }
}

fn field<'de, A: MapAccess<'de>, T: DeserializeOwned>(entries: &mut A, name: &str) -> Result<Option<T>, A::Error> {
    entries
        .next_value()
        // The parser takes the line and column that end this text for its own.
        .map_err(|error| A::Error::custom(format_args!("field `{name}`: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, pipeline: &str, variables: &str, partition: &str) {
        let request = parse(body.as_bytes(), User("anna".to_owned())).unwrap();
        let found_variables = serde_json::to_string(&*request.variables).unwrap();
        assert_eq!(
            (
                &*request.pipeline,
                &*found_variables,
                &*request.partition,
                &*request.user
            ),
            (pipeline, variables, partition, "anna")
        );
    }

    #[track_caller]
    fn check_error(body: impl AsRef<[u8]>, expected: &str) {
        let error = parse(body.as_ref(), User(String::new())).unwrap_err();
        assert_eq!(error, Error::Json(expected.to_owned()));
    }

    #[test]
    fn requests_are_read() {
        check(r#"{"pipeline":"deploy"}"#, "deploy", "{}", "");
        check(
            r#" {"queuePartition":"tenant","variables":{"b":1.10,"a":[null,{"0":"x"}]},"pipeline":"deploy"} "#,
            "deploy",
            r#"{"b":1.10,"a":[null,{"0":"x"}]}"#,
            "tenant",
        );
        check(
            r#"{"pipeline":"deploy","variables":null,"queuePartition":null,"more":{"pipeline":1}}"#,
            "deploy",
            "{}",
            "",
        );
        check(r#"{"pipe\u006cine":"ä"}"#, "ä", "{}", "");
        check("{}", "", "{}", "");
    }

    #[test]
    fn errors_say_where() {
        check_error("", "EOF while parsing a value at line 1 column 0");
        check_error("{", "EOF while parsing an object at line 1 column 1");
        check_error(
            "{\n \"pipeline\" 1}",
            "field `pipeline`: expected `:` at line 2 column 13",
        );
        check_error("{}{}", "trailing characters at line 1 column 3");
        check_error("{} x", "trailing characters at line 1 column 4");
        check_error("[]", "invalid type: sequence, expected an object at line 1 column 0");
        check_error("null", "invalid type: null, expected an object at line 1 column 4");
        check_error(
            "{\"pipeline\":\n5}",
            "field `pipeline`: invalid type: integer `5`, expected a string at line 2 column 1",
        );
        check_error(
            r#"{"variables":["a"]}"#,
            "field `variables`: invalid type: sequence, expected a map at line 1 column 13",
        );
        check_error(
            r#"{"queuePartition":true}"#,
            "field `queuePartition`: invalid type: boolean `true`, expected a string at line 1 column 22",
        );
        check_error(
            r#"{"pipeline":"a","pipeline":"b"}"#,
            "field `pipeline` is there twice at line 1 column 31",
        );
        check_error(b"{\"x\":\n\"\xff\"}", "expected UTF-8 at line 2 column 2");
    }
}
