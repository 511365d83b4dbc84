//! A job as it is saved and served: its record, the changes that a record goes through, and the JSON of the API.
//!
//! The scheduler says what changed, the store writes that down and applies it to the record, and what is served is made
//! from the record alone. So a job that was rebuilt from the journal can't look different from one that was watched.
//! Unaware of why anything changes, of files and of sockets.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use crate::definition::ON_ERROR;
use crate::id::parse_id;
use crate::schedule::{Due, ScheduleId, ScheduleRecord};
use crate::template::Variables;
use crate::timestamp::rfc3339;

/// The id of a job: a UUID, printed in its usual form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct JobId(pub Uuid);

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(formatter)
    }
}

impl FromStr for JobId {
    type Err = ();

    fn from_str(text: &str) -> Result<JobId, ()> {
        parse_id(text).map(JobId).ok_or(())
    }
}

/// A task of a job: the job, and the place of the task in the job's list (`on_error` stands behind all others).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TaskRef {
    pub job: JobId,
    pub index: usize,
}

/// What a job is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JobStatus {
    Waiting,
    Running,
    Succeeded,
    Failed,
    /// A user, or a stop of prunner, ended it.
    Canceled,
    /// A newer job took its place on the wait list.
    Replaced,
    /// Prunner died while it ran.
    Interrupted,
}

impl JobStatus {
    pub(crate) const ALL: [JobStatus; 7] = [
        JobStatus::Waiting,
        JobStatus::Running,
        JobStatus::Succeeded,
        JobStatus::Failed,
        JobStatus::Canceled,
        JobStatus::Replaced,
        JobStatus::Interrupted,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            JobStatus::Waiting => "waiting",
            JobStatus::Running => "running",
            JobStatus::Succeeded => "succeeded",
            JobStatus::Failed => "failed",
            JobStatus::Canceled => "canceled",
            JobStatus::Replaced => "replaced",
            JobStatus::Interrupted => "interrupted",
        }
    }

    pub(crate) fn has_ended(self) -> bool {
        !matches!(self, JobStatus::Waiting | JobStatus::Running)
    }

    /// Ended because it was told to, or because prunner died.
    pub(crate) fn is_stopped(self) -> bool {
        matches!(self, JobStatus::Canceled | JobStatus::Replaced | JobStatus::Interrupted)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TaskStatus {
    #[default]
    Waiting,
    Running,
    Done,
    Error,
    Canceled,
}

/// Everything that is kept of a job that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JobRecord {
    pub id: JobId,
    pub pipeline: Arc<str>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(default, skip_serializing_if = "is_empty_map")]
    pub variables: Arc<Variables>,
    /// Those of them that no request gave: they have their defaults. For the job that replaces this one while it waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_default: Vec<String>,
    /// Empty: none was given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub partition: String,
    pub created_ms: i64,
    /// Where it stands among the waiting jobs. A job that replaces another takes over its place.
    pub place: u64,
    /// The end of its start delay, while that is not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_after_ms: Option<i64>,
    pub status: JobStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_ms: Option<i64>,
    /// A task failed by itself.
    #[serde(default, skip_serializing_if = "is_false")]
    pub errored: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_error: String,
    /// The keys of the requests that it answers, the one that made it first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idempotency: Vec<IdempotencyKey>,
    /// Why it was stopped, from the moment when that was decided.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// It came of a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Due>,
    /// That reason is that another job takes its place while it runs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub replaced: bool,
    pub tasks: Vec<TaskRecord>,
}

/// How a client names a request, so that sending it again makes no second job. It is part of the job, saved and served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IdempotencyKey {
    pub key: String,
    /// Tells whether it is the same request.
    pub body_hash: String,
    /// The request joined the job, which another one had made.
    #[serde(default, skip_serializing_if = "is_false")]
    pub joined: bool,
}

