//! A job object of the API, as commands read it.
//!
//! Surprise: nearly every field may be missing. A server of another version may know more or less, and a job from a file
//! of an older form lacks what ours have.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cli::output::Status;
use crate::timestamp::parse_rfc3339;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Job {
    pub id: String,
    pub pipeline: String,
    pub user: String,
    pub status: String,
    pub completed: bool,
    pub created: Option<String>,
    pub start: Option<String>,
    pub end: Option<String>,
    pub duration_ms: Option<u64>,
    pub start_after: Option<String>,
    pub queue_partition: String,
    pub last_error: String,
    pub reason: String,
    pub variables: Map<String, Value>,
    pub tasks: Vec<Task>,
    /// All of it, as it was sent.
    #[serde(skip)]
    pub json: String,
    /// Stands for it as it is now; empty where the server was not asked for that, or has none.
    #[serde(skip)]
    pub tag: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Task {
    pub name: String,
    pub depends_on: Vec<String>,
    /// `waiting`, `running`, `done`, `error` or `canceled`.
    pub status: String,
    pub start: Option<String>,
    pub end: Option<String>,
    pub duration_ms: Option<u64>,
    pub exit_code: i32,
    pub error: String,
    pub note: String,
}

/// What was sent of the task of that name.
pub(crate) fn task_value(job: &Job, name: &str) -> Value {
    let mut value = job.value();
    let mut tasks = value["tasks"].as_array_mut().into_iter().flatten();
    tasks.find(|task| task["name"] == name).map_or(Value::Null, Value::take)
}

impl Job {
    /// `None` where it is no job object.
    pub(crate) fn parse(json: String) -> Option<Job> {
        let job: Job = serde_json::from_str(&json).ok()?;
        (!job.id.is_empty()).then_some(Job { json, ..job })
    }

    /// What a command ends with that waited for this job.
    pub(crate) fn exit_status(&self) -> Status {
        match &*self.status {
            "succeeded" => Status::DONE,
            "canceled" | "replaced" | "interrupted" => Status::CANCELED,
            _ => Status::FAILED,
        }
    }

    /// From its start to its end, or to now; `None`: it never ran.
    pub(crate) fn lasted_ms(&self, now_ms: i64) -> Option<u64> {
        lasted_ms(self.duration_ms, self.start.as_ref(), self.end.as_ref(), now_ms)
    }

    /// Since it was accepted.
    pub(crate) fn age_ms(&self, now_ms: i64) -> Option<u64> {
        let created_ms = parse_rfc3339(self.created.as_ref()?)?;
        u64::try_from((now_ms - created_ms).max(0)).ok()
    }

    /// All of it, as it was sent.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(&self.json).expect("it has been parsed before")
    }

    /// The job as the last of its events: its fields behind `"event": "job"`.
    pub(crate) fn event(&self) -> Value {
        let mut event = json!({"event": "job"});
        if let (Value::Object(event), Value::Object(fields)) = (&mut event, self.value()) {
            event.extend(fields);
        }
        event
    }

    /// How it ended, in one line: what it is, how long it ran, and why it did not succeed.
    pub(crate) fn summary(&self) -> String {
        let Job {
            id, pipeline, status, ..
        } = self;
        let mut text = format!("job {id} of pipeline `{pipeline}` {}", verb(status));
        if let (Some(duration_ms), Some(_)) = (self.lasted_ms(0), &self.end) {
            text.push_str(&format!(" after {}", crate::cli::table::duration(duration_ms)));
        }
        let failed = self.tasks.iter().find(|task| task.status == "error");
        match failed {
            Some(task) if status == "failed" => text.push_str(&format!(": task `{}`: {}", task.name, task.error)),
            Some(_) | None if !self.reason.is_empty() => text.push_str(&format!(": {}", self.reason)),
            Some(_) | None if !self.last_error.is_empty() => text.push_str(&format!(": {}", self.last_error)),
            Some(_) | None => {}
        }
        text
    }
}

impl Task {
    /// It has run, or runs.
    pub(crate) fn has_started(&self) -> bool {
        self.start.is_some()
    }

    pub(crate) fn has_ended(&self) -> bool {
        !matches!(&*self.status, "waiting" | "running")
    }

    /// From its start to its end, or to now; `None`: it never ran.
    pub(crate) fn lasted_ms(&self, now_ms: i64) -> Option<u64> {
        lasted_ms(self.duration_ms, self.start.as_ref(), self.end.as_ref(), now_ms)
    }
}

fn verb(status: &str) -> String {
    match status {
        "succeeded" | "failed" => status.to_owned(),
        "waiting" => "waits".to_owned(),
        "running" => "runs".to_owned(),
        other => format!("was {other}"),
    }
}

fn lasted_ms(duration_ms: Option<u64>, start: Option<&String>, end: Option<&String>, now_ms: i64) -> Option<u64> {
    if duration_ms.is_some() {
        return duration_ms;
    }
    let start_ms = parse_rfc3339(start?)?;
    let end_ms = end.and_then(|end| parse_rfc3339(end)).unwrap_or(now_ms);
    u64::try_from((end_ms - start_ms).max(0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(job: &Value, exit: Status, summary: &str) {
        let mut whole = json!({"id": "1", "pipeline": "p", "start": "2026-11-24T03:27:47Z", "end": "2026-11-24T03:27:48Z",
            "durationMs": 1250});
        whole.as_object_mut().unwrap().extend(job.as_object().unwrap().clone());
        let job = Job::parse(whole.to_string()).unwrap();
        assert_eq!((job.exit_status(), &*job.summary()), (exit, summary));
    }

    #[test]
    fn ends_have_their_exit_status_and_summary() {
        let summary = |rest: &str| format!("job 1 of pipeline `p` {rest}");
        check(
            &json!({"status": "succeeded"}),
            Status::DONE,
            &summary("succeeded after 1.3s"),
        );
        check(
            &json!({"status": "failed", "lastError": "exit status 7", "tasks": [
                {"name": "a", "status": "done"},
                {"name": "b", "status": "error", "error": "exit status 7"}]}),
            Status::FAILED,
            &summary("failed after 1.3s: task `b`: exit status 7"),
        );
        check(
            &json!({"status": "canceled", "reason": "canceled by anna", "lastError": "exit status 7"}),
            Status::CANCELED,
            &summary("was canceled after 1.3s: canceled by anna"),
        );
        for status in ["replaced", "interrupted"] {
            check(
                &json!({"status": status, "start": null, "durationMs": null}),
                Status::CANCELED,
                &summary(&format!("was {status}")),
            );
        }
    }

    #[test]
    fn what_is_no_job_is_none() {
        assert!(Job::parse("{}".to_owned()).is_none());
        assert!(Job::parse("[]".to_owned()).is_none());
    }
}
