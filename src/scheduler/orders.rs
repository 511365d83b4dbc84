//! What the scheduler asks for, and what it is told of the tasks that it started. Plain data.

use std::sync::Arc;

use crate::definition::Pipeline;
use crate::job::{Change, IdempotencyKey, JobId, TaskRef};
use crate::schedule::Due;
use crate::template::Variables;

/// What the program must do next; in the order given.
#[derive(Debug)]
pub(crate) enum Order {
    /// Write it down, then show it.
    Save(Change),
    StartTask {
        start: TaskStart,
        /// The first tasks of a job wait until the record that their job runs is on disk.
        after_save: bool,
    },
    /// An attempt failed and another follows: the log of the task's standard error says so, before the output of that one.
    TellRetry {
        task: TaskRef,
        pipeline: Arc<Pipeline>,
        /// One line without its end.
        text: String,
    },
    /// Ask the task's processes to end.
    StopTask(TaskRef),
    /// Its grace is over: kill what is left of it.
    KillTask(TaskRef),
    /// It can't be killed: report it as ended, with a note on what still lives.
    AbandonTask(TaskRef),
    /// The shutdown is complete: nothing runs any more.
    Exit,
}

/// A task that is to run now: everything that a worker needs for it.
#[derive(Clone, Debug)]
pub(crate) struct TaskStart {
    pub task: TaskRef,
    pub pipeline: Arc<Pipeline>,
    pub variables: Arc<Variables>,
    /// For `on_error`: the first task that failed.
    pub failure: Option<Failure>,
}

/// The first task of a job that failed by itself; without a name: the job failed as a whole, while no task ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub task_name: Arc<str>,
    pub exit_code: i32,
    /// As the API shows it, such as `exit status 7`.
    pub error: String,
}

/// How a task that was started has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaskExit {
    pub outcome: Outcome,
    /// A signal of ours was sent (or the start was called off) before it ended.
    pub stopped: bool,
    /// What a person should know besides, such as output that was cut off; empty: nothing.
    pub note: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The main process ended with this status.
    Exited(i32),
    /// The main process was killed by this signal.
    Signaled(i32),
    /// There never was a process: it could not be started (why), or it was stopped before.
    NotStarted(String),
    /// It asked for a terminal and was killed for it, for it would have waited for ever.
    WantsTerminal,
}

/// What `schedule` is asked for.
#[derive(Clone, Debug)]
pub(crate) struct ScheduleRequest {
    pub pipeline: String,
    pub variables: Arc<Variables>,
    pub partition: String,
    pub user: String,
    pub key: Option<RequestKey>,
    /// It is asked for by a schedule.
    pub due: Option<Due>,
}

/// The `Idempotency-Key` of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestKey {
    pub key: String,
    pub body_hash: String,
}

impl RequestKey {
    /// As a job keeps it.
    pub(super) fn of_job(self, joined: bool) -> IdempotencyKey {
        IdempotencyKey {
            key: self.key,
            body_hash: self.body_hash,
            joined,
        }
    }
}

/// The job that a request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub job: JobId,
    /// It was there already.
    pub joined: bool,
}