impl IdempotencyKey {
    /// A key is kept as long as its job, and looked up for each request that has one.
    const MAX_BYTES: usize = 200;
    pub(crate) const EXPECTED: &str = "1 to 200 printable ASCII characters";

    /// Whether a text can be one.
    pub(crate) fn accepts(key: &str) -> bool {
        (1..=IdempotencyKey::MAX_BYTES).contains(&key.len()) && key.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaskRecord {
    pub name: Arc<str>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Arc<str>>,
    #[serde(default, skip_serializing_if = "is_default_progress")]
    pub progress: TaskProgress,
}

/// How far a task has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaskProgress {
    pub status: TaskStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub exit_code: i32,
    /// Attempts behind the first one.
    #[serde(default, skip_serializing_if = "is_none_at_all")]
    pub retries: usize,
    /// Not empty exactly where the status is `error`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// One change of what is kept. The journal holds one line for each, its kind is the name of the variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Change {
    /// A job was accepted, or, where it is known already, has a new definition since a restart.
    Job(Box<JobRecord>),
    /// A waiting job runs.
    #[serde(rename_all = "camelCase")]
    Start { job: JobId, start_ms: i64 },
    #[serde(rename_all = "camelCase")]
    Task {
        job: JobId,
        /// Place in the job's list; one behind the last: `on_error`, which is listed from now on.
        index: usize,
        /// For who hears of the change: the record knows it.
        #[serde(skip)]
        name: Arc<str>,
        progress: TaskProgress,
        /// It is the first task of the job that failed by itself.
        #[serde(default, skip_serializing_if = "is_false")]
        fails_job: bool,
    },
    /// A running job failed as a whole, which no task of it did.
    #[serde(rename_all = "camelCase")]
    Fail { job: JobId, error: String },
    /// It was decided to stop a running job.
    #[serde(rename_all = "camelCase")]
    Cancel {
        job: JobId,
        reason: String,
        /// Another job takes its place; a cancel that comes later counts more.
        #[serde(default, skip_serializing_if = "is_false")]
        replaced: bool,
    },
    /// A request with a key joined a job that lives.
    #[serde(rename_all = "camelCase")]
    Join { job: JobId, key: IdempotencyKey },
    /// The start delay of a waiting job is over. Follows from the clock, so no file holds it.
    #[serde(skip)]
    DelayOver { job: JobId },
    /// The job ended. Its tasks that still run or wait are canceled by that.
    #[serde(rename_all = "camelCase")]
    End {
        job: JobId,
        end_ms: i64,
        status: JobStatus,
        /// Empty unless it was stopped.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// The record is removed, and the log directory with it.
    #[serde(rename_all = "camelCase")]
    Forget { job: JobId },
    /// A schedule is known from now on.
    Schedule(Box<ScheduleRecord>),
    /// A schedule was due and no job came of it; where one did, the job says so.
    WasDue(Due),
    /// A schedule is known no more.
    #[serde(rename_all = "camelCase")]
    ForgetSchedule { schedule: ScheduleId },
}

impl Change {
    /// The job that it is a change of; `None`: a schedule's.
    pub(crate) fn job(&self) -> Option<JobId> {
        match self {
            Change::Job(record) => Some(record.id),
            Change::Start { job, .. }
            | Change::Task { job, .. }
            | Change::Fail { job, .. }
            | Change::Cancel { job, .. }
            | Change::Join { job, .. }
            | Change::DelayOver { job }
            | Change::End { job, .. }
            | Change::Forget { job } => Some(*job),
            Change::Schedule(_) | Change::WasDue(_) | Change::ForgetSchedule { .. } => None,
        }
    }

    /// Whether it must have reached the disk before anybody sees it or anything follows from it. The start of a task
    /// need not: a crash interrupts its job either way.
    pub(crate) fn needs_sync(&self) -> bool {
        match self {
            Change::Job(_)
            | Change::Start { .. }
            | Change::Fail { .. }
            | Change::Cancel { .. }
            | Change::Join { .. }
            | Change::End { .. }
            | Change::Forget { .. }
            | Change::Schedule(_)
            | Change::WasDue(_)
            | Change::ForgetSchedule { .. } => true,
            Change::Task { progress, .. } => progress.status != TaskStatus::Running,
            Change::DelayOver { .. } => false,
        }
    }
}

impl TaskRecord {
    /// The task object of the API.
    pub(crate) fn to_value(&self) -> Value {
        serde_json::to_value(ServedTask::of(self)).expect("records are made of what JSON can hold")
    }
}

impl JobRecord {
    /// Applies a change of this job. `Job` and `Forget` concern the record as a whole and are the caller's to handle.
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Job(_)
            | Change::Forget { .. }
            | Change::Schedule(_)
            | Change::WasDue(_)
            | Change::ForgetSchedule { .. } => {}
            Change::Start { start_ms, .. } => {
                self.status = JobStatus::Running;
                self.start_ms = Some(*start_ms);
                self.start_after_ms = None;
            }
            Change::Task {
                index,
                progress,
                fails_job,
                ..
            } => {
                if *index == self.tasks.len() {
                    self.tasks.push(TaskRecord {
                        name: ON_ERROR.into(),
                        depends_on: Vec::new(),
                        progress: TaskProgress::default(),
                    });
                }
                if *fails_job {
                    self.errored = true;
                    self.last_error.clone_from(&progress.error);
                }
                // The journal may be damaged: a line of it can name a task that its job hasn't.
                if let Some(task) = self.tasks.get_mut(*index) {
                    task.progress = progress.clone();
                }
            }
            Change::Fail { error, .. } => {
                self.errored = true;
                self.last_error.clone_from(error);
            }
            Change::Cancel { reason, replaced, .. } => {
                self.reason.clone_from(reason);
                self.replaced = *replaced;
            }
            Change::Join { key, .. } => self.idempotency.push(key.clone()),
            Change::DelayOver { .. } => self.start_after_ms = None,
            Change::End {
                end_ms, status, reason, ..
            } => self.end(*end_ms, *status, reason),
        }
    }

