//! Jobs that have to wait stop one that runs: `interrupt_running`.
//!
//! A part of the scheduler. Surprise: a job does that once, when it first has to wait for a place. One that waits behind
//! others must not stop these as soon as they start.

use std::mem;

use super::Scheduler;
use super::job::{Job, StopReason};
use super::orders::Order;
use crate::definition::Queue;
use crate::job::{Change, JobId};
use crate::timestamp::Timestamp;

impl Scheduler {
    /// A job waits for nothing but a place from now on.
    pub(super) fn note_wait(&mut self, id: JobId) {
        let lane = &self.lanes[&self.jobs[&id].pipeline.name];
        if lane.pipeline.intake.interrupt_running {
            self.interrupting.push(id);
        }
    }

    /// Stops jobs for those that have just begun to wait and got no place.
    pub(super) fn interrupt_running(&mut self, now: Timestamp) {
        if self.is_held || self.shutdown.is_some() {
            return;
        }
        for id in mem::take(&mut self.interrupting) {
            if let Some(oldest) = self.find_to_interrupt(id) {
                self.replace_running(now, oldest, format!("replaced by job {id}"));
            }
        }
    }

    fn find_to_interrupt(&self, id: JobId) -> Option<JobId> {
        let job = self.jobs.get(&id).filter(|job| job.phase.turn().is_none())?;
        let lane = &self.lanes[&job.pipeline.name];
        if !lane.pipeline.intake.interrupt_running {
            return None;
        }
        let running = || lane.running.values().map(|id| &self.jobs[id]);
        // Places that become free without it go to those before it, then to it.
        if running().filter(|job| job.is_ending()).count() >= lane.due_up_to(job.place) {
            return None;
        }
        let is_alike = |other: &Job| match lane.pipeline.queue {
            Queue::PartitionedReplace { .. } => other.partition == job.partition,
            Queue::Append { .. } | Queue::Replace { .. } => true,
        };
        let oldest = running().find(|other| !other.is_ending() && is_alike(other));
        oldest.map(|job| job.id)
    }

    /// A running job gives its place to another one: it is stopped, but for what must be let end.
    fn replace_running(&mut self, now: Timestamp, id: JobId, reason: String) {
        let job = self.jobs.get_mut(&id).expect("the caller has seen it");
        job.replaced = Some(reason.clone());
        self.orders.push(Order::Save(Change::Cancel {
            job: id,
            reason,
            replaced: true,
        }));
        self.stop_tasks(now, id, StopReason::Replace);
        self.proceed(now, id);
    }
}
