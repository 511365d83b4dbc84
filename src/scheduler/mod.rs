//! Decides what runs: which job starts, waits or is refused, which task runs next, what is stopped, what is forgotten.
//!
//! Plain data and functions. There is no clock, thread, file, socket, process or random number in here: time and ids
//! come in as arguments, and what is to be done goes out as [`Order`]s. So every history can be replayed in a test,
//! with simulated time, and a decision never waits for anything.
//!
//! Here is how jobs are started and ended. How they come and wait is in `wait_list` (which
//! request makes none: `keys` and `deduplicate`; what it takes over: `merge`; what it stops: `interrupt`), how tasks are
//! stopped in `stop`,
//! whether they are tried again in `retry`, what an exit means in `judge`, when they come by themselves in `schedules`, what
//! is forgotten in `retention`.
//!
//! Every call that changes something ends in `advance`, which starts what can start. The order of orders matters: a
//! `Save` stands before the `StartTask` that must not happen without it.
//!
//! Surprise: a job that ended is not kept. What is left of it here is its id and its end, for retention.

mod deduplicate;
mod interrupt;
mod job;
mod judge;
mod keys;
mod lane;
mod merge;
mod orders;
mod retention;
mod retry;
mod schedules;
#[cfg(test)]
mod simulation;
mod stop;
#[cfg(test)]
mod tests;
mod variables;
mod wait_list;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem;
use std::sync::Arc;

use serde::Serialize;

use crate::definition::variables::Declared;
use crate::definition::{Pipelines, shown};
use crate::job::{Change, IdempotencyKey, JobId, JobStatus, TaskProgress, TaskRef, TaskStatus};
use crate::timestamp::Timestamp;
use deduplicate::Digests;
use job::{Attempt, Job, JobPhase, StopReason, TaskEnd, TaskState};
use judge::judge;
use keys::Keys;
use lane::Lane;
use schedules::Schedules;

pub(crate) use schedules::{AddError, RemoveError};

pub(crate) use orders::{Accepted, Failure, Order, Outcome, RequestKey, ScheduleRequest, TaskExit, TaskStart};
pub(crate) use retention::{ForgetError, Retention};

/// Jobs that wait in the whole process. A limit on everything: this one is far beyond what anybody watches.
pub(crate) const MAX_WAITING_JOBS: usize = 10_000;
/// Bytes of variables, as JSON text, of all jobs that wait.
pub(crate) const MAX_WAITING_BYTES: usize = 256 * 1024 * 1024;
/// What holds for the whole process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Tasks that run at once.
    pub max_tasks: usize,
    /// From the interrupt to the kill.
    pub kill_grace_ms: i64,
    /// Of ended jobs whose pipelines say nothing about it.
    pub retention: Retention,
}

/// How prunner is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shutdown {
    /// Running jobs go on to their end.
    Drain,
    /// Running jobs are stopped.
    Stop,
    /// The same, and what was told to stop is killed without further grace.
    Kill,
}

/// A job that ended before this start, for retention.
#[derive(Clone, Debug)]
pub(crate) struct EndedJob {
    pub id: JobId,
    pub pipeline: Arc<str>,
    /// For the order in which they ended.
    pub end_ms: i64,
    /// It ended no later than this: what is known to the second alone must not be forgotten early.
    pub latest_end_ms: i64,
    pub idempotency: Vec<IdempotencyKey>,
    /// It ran; else it was canceled or replaced while it waited.
    pub started: bool,
}

/// A pipeline as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PipelineView {
    pub pipeline: Arc<str>,
    /// A request now would be accepted.
    pub schedulable: bool,
    /// At least one job of it runs.
    pub running: bool,
    /// What it expects of its variables.
    #[serde(skip_serializing_if = "has_no_variables")]
    pub variables: Arc<Declared>,
    /// It takes no others.
    #[serde(skip_serializing_if = "is_false")]
    pub strict_variables: bool,
}

