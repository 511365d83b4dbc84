//! The jobs of one pipeline seen together: how many run, which wait in which order, which ended and are remembered.
//! Unaware of what a job is made of.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::Retention;
use crate::definition::{Pipeline, Queue};
use crate::job::JobId;

/// One pipeline's share of the scheduler. There is one for every pipeline that is defined, and for every one that was
/// and of which jobs are left.
#[derive(Debug)]
pub(super) struct Lane {
    /// Its limits. The last definition that was known, where it is no longer defined.
    pub pipeline: Arc<Pipeline>,
    pub is_defined: bool,
    /// How much of its history is kept.
    retention: Retention,
    /// The jobs that run, by their start.
    pub running: BTreeMap<u64, JobId>,
    /// The wait list in its order.
    pub waiting: BTreeMap<u64, JobId>,
    /// Places of those whose delay is over.
    due: BTreeSet<u64>,
    by_partition: BTreeMap<String, BTreeSet<u64>>,
    /// Ended jobs, in the order in which they ended.
    history: History,
    /// Ended jobs that never started. Kept apart, so that they don't push the others out.
    unstarted_history: History,
}

/// Why a request can't wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    QueueLimit,
    QueueDisabled,
}

/// Where a request that can't start goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Behind all others.
    Last,
    /// The place of this job, which ends for it.
    Of(u64, JobId),
}

impl Lane {
    /// For the jobs of a pipeline that is not defined.
    pub(super) fn undefined(name: Arc<str>) -> Lane {
        Lane {
            pipeline: Arc::new(Pipeline::unknown(name)),
            is_defined: false,
            retention: Retention::default(),
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            due: BTreeSet::new(),
            by_partition: BTreeMap::new(),
            history: History::default(),
            unstarted_history: History::default(),
        }
    }

    /// Has this definition from now on; where it says nothing about its history, the default holds.
    pub(super) fn define(&mut self, pipeline: Arc<Pipeline>, default: Retention) {
        self.retention = default.of(&pipeline);
        self.pipeline = pipeline;
        self.is_defined = true;
    }

    pub(super) fn has_free_place(&self) -> bool {
        self.running.len() < self.pipeline.concurrency
    }

    /// Where a job of this partition would wait.
    pub(super) fn find_place(&self, partition: &str) -> Result<Place, Full> {
        match self.pipeline.queue {
            Queue::Append { limit: Some(0) } | Queue::Replace { limit: 0 } => Err(Full::QueueDisabled),
            Queue::Append { limit } => {
                if limit.is_some_and(|limit| self.waiting.len() >= limit) {
                    Err(Full::QueueLimit)
                } else {
                    Ok(Place::Last)
                }
            }
            Queue::Replace { limit } => {
                let newest = self.waiting.last_key_value().filter(|_| self.waiting.len() >= limit);
                Ok(newest.map_or(Place::Last, |(&place, &job)| Place::Of(place, job)))
            }
            Queue::PartitionedReplace { limit } => {
                let places = self.by_partition.get(partition).filter(|places| places.len() >= limit);
                Ok(places
                    .and_then(BTreeSet::last)
                    .map_or(Place::Last, |place| Place::Of(*place, self.waiting[place])))
            }
        }
    }

    pub(super) fn add_waiting(&mut self, place: u64, job: JobId, partition: &str, is_due: bool) {
        self.waiting.insert(place, job);
        self.by_partition.entry(partition.to_owned()).or_default().insert(place);
        if is_due {
            self.due.insert(place);
        }
    }

    pub(super) fn remove_waiting(&mut self, place: u64, partition: &str) {
        self.waiting
            .remove(&place)
            .expect("a waiting job stands on its pipeline's wait list");
        self.due.remove(&place);
        let places = self
            .by_partition
            .get_mut(partition)
            .expect("a waiting job is counted in its partition");
        places.remove(&place);
        if places.is_empty() {
            self.by_partition.remove(partition);
        }
    }

    pub(super) fn set_due(&mut self, place: u64) {
        self.due.insert(place);
    }

    /// How many wait for a place up to this one.
    pub(super) fn due_up_to(&self, place: u64) -> usize {
        self.due.range(..=place).count()
    }

    /// The first waiting jobs whose delay is over, as many as there are free places.
    pub(super) fn next_due(&self) -> impl Iterator<Item = JobId> {
        let free = self.pipeline.concurrency.saturating_sub(self.running.len());
        self.due.iter().take(free).map(|place| self.waiting[place])
    }

    pub(super) fn remember(&mut self, job: JobId, started: bool, end_mono_ms: i64) {
        let history = if started {
            &mut self.history
        } else {
            &mut self.unstarted_history
        };
        history.0.push_back(Remembered { job, end_mono_ms });
    }

    /// Takes out the ended jobs that are no longer kept.
    pub(super) fn forget_outdated(&mut self, now_mono_ms: i64) -> Vec<JobId> {
        let mut forgotten = Vec::new();
        for history in [&mut self.history, &mut self.unstarted_history] {
            history.trim(self.retention, now_mono_ms, &mut forgotten);
        }
        forgotten
    }

    /// Takes out this ended job; false where there is none.
    pub(super) fn forget_one(&mut self, job: JobId) -> bool {
        [&mut self.history, &mut self.unstarted_history]
            .into_iter()
            .any(|history| history.remove(job))
    }

    /// When the next ended job becomes too old, in monotonic milliseconds.
    pub(super) fn next_expiry(&self) -> Option<i64> {
        let period = self.retention.period_ms?;
        let oldest = [&self.history, &self.unstarted_history]
            .into_iter()
            .filter_map(|history| history.0.front());
        oldest.map(|job| job.end_mono_ms.saturating_add(period)).min()
    }

    /// Nothing of it is left to know.
    pub(super) fn is_unused(&self) -> bool {
        !self.is_defined
            && self.running.is_empty()
            && self.waiting.is_empty()
            && self.history.0.is_empty()
            && self.unstarted_history.0.is_empty()
    }
}

/// Ended jobs, oldest first.
#[derive(Debug, Default)]
struct History(VecDeque<Remembered>);

#[derive(Clone, Copy, Debug)]
struct Remembered {
    job: JobId,
    end_mono_ms: i64,
}

impl History {
    fn remove(&mut self, job: JobId) -> bool {
        let place = self.0.iter().position(|remembered| remembered.job == job);
        place.is_some_and(|place| self.0.remove(place).is_some())
    }

    fn trim(&mut self, retention: Retention, now_mono_ms: i64, forgotten: &mut Vec<JobId>) {
        while let Some(oldest) = self.0.front() {
            let too_many = retention.count.is_some_and(|count| self.0.len() > count);
            let too_old = retention
                .period_ms
                .is_some_and(|period| oldest.end_mono_ms.saturating_add(period) <= now_mono_ms);
            if !too_many && !too_old {
                break;
            }
            forgotten.push(oldest.job);
            self.0.pop_front();
        }
    }
}
