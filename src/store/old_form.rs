//! The file of the server that prunner replaces: read where there is no journal, and printed to move back.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::recover::Recovered;
use crate::definition::Pipelines;
use crate::job::{Change, JobId, JobRecord, JobStatus, TaskProgress, TaskRecord, TaskStatus};
use crate::read_model::{Content, Image};
use crate::template::Variables;
use crate::timestamp::{parse_rfc3339, rfc3339};

const FILE: &str = "data.json";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct OldFile {
    jobs: Vec<OldJob>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct OldJob {
    #[serde(rename = "ID")]
    id: String,
    pipeline: String,
    completed: bool,
    canceled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variables: Option<Variables>,
    #[serde(skip_serializing_if = "String::is_empty")]
    last_error: String,
    tasks: Option<Vec<OldTask>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct OldTask {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    depends_on: Option<Vec<String>>,
    allow_failure: bool,
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    skipped: bool,
    exit_code: i32,
    errored: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Reads the old file, if there is one.
///
/// # Errors
/// Where it is there and can't be read.
pub(super) fn read(directory: &Path, recovered: &mut Recovered, now_wall_ms: i64) -> io::Result<()> {
    let path = directory.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let file: OldFile = match serde_json::from_slice(&bytes) {
        Ok(file) => file,
        Err(error) => {
            let kept = directory.join(format!("{FILE}.damaged-{now_wall_ms}"));
            fs::copy(&path, &kept)?;
            let message = format!(
                "`{}` is damaged ({error}) and not used; it is kept as `{}`",
                path.display(),
                kept.display()
            );
            recovered.messages.push(message);
            return Ok(());
        }
    };
    let mut jobs = file.jobs;
    jobs.sort_by_key(|job| time(job.created.as_ref()).unwrap_or(0));
    for (place, job) in (0..).zip(jobs) {
        match job.id.parse::<JobId>() {
            Ok(id) => take_over(recovered, id, job, place, now_wall_ms),
            Err(()) => recovered.messages.push(format!(
                "a job of `{FILE}` has no usable id ({:?}) and is left out",
                job.id
            )),
        }
    }
    Ok(())
}

fn take_over(recovered: &mut Recovered, id: JobId, old: OldJob, place: u64, now_wall_ms: i64) {
    let start_ms = time(old.start.as_ref());
    let end_ms = time(old.end.as_ref());
    let task_errored = old
        .tasks
        .iter()
        .flatten()
        .any(|task| task.errored || task.status == "error");
    let errored = task_errored && start_ms.is_some();
    let has_ended = old.completed || end_ms.is_some() || (old.canceled && start_ms.is_none());
    let record = JobRecord {
        id,
        pipeline: old.pipeline.into(),
        user: old.user,
        variables: Arc::new(old.variables.unwrap_or_default()),
        partition: String::new(),
        created_ms: time(old.created.as_ref()).unwrap_or(now_wall_ms),
        place,
        start_after_ms: None,
        // One that ran when the old server ended is found to be interrupted, as our own are.
        status: if start_ms.is_some() {
            JobStatus::Running
        } else {
            JobStatus::Waiting
        },
        start_ms,
        end_ms: None,
        errored,
        last_error: old.last_error,
        reason: String::new(),
        tasks: old.tasks.unwrap_or_default().into_iter().map(task).collect(),
    };
    let created_ms = record.created_ms;
    recovered.image.apply(&Change::Job(Box::new(record)));
    if has_ended {
        let (status, reason) = match (old.canceled, errored) {
            (_, true) => (JobStatus::Failed, ""),
            (true, false) => (JobStatus::Canceled, "canceled"),
            (false, false) => (JobStatus::Succeeded, ""),
        };
        let end_ms = end_ms.or(start_ms).unwrap_or(created_ms);
        recovered.image.apply(&Change::End {
            job: id,
            end_ms,
            status,
            reason: reason.to_owned(),
        });
    }
}

fn task(old: OldTask) -> TaskRecord {
    let status = match old.status.as_str() {
        "running" => TaskStatus::Running,
        "done" => TaskStatus::Done,
        "error" => TaskStatus::Error,
        "canceled" => TaskStatus::Canceled,
        _ => TaskStatus::Waiting,
    };
    let start_ms = time(old.start.as_ref());
    let error = old.error.unwrap_or_default();
    let error = match status {
        TaskStatus::Error if error.is_empty() => format!("exit status {}", old.exit_code),
        TaskStatus::Error => error,
        TaskStatus::Waiting | TaskStatus::Running | TaskStatus::Done | TaskStatus::Canceled => String::new(),
    };
    // The old server wrote -1 for all that had no other code, success among it.
    let exit_code = if status == TaskStatus::Done && old.exit_code == -1 {
        0
    } else {
        old.exit_code
    };
    let exit_code = if start_ms.is_none() { 0 } else { exit_code };
    TaskRecord {
        name: old.name.into(),
        depends_on: old.depends_on.unwrap_or_default().into_iter().map(Into::into).collect(),
        progress: TaskProgress {
            status,
            start_ms,
            end_ms: time(old.end.as_ref()),
            exit_code,
            error,
            note: String::new(),
        },
    }
}

fn time(text: Option<&String>) -> Option<i64> {
    // The old server wrote the year 1 for times that were not set.
    text.and_then(|text| parse_rfc3339(text)).filter(|&ms| ms > 0)
}

/// What a served job says that the old form knows.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Served {
    id: String,
    pipeline: String,
    user: String,
    #[serde(default)]
    variables: Variables,
    created: Option<String>,
    start: Option<String>,
    end: Option<String>,
    completed: bool,
    canceled: bool,
    #[serde(default)]
    last_error: String,
    tasks: Vec<ServedTask>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServedTask {
    name: String,
    depends_on: Option<Vec<String>>,
    status: String,
    start: Option<String>,
    end: Option<String>,
    exit_code: i32,
    errored: bool,
    error: Option<String>,
}

/// All jobs in the old form. `scripts` has the lines of a pipeline's tasks, which the jobs that wait need there.
pub(crate) fn export(image: &Image, pipelines: &Pipelines) -> String {
    let jobs = image.jobs().map(|entry| {
        let served: Served = serde_json::from_str(&entry.json()).expect("what is served is read by those fields");
        let definition = pipelines
            .get(&entry.pipeline)
            .filter(|_| matches!(entry.content, Content::Live(_)));
        let old_task = |task: ServedTask| {
            let defined =
                definition.and_then(|pipeline| pipeline.tasks.iter().find(|defined| *defined.name == *task.name));
            let is_done = task.status == "done";
            OldTask {
                script: defined.map(|task| task.source.clone()),
                allow_failure: defined.is_some_and(|task| task.allow_failure),
                name: task.name,
                depends_on: task.depends_on,
                status: task.status,
                start: task.start,
                end: task.end,
                skipped: false,
                exit_code: if is_done && task.exit_code == 0 {
                    -1
                } else {
                    task.exit_code
                },
                errored: task.errored,
                error: task.error,
            }
        };
        OldJob {
            id: served.id,
            pipeline: served.pipeline,
            completed: served.completed,
            canceled: served.canceled,
            created: served.created.or_else(|| Some(rfc3339(0))),
            start: served.start,
            end: served.end,
            user: served.user,
            variables: Some(served.variables).filter(|variables| !variables.is_empty()),
            last_error: served.last_error,
            tasks: Some(served.tasks.into_iter().map(old_task).collect()),
        }
    });
    let file = OldFile { jobs: jobs.collect() };
    let mut text = serde_json::to_string(&file).expect("it is made of what JSON can hold");
    text.push('\n');
    text
}
