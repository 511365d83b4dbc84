//! What is counted for whoever watches: numbers that the threads add to without waiting for each other, and their text form.
//!
//! Unaware of who counts and of who asks. Surprise: all numbers begin with the process; whoever watches knows how to add
//! up over restarts.

mod jobs;
mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub(crate) use jobs::{JobCounts, OfPipeline};
pub(crate) use text::{Kind, Text};

/// How many buckets a histogram has, the one for all above not counted.
const BUCKETS: usize = 12;

/// From what a disk with a cache of its own takes, to one that hangs. In microseconds.
const SYNC_BOUNDS: [u64; BUCKETS] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000,
];

/// What no other part can say when it is asked. Shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub syncs: SyncTimes,
    tasks_running: AtomicU64,
    /// By stream: standard output, standard error.
    log_bytes: [AtomicU64; 2],
    /// By the code of the answer.
    refusals: Mutex<BTreeMap<&'static str, u64>>,
}

impl Meters {
    /// A task has a process until this is dropped.
    pub(crate) fn task_runs(&self) -> RunningTask<'_> {
        self.tasks_running.fetch_add(1, Ordering::Relaxed);
        RunningTask(self)
    }

    pub(crate) fn tasks_running(&self) -> u64 {
        self.tasks_running.load(Ordering::Relaxed)
    }

    /// `stream`: 0 is standard output, 1 standard error.
    pub(crate) fn count_log_bytes(&self, stream: usize, bytes: usize) {
        self.log_bytes[stream].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn log_bytes(&self) -> [u64; 2] {
        self.log_bytes.each_ref().map(|bytes| bytes.load(Ordering::Relaxed))
    }

    pub(crate) fn count_refusal(&self, code: &'static str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        *refusals.entry(code).or_default() += 1;
    }

    pub(crate) fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Counts a task among those that run.
#[derive(Debug)]
pub(crate) struct RunningTask<'a>(&'a Meters);

impl Drop for RunningTask<'_> {
    fn drop(&mut self) {
        self.0.tasks_running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long the syncs of the journal took.
#[derive(Debug, Default)]
pub(crate) struct SyncTimes {
    counts: [AtomicU64; BUCKETS + 1],
    sum_us: AtomicU64,
}

impl SyncTimes {
    pub(crate) fn observe(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(&SYNC_BOUNDS, took_us)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }

    pub(crate) fn histogram(&self) -> Histogram {
        Histogram {
            bounds_us: &SYNC_BOUNDS,
            counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            sum_us: self.sum_us.load(Ordering::Relaxed),
        }
    }
}

/// Lengths of time.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    /// The longest that each bucket holds.
    bounds_us: &'static [u64; BUCKETS],
    /// In each bucket alone; the last is for all above.
    counts: [u64; BUCKETS + 1],
    sum_us: u64,
}

impl Histogram {
    fn new(bounds_us: &'static [u64; BUCKETS]) -> Histogram {
        Histogram {
            bounds_us,
            counts: [0; BUCKETS + 1],
            sum_us: 0,
        }
    }

    fn observe(&mut self, took_us: u64) {
        self.counts[bucket(self.bounds_us, took_us)] += 1;
        self.sum_us = self.sum_us.saturating_add(took_us);
    }
}

/// A bound belongs to the bucket that it ends.
fn bucket(bounds_us: &[u64; BUCKETS], took_us: u64) -> usize {
    bounds_us.partition_point(|bound| *bound < took_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_that_it_ends() {
        for (took_us, expected) in [
            (0, 0),
            (250, 0),
            (251, 1),
            (5_000_000, 11),
            (5_000_001, 12),
            (u64::MAX, 12),
        ] {
            assert_eq!(bucket(&SYNC_BOUNDS, took_us), expected, "{took_us}");
        }
    }

    #[test]
    fn meters_count() {
        let meters = Meters::default();
        let first = meters.task_runs();
        let second = meters.task_runs();
        drop(first);
        assert_eq!(meters.tasks_running(), 1);
        drop(second);
        assert_eq!(meters.tasks_running(), 0);
        meters.count_log_bytes(1, 3);
        meters.count_log_bytes(1, 4);
        assert_eq!(meters.log_bytes(), [0, 7]);
        meters.count_refusal("busy");
        meters.count_refusal("busy");
        assert_eq!(meters.refusals(), BTreeMap::from([("busy", 2)]));
        meters.syncs.observe(Duration::from_micros(300));
        meters.syncs.observe(Duration::from_secs(9));
        let histogram = meters.syncs.histogram();
        assert_eq!((histogram.counts[1], histogram.counts[BUCKETS]), (1, 1));
        assert_eq!(histogram.sum_us, 9_000_300);
    }
}
