//! How tasks are told to stop, and what comes when they don't: cancels, failures elsewhere, time limits, kills.
//!
//! A part of the scheduler. What was decided first about a task stays its reason; what comes later can only keep it from
//! being tried again.

use std::sync::Arc;

use super::job::{StopReason, TaskState};
use super::judge::TIMED_OUT;
use super::{Failure, Order, Scheduler, Timer};
use crate::job::{Change, JobId, TaskProgress, TaskRef, TaskStatus};
use crate::timestamp::Timestamp;

/// How long after the kill a task that still lives is given up: what a kill does not end in this time, it never will
/// (another user's process, one that is stuck in the kernel).
const GIVE_UP_MS: i64 = 5_000;

impl Scheduler {
    /// Decides that a running job is canceled, and stops what runs of it.
    pub(super) fn stop_running(&mut self, now: Timestamp, id: JobId, reason: String) {
        let job = self.jobs.get_mut(&id).expect("the caller has seen it");
        if job.canceled.is_some() {
            return;
        }
        job.canceled = Some(reason.clone());
        self.orders.push(Order::Save(Change::Cancel {
            job: id,
            reason,
            replaced: false,
        }));
        self.drop_job_timeout(id);
        self.stop_tasks(now, id, StopReason::Cancel);
        self.proceed(now, id);
    }

    /// A running job is over its time limit: it has failed, and what runs of it is stopped.
    pub(super) fn time_out_job(&mut self, now: Timestamp, id: JobId) {
        let job = self.jobs.get_mut(&id).expect("a job's timer is removed with it");
        job.timeout_at_ms = None;
        job.is_timed_out = true;
        // The first failure stays the one that the job is known by. One that is replaced ends so: its limit then holds for
        // what was let end.
        if job.failure.is_none() && job.replaced.is_none() {
            let limit = job.pipeline.timeout.as_ref();
            let error = format!("job timed out after {}", limit.expect("its limit is over"));
            job.failure = Some(Failure {
                task_name: Arc::from(""),
                exit_code: TIMED_OUT,
                error: error.clone(),
            });
            self.orders.push(Order::Save(Change::Fail { job: id, error }));
        }
        self.stop_tasks(now, id, StopReason::JobTimeout);
        self.proceed(now, id);
    }

    /// Its limit no longer matters: it is canceled, handles its error, or ends.
    pub(super) fn drop_job_timeout(&mut self, id: JobId) {
        let job = self.jobs.get_mut(&id).expect("the caller has seen it");
        if let Some(at_ms) = job.timeout_at_ms.take() {
            self.timers.remove(&(at_ms, Timer::JobTimeout(id)));
        }
    }

    /// No task of the job starts any more, and those that run are told to stop; but not those that `why` spares.
    pub(super) fn stop_tasks(&mut self, now: Timestamp, id: JobId, why: StopReason) {
        let job = self.jobs.get_mut(&id).expect("the caller has seen it");
        let canceled = job.cancel_waiting(why);
        for index in 0..job.tasks.len() {
            let task = TaskRef { job: id, index };
            let job = self.jobs.get(&id).expect("it was there above");
            if matches!(job.tasks[index], TaskState::Running { .. }) && (why.spares_nothing() || !job.is_spared(index))
            {
                self.stop_task(now, task, why);
            }
        }
        for (index, state) in canceled {
            self.save_canceled(now, TaskRef { job: id, index }, state);
        }
    }

    /// A task that runs is told to stop.
    fn stop_task(&mut self, now: Timestamp, task: TaskRef, why: StopReason) {
        let job = self.jobs.get_mut(&task.job).expect("the caller has seen it");
        let grace_ms = job.pipeline.task(task.index).bounds.kill_grace_ms;
        let kill_at_ms = now
            .mono_ms
            .saturating_add(grace_ms.unwrap_or(self.limits.kill_grace_ms));
        let state = &mut job.tasks[task.index];
        let TaskState::Running { attempt, timeout_at_ms } = *state else {
            unreachable!("only what runs is stopped");
        };
        *state = TaskState::Stopping {
            attempt,
            why,
            kill_at_ms,
        };
        if let Some(at_ms) = timeout_at_ms {
            self.timers.remove(&(at_ms, Timer::Timeout(task)));
        }
        self.timers.insert((kill_at_ms, Timer::Kill(task)));
        self.orders.push(Order::StopTask(task));
    }

