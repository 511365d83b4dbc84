//! Makes the environment of a task, and what the lines of its script can name besides the job's variables.
//!
//! Four layers, of which later ones win: prunner's own environment, the pipeline's, what prunner says about the job, the
//! task's. Unaware of processes. Surprise: the mark by which the processes of a task are found after a crash comes last,
//! so that no task can give itself another's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;

use super::{Mark, Settings, StreamKind, log_path, output};
use crate::job::JobId;
use crate::scheduler::TaskStart;
use crate::template::{Variables, print};

/// Where a process of a task says which it belongs to.
pub(super) const MARK: &str = "PRUNNER_MARK";

/// A value that is longer is left out: the system takes at most 128 KiB for one, and all share one bound.
const LONGEST_VALUE: usize = 64 * 1024;

/// How much of an output `on_error` gets.
const TAIL: u64 = 32 * 1024;

pub(super) type Environment = BTreeMap<OsString, OsString>;

/// What a script can name besides the job's variables. For `on_error` that is the failure, with the end of the failed
/// task's outputs.
pub(super) fn given(start: &TaskStart, logs: Option<&Path>) -> Variables {
    let job = start.task.job;
    let mut given = failure(start, logs);
    given.insert("__jobID".to_owned(), Value::from(job.to_string()));
    given
}

fn failure(start: &TaskStart, logs: Option<&Path>) -> Variables {
    let Some(failure) = &start.failure else {
        return Variables::new();
    };
    let tail = |stream| {
        // Without a name no task failed, the job as a whole did.
        let Some(logs) = logs.filter(|_| !failure.task_name.is_empty()) else {
            return Value::from("");
        };
        let path = log_path(logs, start.task.job, &failure.task_name, stream);
        Value::from(output::tail(&path, TAIL))
    };
    Variables::from_iter([
        ("failedTaskName".to_owned(), Value::from(&*failure.task_name)),
        ("failedTaskExitCode".to_owned(), Value::from(failure.exit_code)),
        ("failedTaskError".to_owned(), Value::from(failure.error.as_str())),
        ("failedTaskStdout".to_owned(), tail(StreamKind::Stdout)),
        ("failedTaskStderr".to_owned(), tail(StreamKind::Stderr)),
    ])
}

/// The whole environment of the task. `given` as [`given`] makes it.
pub(super) fn of_task(start: &TaskStart, given: &Variables, settings: &Settings) -> Environment {
    let pipeline = &start.pipeline;
    let task = pipeline.task(start.task.index);
    let job = start.task.job.to_string();
    let mut environment: Environment = settings.environment.iter().cloned().collect();
    let layer = |pairs: &[(String, String)]| -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    };
    environment.extend(layer(&pipeline.env));
    for (name, value) in [
        ("PRUNNER_JOB_ID", job.as_str()),
        ("PRUNNER_PIPELINE", &*pipeline.name),
        ("PRUNNER_TASK", &*task.name),
        ("TASK_NAME", &*task.name),
    ] {
        environment.insert(name.into(), value.into());
    }
    // A name that begins with `__` is none of `on_error`'s: `PRUNNER_JOB_ID` has the id already.
    let failure = given.iter().filter(|(name, _)| !name.starts_with("__"));
    for (name, value) in start.variables.iter().chain(failure) {
        let text = print(value);
        if is_environment_name(name) && text.len() <= LONGEST_VALUE {
            environment.insert(format!("PRUNNER_VAR_{name}").into(), text.into());
        }
    }
    environment.extend(layer(&task.env));
    let mark = match &settings.mark {
        Mark::Data(data) => mark(data, start.task.job, &task.name),
        Mark::Inherited(mark) => mark.clone(),
    };
    environment.insert(MARK.into(), mark);
    environment
}

/// The value of [`MARK`] for a task.
pub(super) fn mark(data: &Path, job: JobId, task: &str) -> OsString {
    let mut mark = data.as_os_str().to_owned();
    mark.push(format!(":{job}:{task}"));
    mark
}

/// What every shell can name.
fn is_environment_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || character == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_name(name: &str, expected: bool) {
        assert_eq!(is_environment_name(name), expected, "{name}");
    }

    #[test]
    fn names_that_no_shell_can_name_are_left_out() {
        check_name("release", true);
        check_name("_a1", true);
        check_name("", false);
        check_name("1a", false);
        check_name("größe", false);
        check_name("a-b", false);
    }
}
