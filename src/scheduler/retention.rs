//! What is forgotten of the jobs that ended: by themselves when they are too old or too many, or because somebody asks.
//!
//! A part of the scheduler. Surprise: the defaults hold for pipelines that are or were defined since the start; the history of
//! one that only the data directory knows is kept, for a file that is missing by mistake must cost nothing.

use super::{Order, Scheduler};
use crate::definition::Pipeline;
use crate::job::{Change, JobId};
use crate::timestamp::Timestamp;

/// How long ended jobs are kept, and how many of them; `None`: without a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retention {
    pub period_ms: Option<i64>,
    pub count: Option<usize>,
}

/// Why a job is not forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForgetError {
    Unknown,
    /// It waits or runs.
    NotEnded,
}

impl Retention {
    /// What a pipeline says; where it says nothing, this.
    pub(super) fn of(self, pipeline: &Pipeline) -> Retention {
        Retention {
            period_ms: pipeline.retention_period_ms.or(self.period_ms),
            count: pipeline.retention_count.or(self.count),
        }
    }
}

impl Scheduler {
    /// Forgets a job that has ended, with its logs.
    ///
    /// # Errors
    /// Where it has not ended, or is not known.
    pub(crate) fn forget(&mut self, now: Timestamp, id: JobId) -> Result<(), ForgetError> {
        if self.jobs.contains_key(&id) {
            return Err(ForgetError::NotEnded);
        }
        if !self.lanes.values_mut().any(|lane| lane.forget_one(id)) {
            return Err(ForgetError::Unknown);
        }
        self.keys.forget(id);
        self.orders.push(Order::Save(Change::Forget { job: id }));
        self.advance(now);
        Ok(())
    }

    /// Forgets what is too old or too much.
    pub(super) fn forget_outdated(&mut self, now: Timestamp) {
        for lane in self.lanes.values_mut() {
            for job in lane.forget_outdated(now.mono_ms) {
                self.keys.forget(job);
                self.orders.push(Order::Save(Change::Forget { job }));
            }
        }
    }
}
