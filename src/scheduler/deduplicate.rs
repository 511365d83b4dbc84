//! Which job a request equals: it then makes none of its own.
//!
//! A part of the scheduler. Equal jobs are found by a digest of what must be equal, which is kept for the jobs of pipelines
//! that ask for it alone; what has the same digest is compared as it is. Surprise: null is as good as not given.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde_json::Value;

use super::job::Job;
use super::{Accepted, Order, ScheduleError, ScheduleRequest, Scheduler};
use crate::definition::intake::Deduplicate;
use crate::definition::variables::given;
use crate::job::{Change, JobId};
use crate::template::Variables;

/// Requests with a key of their own that one job answers; each makes its record longer.
const MAX_KEYS: usize = 1_000;

/// Jobs that wait or run, by their pipeline and digest.
pub(super) type Digests = BTreeMap<(Arc<str>, u64), Vec<JobId>>;

impl Scheduler {
    /// The answer for a request that equals a job; `None`: it does not.
    pub(super) fn join(&mut self, request: &ScheduleRequest) -> Option<Result<Accepted, ScheduleError>> {
        let pipeline = &self.lanes[request.pipeline.as_str()].pipeline;
        let rule = pipeline.intake.deduplicate.as_ref()?;
        let name = Arc::clone(&pipeline.name);
        let digest = digest(rule, &request.partition, &request.variables);
        let equal = |id: &&JobId| {
            let job = &self.jobs[*id];
            let counts = match job.phase.turn() {
                None => true,
                // One that is about to end will not do what is asked for.
                Some(_) => !rule.among_waiting && !job.is_ending(),
            };
            counts && job.partition == request.partition && are_equal(rule, &job.variables, &request.variables)
        };
        let candidates = self.digests.get(&(Arc::clone(&name), digest))?;
        // What runs comes before what waits.
        let order = |id: &&JobId| {
            let job = &self.jobs[*id];
            job.phase.turn().map_or((1, job.place), |turn| (0, turn))
        };
        let id = *candidates.iter().filter(equal).min_by_key(order)?;
        if rule.refuses || (request.key.is_some() && self.keys.count(id) >= MAX_KEYS) {
            return Some(Err(ScheduleError::Duplicate(id)));
        }
        if let Some(key) = &request.key {
            let key = key.clone().of_job(true);
            self.keys.remember(&name, id, &key);
            self.orders.push(Order::Save(Change::Join { job: id, key }));
        }
        Some(Ok(Accepted { job: id, joined: true }))
    }

    /// A job waits or runs from now on.
    pub(super) fn insert_job(&mut self, mut job: Job) {
        let pipeline = &self.lanes[&job.pipeline.name].pipeline;
        job.digest = pipeline
            .intake
            .deduplicate
            .as_ref()
            .map(|rule| digest(rule, &job.partition, &job.variables));
        if let Some(digest) = job.digest {
            let equal = self.digests.entry((Arc::clone(&job.pipeline.name), digest));
            equal.or_default().push(job.id);
        }
        self.jobs.insert(job.id, job);
    }

    /// A job has ended.
    pub(super) fn remove_job(&mut self, id: JobId) -> Job {
        let job = self.jobs.remove(&id).expect("the caller has seen it");
        if let Some(digest) = job.digest {
            let key = (Arc::clone(&job.pipeline.name), digest);
            let equal = self.digests.get_mut(&key).expect("a job with a digest is noted");
            equal.retain(|&other| other != id);
            if equal.is_empty() {
                self.digests.remove(&key);
            }
        }
        job
    }

    /// The rule of these pipelines is another one.
    pub(super) fn digest_anew(&mut self, changed: &[Arc<str>]) {
        let of_changed: Vec<JobId> = self
            .jobs
            .values()
            .filter(|job| changed.contains(&job.pipeline.name))
            .map(|job| job.id)
            .collect();
        for id in of_changed {
            let job = self.remove_job(id);
            self.insert_job(job);
        }
    }
}