fn has_no_variables(declared: &Arc<Declared>) -> bool {
    declared.variables.is_empty()
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// Why a request is refused. The texts are those that clients of the old server show and match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScheduleError {
    UnknownPipeline(String),
    QueueFull,
    QueueDisabled,
    BadVariables(String),
    ShuttingDown,
    /// Another request had this key.
    KeyOfAnother,
    /// It equals this job.
    Duplicate(JobId),
    /// Of what is due while nothing can be saved: requests don't come this far then.
    Held,
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScheduleError::UnknownPipeline(name) => write!(formatter, "pipeline {:?} is not defined", shown(name)),
            ScheduleError::QueueFull => {
                formatter.write_str("concurrency exceeded and queue limit reached for pipeline")
            }
            ScheduleError::QueueDisabled => {
                formatter.write_str("concurrency exceeded and queueing disabled for pipeline")
            }
            ScheduleError::BadVariables(complaints) => formatter.write_str(complaints),
            ScheduleError::ShuttingDown => formatter.write_str("prunner is shutting down"),
            ScheduleError::Duplicate(job) => write!(formatter, "an equal job waits or runs already: {job}"),
            ScheduleError::KeyOfAnother => {
                formatter.write_str("the idempotency key was given to a request with another body; give each its own")
            }
            ScheduleError::Held => formatter.write_str("nothing can be saved at the moment"),
        }
    }
}

/// The job neither waits nor runs: it ended, or never was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotLive;

/// What happens to a job or task at a moment, unless something else happens first. Of what is due in the same millisecond,
/// the first one here comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    DelayOver(JobId),
    Kill(TaskRef),
    GiveUp(TaskRef),
    /// A task's own limit is the more telling one: it comes before its job's.
    Timeout(TaskRef),
    JobTimeout(JobId),
    Retry(TaskRef),
}

/// All jobs that wait or run, and the rules between them.
#[derive(Debug)]
pub(crate) struct Scheduler {
    limits: Limits,
    pipelines: Pipelines,
    lanes: BTreeMap<Arc<str>, Lane>,
    /// Jobs that wait or run.
    jobs: BTreeMap<JobId, Job>,
    keys: Keys,
    digests: Digests,
    /// Jobs that have just begun to wait for a place, and may stop others for it.
    interrupting: Vec<JobId>,
    /// Running jobs with tasks that may start, by the turn in which they started.
    ready: BTreeMap<u64, JobId>,
    /// Monotonic milliseconds and what is due then. Taken out when it no longer holds, so that nothing wakes in vain.
    timers: BTreeSet<(i64, Timer)>,
    running_jobs: usize,
    /// A job ended since waiting jobs were last looked at.
    place_was_freed: bool,
    running_tasks: usize,
    waiting_jobs: usize,
    waiting_bytes: usize,
    next_turn: u64,
    next_place: u64,
    shutdown: Option<Shutdown>,
    exit_is_ordered: bool,
    /// Storage trouble: what waits goes on waiting.
    is_held: bool,
    schedules: Schedules,
    orders: Vec<Order>,
}

impl Scheduler {
    pub(crate) fn new(limits: Limits, pipelines: Pipelines) -> Scheduler {
        let mut scheduler = Scheduler {
            limits,
            pipelines: Pipelines::new(),
            lanes: BTreeMap::new(),
            jobs: BTreeMap::new(),
            keys: Keys::default(),
            digests: Digests::new(),
            interrupting: Vec::new(),
            ready: BTreeMap::new(),
            timers: BTreeSet::new(),
            running_jobs: 0,
            place_was_freed: false,
            running_tasks: 0,
            waiting_jobs: 0,
            waiting_bytes: 0,
            next_turn: 0,
            next_place: 0,
            shutdown: None,
            exit_is_ordered: false,
            is_held: false,
            schedules: Schedules::default(),
            orders: Vec::new(),
        };
        scheduler.set_pipelines(pipelines);
        scheduler
    }

