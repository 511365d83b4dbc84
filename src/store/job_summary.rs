//! What must be known of a job that ended, read from the front of its JSON: at a start there are thousands of them.
//!
//! Its tasks are most of the text and stand last, so reading ends there. That is no loss: the line's checksum has been
//! compared by then, so that the text is what was written. Unaware of the journal's lines.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::job::{IdempotencyKey, JobId, JobStatus};

/// Found so far; every job that has ended has those that are optional here.
#[derive(Debug, Default)]
pub(super) struct JobSummary<'a> {
    pub id: Option<JobId>,
    pub pipeline: Option<Cow<'a, str>>,
    pub status: Option<JobStatus>,
    pub completed: bool,
    pub started: bool,
    pub end: Option<Cow<'a, str>>,
    pub idempotency: Vec<IdempotencyKey>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Field {
    Id,
    Pipeline,
    Status,
    Completed,
    Start,
    End,
    Idempotency,
    Tasks,
    #[serde(other)]
    Other,
}

impl<'a> JobSummary<'a> {
    /// `None` where the text is none of a job.
    pub(super) fn of(json: &'a str) -> Option<JobSummary<'a>> {
        let mut reader = Reader {
            summary: JobSummary::default(),
            is_whole: false,
        };
        let read = serde_json::Deserializer::from_str(json).deserialize_map(&mut reader);
        (read.is_ok() || reader.is_whole).then_some(reader.summary)
    }
}

/// Takes what it finds as it goes, for reading ends with an error: serde knows no other way to leave the rest unread.
struct Reader<'a> {
    summary: JobSummary<'a>,
    /// Reading came to the tasks.
    is_whole: bool,
}

impl<'a> Visitor<'a> for &mut Reader<'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a job")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        let summary = &mut self.summary;
        while let Some(field) = map.next_key()? {
            match field {
                Field::Id => summary.id = Some(map.next_value()?),
                Field::Pipeline => summary.pipeline = Some(map.next_value::<Text<'a>>()?.0),
                Field::Status => summary.status = Some(map.next_value()?),
                Field::Completed => summary.completed = map.next_value()?,
                Field::Start => summary.started = map.next_value::<Option<IgnoredAny>>()?.is_some(),
                Field::End => summary.end = map.next_value::<Option<Text<'a>>>()?.map(|text| text.0),
                Field::Idempotency => summary.idempotency = map.next_value()?,
                Field::Tasks => {
                    self.is_whole = true;
                    return Err(M::Error::custom("the rest is not read"));
                }
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Borrowed where nothing in it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, end: Option<&str>) {
        let summary = JobSummary::of(json).unwrap();
        assert_eq!(&*summary.pipeline.unwrap(), "a\"b");
        assert_eq!(summary.status, Some(JobStatus::Failed));
        assert_eq!(summary.end.as_deref(), end);
        assert_eq!((summary.completed, summary.started), (true, false));
    }

    #[test]
    fn what_stands_before_the_tasks_is_read() {
        let front = r#"{"pipeline":"a\"b","variables":{"tasks":[1],"end":"no"},"start":null,"completed":true,"status":"failed""#;
        check(
            &format!(r#"{front},"end":"z","tasks":[{{"status":"done"}}]}}"#),
            Some("z"),
        );
        check(&format!(r#"{front},"tasks":[],"end":"z"}}"#), None);
        check(&format!(r#"{front},"end":"z"}}"#), Some("z"));
    }

    #[test]
    fn what_is_no_job_has_no_summary() {
        for json in [
            "",
            "[]",
            r#"{"pipeline":1,"tasks":[]}"#,
            r#"{"status":"asleep","tasks":[]}"#,
            r#"{"id""#,
        ] {
            assert!(JobSummary::of(json).is_none(), "{json}");
        }
    }
}
