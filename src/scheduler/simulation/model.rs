//! What must and must not happen, remembered by itself: shares no code with the scheduler and knows nothing of how it
//! decides.
//!
//! The model is told of a call before the scheduler is (`will_…`), then sees every order in turn and panics at one that
//! is not allowed at that point, and in the end (`check_at_rest`) panics where something is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::NAMES;
use super::intake::Ask;
use super::shape::{Course, OnError, Shape};
use crate::definition::Queue;
use crate::job::{Change, IdempotencyKey, JobId, JobRecord, JobStatus, TaskProgress, TaskRef, TaskStatus};
use crate::scheduler::{ForgetError, Limits, Order, Outcome, PipelineView, RequestKey, ScheduleError, TaskExit};
use crate::template::Variables;
use crate::timestamp::Timestamp;

const GIVE_UP_MS: i64 = 5_000;

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub max_tasks: usize,
    pub grace_ms: i64,
    default_period_ms: Option<i64>,
    default_count: Option<usize>,
    pub defined: BTreeMap<String, Arc<Shape>>,
    /// The limits that hold, also of pipelines that are gone.
    limits: BTreeMap<String, Arc<Shape>>,
    pub jobs: BTreeMap<JobId, ModelJob>,
    /// Wait lists in their order.
    waiting: BTreeMap<String, Vec<JobId>>,
    /// Jobs that run, by their start.
    running: Vec<JobId>,
    /// Ended jobs that are remembered, oldest first; those that started apart from the others.
    kept: BTreeMap<(String, bool), Vec<Kept>>,
    pub is_held: bool,
    pub shuts_down: bool,
    pub has_exited: bool,
    /// What the call that goes on must bring, each once.
    expected_job: Option<(JobId, Decision)>,
    expected_forget: Option<JobId>,
    expected_join: Option<(JobId, RequestKey)>,
    /// Jobs that have begun to wait for a place, and have not stopped another for it.
    looking: Vec<JobId>,
    /// Pipelines of which a job ended in the call that goes on, and then one started.
    has_moved_on: BTreeMap<String, bool>,
    expected_redefinitions: BTreeSet<JobId>,
    expected_ends: BTreeMap<JobId, JobStatus>,
    expected_cancels: BTreeSet<JobId>,
    expected_exit: Option<(TaskRef, TaskProgress, bool)>,
    /// Instead of its end: the first words that are said of it, and when it is due.
    expected_retry: Option<(TaskRef, String, Option<i64>)>,
    expected_stops: BTreeMap<TaskRef, Why>,
    expected_failures: BTreeSet<JobId>,
    expected_start: Option<TaskRef>,
}

#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each remembers one thing that happened, whatever else did"
)]
pub(super) struct ModelJob {
    pub pipeline: String,
    shape: Arc<Shape>,
    partition: String,
    variables: Variables,
    /// Nobody gave its `x`.
    x_is_default: bool,
    saved: Saved,
    /// Of the requests that it answers; true: one that joined it.
    keys: Vec<(RequestKey, bool)>,
    created_wall_ms: i64,
    start_after_wall_ms: Option<i64>,
    replaces: Option<JobId>,
    pub state: State,
    tasks: Vec<ModelTask>,
    /// It failed, by a task or by its time.
    has_failed: bool,
    /// The first task that failed.
    failed_task: Option<usize>,
    is_timed_out: bool,
    timeout_at_ms: Option<i64>,
    is_canceled: bool,
    /// Another job takes its place.
    is_replaced: bool,
    had_exit: bool,
}

/// What stands in the job's record on disk: what it says of the job since can be lost in a crash.
#[derive(Clone, Debug)]
struct Saved {
    /// The one whose tasks stand there.
    shape: Arc<Shape>,
    variables: Variables,
    x_is_default: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Asked,
    Waiting { not_before_ms: Option<i64> },
    Running,
    Ended(JobStatus),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ModelTask {
    Waiting,
    /// Which attempt it is, from 1, and when that is over its time.
    Running {
        attempt: usize,
        timeout_at_ms: Option<i64>,
    },
    Stopping {
        attempt: usize,
        why: Why,
        since_ms: i64,
    },
    Killed {
        attempt: usize,
        why: Why,
        since_ms: i64,
    },
    Abandoned {
        attempt: usize,
        why: Why,
    },
    /// Its last attempt failed; the next one is due then, or now.
    Between {
        attempt: usize,
        due_at_ms: Option<i64>,
    },
    Ended(TaskStatus),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Cancel,
    FailFast,
    Replace,
    Timeout,
    JobTimeout,
}

impl ModelTask {
    fn is_active(self) -> bool {
        !matches!(
            self,
            ModelTask::Waiting | ModelTask::Between { .. } | ModelTask::Ended(_)
        )
    }

    fn is_running(self) -> bool {
        matches!(self, ModelTask::Running { .. })
    }

