//! Whether a task that failed is tried again, and when.
//!
//! A part of the scheduler. Between two attempts a task is `running` for everybody else, but it has no process and no place
//! among the tasks that run; when its delay is over it waits for one as a ready task does.

use std::sync::Arc;

use super::job::Job;
use super::judge::Verdict;
use super::{Order, Scheduler, Timer};
use crate::definition::bounds::Retry;
use crate::definition::duration;
use crate::job::TaskRef;
use crate::timestamp::Timestamp;

impl Scheduler {
    /// Tries a task again whose attempt ended so, if it is to be. False: the task has ended.
    pub(super) fn retry(&mut self, now: Timestamp, task: TaskRef, verdict: &Verdict) -> bool {
        let job = self
            .jobs
            .get_mut(&task.job)
            .expect("a job lasts until its tasks have exited");
        let pipeline = Arc::clone(&job.pipeline);
        let Some(retry) = pipeline.task(task.index).bounds.retry.as_ref() else {
            return false;
        };
        if !verdict.failed || !may_try_again(job, task.index, verdict, retry) {
            return false;
        }
        let attempt = verdict.attempt.number;
        let delay_ms = retry.delay_ms(attempt);
        let starts = match delay_ms {
            0 => "starts now".to_owned(),
            // As the file has it.
            ms if ms == retry.delay.ms => format!("starts in {}", retry.delay),
            ms => format!("starts in {}", duration::print(ms)),
        };
        let error = verdict.progress.error.replace(['\n', '\r'], " ");
        let text = format!("attempt {attempt} ended with {error}; attempt {} {starts}", attempt + 1);
        let due_at_ms = (delay_ms > 0).then(|| now.mono_ms.saturating_add(delay_ms));
        job.keep_note(task.index, &verdict.progress.note);
        job.set_between(task.index, verdict.attempt, due_at_ms);
        if let Some(at_ms) = due_at_ms {
            self.timers.insert((at_ms, Timer::Retry(task)));
        }
        self.orders.push(Order::TellRetry { task, pipeline, text });
        self.proceed(now, task.job);
        true
    }

    /// The delay before the next attempt of a task is over.
    pub(super) fn end_delay(&mut self, now: Timestamp, task: TaskRef) {
        let job = self
            .jobs
            .get_mut(&task.job)
            .expect("a task's timer is removed with its job");
        job.end_delay(task.index);
        self.proceed(now, task.job);
    }
}

fn may_try_again(job: &Job, index: usize, verdict: &Verdict, retry: &Retry) -> bool {
    // What was told to stop may have failed by itself at the same moment: it stays stopped, for its job is.
    let is_on_error = index >= job.pipeline.tasks.len();
    let job_lets_it = if is_on_error {
        job.canceled.is_none()
    } else {
        !job.is_stopped() || (job.canceled.is_none() && !job.is_timed_out && job.is_spared(index))
    };
    // Two of the same task at once would be worse than none.
    let is_gone = !verdict.is_given_up;
    job_lets_it && is_gone && retry.follows(verdict.attempt.number, verdict.progress.exit_code)
}
