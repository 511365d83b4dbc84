//! The body of a request for a job.
//!
//! Unaware of what the pipeline needs. Surprise: without a pipeline it is one with an empty name that is asked for, which is
//! not defined.

use std::sync::Arc;

use serde::de::MapAccess;

use super::auth::User;
use super::body::{self, field};
use super::error::Error;
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

impl body::Fields for Fields {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, entries: &mut A) -> Result<bool, A::Error> {
        match key {
            "pipeline" => self.pipeline = field(entries, key)?,
            "variables" => self.variables = field(entries, key)?,
            "queuePartition" => self.partition = field(entries, key)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

pub(super) fn parse(body: &[u8], user: User) -> Result<ScheduleRequest, Error> {
    let fields: Fields = body::parse(body).map_err(Error::Json)?;
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