    /// Stops a job: one that waits has ended with that, one that runs is told to stop. A job that was told to stop
    /// already is left as it is.
    ///
    /// # Errors
    /// Where the job has ended or never was.
    pub(crate) fn cancel(&mut self, now: Timestamp, id: JobId, by: &str) -> Result<(), NotLive> {
        let job = self.jobs.get(&id).ok_or(NotLive)?;
        let reason = if by.is_empty() {
            "canceled".to_owned()
        } else {
            format!("canceled by {by}")
        };
        if job.phase.turn().is_none() {
            self.end_waiting(now, id, JobStatus::Canceled, reason);
        } else {
            self.stop_running(now, id, reason);
        }
        self.advance(now);
        Ok(())
    }

    /// A task that was told to start has ended, whether it ever had a process or not.
    pub(crate) fn task_exited(&mut self, now: Timestamp, task: TaskRef, exit: TaskExit) {
        if self.shutdown == Some(Shutdown::Drain) && is_interrupted(&exit) {
            // The interrupt that we got was sent to the tasks too. This one needs no more to be told.
            let state = self.task_state(task);
            let before = *state;
            if let TaskState::Running { attempt, .. } = before {
                *state = TaskState::Stopping {
                    attempt,
                    why: StopReason::Cancel,
                    kill_at_ms: now.mono_ms,
                };
                self.drop_timers(task, before);
            }
            self.stop_running(now, task.job, "prunner was stopped".to_owned());
        }
        let job = self
            .jobs
            .get_mut(&task.job)
            .expect("a job lasts until its tasks have exited");
        let state = job.tasks[task.index];
        job.active -= 1;
        job.start_is_saved = true;
        self.running_tasks -= 1;
        let mut verdict = judge(&job.pipeline, task.index, state, exit, now.wall_ms);
        self.drop_timers(task, state);
        if !self.retry(now, task, &verdict) {
            if verdict.attempt.number > 1 {
                self.join_notes(task, &mut verdict.progress);
            }
            self.end_task(now, task, verdict.progress, verdict.failed);
        }
        self.advance(now);
    }

    /// The set of pipelines from now on. Jobs that wait or run keep the definition that they were scheduled with.
    pub(crate) fn replace_pipelines(&mut self, now: Timestamp, pipelines: Pipelines) {
        self.set_pipelines(pipelines);
        self.load_schedules(now);
        self.advance(now);
    }

    fn set_pipelines(&mut self, pipelines: Pipelines) {
        for lane in self.lanes.values_mut() {
            lane.is_defined = false;
        }
        let mut changed = Vec::new();
        for (name, pipeline) in &pipelines {
            let lane = self
                .lanes
                .entry(Arc::clone(name))
                .or_insert_with(|| Lane::undefined(Arc::clone(name)));
            if lane.pipeline.intake.deduplicate != pipeline.intake.deduplicate {
                changed.push(Arc::clone(name));
            }
            lane.define(Arc::clone(pipeline), self.limits.retention);
        }
        if !changed.is_empty() {
            self.digest_anew(&changed);
        }
        self.lanes.retain(|_, lane| !lane.is_unused());
        self.pipelines = pipelines;
    }

    /// Accepts nothing more. `Order::Exit` follows when nothing runs any more; what waits goes on waiting, for the next
    /// start. Asking again can only make it harder.
    pub(crate) fn shut_down(&mut self, now: Timestamp, how: Shutdown) {
        self.shutdown = self.shutdown.max(Some(how));
        if how >= Shutdown::Stop {
            let running: Vec<JobId> = self
                .jobs
                .values()
                .filter(|job| job.phase.turn().is_some())
                .map(|job| job.id)
                .collect();
            for id in running {
                self.stop_running(now, id, "prunner was stopped".to_owned());
            }
        }
        if how == Shutdown::Kill {
            self.end_grace(now);
        }
        self.advance(now);
    }

