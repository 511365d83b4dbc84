//! One job that has not ended, and its tasks. Unaware of other jobs, of places and of limits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::judge::join_notes;
use super::orders::Failure;
use crate::definition::Pipeline;
use crate::job::{JobId, JobRecord, JobStatus, TaskProgress, TaskRecord};
use crate::template::Variables;

/// A job that waits or runs. One that ended is dropped: what is left of it is its record, outside of the scheduler.
#[derive(Debug)]
pub(super) struct Job {
    pub id: JobId,
    /// The definition that it was scheduled with; a reload does not touch it.
    pub pipeline: Arc<Pipeline>,
    pub variables: Arc<Variables>,
    /// Those that no request gave, while it waits.
    pub by_default: Vec<String>,
    pub partition: String,
    pub place: u64,
    /// Size of its variables as JSON text while it waits, which counts towards a limit.
    pub waiting_bytes: usize,
    pub phase: JobPhase,
    /// Of what makes requests equal to it, where its pipeline asks for that.
    pub digest: Option<u64>,
    /// The first task that failed by itself.
    pub failure: Option<Failure>,
    /// Why it was told to stop. Decides what it ends as, whatever its tasks then do.
    pub canceled: Option<String>,
    /// Another job takes its place: why it was told to stop, where no cancel came on top.
    pub replaced: Option<String>,
    /// When it is over its time limit (monotonic); `None`: it has none, or that no longer matters.
    pub timeout_at_ms: Option<i64>,
    /// It is over its time limit: no task of it runs on but `on_error`.
    pub is_timed_out: bool,
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
    /// Tasks that wait for the delay before their next attempt. Those whose delay is over are in `ready`.
    pub delayed: usize,
    /// What there was to say of attempts that failed, by task.
    notes: BTreeMap<usize, String>,
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
        attempt: Attempt,
        /// Monotonic milliseconds.
        timeout_at_ms: Option<i64>,
    },
    /// It was told to stop; killed at `kill_at_ms` (monotonic) if something is left of it then.
    Stopping {
        attempt: Attempt,
        why: StopReason,
        kill_at_ms: i64,
    },
    /// It was killed; given up at `give_up_at_ms` (monotonic) if something is left of it even then.
    Killed {
        attempt: Attempt,
        why: StopReason,
        give_up_at_ms: i64,
    },
    /// Something is left of it that can't be killed; its exit is reported all the same.
    GivenUp {
        attempt: Attempt,
        why: StopReason,
    },
    /// Its attempt failed and another follows. It holds no place among the tasks that run.
    Between {
        failed: Attempt,
        /// Monotonic milliseconds; `None`: the delay is over, it is ready.
        due_at_ms: Option<i64>,
    },
    Ended(TaskEnd),
}

/// One of the attempts that a task is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Counted from 1.
    pub number: usize,
    /// Of the first attempt: when the task started, by the wall.
    pub start_ms: i64,
}

/// Why a task was told to stop. What comes later does not change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// A user, or a stop of prunner.
    Cancel,
    /// Another task of its job failed.
    FailFast,
    /// Another job takes its job's place.
    Replace,
    /// It ran longer than it may.
    Timeout,
    /// Its job did.
    JobTimeout,
}

impl StopReason {
    /// Whether it stops a task that other tasks' failures don't.
    pub(super) fn spares_nothing(self) -> bool {
        match self {
            StopReason::Cancel | StopReason::Timeout | StopReason::JobTimeout => true,
            StopReason::FailFast | StopReason::Replace => false,
        }
    }
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
            by_default: record.by_default.clone(),
            partition: record.partition.clone(),
            place: record.place,
            waiting_bytes: 0,
            phase: JobPhase::Waiting { not_before_ms },
            digest: None,
            failure: None,
            canceled: None,
            replaced: None,
            timeout_at_ms: None,
            is_timed_out: false,
            tasks: Vec::new(),
            open_dependencies: Vec::new(),
            ready: BTreeSet::new(),
            ready_markers: Vec::new(),
            file_places: Vec::new(),
            blocked: 0,
            delayed: 0,
            notes: BTreeMap::new(),
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

