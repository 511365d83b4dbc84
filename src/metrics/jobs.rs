//! Counts jobs by pipeline, as they change.
//!
//! Unaware of where jobs are kept. The names that it shows are bounded by the definition files: what happens to a job whose
//! pipeline is not in them at that moment counts for the empty name. Surprise: that is not a sum of what such pipelines
//! had before. Numbers that move from one name to another would be seen as jobs that have just ended.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{BUCKETS, Histogram};
use crate::job::{JobRecord, JobStatus};

/// From a fraction of a second to hours. In microseconds.
const JOB_BOUNDS: [u64; BUCKETS] = [
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    900_000_000,
    1_800_000_000,
    3_600_000_000,
    14_400_000_000,
];

/// All jobs.
#[derive(Debug, Default)]
pub(crate) struct JobCounts {
    /// By the pipelines that are defined, and the empty name for all others once there was something to count.
    totals: BTreeMap<Arc<str>, Totals>,
    /// By the pipelines of the jobs that wait or run, defined or not.
    live: HashMap<Arc<str>, Live>,
}

/// What has happened since the start.
#[derive(Clone, Debug)]
struct Totals {
    /// Jobs that ended, by `JobStatus`.
    ended: [u64; JobStatus::ALL.len()],
    durations: Histogram,
    queue_times: Histogram,
}

/// What there is now.
#[derive(Clone, Copy, Debug, Default)]
struct Live {
    waiting: u64,
    running: u64,
}

/// What is shown of a pipeline.
#[derive(Debug)]
pub(crate) struct OfPipeline {
    pub name: Arc<str>,
    pub waiting: u64,
    pub running: u64,
    totals: Totals,
}

impl OfPipeline {
    pub(crate) fn ended(&self, status: JobStatus) -> u64 {
        self.totals.ended[status as usize]
    }

    pub(crate) fn durations(&self) -> &Histogram {
        &self.totals.durations
    }

    pub(crate) fn queue_times(&self) -> &Histogram {
        &self.totals.queue_times
    }
}

impl Default for Totals {
    fn default() -> Totals {
        Totals {
            ended: [0; JobStatus::ALL.len()],
            durations: Histogram::new(&JOB_BOUNDS),
            queue_times: Histogram::new(&JOB_BOUNDS),
        }
    }
}

impl JobCounts {
    /// Other pipelines are defined from now on.
    pub(crate) fn define<'a>(&mut self, pipelines: impl Iterator<Item = &'a Arc<str>>) {
        let mut before = std::mem::take(&mut self.totals);
        self.totals = pipelines
            .map(|name| (Arc::clone(name), before.remove(name).unwrap_or_default()))
            .collect();
        self.totals.extend(before.remove_entry(""));
    }

    /// What has been counted so far was before the start, but for these ends, which the start itself brought about.
    pub(crate) fn begin(&mut self, ended: &[(Arc<str>, JobStatus)]) {
        self.totals.remove("");
        for totals in self.totals.values_mut() {
            *totals = Totals::default();
        }
        for (pipeline, status) in ended {
            self.totals_of(pipeline).ended[*status as usize] += 1;
        }
    }

    /// A job is there. It was in this status, or was not there; then it may have started since it was accepted.
    pub(crate) fn put(&mut self, before: Option<JobStatus>, record: &JobRecord) {
        if before.is_none() {
            self.enter(&record.pipeline, JobStatus::Waiting);
        }
        self.change(before.unwrap_or(JobStatus::Waiting), record);
    }

    fn enter(&mut self, pipeline: &Arc<str>, status: JobStatus) {
        if status.has_ended() {
            return;
        }
        let live = self.live.entry(Arc::clone(pipeline)).or_default();
        *live.of(status) += 1;
    }

    /// A job that was in this status is there no more.
    pub(crate) fn leave(&mut self, pipeline: &Arc<str>, status: JobStatus) {
        if status.has_ended() {
            return;
        }
        let live = self.live.get_mut(pipeline).expect("who leaves has entered");
        *live.of(status) -= 1;
        if live.waiting + live.running == 0 {
            self.live.remove(pipeline);
        }
    }

    /// A job was in this status, and is as the record says.
    pub(crate) fn change(&mut self, before: JobStatus, record: &JobRecord) {
        if before == record.status {
            return;
        }
        self.leave(&record.pipeline, before);
        self.enter(&record.pipeline, record.status);
        let totals = self.totals_of(&record.pipeline);
        if record.status == JobStatus::Running {
            if let Some(start_ms) = record.start_ms {
                totals.queue_times.observe(microseconds(record.created_ms, start_ms));
            }
        } else if record.status.has_ended() {
            totals.ended[record.status as usize] += 1;
            if let (Some(start_ms), Some(end_ms)) = (record.start_ms, record.end_ms) {
                totals.durations.observe(microseconds(start_ms, end_ms));
            }
        }
    }

    /// By name. Takes time with the pipelines, not with the jobs.
    pub(crate) fn shown(&self) -> Vec<OfPipeline> {
        let mut left = self.live.clone();
        let mut shown: Vec<OfPipeline> = self
            .totals
            .iter()
            .map(|(name, totals)| {
                let live = left.remove(name).unwrap_or_default();
                OfPipeline {
                    name: Arc::clone(name),
                    waiting: live.waiting,
                    running: live.running,
                    totals: totals.clone(),
                }
            })
            .collect();
        if left.is_empty() {
            return shown;
        }
        if shown.first().is_none_or(|first| !first.name.is_empty()) {
            let others = OfPipeline {
                name: "".into(),
                waiting: 0,
                running: 0,
                totals: Totals::default(),
            };
            shown.insert(0, others);
        }
        for live in left.values() {
            shown[0].waiting += live.waiting;
            shown[0].running += live.running;
        }
        shown
    }

    fn totals_of(&mut self, pipeline: &str) -> &mut Totals {
        let name = if self.totals.contains_key(pipeline) {
            pipeline
        } else {
            ""
        };
        self.totals.entry(name.into()).or_default()
    }
}