    /// While the store has trouble no waiting job starts.
    pub(crate) fn hold(&mut self, now: Timestamp, is_held: bool) {
        self.is_held = is_held;
        self.advance(now);
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        while let Some(&(at_ms, timer)) = self.timers.first() {
            if at_ms > now.mono_ms {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::DelayOver(id) => {
                    let job = self.jobs.get_mut(&id).expect("a job's timer is removed with it");
                    job.set_phase(JobPhase::Waiting { not_before_ms: None });
                    self.lanes
                        .get_mut(&job.pipeline.name)
                        .expect("a waiting job has a lane")
                        .set_due(job.place);
                    self.orders.push(Order::Save(Change::DelayOver { job: id }));
                    self.note_wait(id);
                }
                Timer::Kill(task) => self.kill(now, task),
                Timer::GiveUp(task) => self.give_up(task),
                Timer::Timeout(task) => self.time_out(now, task),
                Timer::JobTimeout(id) => self.time_out_job(now, id),
                Timer::Retry(task) => self.end_delay(now, task),
            }
        }
        self.advance(now);
    }

    /// When `tick` and then `take_due` must be called at the latest, in monotonic milliseconds; `None`: nothing is ever due.
    pub(crate) fn next_deadline(&self) -> Option<i64> {
        let timer = self.timers.first().map(|&(at_ms, _)| at_ms);
        let expiry = self.lanes.values().filter_map(Lane::next_expiry).min();
        [timer, expiry, self.next_interval()].into_iter().flatten().min()
    }

    /// What is to be done for the calls since the last one.
    #[must_use]
    pub(crate) fn take_orders(&mut self) -> Vec<Order> {
        mem::take(&mut self.orders)
    }

    /// All pipelines that are defined, by name.
    pub(crate) fn pipeline_views(&self) -> Vec<PipelineView> {
        let views = self.pipelines.keys().map(|name| {
            let lane = &self.lanes[name];
            let starts = lane.pipeline.start_delay_ms == 0 && lane.has_free_place();
            let waits = self.waiting_jobs < MAX_WAITING_JOBS && lane.find_place("").is_ok();
            PipelineView {
                pipeline: Arc::clone(name),
                schedulable: (starts || waits) && self.shutdown.is_none() && !self.is_held,
                running: !lane.running.is_empty(),
                variables: Arc::clone(&lane.pipeline.intake.declared),
                strict_variables: lane.pipeline.intake.declared.is_strict,
            }
        });
        views.collect()
    }

    /// Starts what can start, until nothing more can. The end of every change.
    fn advance(&mut self, now: Timestamp) {
        loop {
            self.start_jobs(now);
            self.interrupt_running(now);
            // A job may end within its start, where all its tasks are markers: that frees its place again.
            if !mem::take(&mut self.place_was_freed) {
                break;
            }
        }
        self.start_tasks(now);
        self.forget_outdated(now);
        if self.shutdown.is_some() && self.running_jobs == 0 && !self.exit_is_ordered {
            self.exit_is_ordered = true;
            self.orders.push(Order::Exit);
        }
    }

    fn start_jobs(&mut self, now: Timestamp) {
        if self.is_held || self.shutdown.is_some() {
            return;
        }
        let starting: Vec<JobId> = self.lanes.values().flat_map(Lane::next_due).collect();
        for id in starting {
            self.remove_waiting(id);
            self.orders.push(Order::Save(Change::Start {
                job: id,
                start_ms: now.wall_ms,
            }));
            self.run_job(now, id);
        }
    }

    /// Gives a job its place.
    fn run_job(&mut self, now: Timestamp, id: JobId) {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.running_jobs += 1;
        let job = self.jobs.get_mut(&id).expect("a job that starts is known");
        self.lanes
            .get_mut(&job.pipeline.name)
            .expect("a job has a lane")
            .running
            .insert(turn, id);
        job.start(turn);
        if let Some(limit) = &job.pipeline.timeout {
            let at_ms = now.mono_ms.saturating_add(limit.ms);
            job.timeout_at_ms = Some(at_ms);
            self.timers.insert((at_ms, Timer::JobTimeout(id)));
        }
        self.proceed(now, id);
    }