    /// It was told to stop: what it ends as is decided, whatever fails from now on.
    pub(super) fn is_told_to_stop(&self) -> bool {
        self.canceled.is_some() || self.replaced.is_some()
    }

    /// No further task of it starts, but for its `on_error`.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_told_to_stop()
            || self.is_timed_out
            || (self.failure.is_some() && !self.pipeline.continue_running_tasks_after_failure)
    }

    /// It does no more of what it was made for, and frees its place by itself.
    pub(super) fn is_ending(&self) -> bool {
        self.is_stopped() || matches!(self.phase, JobPhase::OnError { .. })
    }

    /// Nothing of it runs, and nothing of it will, as things stand.
    pub(super) fn is_at_rest(&self) -> bool {
        self.active == 0
            && self.ready.is_empty()
            && self.ready_markers.is_empty()
            && self.blocked == 0
            && self.delayed == 0
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

    /// The place of a task in `ready`.
    fn place_of(&self, index: usize) -> usize {
        self.file_places.get(index).copied().unwrap_or(index)
    }

    /// The delay before the next attempt of a task is over.
    pub(super) fn end_delay(&mut self, index: usize) {
        let TaskState::Between { failed, .. } = self.tasks[index] else {
            unreachable!("a delay ends with the wait for it");
        };
        self.delayed -= 1;
        self.set_between(index, failed, None);
    }

    /// Its attempt failed, another follows: as soon as there is room, or not before `due_at_ms`.
    pub(super) fn set_between(&mut self, index: usize, failed: Attempt, due_at_ms: Option<i64>) {
        self.tasks[index] = TaskState::Between { failed, due_at_ms };
        if due_at_ms.is_some() {
            self.delayed += 1;
        } else {
            self.ready.insert(self.place_of(index));
        }
    }

    /// What there is to say of an attempt that failed is said in the end.
    pub(super) fn keep_note(&mut self, index: usize, note: &str) {
        let kept = self.notes.remove(&index).unwrap_or_default();
        let note = join_notes(&kept, note);
        if !note.is_empty() {
            self.notes.insert(index, note);
        }
    }

    pub(super) fn take_note(&mut self, index: usize) -> String {
        self.notes.remove(&index).unwrap_or_default()
    }

    /// Cancels every task that has no process, but for those that are between two attempts and that `why` spares. Returns
    /// their indices, with the states that they had.
    pub(super) fn cancel_waiting(&mut self, why: StopReason) -> Vec<(usize, TaskState)> {
        let mut canceled = Vec::new();
        for index in 0..self.tasks.len() {
            let state = self.tasks[index];
            match state {
                TaskState::Waiting => {}
                TaskState::Between { .. } if why.spares_nothing() || !self.is_spared(index) => {}
                TaskState::Between { .. }
                | TaskState::Running { .. }
                | TaskState::Stopping { .. }
                | TaskState::Killed { .. }
                | TaskState::GivenUp { .. }
                | TaskState::Ended(_) => continue,
            }
            if let TaskState::Between { due_at_ms: Some(_), .. } = state {
                self.delayed -= 1;
            }
            self.tasks[index] = TaskState::Ended(TaskEnd::Canceled);
            canceled.push((index, state));
        }
        let is_between = |place: &usize| {
            let index = self.pipeline.file_order.get(*place).copied().unwrap_or(*place);
            matches!(self.tasks.get(index), Some(TaskState::Between { .. }))
        };
        self.ready.retain(is_between);
        self.ready_markers.clear();
        self.blocked = 0;
        canceled
    }

    /// A failure elsewhere, and a job that takes the place of its job, let it end.
    pub(super) fn is_spared(&self, index: usize) -> bool {
        self.pipeline.task(index).bounds.uninterruptible
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
        match (&self.canceled, &self.replaced, &self.failure) {
            (Some(_), _, _) => JobStatus::Canceled,
            (None, Some(_), _) => JobStatus::Replaced,
            (None, None, Some(_)) => JobStatus::Failed,
            (None, None, None) => JobStatus::Succeeded,
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