impl Live {
    fn of(&mut self, status: JobStatus) -> &mut u64 {
        if status == JobStatus::Running {
            &mut self.running
        } else {
            &mut self.waiting
        }
    }
}

/// Where the clock was set back meanwhile, there was no time.
fn microseconds(from_ms: i64, to_ms: i64) -> u64 {
    u64::try_from(to_ms.saturating_sub(from_ms))
        .unwrap_or(0)
        .saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    fn defined(pipelines: &[&str]) -> JobCounts {
        let mut counts = JobCounts::default();
        counts.define(names(pipelines).iter());
        counts
    }

    fn record(pipeline: &str, status: &str, start_ms: Option<i64>, end_ms: Option<i64>) -> JobRecord {
        serde_json::from_value(json!({
            "id": Uuid::from_u128(1), "pipeline": pipeline, "createdMs": 1000, "place": 0, "status": status, "tasks": [],
            "startMs": start_ms, "endMs": end_ms,
        }))
        .unwrap()
    }

    fn run(counts: &mut JobCounts, pipeline: &str, status: &str) {
        counts.put(None, &record(pipeline, "running", Some(3000), None));
        counts.change(JobStatus::Running, &record(pipeline, status, Some(3000), Some(4000)));
    }

    /// Each pipeline with its waiting and running jobs, those that ended, and those whose durations and queue times are known.
    #[track_caller]
    fn check(counts: &JobCounts, expected: &str) {
        let shown = counts.shown();
        let lines = shown.iter().map(|of| {
            let ended: u64 = JobStatus::ALL.iter().map(|status| of.ended(*status)).sum();
            let sum = |histogram: &Histogram| histogram.counts.iter().sum::<u64>();
            let (durations, queue_times) = (sum(of.durations()), sum(of.queue_times()));
            format!(
                "{}:{},{},{ended},{durations},{queue_times}",
                of.name, of.waiting, of.running
            )
        });
        assert_eq!(lines.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn a_job_is_counted_where_it_is() {
        let mut counts = defined(&["a", "b"]);
        check(&counts, "a:0,0,0,0,0 b:0,0,0,0,0");
        counts.put(None, &record("a", "waiting", None, None));
        counts.put(None, &record("a", "waiting", None, None));
        // One that is there already.
        counts.put(Some(JobStatus::Waiting), &record("a", "waiting", None, None));
        check(&counts, "a:2,0,0,0,0 b:0,0,0,0,0");
        counts.change(JobStatus::Waiting, &record("a", "running", Some(3000), None));
        check(&counts, "a:1,1,0,0,1 b:0,0,0,0,0");
        // Another change of it.
        counts.change(JobStatus::Running, &record("a", "running", Some(3000), None));
        check(&counts, "a:1,1,0,0,1 b:0,0,0,0,0");
        // One that never ran took no time.
        counts.change(JobStatus::Waiting, &record("a", "canceled", None, Some(9000)));
        check(&counts, "a:0,1,1,0,1 b:0,0,0,0,0");
        counts.change(JobStatus::Running, &record("a", "failed", Some(3000), Some(4000)));
        check(&counts, "a:0,0,2,1,1 b:0,0,0,0,0");
        let shown = counts.shown();
        assert_eq!(
            (shown[0].ended(JobStatus::Canceled), shown[0].ended(JobStatus::Failed)),
            (1, 1)
        );
        assert_eq!(
            (shown[0].queue_times().sum_us, shown[0].durations().sum_us),
            (2_000_000, 1_000_000)
        );
        assert!(counts.live.is_empty());
    }

    #[test]
    fn pipelines_that_are_in_no_file_share_one_name() {
        let mut counts = defined(&["a", "b"]);
        run(&mut counts, "a", "succeeded");
        run(&mut counts, "b", "succeeded");
        counts.put(None, &record("b", "waiting", None, None));
        counts.define(names(&["a"]).iter());
        // What had ended is not counted twice.
        check(&counts, ":1,0,0,0,0 a:0,0,1,1,1");
        counts.change(JobStatus::Waiting, &record("b", "running", Some(3000), None));
        check(&counts, ":0,1,0,0,1 a:0,0,1,1,1");
        counts.define(names(&["a", "b"]).iter());
        check(&counts, ":0,0,0,0,1 a:0,0,1,1,1 b:0,1,0,0,0");
        counts.change(JobStatus::Running, &record("b", "failed", Some(3000), Some(4000)));
        check(&counts, ":0,0,0,0,1 a:0,0,1,1,1 b:0,0,1,1,0");
    }

    #[test]
    fn only_what_happens_since_the_start_is_counted() {
        let mut counts = JobCounts::default();
        run(&mut counts, "a", "succeeded");
        run(&mut counts, "gone", "interrupted");
        counts.put(None, &record("a", "waiting", None, None));
        counts.define(names(&["a"]).iter());
        counts.begin(&[]);
        check(&counts, "a:1,0,0,0,0");
        counts.begin(&[
            ("a".into(), JobStatus::Interrupted),
            ("gone".into(), JobStatus::Interrupted),
        ]);
        check(&counts, ":0,0,1,0,0 a:1,0,1,0,0");
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_time() {
        assert_eq!(microseconds(5, 3), 0);
        assert_eq!(microseconds(3, 5), 2000);
        assert_eq!(microseconds(i64::MIN, i64::MAX), u64::MAX);
    }
}