    /// The attempt that was started last, and why it is stopped.
    fn attempt(self) -> (usize, Option<Why>) {
        match self {
            ModelTask::Waiting | ModelTask::Ended(_) => (0, None),
            ModelTask::Running { attempt, .. } | ModelTask::Between { attempt, .. } => (attempt, None),
            ModelTask::Stopping { attempt, why, .. }
            | ModelTask::Killed { attempt, why, .. }
            | ModelTask::Abandoned { attempt, why } => (attempt, Some(why)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    job: JobId,
    end_ms: i64,
    end_wall_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Starts,
    Waits,
    Replaces(JobId),
    /// The job that the same request had before, or one that it equals.
    Is {
        job: JobId,
        joined: bool,
    },
}

impl ModelJob {
    fn is_stopped(&self) -> bool {
        self.is_canceled || self.is_replaced || self.is_timed_out || (self.has_failed && !self.shape.keeps_going)
    }

    /// It leaves its place without being asked.
    fn is_ending(&self) -> bool {
        self.is_stopped() || self.owes_on_error() || self.tasks.len() > self.shape.tasks.len()
    }

    fn course(&self, index: usize) -> &Course {
        let task = self.shape.tasks.get(index);
        task.map_or(&self.shape.on_error_course, |task| &task.course)
    }

    /// No attempt of it starts any more.
    fn is_barred(&self, index: usize) -> bool {
        if index == self.shape.tasks.len() {
            return self.is_canceled;
        }
        self.is_canceled || self.is_timed_out || (self.is_stopped() && !self.course(index).is_spared)
    }

    /// The job's limit still holds.
    fn job_timeout(&self) -> Option<i64> {
        let handles_error = self.owes_on_error() || self.tasks.len() > self.shape.tasks.len();
        let holds = self.state == State::Running && !handles_error && !self.is_canceled;
        self.timeout_at_ms.filter(|_| holds && !self.is_timed_out)
    }

    /// Nothing is in the way of this task, but for the limit on all.
    fn may_run(&self, index: usize) -> bool {
        self.tasks[index] == ModelTask::Waiting
            && !self.is_stopped()
            && self.shape.tasks[index]
                .depends_on
                .iter()
                .all(|&on| self.tasks[on] == ModelTask::Ended(TaskStatus::Done))
    }

    /// It can never run.
    fn is_hopeless(&self, index: usize) -> bool {
        let is_lost = |&on: &usize| matches!(self.tasks[on], ModelTask::Ended(status) if status != TaskStatus::Done);
        self.tasks[index] == ModelTask::Waiting
            && (self.is_stopped() || self.shape.tasks[index].depends_on.iter().any(is_lost))
    }

    fn all_ended(&self) -> bool {
        self.tasks.iter().all(|task| matches!(task, ModelTask::Ended(_)))
    }

    /// `on_error` must come now.
    fn owes_on_error(&self) -> bool {
        self.state == State::Running
            && self.shape.on_error.is_some()
            && self.has_failed
            && !self.is_canceled
            && !self.is_replaced
            && self.tasks.len() == self.shape.tasks.len()
            && self.all_ended()
    }

    fn is_marker(&self, index: usize) -> bool {
        match self.shape.tasks.get(index) {
            Some(task) => task.is_marker,
            None => self.shape.on_error == Some(OnError::Marker),
        }
    }

    fn next_task(&self) -> Option<usize> {
        let mut in_order = self.shape.file_order.iter().copied();
        in_order
            .find(|&index| {
                let is_due = matches!(self.tasks[index], ModelTask::Between { due_at_ms: None, .. });
                !self.is_marker(index) && (self.may_run(index) || is_due)
            })
            .or_else(|| {
                let on_error = self.tasks.get(self.shape.tasks.len());
                let is_due = matches!(on_error, Some(ModelTask::Between { due_at_ms: None, .. }));
                is_due.then_some(self.shape.tasks.len())
            })
            .or_else(|| {
                let owes = self.owes_on_error() && self.shape.on_error == Some(OnError::Script);
                owes.then_some(self.shape.tasks.len())
            })
    }

    fn status_at_end(&self) -> JobStatus {
        if self.is_canceled {
            JobStatus::Canceled
        } else if self.is_replaced {
            JobStatus::Replaced
        } else if self.has_failed {
            JobStatus::Failed
        } else {
            JobStatus::Succeeded
        }
    }
}

impl Saved {
    /// The variables with this definition; `None`: they don't fit.
    fn variables_for(&self, shape: &Shape) -> Option<Variables> {
        shape.rules.admit(&self.variables)
    }
}

impl Model {
    pub(super) fn new(limits: Limits, defined: BTreeMap<String, Arc<Shape>>) -> Model {
        Model {
            max_tasks: limits.max_tasks,
            grace_ms: limits.kill_grace_ms,
            default_period_ms: limits.retention.period_ms,
            default_count: limits.retention.count,
            limits: defined.clone(),
            defined,
            jobs: BTreeMap::new(),
            waiting: BTreeMap::new(),
            running: Vec::new(),
            kept: BTreeMap::new(),
            is_held: false,
            shuts_down: false,
            has_exited: false,
            expected_job: None,
            expected_forget: None,
            expected_join: None,
            looking: Vec::new(),
            has_moved_on: BTreeMap::new(),
            expected_redefinitions: BTreeSet::new(),
            expected_ends: BTreeMap::new(),
            expected_cancels: BTreeSet::new(),
            expected_exit: None,
            expected_retry: None,
            expected_stops: BTreeMap::new(),
            expected_failures: BTreeSet::new(),
            expected_start: None,
        }
    }

    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    /// It waits, runs or is kept.
    fn is_remembered(&self, id: JobId) -> bool {
        match self.jobs[&id].state {
            State::Waiting { .. } | State::Running => true,
            State::Ended(_) => self.kept.values().flatten().any(|kept| kept.job == id),
            State::Asked => false,
        }
    }

    fn runs(&self, pipeline: &str) -> usize {
        self.running
            .iter()
            .filter(|job| self.jobs[job].pipeline == pipeline)
            .count()
    }

    fn active_count(&self) -> usize {
        let tasks = self.jobs.values().flat_map(|job| &job.tasks);
        tasks.filter(|task| task.is_active()).count()
    }

    /// What a request must lead to.
    pub(super) fn decide(&self, ask: &Ask) -> Result<Decision, ScheduleError> {
        let (pipeline, partition) = (ask.pipeline, ask.partition);
        if self.shuts_down {
            return Err(ScheduleError::ShuttingDown);
        }
        if let Some(key) = ask.request_key()
            && let Some(known) = self.find_key(pipeline, &key)
        {
            return known;
        }
        let Some(shape) = self.defined.get(pipeline) else {
            return Err(ScheduleError::UnknownPipeline(pipeline.to_owned()));
        };
        let Some(variables) = shape.rules.admit(&ask.variables) else {
            return Err(ScheduleError::BadVariables(String::new()));
        };
        if let Some(rule) = &shape.rules.twins {
            let no_list = Vec::new();
            let waiting = self.waiting.get(pipeline).unwrap_or(&no_list);
            let running = self.running.iter().filter(|_| !rule.waiting_alone);
            let twin = running.chain(waiting).find(|id| {
                let job = &self.jobs[*id];
                let place = (job.pipeline.as_str(), job.partition.as_str());
                !job.is_ending() && place == (pipeline, partition) && rule.agree(&job.variables, &variables)
            });
            match twin {
                Some(&job) if rule.refuses => return Err(ScheduleError::Duplicate(job)),
                Some(&job) => return Ok(Decision::Is { job, joined: true }),
                None => {}
            }
        }
        let decision = self.find_room(ask)?;
        if let Decision::Replaces(old) = decision
            && self.merge(shape, &ask.variables, old).is_none()
        {
            return Err(ScheduleError::BadVariables(String::new()));
        }
        Ok(decision)
    }

    /// What was said to a request with this key.
    fn find_key(&self, pipeline: &str, key: &RequestKey) -> Option<Result<Decision, ScheduleError>> {
        self.jobs.iter().find_map(|(&id, job)| {
            let (known, joined) = job.keys.iter().find(|(known, _)| known.key == key.key)?;
            if job.pipeline != pipeline || !self.is_remembered(id) {
                return None;
            }
            Some(if known == key {
                Ok(Decision::Is {
                    job: id,
                    joined: *joined,
                })
            } else {
                Err(ScheduleError::KeyOfAnother)
            })
        })
    }

    /// Where a job would go.
    fn find_room(&self, ask: &Ask) -> Result<Decision, ScheduleError> {
        let (pipeline, partition) = (ask.pipeline, ask.partition);
        let shape = &self.defined[pipeline];
        if shape.delay_ms == 0 && self.runs(pipeline) < shape.concurrency && !self.is_held {
            return Ok(Decision::Starts);
        }
        let list = self.waiting.get(pipeline).map_or(&[][..], Vec::as_slice);
        let (full, counted): (usize, Vec<JobId>) = match shape.queue {
            Queue::Append { limit: None } => return Ok(Decision::Waits),
            Queue::Append { limit: Some(0) } | Queue::Replace { limit: 0 } => {
                return Err(ScheduleError::QueueDisabled);
            }
            Queue::Append { limit: Some(limit) } => {
                return if list.len() < limit {
                    Ok(Decision::Waits)
                } else {
                    Err(ScheduleError::QueueFull)
                };
            }
            Queue::Replace { limit } => (limit, list.to_vec()),
            Queue::PartitionedReplace { limit } => {
                let same = list.iter().filter(|job| self.jobs[job].partition == partition);
                (limit, same.copied().collect())
            }
        };
        if counted.len() < full {
            Ok(Decision::Waits)
        } else {
            Ok(Decision::Replaces(*counted.last().expect("a limit of 0 was refused")))
        }
    }

    /// Whether a new job takes over something of the one that it replaces.
    pub(super) fn merges(&self, ask: &Ask, decision: Decision) -> bool {
        let Decision::Replaces(old) = decision else {
            return false;
        };
        let shape = &self.defined[ask.pipeline];
        Some(&ask.variables) != self.merge(shape, &ask.variables, old).as_ref()
    }

    /// What a request gives together with what its job takes over from the old one.
    fn merge(&self, shape: &Shape, given: &Variables, old: JobId) -> Option<Variables> {
        let old = &self.jobs[&old];
        shape.rules.merge(&old.variables, old.x_is_default, given)
    }

    pub(super) fn will_accept(&mut self, now: Timestamp, id: JobId, ask: &Ask, decision: Decision) {
        if let Decision::Is { job, joined } = decision {
            let key = ask.request_key().filter(|_| joined);
            // One that is known already is not noted again.
            self.expected_join = key
                .filter(|key| self.find_key(ask.pipeline, key).is_none())
                .map(|key| (job, key));
            return;
        }
        let pipeline = ask.pipeline;
        let shape = Arc::clone(&self.defined[pipeline]);
        let delay_ms = (shape.delay_ms > 0).then_some(shape.delay_ms);
        let mut given = Some(ask.variables.clone());
        if let Decision::Replaces(old) = decision {
            given = self.merge(&shape, &ask.variables, old);
        }
        let variables = given.as_ref().and_then(|given| shape.rules.admit(given));
        let x_is_default = given.is_some_and(|given| shape.rules.fills_x(&given));
        let variables = variables.expect("a request that does not fit is refused");
        let job = ModelJob {
            pipeline: pipeline.to_owned(),
            saved: Saved {
                shape: Arc::clone(&shape),
                variables: variables.clone(),
                x_is_default,
            },
            shape,
            partition: ask.partition.to_owned(),
            variables,
            x_is_default,
            keys: ask.request_key().map(|key| (key, false)).into_iter().collect(),
            created_wall_ms: now.wall_ms,
            start_after_wall_ms: delay_ms.map(|delay_ms| now.wall_ms + delay_ms),
            replaces: None,
            state: State::Asked,
            tasks: Vec::new(),
            has_failed: false,
            failed_task: None,
            is_timed_out: false,
            timeout_at_ms: None,
            is_canceled: false,
            is_replaced: false,
            had_exit: false,
        };
        assert!(self.jobs.insert(id, job).is_none());
        if let Decision::Replaces(old) = decision {
            self.expected_ends.insert(old, JobStatus::Replaced);
        }
        self.expected_job = Some((id, decision));
    }

    /// Returns whether the job is still there to be canceled.
    pub(super) fn will_cancel(&mut self, id: JobId) -> bool {
        match self.jobs[&id].state {
            State::Waiting { .. } => {
                self.expected_ends.insert(id, JobStatus::Canceled);
                true
            }
            State::Running => {
                if !self.jobs[&id].is_canceled {
                    self.expect_cancel(id);
                }
                true
            }
            State::Asked | State::Ended(_) => false,
        }
    }

    pub(super) fn will_stop_all(&mut self) {
        for id in self.running.clone() {
            if !self.jobs[&id].is_canceled {
                self.expect_cancel(id);
            }
        }
    }

    fn expect_cancel(&mut self, id: JobId) {
        self.expected_cancels.insert(id);
        self.expect_stops(id, Why::Cancel);
    }

    /// What runs of the job and was not told to stop yet.
    fn expect_stops(&mut self, id: JobId, why: Why) {
        let job = &self.jobs[&id];
        for (index, task) in job.tasks.iter().enumerate() {
            let is_spared = matches!(why, Why::FailFast | Why::Replace) && job.course(index).is_spared;
            if task.is_running() && !is_spared {
                self.expected_stops.entry(TaskRef { job: id, index }).or_insert(why);
            }
        }
    }

    /// What is due by now, in the order in which it was.
    pub(super) fn will_tick(&mut self, now: Timestamp) {
        let mut due = Vec::new();
        for (&id, job) in &self.jobs {
            due.extend(job.job_timeout().map(|at_ms| (at_ms, 1, TaskRef { job: id, index: 0 })));
            for (index, task) in job.tasks.iter().enumerate() {
                let task_ref = TaskRef { job: id, index };
                match *task {
                    ModelTask::Running {
                        timeout_at_ms: Some(at_ms),
                        ..
                    } => due.push((at_ms, 0, task_ref)),
                    ModelTask::Between {
                        due_at_ms: Some(at_ms), ..
                    } => due.push((at_ms, 2, task_ref)),
                    ModelTask::Waiting
                    | ModelTask::Running { .. }
                    | ModelTask::Stopping { .. }
                    | ModelTask::Killed { .. }
                    | ModelTask::Abandoned { .. }
                    | ModelTask::Between { .. }
                    | ModelTask::Ended(_) => {}
                }
            }
        }
        due.retain(|&(at_ms, ..)| at_ms <= now.mono_ms);
        due.sort();
        for (_, kind, task) in due {
            let job = self.jobs.get_mut(&task.job).unwrap();
            match kind {
                0 => {
                    self.expected_stops.entry(task).or_insert(Why::Timeout);
                }
                1 => {
                    job.is_timed_out = true;
                    if !job.has_failed && !job.is_replaced {
                        self.expected_failures.insert(task.job);
                    }
                    self.expect_stops(task.job, Why::JobTimeout);
                }
                _ => {
                    if let ModelTask::Between { due_at_ms, .. } = &mut job.tasks[task.index] {
                        *due_at_ms = None;
                    }
                }
            }
        }
    }

    pub(super) fn will_exit(&mut self, now: Timestamp, task: TaskRef, exit: &TaskExit) {
        // Where everybody was interrupted, a task that dies of that is stopped, and its job with it.
        let was_interrupted =
            self.shuts_down && !exit.stopped && matches!(exit.outcome, Outcome::Signaled(2) | Outcome::Exited(130));
        if was_interrupted && !self.jobs[&task.job].is_canceled {
            self.expect_cancel(task.job);
            self.expected_stops.remove(&task);
        }
        let job = &self.jobs[&task.job];
        let course = job.course(task.index);
        let (attempt, why) = job.tasks[task.index].attempt();
        let caught = 128 + course.signal;
        let was_stopped = exit.stopped
            || ((why.is_some() || was_interrupted)
                && match exit.outcome {
                    Outcome::Signaled(signal) => signal == 2 || signal == 15 || signal == course.signal,
                    Outcome::Exited(code) => code == caught,
                    Outcome::NotStarted(_) | Outcome::WantsTerminal => false,
                });
        let is_over_time = was_stopped && matches!(why, Some(Why::Timeout | Why::JobTimeout));
        let forgives = job.shape.tasks.get(task.index).is_some_and(|task| task.allow_failure);
        let (mut status, exit_code) = match &exit.outcome {
            _ if is_over_time => (TaskStatus::Error, 124),
            Outcome::Exited(0) => (TaskStatus::Done, 0),
            Outcome::Exited(code) if was_stopped && [137, caught].contains(code) => (TaskStatus::Canceled, -1),
            Outcome::Signaled(_) | Outcome::NotStarted(_) if was_stopped => (TaskStatus::Canceled, -1),
            Outcome::Exited(code) => (TaskStatus::Error, *code),
            Outcome::Signaled(signal) => (TaskStatus::Error, 128 + signal),
            Outcome::NotStarted(_) | Outcome::WantsTerminal => (TaskStatus::Error, -1),
        };
        let is_its_own = status == TaskStatus::Error && (is_over_time || !was_stopped);
        if is_its_own && forgives {
            status = TaskStatus::Done;
        }
        let has_failed_itself = is_its_own && !forgives;
        if has_failed_itself
            && !was_interrupted
            && matches!(why, None | Some(Why::Timeout))
            && !matches!(job.tasks[task.index], ModelTask::Abandoned { .. })
            && !job.is_barred(task.index)
            && let Some(retry) = &course.retry
            && attempt <= retry.max
            && retry.codes.as_ref().is_none_or(|codes| codes.contains(&exit_code))
        {
            let mut delay_ms = retry.delay_ms;
            for _ in 1..attempt {
                delay_ms *= retry.backoff;
            }
            delay_ms = retry.most_ms.map_or(delay_ms, |most_ms| delay_ms.min(most_ms));
            let due_at_ms = (delay_ms > 0).then(|| now.mono_ms + delay_ms);
            self.expected_retry = Some((task, format!("attempt {attempt} ended with "), due_at_ms));
            return;
        }
        let limit_ms = match why {
            Some(Why::JobTimeout) => job.shape.timeout_ms,
            _ => course.timeout_ms,
        };
        let error = match limit_ms.filter(|_| is_over_time && !forgives) {
            Some(limit_ms) => format!("timed out after {limit_ms}ms"),
            None => String::new(),
        };
        let fails = has_failed_itself && !job.has_failed && !job.is_canceled && !job.is_replaced && !was_interrupted;
        let progress = TaskProgress {
            status,
            end_ms: Some(now.wall_ms),
            exit_code,
            retries: attempt - 1,
            error,
            ..TaskProgress::default()
        };
        let is_listed = task.index < job.shape.tasks.len();
        let is_first = has_failed_itself && is_listed && job.failed_task.is_none();
        let stops_others = fails && is_listed && !job.shape.keeps_going;
        let job = self.jobs.get_mut(&task.job).unwrap();
        if is_first {
            job.failed_task = Some(task.index);
        }
        if stops_others {
            self.expect_stops(task.job, Why::FailFast);
            self.expected_stops.remove(&task);
        }
        self.expected_exit = Some((task, progress, fails));
    }

    pub(super) fn will_reload(&mut self, defined: BTreeMap<String, Arc<Shape>>) {
        self.limits.extend(defined.clone());
        self.defined = defined;
    }

    /// Prunner has ended, or died, and starts again. What ran then is interrupted.
    pub(super) fn will_restart(&mut self, now: Timestamp, defined: BTreeMap<String, Arc<Shape>>) {
        self.forget_expectations();
        self.jobs.retain(|_, job| job.state != State::Asked);
        for id in std::mem::take(&mut self.running) {
            let job = self.jobs.get_mut(&id).unwrap();
            let status = if job.is_canceled {
                JobStatus::Canceled
            } else if job.is_replaced {
                JobStatus::Replaced
            } else {
                JobStatus::Interrupted
            };
            job.state = State::Ended(status);
            job.tasks.clear();
            self.keep(now, id, true);
        }
        for list in self.kept.values_mut() {
            list.sort_by_key(|kept| (kept.end_wall_ms, kept.job));
            for kept in list {
                kept.end_ms = now.mono_ms - (now.wall_ms - kept.end_wall_ms).max(0);
            }
        }
        self.limits.clone_from(&defined);
        self.defined = defined;
        self.is_held = false;
        self.shuts_down = false;
        self.has_exited = false;
        for (pipeline, list) in &self.waiting {
            for id in list {
                let job = &self.jobs[id];
                if let Some(old) = job.replaces
                    && list.contains(&old)
                {
                    self.expected_ends.insert(old, JobStatus::Replaced);
                }
                let shape = self.defined.get(pipeline);
                if shape.and_then(|shape| job.saved.variables_for(shape)).is_none() {
                    self.expected_ends.entry(*id).or_insert(JobStatus::Canceled);
                }
            }
        }
        for (&id, job) in &mut self.jobs {
            if !matches!(job.state, State::Waiting { .. }) || self.expected_ends.contains_key(&id) {
                continue;
            }
            let left_ms = job.start_after_wall_ms.map_or(0, |start_after_ms| {
                (start_after_ms - now.wall_ms).min(start_after_ms - job.created_wall_ms)
            });
            job.state = State::Waiting {
                not_before_ms: (left_ms > 0).then(|| now.mono_ms + left_ms),
            };
            let shape = &self.defined[&job.pipeline];
            let dependencies =
                |shape: &Shape| -> Vec<Vec<usize>> { shape.tasks.iter().map(|task| task.depends_on.clone()).collect() };
            let variables = job.saved.variables_for(shape).unwrap();
            if dependencies(shape) != dependencies(&job.saved.shape) || variables != job.saved.variables {
                self.expected_redefinitions.insert(id);
            }
            job.shape = Arc::clone(shape);
            job.x_is_default = job.saved.x_is_default || shape.rules.fills_x(&job.saved.variables);
            job.variables = variables;
        }
    }

    pub(super) fn forget_expectations(&mut self) {
        self.expected_job = None;
        self.expected_forget = None;
        self.expected_join = None;
        self.looking.clear();
        self.has_moved_on.clear();
        self.expected_redefinitions.clear();
        self.expected_ends.clear();
        self.expected_cancels.clear();
        self.expected_exit = None;
        self.expected_retry = None;
        self.expected_stops.clear();
        self.expected_failures.clear();
        self.expected_start = None;
    }

    pub(super) fn see(&mut self, now: Timestamp, order: &Order) {
        assert!(
            self.expected_start.is_none() || matches!(order, Order::StartTask { .. }),
            "a task that is saved as running is started at once"
        );
        match order {
            Order::Save(change) => self.see_change(now, change),
            Order::StartTask { start, after_save } => {
                assert_eq!(
                    Some(start.task),
                    self.expected_start.take(),
                    "a start that is not saved before"
                );
                let job = &self.jobs[&start.task.job];
                assert_eq!(
                    *after_save, !job.had_exit,
                    "first tasks wait for the save of their job, no others"
                );
                let failed_name = job.failed_task.map_or(String::new(), |index| format!("t{index}"));
                let expected_name = (start.task.index == job.shape.tasks.len()).then_some(failed_name);
                let name = start.failure.as_ref().map(|failure| failure.task_name.to_string());
                assert_eq!(
                    name, expected_name,
                    "on_error knows the first task that failed, if one did; others know none"
                );
            }
            Order::StopTask(task) => {
                let why = self.expected_stops.remove(task).expect("a stop without a reason");
                let state = self.task(*task);
                assert!(state.is_running(), "only what runs is stopped, once");
                *state = ModelTask::Stopping {
                    attempt: state.attempt().0,
                    why,
                    since_ms: now.mono_ms,
                };
            }
            Order::KillTask(task) => {
                let grace_ms = self.grace_ms(*task);
                let state = self.task(*task);
                let ModelTask::Stopping { attempt, why, since_ms } = *state else {
                    panic!("a kill of a task that is {state:?}");
                };
                *state = ModelTask::Killed {
                    attempt,
                    why,
                    since_ms: now.mono_ms,
                };
                assert!(now.mono_ms >= since_ms + grace_ms, "killed within its grace");
            }
            Order::AbandonTask(task) => {
                let state = self.task(*task);
                let ModelTask::Killed { attempt, why, since_ms } = *state else {
                    panic!("a task is given up that is {state:?}");
                };
                *state = ModelTask::Abandoned { attempt, why };
                assert!(now.mono_ms >= since_ms + GIVE_UP_MS, "given up too early");
            }
            Order::TellRetry { task, text, .. } => {
                let (expected, start, due_at_ms) = self.expected_retry.take().expect("nothing is to be tried again");
                assert_eq!(*task, expected);
                assert!(text.starts_with(&start), "{text}");
                let job = self.jobs.get_mut(&task.job).unwrap();
                job.had_exit = true;
                let attempt = job.tasks[task.index].attempt().0;
                job.tasks[task.index] = ModelTask::Between { attempt, due_at_ms };
            }
            Order::Exit => {
                assert!(
                    self.shuts_down && self.running.is_empty() && !self.has_exited,
                    "an exit too many or too early"
                );
                self.has_exited = true;
            }
        }
    }

    fn grace_ms(&self, task: TaskRef) -> i64 {
        self.jobs[&task.job]
            .course(task.index)
            .grace_ms
            .unwrap_or(self.grace_ms)
    }

    fn task(&mut self, task: TaskRef) -> &mut ModelTask {
        &mut self.jobs.get_mut(&task.job).unwrap().tasks[task.index]
    }

    fn see_change(&mut self, now: Timestamp, change: &Change) {
        match change {
            Change::Job(record) => self.see_job(now, record),
            Change::Start { job, start_ms } => {
                assert_eq!(*start_ms, now.wall_ms);
                self.see_start(now, *job);
            }
            Change::Task {
                job,
                index,
                progress,
                fails_job,
                ..
            } => {
                let task = TaskRef {
                    job: *job,
                    index: *index,
                };
                self.see_task(now, task, progress, *fails_job);
            }
            Change::Fail { job, error } => {
                assert!(self.expected_failures.remove(job), "the job has not failed as a whole");
                let job = self.jobs.get_mut(job).unwrap();
                assert_eq!(
                    *error,
                    format!("job timed out after {}ms", job.shape.timeout_ms.unwrap())
                );
                job.has_failed = true;
            }
            Change::Cancel {
                job,
                reason,
                replaced: true,
            } => self.see_interrupt(*job, reason),
            Change::Cancel { job, reason, .. } => {
                assert!(self.expected_cancels.remove(job), "nobody canceled it");
                assert!(!reason.is_empty());
                self.jobs.get_mut(job).unwrap().is_canceled = true;
            }
            Change::Join { job, key } => {
                let (expected, expected_key) = self.expected_join.take().expect("no request has joined a job");
                assert_eq!((*job, key), (expected, &of_job(&expected_key, true)));
                self.jobs.get_mut(job).unwrap().keys.push((expected_key, true));
            }
            Change::DelayOver { job } => {
                let id = *job;
                let job = self.jobs.get_mut(job).unwrap();
                let State::Waiting { not_before_ms } = job.state else {
                    panic!("the delay of a job is over that is {:?}", job.state);
                };
                assert!(
                    not_before_ms.is_none_or(|at_ms| at_ms <= now.mono_ms),
                    "its delay still runs"
                );
                job.state = State::Waiting { not_before_ms: None };
                // After a restart it says so of delays that were over by then.
                if not_before_ms.is_some() {
                    self.look(id);
                }
            }
            Change::End {
                job,
                end_ms,
                status,
                reason,
            } => {
                assert_eq!(*end_ms, now.wall_ms);
                assert_eq!(
                    !reason.is_empty(),
                    *status != JobStatus::Succeeded && *status != JobStatus::Failed
                );
                self.see_end(now, *job, *status);
            }
            Change::Forget { job } => self.see_forget(now, *job),
            Change::Schedule(_) | Change::WasDue(_) | Change::ForgetSchedule { .. } => {
                panic!("there are no schedules here")
            }
        }
    }

    fn see_job(&mut self, now: Timestamp, record: &JobRecord) {
        let id = record.id;
        if self.expected_redefinitions.remove(&id) {
            let job = self.jobs.get_mut(&id).unwrap();
            job.saved = Saved {
                shape: Arc::clone(&job.shape),
                variables: job.variables.clone(),
                x_is_default: job.x_is_default,
            };
            assert_eq!(record.tasks.len(), job.shape.tasks.len());
            assert_eq!(*record.variables, job.variables);
            assert_eq!(record.status, JobStatus::Waiting);
            return;
        }
        let (expected, decision) = self.expected_job.take().expect("nobody asked for this job");
        assert_eq!(id, expected);
        let pipeline = self.jobs[&id].pipeline.clone();
        let list = self.waiting.entry(pipeline.clone()).or_default();
        let job = self.jobs.get_mut(&id).unwrap();
        assert_eq!(record.start_after_ms, job.start_after_wall_ms);
        assert_eq!(record.partition, job.partition);
        assert_eq!(*record.variables, job.variables);
        assert_eq!(record.status == JobStatus::Running, decision == Decision::Starts);
        let delay_ms = job.start_after_wall_ms.map(|_| now.mono_ms + job.shape.delay_ms);
        job.state = State::Waiting {
            not_before_ms: delay_ms,
        };
        match decision {
            Decision::Starts => self.run(now, id),
            Decision::Waits => list.push(id),
            Decision::Replaces(old) => {
                job.replaces = Some(old);
                let place = list.iter().position(|&other| other == old).unwrap();
                list.insert(place + 1, id);
            }
            Decision::Is { .. } => unreachable!("it makes no job"),
        }
        if delay_ms.is_none() && decision != Decision::Starts {
            self.look(id);
        }
    }

    fn see_start(&mut self, now: Timestamp, id: JobId) {
        let job = &self.jobs[&id];
        assert!(
            matches!(job.state, State::Waiting { not_before_ms: None }),
            "a job starts that is {:?}",
            job.state
        );
        assert!(!self.expected_ends.contains_key(&id), "a job starts that was to end");
        assert!(!self.is_held && !self.shuts_down, "nothing starts now");
        let list = self.waiting.get_mut(&job.pipeline).unwrap();
        let is_due = |id: &&JobId| matches!(self.jobs[*id].state, State::Waiting { not_before_ms: None });
        assert_eq!(list.iter().find(is_due), Some(&id), "another one comes first");
        list.retain(|&other| other != id);
        if let Some(has_moved_on) = self.has_moved_on.get_mut(&self.jobs[&id].pipeline) {
            *has_moved_on = true;
        }
        self.run(now, id);
    }

    fn run(&mut self, now: Timestamp, id: JobId) {
        let pipeline = self.jobs[&id].pipeline.clone();
        assert!(
            self.runs(&pipeline) < self.limits[&pipeline].concurrency,
            "more jobs run than may"
        );
        let job = self.jobs.get_mut(&id).unwrap();
        job.state = State::Running;
        job.timeout_at_ms = job.shape.timeout_ms.map(|limit_ms| now.mono_ms + limit_ms);
        job.tasks = vec![ModelTask::Waiting; job.shape.tasks.len()];
        self.running.push(id);
    }

    fn see_task(&mut self, now: Timestamp, task: TaskRef, progress: &TaskProgress, fails_job: bool) {
        let active = self.active_count();
        let next = self.next_task();
        let job = self.jobs.get_mut(&task.job).unwrap();
        assert_eq!(job.state, State::Running, "a task of a job that does not run");
        let is_on_error = task.index == job.shape.tasks.len();
        if let Some((expected, end, fails)) = &self.expected_exit
            && *expected == task
        {
            let seen = TaskProgress {
                start_ms: None,
                error: of_time(&progress.error),
                note: String::new(),
                ..progress.clone()
            };
            assert_eq!((&seen, fails_job), (end, *fails), "judged wrongly");
            assert_eq!(progress.error.is_empty(), progress.status != TaskStatus::Error);
            assert!(job.tasks[task.index].is_active());
            job.tasks[task.index] = ModelTask::Ended(end.status);
            job.had_exit = true;
            if *fails {
                job.has_failed = true;
            }
            self.expected_exit = None;
            return;
        }
        assert!(!fails_job);
        match progress.status {
            TaskStatus::Running => {
                assert_eq!(next, Some(task), "the wrong task starts");
                assert!(active < self.max_tasks, "more tasks run than may");
                let last = job.tasks.get(task.index).map_or(0, |task| task.attempt().0);
                assert_eq!(progress.retries, last);
                if last == 0 {
                    assert_eq!(progress.start_ms, Some(now.wall_ms));
                } else {
                    assert!(!job.is_barred(task.index), "a further attempt starts that must not");
                }
                let timeout_ms = job.course(task.index).timeout_ms;
                let state = ModelTask::Running {
                    attempt: last + 1,
                    timeout_at_ms: timeout_ms.map(|limit_ms| now.mono_ms + limit_ms),
                };
                if task.index == job.tasks.len() {
                    assert!(is_on_error);
                    job.tasks.push(state);
                } else {
                    job.tasks[task.index] = state;
                }
                self.expected_start = Some(task);
            }
            TaskStatus::Done => {
                assert!(job.is_marker(task.index), "a task is done that has not exited");
                if is_on_error {
                    assert!(job.owes_on_error());
                    job.tasks.push(ModelTask::Ended(TaskStatus::Done));
                } else {
                    assert!(job.may_run(task.index), "a marker passes too early");
                    job.tasks[task.index] = ModelTask::Ended(TaskStatus::Done);
                }
            }
            TaskStatus::Canceled => {
                let expected = if let ModelTask::Between { attempt, .. } = job.tasks[task.index] {
                    assert!(job.is_barred(task.index), "a task is canceled that is tried again");
                    (Some(now.wall_ms), -1, attempt - 1)
                } else {
                    assert!(job.is_hopeless(task.index), "a task is canceled that could run");
                    (None, 0, 0)
                };
                assert_eq!((progress.end_ms, progress.exit_code, progress.retries), expected);
                job.tasks[task.index] = ModelTask::Ended(TaskStatus::Canceled);
            }
            TaskStatus::Waiting | TaskStatus::Error => panic!("a task is {:?} by itself", progress.status),
        }
    }

    /// The task that must be the next to start.
    fn next_task(&self) -> Option<TaskRef> {
        self.running.iter().find_map(|&job| {
            let index = self.jobs[&job].next_task()?;
            Some(TaskRef { job, index })
        })
    }

    fn see_end(&mut self, now: Timestamp, id: JobId, status: JobStatus) {
        let job = self.jobs.get_mut(&id).unwrap();
        let has_started = match job.state {
            State::Waiting { .. } => {
                assert_eq!(self.expected_ends.remove(&id), Some(status), "a waiting job ends");
                self.waiting
                    .get_mut(&job.pipeline)
                    .unwrap()
                    .retain(|&other| other != id);
                false
            }
            State::Running => {
                assert!(job.all_ended(), "a job ends before its tasks");
                assert!(!job.owes_on_error(), "a job ends without its on_error");
                assert_eq!(status, job.status_at_end());
                self.running.retain(|&other| other != id);
                self.has_moved_on.entry(job.pipeline.clone()).or_default();
                true
            }
            State::Asked | State::Ended(_) => panic!("a job ends twice, or never was"),
        };
        job.state = State::Ended(status);
        self.keep(now, id, has_started);
    }

    fn keep(&mut self, now: Timestamp, id: JobId, has_started: bool) {
        let list = self
            .kept
            .entry((self.jobs[&id].pipeline.clone(), has_started))
            .or_default();
        list.push(Kept {
            job: id,
            end_ms: now.mono_ms,
            end_wall_ms: now.wall_ms,
        });
    }

    pub(super) fn kept_jobs(&self) -> Vec<JobId> {
        self.kept.values().flatten().map(|kept| kept.job).collect()
    }

    /// Somebody asks for a job to be forgotten.
    pub(super) fn will_forget(&mut self, id: JobId) -> Result<(), ForgetError> {
        if self.kept.values().flatten().any(|kept| kept.job == id) {
            self.expected_forget = Some(id);
            return Ok(());
        }
        match self.jobs[&id].state {
            State::Ended(_) => Err(ForgetError::Unknown),
            State::Asked | State::Waiting { .. } | State::Running => Err(ForgetError::NotEnded),
        }
    }

    fn see_forget(&mut self, now: Timestamp, id: JobId) {
        let (period_ms, count) = self.retention(&self.jobs[&id].pipeline);
        let is_asked_for = self.expected_forget.take_if(|asked| *asked == id).is_some();
        let mut lists = self.kept.values_mut();
        let list = lists
            .find(|list| list.iter().any(|kept| kept.job == id))
            .expect("a job is forgotten that is not kept");
        if is_asked_for {
            list.retain(|kept| kept.job != id);
            return;
        }
        assert_eq!(list[0].job, id, "the oldest is forgotten first");
        assert!(is_outdated(period_ms, count, list, now), "forgotten too early");
        list.remove(0);
    }

    /// What holds for the ended jobs of a pipeline: how long, and how many of them, are kept.
    fn retention(&self, pipeline: &str) -> (Option<i64>, Option<usize>) {
        match self.limits.get(pipeline) {
            None => (None, None),
            Some(shape) => (
                shape.retention_period_ms.or(self.default_period_ms),
                shape.retention_count.or(self.default_count),
            ),
        }
    }

    fn look(&mut self, id: JobId) {
        if self.limits[&self.jobs[&id].pipeline].rules.interrupts {
            self.looking.push(id);
        }
    }

    /// The job that one which waits must stop.
    fn victim_of(&self, id: JobId) -> Option<JobId> {
        let job = &self.jobs[&id];
        let limits = &self.limits[&job.pipeline];
        if job.state != (State::Waiting { not_before_ms: None }) || !limits.rules.interrupts {
            return None;
        }
        let mut ahead = 0;
        for other in &self.waiting[&job.pipeline] {
            if *other == id {
                break;
            }
            ahead += usize::from(self.jobs[other].state == State::Waiting { not_before_ms: None });
        }
        let mut leaving = 0;
        let mut victim = None;
        for candidate in self
            .running
            .iter()
            .filter(|other| self.jobs[*other].pipeline == job.pipeline)
        {
            let other = &self.jobs[candidate];
            let is_apart = matches!(limits.queue, Queue::PartitionedReplace { .. }) && other.partition != job.partition;
            if other.is_ending() {
                leaving += 1;
            } else if victim.is_none() && !is_apart {
                victim = Some(*candidate);
            }
        }
        victim.filter(|_| leaving <= ahead)
    }

    fn see_interrupt(&mut self, victim: JobId, reason: &str) {
        assert!(!self.is_held && !self.shuts_down, "nothing is stopped for others now");
        loop {
            assert!(!self.looking.is_empty(), "no job has just begun to wait");
            let id = self.looking.remove(0);
            // One that found nothing to stop.
            if reason != format!("replaced by job {id}") {
                assert_eq!(self.victim_of(id), None, "{id} must stop one");
                continue;
            }
            assert_eq!(self.victim_of(id), Some(victim), "the wrong job is stopped");
            break;
        }
        self.jobs.get_mut(&victim).unwrap().is_replaced = true;
        self.expect_stops(victim, Why::Replace);
    }

    /// What must hold between two calls.
    pub(super) fn check_at_rest(&mut self, now: Timestamp, next_deadline: Option<i64>, views: &[PipelineView]) {
        assert_eq!(self.expected_job, None, "an accepted job is not saved");
        assert_eq!(self.expected_forget, None, "this must be forgotten");
        assert_eq!(
            self.expected_join, None,
            "the key of a request that joined a job is not saved"
        );
        assert!(self.expected_redefinitions.is_empty(), "a new definition is not saved");
        assert!(
            self.expected_ends.is_empty(),
            "these must have ended: {:?}",
            self.expected_ends
        );
        assert!(
            self.expected_cancels.is_empty(),
            "these must be told to stop: {:?}",
            self.expected_cancels
        );
        if !self.is_held && !self.shuts_down {
            for id in std::mem::take(&mut self.looking) {
                // Where a place became free and was taken, things stood otherwise when it looked.
                let moved_on = self.has_moved_on.get(&self.jobs[&id].pipeline) == Some(&true);
                assert!(
                    moved_on || self.victim_of(id).is_none(),
                    "{id} must stop a job that runs"
                );
            }
        }
        self.has_moved_on.clear();
        assert!(self.expected_exit.is_none(), "the end of a task is not saved");
        assert_eq!(self.expected_retry, None, "this must be tried again");
        assert!(
            self.expected_stops.is_empty(),
            "these must be told to stop: {:?}",
            self.expected_stops
        );
        assert!(
            self.expected_failures.is_empty(),
            "these have failed: {:?}",
            self.expected_failures
        );
        assert_eq!(
            self.expected_start, None,
            "a task that is saved as running is not started"
        );
        for (pipeline, list) in &self.waiting {
            let is_due = |id: &JobId| matches!(self.jobs[id].state, State::Waiting { not_before_ms: None });
            let may_start = !self.is_held
                && !self.shuts_down
                && self
                    .limits
                    .get(pipeline)
                    .is_some_and(|limits| self.runs(pipeline) < limits.concurrency);
            assert!(
                !(may_start && list.iter().any(is_due)),
                "a job of {pipeline} waits in vain"
            );
        }
        assert!(
            self.next_task().is_none() || self.active_count() >= self.max_tasks,
            "a task waits in vain"
        );
        for id in &self.running {
            let job = &self.jobs[id];
            assert!(
                !job.all_ended() || (job.owes_on_error() && !job.is_marker(job.shape.tasks.len())),
                "{id} must end"
            );
            for index in 0..job.shape.tasks.len() {
                assert!(!job.is_hopeless(index), "a task waits that can never run");
                assert!(!(job.is_marker(index) && job.may_run(index)), "a marker waits");
            }
            for (index, task) in job.tasks.iter().enumerate() {
                let goes_on = task.is_running() || matches!(task, ModelTask::Between { .. });
                assert!(!(goes_on && job.is_barred(index)), "it must be stopped");
            }
        }
        assert!(!self.must_forget(now), "a job must be forgotten");
        let must_exit = self.shuts_down && self.running.is_empty();
        assert_eq!(
            self.has_exited, must_exit,
            "the exit is ordered when nothing runs any more"
        );
        assert_eq!(
            next_deadline,
            self.next_deadline(),
            "wakes up at another time than something is due"
        );
        for view in views {
            let name = &*view.pipeline;
            let ask = Ask {
                pipeline: NAMES.into_iter().find(|known| *known == name).unwrap(),
                partition: "",
                variables: self.defined[name].rules.fitting(),
                key: None,
            };
            // Whether a request equals a job depends on the request.
            let is_accepted = self.find_room(&ask).is_ok() && !self.shuts_down && !self.is_held;
            assert_eq!((view.schedulable, view.running), (is_accepted, self.runs(name) > 0));
        }
        assert_eq!(views.len(), self.defined.len());
    }

    pub(super) fn must_forget(&self, now: Timestamp) -> bool {
        self.kept.iter().any(|((pipeline, _), list)| {
            let (period_ms, count) = self.retention(pipeline);
            is_outdated(period_ms, count, list, now)
        })
    }

    fn next_deadline(&self) -> Option<i64> {
        let delays = self.jobs.values().filter_map(|job| match job.state {
            State::Waiting { not_before_ms } => not_before_ms,
            State::Asked | State::Running | State::Ended(_) => None,
        });
        let job_timeouts = self.jobs.values().filter_map(ModelJob::job_timeout);
        let all_tasks = self.jobs.iter().flat_map(|(&id, job)| {
            let tasks = job.tasks.iter().enumerate();
            tasks.map(move |(index, task)| (TaskRef { job: id, index }, task))
        });
        let tasks = all_tasks.filter_map(|(task_ref, task)| match *task {
            ModelTask::Running { timeout_at_ms, .. } => timeout_at_ms,
            ModelTask::Between { due_at_ms, .. } => due_at_ms,
            ModelTask::Stopping { since_ms, .. } => Some(since_ms + self.grace_ms(task_ref)),
            ModelTask::Killed { since_ms, .. } => Some(since_ms + GIVE_UP_MS),
            ModelTask::Waiting | ModelTask::Abandoned { .. } | ModelTask::Ended(_) => None,
        });
        let expiries = self.kept.iter().filter_map(|((pipeline, _), list)| {
            let period_ms = self.retention(pipeline).0?;
            Some(list.first()?.end_ms + period_ms)
        });
        delays.chain(job_timeouts).chain(tasks).chain(expiries).min()
    }

    /// What is on disk must say the same.
    pub(super) fn check_records(&self, records: &BTreeMap<JobId, JobRecord>) {
        for (id, record) in records {
            let job = &self.jobs[id];
            let status = match job.state {
                State::Waiting { .. } => JobStatus::Waiting,
                State::Running => JobStatus::Running,
                State::Ended(status) => status,
                State::Asked => panic!("on disk without having been saved"),
            };
            assert_eq!(record.status, status);
            assert_eq!(record.errored, job.has_failed);
            let keys: Vec<IdempotencyKey> = job.keys.iter().map(|(key, joined)| of_job(key, *joined)).collect();
            assert_eq!(record.idempotency, keys);
            for (task, state) in record.tasks.iter().zip(&job.tasks) {
                let expected = match state {
                    ModelTask::Waiting => TaskStatus::Waiting,
                    ModelTask::Ended(status) => *status,
                    ModelTask::Running { .. }
                    | ModelTask::Stopping { .. }
                    | ModelTask::Killed { .. }
                    | ModelTask::Abandoned { .. }
                    | ModelTask::Between { .. } => TaskStatus::Running,
                };
                assert_eq!(task.progress.status, expected);
            }
        }
        let live = self
            .jobs
            .values()
            .filter(|job| !matches!(job.state, State::Ended(_)))
            .count();
        let on_disk = records.values().filter(|record| !record.status.has_ended()).count();
        let kept: usize = self.kept.values().map(Vec::len).sum();
        assert_eq!(
            (live, live + kept),
            (on_disk, records.len()),
            "no job is lost, none comes back"
        );
    }
}

fn of_job(key: &RequestKey, joined: bool) -> IdempotencyKey {
    IdempotencyKey {
        key: key.key.clone(),
        body_hash: key.body_hash.clone(),
        joined,
    }
}

/// The error of a task, if it says that its time was over.
fn of_time(error: &str) -> String {
    let is_of_time = error.starts_with("timed out");
    if is_of_time { error.to_owned() } else { String::new() }
}

fn is_outdated(period_ms: Option<i64>, count: Option<usize>, list: &[Kept], now: Timestamp) -> bool {
    let Some(oldest) = list.first() else {
        return false;
    };
    count.is_some_and(|count| list.len() > count)
        || period_ms.is_some_and(|period_ms| oldest.end_ms + period_ms <= now.mono_ms)
}
