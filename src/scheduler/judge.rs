//! What the exit of a task means. Unaware of jobs, and of what follows from it.

use super::job::{Attempt, StopReason, TaskState};
use super::orders::{Outcome, TaskExit};
use crate::definition::Pipeline;
use crate::job::{TaskProgress, TaskStatus};

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// What a task ends with that is over its time limit, as `timeout(1)` has it.
pub(super) const TIMED_OUT: i32 = 124;

/// How an attempt of a task ended.
#[derive(Debug)]
pub(super) struct Verdict {
    /// If the task ends with it.
    pub progress: TaskProgress,
    pub attempt: Attempt,
    /// It failed by itself, or by its time.
    pub failed: bool,
    /// Something of it lives on.
    pub is_given_up: bool,
}

/// What an exit means for a task in this state, which we may have told to stop.
pub(super) fn judge(pipeline: &Pipeline, index: usize, state: TaskState, exit: TaskExit, end_ms: i64) -> Verdict {
    let (attempt, why) = match state {
        TaskState::Running { attempt, .. } => (attempt, None),
        TaskState::Stopping { attempt, why, .. }
        | TaskState::Killed { attempt, why, .. }
        | TaskState::GivenUp { attempt, why } => (attempt, Some(why)),
        TaskState::Waiting | TaskState::Between { .. } | TaskState::Ended(_) => {
            unreachable!("exits come from tasks that were started")
        }
    };
    let task = pipeline.task(index);
    let signal = task.bounds.stop_signal;
    let TaskExit {
        outcome,
        stopped,
        mut note,
    } = exit;
    // Where somebody signals prunner and its tasks at once, the task may be gone before our signal can reach it: it is a
    // stopped task all the same, if it ended in the way of one.
    let stopped = stopped
        || why.is_some()
            && match outcome {
                Outcome::Signaled(other) => [SIGINT, SIGTERM, signal.number].contains(&other),
                Outcome::Exited(code) => code == signal.exit_code(),
                Outcome::NotStarted(_) | Outcome::WantsTerminal => false,
            };
    let limit = match why.filter(|_| stopped) {
        Some(StopReason::Timeout) => task.bounds.timeout.as_ref(),
        Some(StopReason::JobTimeout) => pipeline.timeout.as_ref(),
        Some(StopReason::Cancel | StopReason::FailFast | StopReason::Replace) | None => None,
    };
    let (status, exit_code, error) = match (limit, outcome) {
        (Some(limit), _) => (TaskStatus::Error, TIMED_OUT, format!("timed out after {limit}")),
        (None, Outcome::Exited(0)) => (TaskStatus::Done, 0, String::new()),
        (None, Outcome::Exited(code)) if stopped && (code == signal.exit_code() || code == 137) => {
            (TaskStatus::Canceled, -1, String::new())
        }
        (None, Outcome::Signaled(_) | Outcome::NotStarted(_)) if stopped => (TaskStatus::Canceled, -1, String::new()),
        (None, Outcome::Exited(code)) => (TaskStatus::Error, code, format!("exit status {code}")),
        (None, Outcome::Signaled(signal)) => (
            TaskStatus::Error,
            128 + signal,
            format!("signal: {}", signal_name(signal)),
        ),
        (None, Outcome::NotStarted(why)) => (TaskStatus::Error, -1, why),
        (None, Outcome::WantsTerminal) => (TaskStatus::Error, -1, "wants the terminal; tasks have none".to_owned()),
    };
    let is_own_failure = status == TaskStatus::Error && (!stopped || limit.is_some());
    let (status, error) = if is_own_failure && task.allow_failure {
        if exit_code == -1 || limit.is_some() {
            note = join_notes(&note, &error);
        }
        (TaskStatus::Done, String::new())
    } else {
        (status, error)
    };
    Verdict {
        failed: is_own_failure && status == TaskStatus::Error,
        attempt,
        is_given_up: matches!(state, TaskState::GivenUp { .. }),
        progress: TaskProgress {
            status,
            start_ms: Some(attempt.start_ms),
            end_ms: Some(end_ms),
            exit_code,
            retries: attempt.number - 1,
            error,
            note,
        },
    }
}

pub(super) fn join_notes(first: &str, second: &str) -> String {
    match (first, second) {
        ("", note) | (note, "") => note.to_owned(),
        (first, second) => format!("{first}; {second}"),
    }
}

/// The names that the old server printed, which are those of Go.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}