    fn end(&mut self, end_ms: i64, status: JobStatus, reason: &str) {
        self.status = status;
        self.start_after_ms = None;
        self.end_ms = Some(end_ms);
        reason.clone_into(&mut self.reason);
        if self.last_error.is_empty() {
            reason.clone_into(&mut self.last_error);
        }
        for task in &mut self.tasks {
            let progress = &mut task.progress;
            match progress.status {
                TaskStatus::Waiting => progress.status = TaskStatus::Canceled,
                TaskStatus::Running => {
                    progress.status = TaskStatus::Canceled;
                    progress.end_ms = Some(end_ms);
                    progress.exit_code = -1;
                }
                TaskStatus::Done | TaskStatus::Error | TaskStatus::Canceled => {}
            }
        }
    }

    /// The job object of the API.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(&ServedJob { record: self }).expect("records are made of what JSON can hold")
    }
}

/// Serialises a record as the API shows it; the field names and types are a contract with its clients.
struct ServedJob<'a> {
    record: &'a JobRecord,
}

impl Serialize for ServedJob<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = self.record;
        let ended = record.status.has_ended();
        ServedFields {
            id: record.id,
            pipeline: &record.pipeline,
            user: &record.user,
            variables: &record.variables,
            created: Time(record.created_ms),
            start: record.start_ms.map(Time),
            end: record.end_ms.map(Time),
            completed: ended,
            canceled: record.status.is_stopped(),
            errored: record.errored,
            last_error: &record.last_error,
            status: record.status,
            reason: if record.status.is_stopped() { &record.reason } else { "" },
            queue_partition: &record.partition,
            idempotency: &record.idempotency,
            start_after: record.start_after_ms.map(Time),
            duration_ms: duration_ms(record.start_ms, record.end_ms),
            schedule_id: record.due.map(|due| due.id),
            tasks: ServedTasks(&record.tasks),
        }
        .serialize(serializer)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServedFields<'a> {
    id: JobId,
    pipeline: &'a str,
    user: &'a str,
    #[serde(skip_serializing_if = "Variables::is_empty")]
    variables: &'a Variables,
    created: Time,
    start: Option<Time>,
    end: Option<Time>,
    completed: bool,
    canceled: bool,
    errored: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    last_error: &'a str,
    status: JobStatus,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    queue_partition: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    idempotency: &'a [IdempotencyKey],
    #[serde(skip_serializing_if = "Option::is_none")]
    start_after: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule_id: Option<ScheduleId>,
    tasks: ServedTasks<'a>,
}