    /// Starts ready tasks while there is room: those of the job that started first come first.
    fn start_tasks(&mut self, now: Timestamp) {
        while self.running_tasks < self.limits.max_tasks
            && let Some((&turn, &id)) = self.ready.first_key_value()
        {
            let job = self.jobs.get_mut(&id).expect("a job with ready tasks is known");
            let place = job
                .ready
                .pop_first()
                .expect("a job stands in `ready` while it has ready tasks");
            let index = job.index_at(place);
            if job.ready.is_empty() {
                self.ready.remove(&turn);
            }
            self.start_task(now, TaskRef { job: id, index });
        }
    }

    fn start_task(&mut self, now: Timestamp, task: TaskRef) {
        let job = self.jobs.get_mut(&task.job).expect("a job with ready tasks is known");
        let is_on_error = matches!(job.phase, JobPhase::OnError { .. });
        let attempt = match job.tasks.get(task.index) {
            Some(&TaskState::Between { failed, .. }) => Attempt {
                number: failed.number + 1,
                ..failed
            },
            Some(_) | None => Attempt {
                number: 1,
                start_ms: now.wall_ms,
            },
        };
        let limit = job.pipeline.task(task.index).bounds.timeout.as_ref();
        let timeout_at_ms = limit.map(|limit| now.mono_ms.saturating_add(limit.ms));
        let state = TaskState::Running { attempt, timeout_at_ms };
        if task.index == job.tasks.len() {
            // `on_error` is listed from its start on.
            job.tasks.push(state);
        } else {
            job.tasks[task.index] = state;
        }
        if let Some(at_ms) = timeout_at_ms {
            self.timers.insert((at_ms, Timer::Timeout(task)));
        }
        job.active += 1;
        self.running_tasks += 1;
        let start = TaskStart {
            task,
            pipeline: Arc::clone(&job.pipeline),
            variables: Arc::clone(&job.variables),
            failure: job.failure.clone().filter(|_| is_on_error),
        };
        let after_save = !job.start_is_saved;
        let progress = TaskProgress {
            status: TaskStatus::Running,
            start_ms: Some(attempt.start_ms),
            retries: attempt.number - 1,
            ..TaskProgress::default()
        };
        self.save_task(task, progress, false);
        self.orders.push(Order::StartTask { start, after_save });
    }

    /// Notes how a task ended, and what follows from it within its job.
    fn end_task(&mut self, now: Timestamp, task: TaskRef, progress: TaskProgress, failed: bool) {
        let job = self
            .jobs
            .get_mut(&task.job)
            .expect("a job lasts until its tasks have ended");
        let end = match progress.status {
            TaskStatus::Done => TaskEnd::Done,
            TaskStatus::Error => TaskEnd::Failed,
            TaskStatus::Canceled => TaskEnd::Canceled,
            TaskStatus::Waiting | TaskStatus::Running => unreachable!("a task ends as one of the three"),
        };
        job.tasks[task.index] = TaskState::Ended(end);
        let fails_job = failed && job.failure.is_none() && !job.is_told_to_stop();
        if fails_job {
            job.failure = Some(Failure {
                task_name: Arc::clone(&job.pipeline.task(task.index).name),
                exit_code: progress.exit_code,
                error: progress.error.clone(),
            });
        }
        let is_on_error = task.index >= job.pipeline.tasks.len();
        if failed
            && !is_on_error
            && let Some(failure) = job.failure.as_mut().filter(|failure| failure.task_name.is_empty())
        {
            // The job failed as a whole while this one ran.
            *failure = Failure {
                task_name: Arc::clone(&job.pipeline.task(task.index).name),
                exit_code: progress.exit_code,
                error: progress.error.clone(),
            };
        }
        self.save_task(task, progress, fails_job);
        let job = self.jobs.get_mut(&task.job).expect("it was there above");
        if is_on_error {
            // Nothing depends on it, and its own failure changes nothing else.
        } else if fails_job && job.is_stopped() {
            self.stop_tasks(now, task.job, StopReason::FailFast);
        } else if end != TaskEnd::Done {
            for index in job.cancel_dependents(task.index) {
                self.save_canceled(now, TaskRef { index, ..task }, TaskState::Waiting);
            }
        } else {
            job.release_dependents(task.index);
        }
        self.proceed(now, task.job);
    }