fn digest(rule: &Deduplicate, partition: &str, variables: &Variables) -> u64 {
    let mut hasher = DefaultHasher::new();
    partition.hash(&mut hasher);
    match &rule.by {
        None => add_entries(&mut hasher, variables),
        Some(names) => {
            for name in names {
                match given(variables, name) {
                    None => 0_u8.hash(&mut hasher),
                    Some(value) => {
                        1_u8.hash(&mut hasher);
                        add(&mut hasher, value);
                    }
                }
            }
        }
    }
    hasher.finish()
}

fn are_equal(rule: &Deduplicate, one: &Variables, other: &Variables) -> bool {
    let is_equal = |name: &str| given(one, name) == given(other, name);
    match &rule.by {
        None => one.keys().chain(other.keys()).all(|name| is_equal(name)),
        Some(names) => names.iter().all(|name| is_equal(name)),
    }
}

/// Of a value, the same for all that equal it.
pub(super) fn value_digest(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    add(&mut hasher, value);
    hasher.finish()
}

/// Recurses as deep as JSON may be nested, which the parser limits.
fn add(hasher: &mut DefaultHasher, value: &Value) {
    match value {
        Value::Null => 0_u8.hash(hasher),
        Value::Bool(value) => (1_u8, value).hash(hasher),
        Value::Number(number) => (2_u8, number.as_str()).hash(hasher),
        Value::String(text) => (3_u8, text).hash(hasher),
        Value::Array(items) => {
            (4_u8, items.len()).hash(hasher);
            items.iter().for_each(|item| add(hasher, item));
        }
        Value::Object(entries) => {
            5_u8.hash(hasher);
            add_sum(hasher, entries, |_| true);
        }
    }
}

fn add_entries(hasher: &mut DefaultHasher, variables: &Variables) {
    add_sum(hasher, variables, |value| !value.is_null());
}

/// The order of entries does not matter.
fn add_sum(hasher: &mut DefaultHasher, entries: &Variables, counts: impl Fn(&Value) -> bool) {
    let digests = entries.iter().filter(|(_, value)| counts(value)).map(|(name, value)| {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        add(&mut hasher, value);
        hasher.finish()
    });
    digests.fold(0, u64::wrapping_add).hash(hasher);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(by: Option<&[&str]>, one: &Value, other: &Value, expected: bool) {
        let rule = Deduplicate {
            by: by.map(|names| names.iter().map(ToString::to_string).collect()),
            ..Deduplicate::default()
        };
        let (one, other) = (one.as_object().unwrap(), other.as_object().unwrap());
        assert_eq!(are_equal(&rule, one, other), expected);
        assert_eq!(digest(&rule, "", one) == digest(&rule, "", other), expected);
    }

    #[test]
    fn what_is_equal_has_the_same_digest() {
        check(
            None,
            &json!({"a": 1, "b": {"x": 1, "y": [2]}}),
            &json!({"b": {"y": [2], "x": 1}, "a": 1}),
            true,
        );
        check(None, &json!({"a": 1}), &json!({"a": 1, "b": null}), true);
        check(None, &json!({"a": 1}), &json!({"a": 1, "b": 2}), false);
        check(None, &json!({"a": [1, 2]}), &json!({"a": [2, 1]}), false);
        check(None, &json!({"a": "1"}), &json!({"a": 1}), false);
        check(None, &json!({"a": {"b": null}}), &json!({"a": {}}), false);
        check(Some(&["a"]), &json!({"a": 1, "b": 1}), &json!({"a": 1, "b": 2}), true);
        check(Some(&["a", "c"]), &json!({"a": 1}), &json!({"a": 1, "c": null}), true);
        check(Some(&["a", "c"]), &json!({"a": 1}), &json!({"c": 1}), false);
        check(Some(&[]), &json!({"a": 1}), &json!({"c": 1}), true);
    }
}