struct ServedTasks<'a>(&'a [TaskRecord]);

impl Serialize for ServedTasks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tasks = serializer.serialize_seq(Some(self.0.len()))?;
        for task in self.0 {
            tasks.serialize_element(&ServedTask::of(task))?;
        }
        tasks.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServedTask<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    depends_on: &'a [Arc<str>],
    status: TaskStatus,
    start: Option<Time>,
    end: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<i64>,
    skipped: bool,
    exit_code: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<usize>,
    errored: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    note: &'a str,
}

impl ServedTask<'_> {
    fn of(record: &TaskRecord) -> ServedTask<'_> {
        let progress = &record.progress;
        ServedTask {
            name: &record.name,
            depends_on: &record.depends_on,
            status: progress.status,
            start: progress.start_ms.map(Time),
            end: progress.end_ms.map(Time),
            duration_ms: duration_ms(progress.start_ms, progress.end_ms),
            skipped: false,
            exit_code: progress.exit_code,
            attempt: (progress.retries > 0).then_some(progress.retries + 1),
            errored: progress.status == TaskStatus::Error,
            error: &progress.error,
            note: &progress.note,
        }
    }
}

/// Milliseconds since 1970, printed as the API prints times.
struct Time(i64);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(self.0))
    }
}

/// Never negative: the wall clock may have been set back in between.
fn duration_ms(start_ms: Option<i64>, end_ms: Option<i64>) -> Option<i64> {
    Some((end_ms? - start_ms?).max(0))
}

fn is_false(value: &bool) -> bool {
    !*value
}

fn is_zero(value: &i32) -> bool {
    *value == 0
}

fn is_none_at_all(count: &usize) -> bool {
    *count == 0
}

fn is_empty_map(map: &Arc<Variables>) -> bool {
    map.is_empty()
}

fn is_default_progress(progress: &TaskProgress) -> bool {
    *progress == TaskProgress::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(progress: &TaskProgress, line: &str) {
        assert_eq!(serde_json::to_string(progress).unwrap(), line);
        assert_eq!(serde_json::from_str::<TaskProgress>(line).unwrap(), *progress);
    }

    #[test]
    fn a_line_names_further_attempts_alone() {
        let mut progress = TaskProgress {
            status: TaskStatus::Running,
            start_ms: Some(1),
            ..TaskProgress::default()
        };
        check(&progress, r#"{"status":"running","startMs":1}"#);
        progress.retries = 2;
        check(&progress, r#"{"status":"running","startMs":1,"retries":2}"#);
    }

    #[test]
    fn attempts_are_served_from_the_second_on() {
        let served = |retries| {
            let name = "build".into();
            let progress = TaskProgress {
                retries,
                ..TaskProgress::default()
            };
            let depends_on = Vec::new();
            serde_json::to_value(ServedTasks(&[TaskRecord {
                name,
                depends_on,
                progress,
            }]))
            .unwrap()[0]["attempt"]
                .clone()
        };
        assert_eq!(served(0), serde_json::Value::Null);
        assert_eq!(served(2), 3);
    }
}