    /// Goes on with a running job after something of it changed: its markers pass, its ready tasks are noted, and where
    /// nothing is left to do, it handles its error or ends.
    fn proceed(&mut self, now: Timestamp, id: JobId) {
        self.pass_markers(now, id);
        if self.settle(now, id) {
            return;
        }
        let job = &self.jobs[&id];
        let turn = job.phase.turn().expect("only running jobs proceed");
        if job.ready.is_empty() {
            self.ready.remove(&turn);
        } else {
            self.ready.insert(turn, id);
        }
    }

    fn pass_markers(&mut self, now: Timestamp, id: JobId) {
        let at = Some(now.wall_ms);
        let progress = TaskProgress {
            status: TaskStatus::Done,
            start_ms: at,
            end_ms: at,
            ..TaskProgress::default()
        };
        let job = self.jobs.get_mut(&id).expect("the caller has seen it");
        while let Some(index) = job.ready_markers.pop() {
            let state = TaskState::Ended(TaskEnd::Done);
            if index == job.tasks.len() {
                // `on_error` is listed from its start on, which is its end here.
                job.tasks.push(state);
            } else {
                job.tasks[index] = state;
            }
            job.release_dependents(index);
            let change = Change::Task {
                job: id,
                index,
                name: Arc::clone(&job.pipeline.task(index).name),
                progress: progress.clone(),
                fails_job: false,
            };
            self.orders.push(Order::Save(change));
        }
    }

    /// Ends a job of which nothing runs or can run any more, or lets it handle its error first. True: it ended.
    fn settle(&mut self, now: Timestamp, id: JobId) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else {
            return false;
        };
        if !job.is_at_rest() {
            return false;
        }
        if let JobPhase::Running { turn } = job.phase
            && job.failure.is_some()
            && !job.is_told_to_stop()
            && job.pipeline.on_error.is_some()
        {
            job.enter_on_error(turn);
            self.drop_job_timeout(id);
            self.pass_markers(now, id);
            if !self.jobs[&id].is_at_rest() {
                return false;
            }
        }
        self.drop_job_timeout(id);
        let job = &self.jobs[&id];
        let status = job.status_at_end();
        let reason = job
            .canceled
            .as_ref()
            .or(job.replaced.as_ref())
            .cloned()
            .unwrap_or_default();
        let turn = job.phase.turn().expect("a job that is settled has run");
        let job = self.remove_job(id);
        self.ready.remove(&turn);
        self.running_jobs -= 1;
        self.place_was_freed = true;
        self.lanes
            .get_mut(&job.pipeline.name)
            .expect("a job has a lane")
            .running
            .remove(&turn);
        self.orders.push(Order::Save(Change::End {
            job: id,
            end_ms: now.wall_ms,
            status,
            reason,
        }));
        self.remember(now, &job.pipeline.name, id, true);
        true
    }

    /// What there was to say of the attempts before the last one stands first.
    fn join_notes(&mut self, task: TaskRef, progress: &mut TaskProgress) {
        let job = self.jobs.get_mut(&task.job).expect("the caller has seen it");
        job.keep_note(task.index, &progress.note);
        progress.note = job.take_note(task.index);
    }

    fn save_task(&mut self, task: TaskRef, progress: TaskProgress, fails_job: bool) {
        let TaskRef { job, index } = task;
        let name = &self.jobs[&job].pipeline.task(index).name;
        let name = Arc::clone(name);
        self.orders.push(Order::Save(Change::Task {
            job,
            index,
            name,
            progress,
            fails_job,
        }));
    }

    fn remember(&mut self, now: Timestamp, pipeline: &Arc<str>, id: JobId, started: bool) {
        let lane = self
            .lanes
            .entry(Arc::clone(pipeline))
            .or_insert_with(|| Lane::undefined(Arc::clone(pipeline)));
        lane.remember(id, started, now.mono_ms);
    }
}

/// Somebody else than we sent it a SIGINT.
fn is_interrupted(exit: &TaskExit) -> bool {
    !exit.stopped && matches!(exit.outcome, Outcome::Signaled(2) | Outcome::Exited(130))
}
