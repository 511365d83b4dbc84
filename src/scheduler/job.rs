//! One job that has not ended, and its tasks. Unaware of other jobs, of places and of limits.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::orders::{Failure, Outcome, TaskExit};
use crate::definition::{Pipeline, Task};
use crate::job::{JobId, JobRecord, JobStatus, TaskProgress, TaskRecord, TaskStatus};
use crate::template::Variables;

/// A job that waits or runs. One that ended is dropped: what is left of it is its record, outside of the scheduler.
#[derive(Debug)]
pub(super) struct Job {
    pub id: JobId,
    /// The definition that it was scheduled with; a reload does not touch it.
    pub pipeline: Arc<Pipeline>,
    pub variables: Arc<Variables>,
    pub partition: String,
    pub place: u64,
    /// Size of its variables as JSON text while it waits, which counts towards a limit.
    pub waiting_bytes: usize,
    pub phase: JobPhase,
    /// The first task that failed by itself.
    pub failure: Option<Failure>,
    /// Why it was told to stop. Decides what it ends as, whatever its tasks then do.
    pub canceled: Option<String>,
    /// Empty while the job waits.
    pub tasks: Vec<TaskState>,
    /// For each task, how many of those it depends on are not done yet.
    open_dependencies: Vec<usize>,
    /// Tasks that may start now, as places in `Pipeline::file_order`; `on_error` stands behind all.
    pub ready: BTreeSet<usize>,
    /// Indices of markers that may pass now. They need no process, so no limit holds for them.
    pub ready_markers: Vec<usize>,
    /// For each task its place in `Pipeline::file_order`.
    file_places: Vec<usize>,
    /// Tasks that wait for others. Ready ones are not counted.
    blocked: usize,
    /// Tasks that have a process, or wait for the save that allows them one.
    pub active: usize,
    /// A task of it has ended: then the record that it runs is on disk.
    pub start_is_saved: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobPhase {
    /// Accepted; starts once its delay is over and a place is free.
    Waiting {
        /// Monotonic milliseconds; `None`: no delay, or it is over.
        not_before_ms: Option<i64>,
    },
    /// Has a place; its tasks run. `turn` orders the running jobs by their start.
    Running { turn: u64 },
    /// Every other task has ended, one of them by failing: `on_error` runs, or will as soon as a task may.
    OnError { turn: u64 },
}

impl JobPhase {
    /// Which of the running jobs it is, by start; `None` while it waits.
    pub(super) fn turn(self) -> Option<u64> {
        match self {
            JobPhase::Waiting { .. } => None,
            JobPhase::Running { turn } | JobPhase::OnError { turn } => Some(turn),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskState {
    /// Waits for its dependencies, or for one of the tasks that run to make room.
    Waiting,
    Running {
        start_ms: i64,
    },
    /// It was told to stop; killed at `kill_at_ms` (monotonic) if something is left of it then.
    Stopping {
        start_ms: i64,
        kill_at_ms: i64,
    },
    /// It was killed; given up at `give_up_at_ms` (monotonic) if something is left of it even then.
    Killed {
        start_ms: i64,
        give_up_at_ms: i64,
    },
    Ended(TaskEnd),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskEnd {
    Done,
    Failed,
    /// Stopped, or never started.
    Canceled,
}

impl Job {
    /// A job that waits.
    pub(super) fn new(record: &JobRecord, pipeline: Arc<Pipeline>, not_before_ms: Option<i64>) -> Job {
        Job {
            id: record.id,
            pipeline,
            variables: Arc::clone(&record.variables),
            partition: record.partition.clone(),
            place: record.place,
            waiting_bytes: 0,
            phase: JobPhase::Waiting { not_before_ms },
            failure: None,
            canceled: None,
            tasks: Vec::new(),
            open_dependencies: Vec::new(),
            ready: BTreeSet::new(),
            ready_markers: Vec::new(),
            file_places: Vec::new(),
            blocked: 0,
            active: 0,
            start_is_saved: false,
        }
    }

    /// The one place where a job changes its phase.
    pub(super) fn set_phase(&mut self, phase: JobPhase) {
        assert!(
            matches!(
                (self.phase, phase),
                (
                    JobPhase::Waiting { .. },
                    JobPhase::Waiting { not_before_ms: None } | JobPhase::Running { .. }
                ) | (JobPhase::Running { .. }, JobPhase::OnError { .. })
            ),
            "a job waits, runs and handles its error, in this order"
        );
        self.phase = phase;
    }

    /// Lays out its tasks. Those that depend on nothing are ready.
    pub(super) fn start(&mut self, turn: u64) {
        self.set_phase(JobPhase::Running { turn });
        let tasks = &self.pipeline.tasks;
        self.tasks = vec![TaskState::Waiting; tasks.len()];
        self.open_dependencies = tasks.iter().map(|task| task.depends_on.len()).collect();
        self.file_places = vec![0; tasks.len()];
        for (place, &index) in self.pipeline.file_order.iter().enumerate() {
            self.file_places[index] = place;
        }
        self.blocked = tasks.len();
        for index in 0..self.tasks.len() {
            if self.open_dependencies[index] == 0 {
                self.make_ready(index);
            }
        }
    }

    fn make_ready(&mut self, index: usize) {
        self.blocked -= 1;
        if self.pipeline.tasks[index].is_marker() {
            self.ready_markers.push(index);
        } else {
            self.ready.insert(self.file_places[index]);
        }
    }

    /// The index of the task at a place of `ready`.
    pub(super) fn index_at(&self, place: usize) -> usize {
        self.pipeline
            .file_order
            .get(place)
            .copied()
            .unwrap_or(self.pipeline.tasks.len())
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.canceled.is_some() || (self.failure.is_some() && !self.pipeline.continue_running_tasks_after_failure)
    }

    /// Nothing of it runs, and nothing of it will, as things stand.
    pub(super) fn is_at_rest(&self) -> bool {
        self.active == 0 && self.ready.is_empty() && self.ready_markers.is_empty() && self.blocked == 0
    }

    /// Makes `on_error` its last task, ready to start.
    pub(super) fn enter_on_error(&mut self, turn: u64) {
        self.set_phase(JobPhase::OnError { turn });
        let index = self.pipeline.tasks.len();
        if self.pipeline.task(index).is_marker() {
            self.ready_markers.push(index);
        } else {
            self.ready.insert(index);
        }
    }

    /// A task ended well: those that waited for it alone are ready.
    pub(super) fn release_dependents(&mut self, index: usize) {
        if index >= self.pipeline.tasks.len() {
            return;
        }
        let pipeline = Arc::clone(&self.pipeline);
        for &dependent in &pipeline.dependents[index] {
            self.open_dependencies[dependent] -= 1;
            if self.open_dependencies[dependent] == 0 && self.tasks[dependent] == TaskState::Waiting {
                self.make_ready(dependent);
            }
        }
    }

    /// Cancels every task that has not started. Returns their indices.
    pub(super) fn cancel_waiting(&mut self) -> Vec<usize> {
        let waiting: Vec<usize> = (0..self.tasks.len())
            .filter(|&index| self.tasks[index] == TaskState::Waiting)
            .collect();
        for &index in &waiting {
            self.tasks[index] = TaskState::Ended(TaskEnd::Canceled);
        }
        self.ready.clear();
        self.ready_markers.clear();
        self.blocked = 0;
        waiting
    }

    /// Cancels every task that depends on `index`, directly or not, for it will never be done. Returns their indices.
    pub(super) fn cancel_dependents(&mut self, index: usize) -> Vec<usize> {
        let mut canceled = Vec::new();
        let mut causes = vec![index];
        while let Some(cause) = causes.pop() {
            for &dependent in &self.pipeline.dependents[cause] {
                if self.tasks[dependent] == TaskState::Waiting {
                    self.tasks[dependent] = TaskState::Ended(TaskEnd::Canceled);
                    self.blocked -= 1;
                    canceled.push(dependent);
                    causes.push(dependent);
                }
            }
        }
        canceled.sort_unstable();
        canceled
    }

    /// What the job ends as, if it ends now.
    pub(super) fn status_at_end(&self) -> JobStatus {
        match (&self.canceled, &self.failure) {
            (Some(_), _) => JobStatus::Canceled,
            (None, Some(_)) => JobStatus::Failed,
            (None, None) => JobStatus::Succeeded,
        }
    }
}

/// The tasks of a new job, as its record lists them.
pub(super) fn task_records(pipeline: &Pipeline) -> Vec<TaskRecord> {
    let name_of = |&index: &usize| Arc::clone(&pipeline.tasks[index].name);
    pipeline
        .tasks
        .iter()
        .map(|task| TaskRecord {
            name: Arc::clone(&task.name),
            depends_on: task.depends_on.iter().map(name_of).collect(),
            progress: TaskProgress::default(),
        })
        .collect()
}

/// What an exit means for a task that started at `start_ms` and that we may have told to stop: its progress, and
/// whether it failed by itself.
pub(super) fn judge(task: &Task, state: TaskState, exit: TaskExit, end_ms: i64) -> (TaskProgress, bool) {
    let (TaskState::Running { start_ms } | TaskState::Stopping { start_ms, .. } | TaskState::Killed { start_ms, .. }) =
        state
    else {
        unreachable!("exits come from tasks that were started");
    };
    let TaskExit {
        outcome,
        stopped,
        mut note,
    } = exit;
    // Where somebody signals prunner and its tasks at once, the task may be gone before our signal can reach it: it is a
    // stopped task all the same, if it ended in the way of one.
    let stopped = stopped
        || (!matches!(state, TaskState::Running { .. })
            && matches!(outcome, Outcome::Signaled(SIGINT | SIGTERM) | Outcome::Exited(130)));
    let (status, exit_code, error) = match outcome {
        Outcome::Exited(0) => (TaskStatus::Done, 0, String::new()),
        Outcome::Exited(130 | 137) | Outcome::Signaled(_) | Outcome::NotStarted(_) if stopped => {
            (TaskStatus::Canceled, -1, String::new())
        }
        Outcome::Exited(code) => (TaskStatus::Error, code, format!("exit status {code}")),
        Outcome::Signaled(signal) => (
            TaskStatus::Error,
            128 + signal,
            format!("signal: {}", signal_name(signal)),
        ),
        Outcome::NotStarted(why) => (TaskStatus::Error, -1, why),
        Outcome::WantsTerminal => (TaskStatus::Error, -1, "wants the terminal; tasks have none".to_owned()),
    };
    let (status, error) = if status == TaskStatus::Error && task.allow_failure && !stopped {
        if exit_code == -1 {
            note = join_notes(&note, &error);
        }
        (TaskStatus::Done, String::new())
    } else {
        (status, error)
    };
    let failed = status == TaskStatus::Error && !stopped;
    (
        TaskProgress {
            status,
            start_ms: Some(start_ms),
            end_ms: Some(end_ms),
            exit_code,
            error,
            note,
        },
        failed,
    )
}

fn join_notes(first: &str, second: &str) -> String {
    if first.is_empty() {
        second.to_owned()
    } else {
        format!("{first}; {second}")
    }
}

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

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