    /// A task without a process is canceled: it never had one, or is between two attempts.
    pub(super) fn save_canceled(&mut self, now: Timestamp, task: TaskRef, state: TaskState) {
        let progress = match state {
            TaskState::Between { failed, due_at_ms } => {
                if let Some(at_ms) = due_at_ms {
                    self.timers.remove(&(at_ms, Timer::Retry(task)));
                }
                let job = self.jobs.get_mut(&task.job).expect("the caller has seen it");
                TaskProgress {
                    status: TaskStatus::Canceled,
                    start_ms: Some(failed.start_ms),
                    end_ms: Some(now.wall_ms),
                    exit_code: -1,
                    retries: failed.number - 1,
                    error: String::new(),
                    note: job.take_note(task.index),
                }
            }
            TaskState::Waiting
            | TaskState::Running { .. }
            | TaskState::Stopping { .. }
            | TaskState::Killed { .. }
            | TaskState::GivenUp { .. }
            | TaskState::Ended(_) => TaskProgress {
                status: TaskStatus::Canceled,
                ..TaskProgress::default()
            },
        };
        self.save_task(task, progress, false);
    }

    /// The time of a task is over.
    pub(super) fn time_out(&mut self, now: Timestamp, task: TaskRef) {
        self.stop_task(now, task, StopReason::Timeout);
    }

    /// The grace of a task is over.
    pub(super) fn kill(&mut self, now: Timestamp, task: TaskRef) {
        let give_up_at_ms = now.mono_ms + GIVE_UP_MS;
        let state = self.task_state(task);
        let TaskState::Stopping { attempt, why, .. } = *state else {
            unreachable!("a task's timer is removed when it ends");
        };
        *state = TaskState::Killed {
            attempt,
            why,
            give_up_at_ms,
        };
        self.timers.insert((give_up_at_ms, Timer::GiveUp(task)));
        self.orders.push(Order::KillTask(task));
    }

    /// All that was told to stop is due for its kill.
    pub(super) fn end_grace(&mut self, now: Timestamp) {
        let kills: Vec<(i64, TaskRef)> = self
            .timers
            .iter()
            .filter_map(|&(at_ms, timer)| match timer {
                Timer::Kill(task) => Some((at_ms, task)),
                Timer::DelayOver(_) | Timer::GiveUp(_) | Timer::Timeout(_) | Timer::JobTimeout(_) | Timer::Retry(_) => {
                    None
                }
            })
            .collect();
        for (at_ms, task) in kills {
            self.timers.remove(&(at_ms, Timer::Kill(task)));
            self.timers.insert((now.mono_ms, Timer::Kill(task)));
            if let TaskState::Stopping { kill_at_ms, .. } = self.task_state(task) {
                *kill_at_ms = now.mono_ms;
            }
        }
        self.tick(now);
    }

    /// A task can't be killed.
    pub(super) fn give_up(&mut self, task: TaskRef) {
        let state = self.task_state(task);
        let TaskState::Killed { attempt, why, .. } = *state else {
            unreachable!("a task's timer is removed when it ends");
        };
        *state = TaskState::GivenUp { attempt, why };
        self.orders.push(Order::AbandonTask(task));
    }

    /// A task has exited: nothing more is due for the state that it was in.
    pub(super) fn drop_timers(&mut self, task: TaskRef, state: TaskState) {
        let timer = match state {
            TaskState::Running {
                timeout_at_ms: Some(at_ms),
                ..
            } => (at_ms, Timer::Timeout(task)),
            TaskState::Stopping { kill_at_ms, .. } => (kill_at_ms, Timer::Kill(task)),
            TaskState::Killed { give_up_at_ms, .. } => (give_up_at_ms, Timer::GiveUp(task)),
            TaskState::Waiting
            | TaskState::Running { .. }
            | TaskState::GivenUp { .. }
            | TaskState::Between { .. }
            | TaskState::Ended(_) => return,
        };
        self.timers.remove(&timer);
    }

    pub(super) fn task_state(&mut self, task: TaskRef) -> &mut TaskState {
        &mut self
            .jobs
            .get_mut(&task.job)
            .expect("a task's timer is removed with its job")
            .tasks[task.index]
    }
}
