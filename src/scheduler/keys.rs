//! Which request made or joined which job, by the keys that clients give their requests: `Idempotency-Key`.
//!
//! A part of the scheduler, unaware of jobs but for their ids. A key is remembered as long as its job.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::job::{IdempotencyKey, JobId};

/// All keys that are remembered.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// By pipeline, then by key.
    known: BTreeMap<Arc<str>, BTreeMap<String, Known>>,
    /// So that a job's keys are found when it is forgotten.
    of_job: BTreeMap<JobId, (Arc<str>, Vec<String>)>,
}

#[derive(Debug)]
pub(super) struct Known {
    pub job: JobId,
    pub body_hash: String,
    /// The request made no job of its own.
    pub joined: bool,
}

impl Keys {
    pub(super) fn find(&self, pipeline: &str, key: &str) -> Option<&Known> {
        self.known.get(pipeline)?.get(key)
    }

    pub(super) fn remember(&mut self, pipeline: &Arc<str>, job: JobId, key: &IdempotencyKey) {
        let known = Known {
            job,
            body_hash: key.body_hash.clone(),
            joined: key.joined,
        };
        let keys = self.known.entry(Arc::clone(pipeline)).or_default();
        keys.insert(key.key.clone(), known);
        let of_job = self.of_job.entry(job);
        let (_, keys) = of_job.or_insert_with(|| (Arc::clone(pipeline), Vec::new()));
        keys.push(key.key.clone());
    }

    /// Keys of a job.
    pub(super) fn count(&self, job: JobId) -> usize {
        self.of_job.get(&job).map_or(0, |(_, keys)| keys.len())
    }

    pub(super) fn forget(&mut self, job: JobId) {
        let Some((pipeline, keys)) = self.of_job.remove(&job) else {
            return;
        };
        let Some(known) = self.known.get_mut(&pipeline) else {
            return;
        };
        for key in keys {
            // Where a journal lost that the job was forgotten, a later one may have the key.
            if known.get(&key).is_some_and(|known| known.job == job) {
                known.remove(&key);
            }
        }
        if known.is_empty() {
            self.known.remove(&pipeline);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_last_job_that_has_a_key_keeps_it() {
        let jobs = [1, 2, 3].map(|number| JobId(Uuid::from_u128(number)));
        let pipeline: Arc<str> = "p".into();
        let key = IdempotencyKey {
            key: "k".to_owned(),
            body_hash: String::new(),
            joined: false,
        };
        let mut keys = Keys::default();
        for job in jobs {
            keys.remember(&pipeline, job, &key);
        }
        keys.forget(jobs[0]);
        assert_eq!(keys.find("p", "k").unwrap().job, jobs[2]);
        keys.forget(jobs[2]);
        assert!(keys.find("p", "k").is_none());
        keys.forget(jobs[1]);
    }
}
