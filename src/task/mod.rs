//! Runs tasks: each as one shell process in a process group of its own, with its output in log files.
//!
//! How a task lives:
//!
//! 1. `Workers::prepare` registers it, so that it can be stopped from then on, also before it has a process.
//! 2. `Workers::launch` hands it to an idle worker, a thread, or to a new one.
//! 3. The worker renders the script, makes the environment and starts the shell (`process.rs`). Two reader threads, which
//!    belong to the worker, copy the pipes of standard output and standard error to the logs (`output.rs`).
//! 4. The worker waits, without reaping, until the shell has ended. Meanwhile anybody may call `interrupt` and `kill`.
//! 5. Under the lock that guards signaling the worker decides: a task that no signal was sent to is reaped at once, and
//!    what it left in the background is left alone. Of a stopped one every process of the group must be gone first
//!    (`group.rs`), by SIGTERM and, after a `kill`, by SIGKILL.
//! 6. The worker reads the output to its end, for at most 200 ms, joins the idle ones, and only then reports the exit: who
//!    reacts with the next task finds a worker for it.
//!
//! Signals go only to a group whose leader is not reaped: its number can't belong to another group before that.
//!
//! Unaware of jobs, their order and their states, and of all deadlines but that of the output: who stops a task says when
//! its grace is over. The surprise: a report may come from any thread, and for a task that can't be killed
//! (`Workers::abandon`) it comes while the worker still waits.

mod cut;
mod environment;
mod follow;
mod group;
mod leftovers;
mod output;
mod process;
mod script;
#[cfg(test)]
mod tests;
mod workers;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::job::{JobId, TaskRef};
use crate::metrics::Meters;

pub(crate) use follow::{Follower, Followers};
pub(crate) use leftovers::kill_leftovers;
pub(crate) use workers::{PreparedTask, Workers};

/// Open files that a task needs at most, in the moment of its start: two pipes with both ends, its input, and the three
/// events of its worker. While it runs, its two logs are in the place of three of them.
pub(crate) const OPEN_FILES: u64 = 8;

/// What all tasks have in common.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The directory of the logs; made when it is needed. `None`: there are no logs.
    pub logs: Option<PathBuf>,
    /// Is told of all output.
    pub observer: Option<Observer>,
    pub mark: Mark,
    /// The shell of tasks that name none, with the arguments that stand before `-c`.
    pub shell: Vec<String>,
    /// For tasks that name none: bytes that are kept of the beginning of each stream.
    pub log_limit: u64,
    /// What tasks begin with: no secret in it.
    pub environment: Vec<(OsString, OsString)>,
    /// Are told how many tasks run and how much they print.
    pub meters: Arc<Meters>,
}

/// By what the processes of a task are found after a crash.
#[derive(Clone, Debug)]
pub(crate) enum Mark {
    /// This data directory, absolute, and the job and the task.
    Data(PathBuf),
    /// As it is: all of prunner is itself a process of such a task, or of none.
    Inherited(OsString),
}

/// Is told of a task's output, byte for byte, by the threads that read it: the task, its name, the stream and what was read.
/// No bytes: an attempt is over, so what it has begun is a line.
/// While it blocks, the task is slowed down.
#[derive(Clone)]
pub(crate) struct Observer(pub Arc<dyn Fn(TaskRef, &Arc<str>, StreamKind, &[u8]) + Send + Sync>);

impl fmt::Debug for Observer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Observer")
    }
}

/// One of the two outputs of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum StreamKind {
    Stdout,
    Stderr,
}

impl StreamKind {
    pub(crate) const BOTH: [StreamKind; 2] = [StreamKind::Stdout, StreamKind::Stderr];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            StreamKind::Stdout => "stdout",
            StreamKind::Stderr => "stderr",
        }
    }
}

/// Where the output of a task is. There is no file as long as there was no output.
pub(crate) fn log_path(logs: &Path, job: JobId, task: &str, stream: StreamKind) -> PathBuf {
    logs.join(job.to_string())
        .join(format!("{task}-{}.log", stream.as_str()))
}

/// A sentence about what is done without, where there is no `/proc`.
pub(crate) fn complaint() -> Option<&'static str> {
    let is_blind = group::ProcessTable::open().is_none();
    is_blind.then_some(
        "there is no `/proc`: what an earlier prunner left running is not looked for, and what a stopped task leaves in \
         the background is killed without a grace",
    )
}

/// A panic elsewhere must not keep tasks from being stopped: what is behind these locks is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
