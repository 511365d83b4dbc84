//! The file of the old server, `data.json`: read where there is no journal yet, and printed to move back.
//!
//! Unaware of files. Surprise: what is missing is taken for empty, for the old server leaves out what is; and its exit
//! code of success is -1.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::job::{Change, JobId, JobRecord, JobStatus, TaskProgress, TaskRecord, TaskStatus};
use crate::read_model::{Content, Image};
use crate::template::Variables;
use crate::timestamp::parse_rfc3339;

pub(super) const OLD_FILE: &str = "data.json";

/// What the old server's file holds, as records.
#[derive(Debug)]
pub(super) struct Old {
    /// By the time of their acceptance.
    pub records: Vec<JobRecord>,
    /// What can't be read; empty: the file is whole.
    pub complaints: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct OldFile {
    jobs: Option<Vec<Value>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct OldJob {
    #[serde(rename = "ID")]
    id: String,
    pipeline: String,
    completed: Option<bool>,
    canceled: Option<bool>,
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    #[serde(skip_serializing_if = "is_missing")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variables: Option<Variables>,
    #[serde(skip_serializing_if = "is_missing")]
    last_error: Option<String>,
    tasks: Option<Vec<OldTask>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct OldTask {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    depends_on: Option<Vec<String>>,
    allow_failure: Option<bool>,
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    skipped: Option<bool>,
    exit_code: Option<i32>,
    errored: Option<bool>,
    #[serde(skip_serializing_if = "is_missing")]
    error: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct OldFileOut {
    jobs: Vec<OldJob>,
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
fn is_missing(text: &Option<String>) -> bool {
    text.as_deref().is_none_or(str::is_empty)
}

pub(super) fn read_old(bytes: &[u8], now_wall_ms: i64) -> Old {
    let mut old = Old {
        records: Vec::new(),
        complaints: Vec::new(),
    };
    if bytes.trim_ascii().is_empty() {
        return old;
    }
    let file: OldFile = match serde_json::from_slice(bytes) {
        Ok(file) => file,
        Err(error) => {
            old.complaints
                .push(format!("it is damaged, nothing of it is used: {error}"));
            return old;
        }
    };
    for (index, job) in file.jobs.unwrap_or_default().into_iter().enumerate() {
        let record = serde_json::from_value::<OldJob>(job)
            .map_err(|error| error.to_string())
            .and_then(|job| record(job, now_wall_ms));
        match record {
            Ok(record) => old.records.push(record),
            Err(complaint) => old
                .complaints
                .push(format!("job {} can't be used: {complaint}", index + 1)),
        }
    }
    old.records.sort_by_key(|record| record.created_ms);
    for (place, record) in (0..).zip(&mut old.records) {
        record.place = place;
    }
    old
}

/// Times before 1970 stand for none: the old server's zero is the year 1.
fn time(text: Option<&String>) -> Option<i64> {
    text.and_then(|text| parse_rfc3339(text)).filter(|&ms| ms >= 0)
}

fn record(job: OldJob, now_wall_ms: i64) -> Result<JobRecord, String> {
    let id: JobId = job
        .id
        .parse()
        .map_err(|()| format!("its id `{}` is no UUID in its usual form", job.id))?;
    let tasks = job.tasks.unwrap_or_default();
    let errored = tasks
        .iter()
        .any(|task| task.has_failed() && task.allow_failure != Some(true));
    let tasks: Vec<TaskRecord> = tasks.into_iter().map(OldTask::into_record).collect();
    let start_ms = time(job.start.as_ref()).or_else(|| tasks.iter().filter_map(|task| task.progress.start_ms).min());
    let last_end_ms = tasks.iter().filter_map(|task| task.progress.end_ms).max();
    let created_ms = time(job.created.as_ref()).or(start_ms).unwrap_or(now_wall_ms);
    let end_ms = time(job.end.as_ref());
    let canceled = job.canceled == Some(true);
    let completed = job.completed == Some(true) || end_ms.is_some();
    let last_error = job.last_error.unwrap_or_default();
    let stopped_reason = if last_error.is_empty() { "canceled" } else { &last_error }.to_owned();
    let first_error = tasks
        .iter()
        .map(|task| &task.progress.error)
        .find(|error| !error.is_empty());

    let end = if completed {
        let end_ms = end_ms.or(last_end_ms).or(start_ms).unwrap_or(created_ms);
        // A job that failed is canceled too by its fail-fast.
        Some(if errored {
            (end_ms, JobStatus::Failed, String::new())
        } else if canceled {
            (end_ms, JobStatus::Canceled, stopped_reason)
        } else {
            (end_ms, JobStatus::Succeeded, String::new())
        })
    } else if start_ms.is_some() {
        let reason = "prunner ended while the job ran".to_owned();
        Some((now_wall_ms, JobStatus::Interrupted, reason))
    } else if canceled {
        Some((created_ms, JobStatus::Canceled, stopped_reason))
    } else {
        None
    };
    let mut record = JobRecord {
        id,
        pipeline: job.pipeline.into(),
        user: job.user.unwrap_or_default(),
        variables: Arc::new(job.variables.unwrap_or_default()),
        by_default: Vec::new(),
        partition: String::new(),
        created_ms,
        place: 0,
        start_after_ms: None,
        status: JobStatus::Waiting,
        start_ms,
        end_ms: None,
        errored,
        last_error: if errored && last_error.is_empty() {
            first_error.cloned().unwrap_or_default()
        } else {
            last_error
        },
        idempotency: Vec::new(),
        reason: String::new(),
        due: None,
        replaced: false,
        tasks,
    };
    if let Some((end_ms, status, reason)) = end {
        record.apply(&Change::End {
            job: id,
            end_ms,
            status,
            reason,
        });
    }
    Ok(record)
}

impl OldTask {
    fn has_failed(&self) -> bool {
        self.errored == Some(true) || self.status.as_deref() == Some("error")
    }

    fn into_record(self) -> TaskRecord {
        let status = match self.status.as_deref() {
            Some("error") => TaskStatus::Error,
            Some("done") => TaskStatus::Done,
            Some("running") => TaskStatus::Running,
            Some("canceled" | "skipped") => TaskStatus::Canceled,
            _ if self.has_failed() => TaskStatus::Error,
            _ => TaskStatus::Waiting,
        };
        let exit_code = match (status, self.exit_code.unwrap_or_default()) {
            (TaskStatus::Done, -1) | (TaskStatus::Waiting | TaskStatus::Running, _) => 0,
            (_, exit_code) => exit_code,
        };
        let error = match (status, self.error.filter(|error| !error.is_empty())) {
            (TaskStatus::Error, None) => format!("exit status {exit_code}"),
            (TaskStatus::Error, Some(error)) => error,
            _ => String::new(),
        };
        TaskRecord {
            name: self.name.into(),
            depends_on: self
                .depends_on
                .unwrap_or_default()
                .into_iter()
                .map(Into::into)
                .collect(),
            progress: TaskProgress {
                status,
                start_ms: time(self.start.as_ref()),
                end_ms: time(self.end.as_ref()),
                exit_code,
                retries: 0,
                error,
                note: String::new(),
            },
        }
    }
}

/// The job object of the API, as far as the old form has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Served {
    id: String,
    pipeline: String,
    #[serde(default)]
    user: String,
    variables: Option<Variables>,
    created: String,
    start: Option<String>,
    end: Option<String>,
    completed: bool,
    canceled: bool,
    #[serde(default)]
    last_error: String,
    tasks: Vec<ServedTask>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServedTask {
    name: String,
    depends_on: Option<Vec<String>>,
    status: TaskStatus,
    start: Option<String>,
    end: Option<String>,
    exit_code: i32,
    errored: bool,
    error: Option<String>,
}

/// All jobs in the old server's form.
#[derive(Debug)]
pub(crate) struct Exported {
    pub text: String,
    /// What can't be put in that form.
    pub left_out: Vec<JobId>,
}

/// `script_of` gives, for a pipeline and a task, the script and whether it may fail:
/// jobs that have not ended need them.
pub(crate) fn export(image: &Image, script_of: impl Fn(&str, &str) -> Option<(Vec<String>, bool)>) -> Exported {
    let mut jobs = Vec::new();
    let mut left_out = Vec::new();
    for entry in image.jobs() {
        let Ok(served) = serde_json::from_str::<Served>(&entry.content.json()) else {
            // The line's checksum was right, so a later version wrote it.
            left_out.push(entry.id);
            continue;
        };
        let is_live = matches!(entry.content, Content::Live(_));
        jobs.push(served.into_old(is_live, &script_of));
    }
    let mut text = serde_json::to_string(&OldFileOut { jobs }).expect("the form is made of what JSON can hold");
    text.push('\n');
    Exported { text, left_out }
}

impl Served {
    fn into_old(self, is_live: bool, script_of: &impl Fn(&str, &str) -> Option<(Vec<String>, bool)>) -> OldJob {
        let tasks = self
            .tasks
            .into_iter()
            .map(|task| {
                let (script, allow_failure) = Some(&task.name)
                    .filter(|_| is_live)
                    .and_then(|name| script_of(&self.pipeline, name))
                    .map_or((None, false), |(script, allow_failure)| (Some(script), allow_failure));
                task.into_old(script, allow_failure)
            })
            .collect();
        OldJob {
            id: self.id,
            pipeline: self.pipeline,
            completed: Some(self.completed),
            canceled: Some(self.canceled),
            created: Some(self.created),
            start: self.start,
            end: self.end,
            user: Some(self.user),
            variables: self.variables,
            last_error: Some(self.last_error),
            tasks: Some(tasks),
        }
    }
}

impl ServedTask {
    fn into_old(self, script: Option<Vec<String>>, allow_failure: bool) -> OldTask {
        let status = match self.status {
            TaskStatus::Waiting => "waiting",
            TaskStatus::Running => "running",
            TaskStatus::Done => "done",
            TaskStatus::Error => "error",
            TaskStatus::Canceled => "canceled",
        };
        OldTask {
            name: self.name,
            script,
            depends_on: self.depends_on,
            allow_failure: Some(allow_failure),
            status: Some(status.to_owned()),
            start: self.start,
            end: self.end,
            skipped: Some(false),
            exit_code: Some(if self.status == TaskStatus::Done && self.exit_code == 0 {
                -1
            } else {
                self.exit_code
            }),
            errored: Some(self.errored),
            error: self.error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamp::rfc3339;

    const NOW_MS: i64 = 1_795_490_867_000;

    /// One job with these keys besides its id; what is shown of it from `completed` on, without the tasks.
    #[track_caller]
    fn check(keys: &str, expected: &str) {
        let text = format!(
            r#"{{"Jobs":[{{"ID":"01932f3e-0000-7000-8000-000000000001","Pipeline":"p","Created":"2026-11-24T03:00:00.5Z",{keys}}}]}}"#
        );
        let old = read_old(text.as_bytes(), NOW_MS);
        assert_eq!(old.complaints, Vec::<String>::new());
        let record = &old.records[0];
        let tasks: Vec<String> = record
            .tasks
            .iter()
            .map(|task| {
                let progress = &task.progress;
                format!(" {:?} {} {:?}", progress.status, progress.exit_code, progress.error)
            })
            .collect();
        let shown = format!(
            "{} end={} errored={} reason={:?} lastError={:?}{}",
            record.status.as_str(),
            record.end_ms.map_or("none".to_owned(), rfc3339),
            record.errored,
            record.reason,
            record.last_error,
            tasks.concat()
        );
        assert_eq!(shown, expected);
    }

    #[test]
    fn jobs_of_the_old_server_are_read() {
        check(
            r#""Completed":true,"Start":"2026-11-24T03:00:01Z","End":"2026-11-24T03:00:02Z","Tasks":[{"Name":"a","Status":"done","ExitCode":-1}]"#,
            r#"succeeded end=2026-11-24T03:00:02Z errored=false reason="" lastError="" Done 0 """#,
        );
        check(
            r#""Completed":true,"Canceled":true,"End":"2026-11-24T03:00:02Z","LastError":"exit status 7","Tasks":[{"Name":"a","Status":"error","Errored":true,"ExitCode":7},{"Name":"b","Status":"waiting"}]"#,
            r#"failed end=2026-11-24T03:00:02Z errored=true reason="" lastError="exit status 7" Error 7 "exit status 7" Canceled 0 """#,
        );
        check(
            r#""Completed":true,"Canceled":true,"End":"2026-11-24T03:00:02Z""#,
            r#"canceled end=2026-11-24T03:00:02Z errored=false reason="canceled" lastError="canceled""#,
        );
        check(
            r#""Start":"2026-11-24T03:00:01Z","Tasks":[{"Name":"a","Status":"running"}]"#,
            r#"interrupted end=2026-11-24T03:27:47Z errored=false reason="prunner ended while the job ran" lastError="prunner ended while the job ran" Canceled -1 """#,
        );
        check(
            r#""Start":null,"Tasks":[{"Name":"a","Status":"waiting","ExitCode":-1}]"#,
            r#"waiting end=none errored=false reason="" lastError="" Waiting 0 """#,
        );
        check(
            r#""Canceled":true,"Start":"0001-01-01T00:00:00Z""#,
            r#"canceled end=2026-11-24T03:00:00Z errored=false reason="canceled" lastError="canceled""#,
        );
    }

    #[test]
    fn one_bad_job_does_not_lose_the_others() {
        let text = r#"{"Jobs":[{"ID":"x"},{"ID":"01932f3e-0000-7000-8000-000000000001"},{"ID":7}]}"#;
        let old = read_old(text.as_bytes(), NOW_MS);
        assert_eq!(old.records.len(), 1);
        assert_eq!(old.complaints.len(), 2);
        assert_eq!(read_old(b"{", NOW_MS).complaints.len(), 1);
        assert_eq!(read_old(b"{}", NOW_MS).complaints.len(), 0);
    }

    #[test]
    fn what_is_exported_reads_the_same() {
        let text = r#"{"Jobs":[{"ID":"01932f3e-0000-7000-8000-000000000001","Pipeline":"p","Completed":true,"Canceled":false,"Created":"2026-11-24T03:00:00Z","Start":"2026-11-24T03:00:01Z","End":"2026-11-24T03:00:02Z","User":"anna","Variables":{"n":1.10},"Tasks":[{"Name":"a","DependsOn":["b"],"AllowFailure":false,"Status":"done","Start":"2026-11-24T03:00:01Z","End":"2026-11-24T03:00:02Z","Skipped":false,"ExitCode":-1,"Errored":false}]},{"ID":"01932f3e-0000-7000-8000-000000000002","Pipeline":"p","Completed":false,"Canceled":false,"Created":"2026-11-24T03:00:03Z","Tasks":[{"Name":"a","Script":["make p a"],"AllowFailure":true,"Status":"waiting","Skipped":false,"ExitCode":0,"Errored":false}]}]}"#;
        let mut image = Image::default();
        for record in read_old(text.as_bytes(), NOW_MS).records {
            if record.status.has_ended() {
                let json = record.to_json().into();
                image.insert_ended(record.id, record.pipeline, record.status, json);
            } else {
                image.apply(&Change::Job(Box::new(record)));
            }
        }
        let exported = export(&image, |pipeline, task| {
            Some((vec![format!("make {pipeline} {task}")], true))
        });
        assert_eq!(exported.text.trim_end(), text);
        assert_eq!(exported.left_out, []);
    }

    #[test]
    fn what_has_no_old_form_is_named() {
        let mut image = Image::default();
        let id = "01932f3e-0000-7000-8000-000000000001".parse().unwrap();
        let json = format!(r#"{{"id":"{id}","pipeline":{{"new":1}}}}"#);
        image.insert_ended(id, "p".into(), JobStatus::Succeeded, json.into());
        let exported = export(&image, |_, _| None);
        assert_eq!(exported.text, "{\"Jobs\":[]}\n");
        assert_eq!(exported.left_out, [id]);
    }
}
