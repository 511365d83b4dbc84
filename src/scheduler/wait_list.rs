//! How jobs come: from a request or from an earlier run, onto the wait list and off it.
//!
//! A part of the scheduler. Which place a job gets is the lane's to say; here is what follows from it.

use std::sync::Arc;

use super::job::{Job, JobPhase, task_records};
use super::lane::{Full, Place};
use super::{
    Accepted, EndedJob, Lane, MAX_WAITING_BYTES, MAX_WAITING_JOBS, Order, ScheduleError, ScheduleRequest, Scheduler,
    Timer, merge, variables,
};
use crate::definition::Pipeline;
use crate::job::{Change, JobId, JobRecord, JobStatus};
use crate::template::Variables;
use crate::timestamp::Timestamp;

impl Scheduler {
    /// Takes over what an earlier run left: the jobs that waited, and those that ended. Called once, before all else.
    /// Waiting jobs have the definition that is loaded now; those that no longer fit end as canceled.
    pub(crate) fn restore(&mut self, now: Timestamp, mut waiting: Vec<JobRecord>, mut ended: Vec<EndedJob>) {
        ended.sort_by_key(|job| job.end_ms);
        for job in ended {
            let lane = self
                .lanes
                .entry(Arc::clone(&job.pipeline))
                .or_insert_with(|| Lane::undefined(Arc::clone(&job.pipeline)));
            lane.remember(job.id, job.started, now.mono_of(job.latest_end_ms));
            for key in &job.idempotency {
                self.keys.remember(&job.pipeline, job.id, key);
            }
        }
        waiting.sort_by_key(|record| (record.place, record.id));
        let mut waiting = waiting.into_iter().peekable();
        while let Some(record) = waiting.next() {
            self.next_place = self.next_place.max(record.place + 1);
            for key in &record.idempotency {
                self.keys.remember(&record.pipeline, record.id, key);
            }
            // A crash came between the two changes of a replacement: the newer job was saved, the end of the older not.
            match waiting.peek().filter(|newer| newer.place == record.place) {
                Some(newer) => {
                    let reason = format!("replaced by job {}", newer.id);
                    self.end_unfit(now, &record, JobStatus::Replaced, reason);
                }
                None => self.restore_waiting(now, record),
            }
        }
        self.advance(now);
    }

    fn restore_waiting(&mut self, now: Timestamp, mut record: JobRecord) {
        let fitting = match self.pipelines.get(&record.pipeline) {
            None => Err(format!("pipeline {:?} is not defined any more", &*record.pipeline)),
            Some(pipeline) => {
                let variables = pipeline.intake.declared.complete(Arc::clone(&record.variables));
                variables::check(pipeline, record.id, &variables)
                    .map(|()| (Arc::clone(pipeline), variables))
                    .map_err(|complaints| format!("its variables no longer fit: {complaints}"))
            }
        };
        match fitting {
            Err(reason) => self.end_unfit(now, &record, JobStatus::Canceled, reason),
            Ok((pipeline, variables)) => {
                let not_before_ms = record.start_after_ms.and_then(|start_after_ms| {
                    // The clock may have been set back in between: what is left is at most the delay.
                    let delay_ms = start_after_ms.saturating_sub(record.created_ms).max(0);
                    let left_ms = start_after_ms.saturating_sub(now.wall_ms).min(delay_ms);
                    (left_ms > 0).then(|| now.mono_ms + left_ms)
                });
                let tasks = task_records(&pipeline);
                let delay_is_over = not_before_ms.is_none() && record.start_after_ms.is_some();
                if tasks != record.tasks || variables != record.variables {
                    record.tasks = tasks;
                    let by_default = pipeline.intake.declared.by_default(&record.variables);
                    record.by_default.extend(by_default);
                    record.variables = variables;
                    self.orders.push(Order::Save(Change::Job(Box::new(record.clone()))));
                }
                if delay_is_over {
                    self.orders.push(Order::Save(Change::DelayOver { job: record.id }));
                }
                self.add_waiting(Job::new(&record, pipeline, not_before_ms));
            }
        }
    }

    /// Ends a job that waited before this start and can't go on doing so.
    fn end_unfit(&mut self, now: Timestamp, record: &JobRecord, status: JobStatus, reason: String) {
        self.orders.push(Order::Save(Change::End {
            job: record.id,
            end_ms: now.wall_ms,
            status,
            reason,
        }));
        self.remember(now, &record.pipeline, record.id, false);
    }

    /// Accepts a job: it starts, or it waits. A request that is known by its key is answered with the job that it had.
    ///
    /// # Errors
    /// Where the pipeline is unknown, the variables don't fit, the wait list has no place, the key is another request's, or
    /// the request equals a job and its pipeline refuses that.
    pub(crate) fn schedule(
        &mut self,
        now: Timestamp,
        id: JobId,
        mut request: ScheduleRequest,
    ) -> Result<Accepted, ScheduleError> {
        if self.shutdown.is_some() {
            return Err(ScheduleError::ShuttingDown);
        }
        if let Some(key) = &request.key
            && let Some(known) = self.keys.find(&request.pipeline, &key.key)
        {
            return if known.body_hash == key.body_hash {
                Ok(Accepted {
                    job: known.job,
                    joined: known.joined,
                })
            } else {
                Err(ScheduleError::KeyOfAnother)
            };
        }
        let Some(pipeline) = self.pipelines.get(request.pipeline.as_str()).cloned() else {
            return Err(ScheduleError::UnknownPipeline(request.pipeline));
        };
        let given = Arc::clone(&request.variables);
        request.variables = pipeline.intake.declared.complete(request.variables);
        variables::check(&pipeline, id, &request.variables).map_err(ScheduleError::BadVariables)?;

        if let Some(answer) = self.join(&request) {
            return answer;
        }
        let lane = &self.lanes[&pipeline.name];
        let starts = pipeline.start_delay_ms == 0 && lane.has_free_place() && !self.is_held;
        let place = if starts {
            Place::Last
        } else {
            self.find_place(&pipeline, &request.partition)?
        };
        let replaced = match place {
            Place::Last => None,
            Place::Of(_, job) => Some(job),
        };
        let mut by_default = Vec::new();
        if !starts {
            by_default = pipeline.intake.declared.by_default(&given);
            if let Some(old) = replaced.filter(|_| !pipeline.intake.merge.is_empty()) {
                (request.variables, by_default) = self.merge(&pipeline, id, old, given)?;
            }
            self.check_room(replaced, &request.variables)?;
        }
        let place = match place {
            Place::Last => {
                self.next_place += 1;
                self.next_place - 1
            }
            Place::Of(place, _) => place,
        };
        let has_delay = pipeline.start_delay_ms > 0;
        let record = JobRecord {
            id,
            pipeline: Arc::clone(&pipeline.name),
            user: request.user,
            variables: request.variables,
            by_default,
            partition: request.partition,
            created_ms: now.wall_ms,
            place,
            start_after_ms: has_delay.then(|| now.wall_ms.saturating_add(pipeline.start_delay_ms)),
            status: if starts { JobStatus::Running } else { JobStatus::Waiting },
            start_ms: starts.then_some(now.wall_ms),
            end_ms: None,
            errored: false,
            last_error: String::new(),
            idempotency: request.key.map(|key| key.of_job(false)).into_iter().collect(),
            reason: String::new(),
            due: request.due,
            replaced: false,
            tasks: task_records(&pipeline),
        };
        for key in &record.idempotency {
            self.keys.remember(&pipeline.name, id, key);
        }
        let job = Job::new(
            &record,
            Arc::clone(&pipeline),
            has_delay.then(|| now.mono_ms + pipeline.start_delay_ms),
        );
        // The new job's record comes first: a crash between the two then leaves one job too many, never one too few.
        self.orders.push(Order::Save(Change::Job(Box::new(record))));
        if let Some(replaced) = replaced {
            self.end_waiting(now, replaced, JobStatus::Replaced, format!("replaced by job {id}"));
        }
        if starts {
            self.insert_job(job);
            self.run_job(now, id);
        } else {
            self.add_waiting(job);
            if !has_delay {
                self.note_wait(id);
            }
        }
        self.advance(now);
        Ok(Accepted { job: id, joined: false })
    }

    fn find_place(&self, pipeline: &Pipeline, partition: &str) -> Result<Place, ScheduleError> {
        let place = self.lanes[&pipeline.name].find_place(partition);
        place.map_err(|full| match full {
            Full::QueueLimit => ScheduleError::QueueFull,
            Full::QueueDisabled => ScheduleError::QueueDisabled,
        })
    }

    /// The variables of a new job that replaces an old one, and which of them nobody gave.
    fn merge(
        &self,
        pipeline: &Pipeline,
        id: JobId,
        old: JobId,
        given: Arc<Variables>,
    ) -> Result<(Arc<Variables>, Vec<String>), ScheduleError> {
        let refused = |why: String| ScheduleError::BadVariables(format!("merged with those of job {old}: {why}"));
        let (intake, old) = (&pipeline.intake, &self.jobs[&old]);
        let merged = merge::merged(intake, &old.variables, &old.by_default, given).map_err(refused)?;
        let by_default = intake.declared.by_default(&merged);
        let merged = intake.declared.complete(merged);
        let bytes = json_bytes(&merged);
        if bytes > merge::MAX_MERGED_BYTES {
            return Err(refused(format!(
                "the variables have {bytes} bytes, expected at most 1 MiB"
            )));
        }
        variables::check(pipeline, id, &merged).map_err(refused)?;
        Ok((merged, by_default))
    }

    /// Whether these variables may wait, in the place of this job if there is one.
    fn check_room(&self, replaced: Option<JobId>, variables: &Variables) -> Result<(), ScheduleError> {
        let freed = match replaced {
            None => (0, 0),
            Some(job) => (1, self.jobs[&job].waiting_bytes),
        };
        let bytes = json_bytes(variables);
        if self.waiting_jobs - freed.0 >= MAX_WAITING_JOBS || self.waiting_bytes - freed.1 + bytes > MAX_WAITING_BYTES {
            return Err(ScheduleError::QueueFull);
        }
        Ok(())
    }

    /// Ends a job that waits, and frees its place on the wait list.
    pub(super) fn end_waiting(&mut self, now: Timestamp, id: JobId, status: JobStatus, reason: String) {
        self.remove_waiting(id);
        let job = self.remove_job(id);
        self.orders.push(Order::Save(Change::End {
            job: id,
            end_ms: now.wall_ms,
            status,
            reason,
        }));
        self.remember(now, &job.pipeline.name, id, false);
    }

    fn add_waiting(&mut self, mut job: Job) {
        let JobPhase::Waiting { not_before_ms } = job.phase else {
            unreachable!("a new job waits");
        };
        if let Some(at_ms) = not_before_ms {
            self.timers.insert((at_ms, Timer::DelayOver(job.id)));
        }
        job.waiting_bytes = json_bytes(&job.variables);
        self.waiting_jobs += 1;
        self.waiting_bytes += job.waiting_bytes;
        let lane = self
            .lanes
            .get_mut(&job.pipeline.name)
            .expect("a defined pipeline has a lane");
        lane.add_waiting(job.place, job.id, &job.partition, not_before_ms.is_none());
        self.insert_job(job);
    }

    /// Takes a job off the wait list; what becomes of it is the caller's to say.
    pub(super) fn remove_waiting(&mut self, id: JobId) {
        let job = &self.jobs[&id];
        if let JobPhase::Waiting {
            not_before_ms: Some(at_ms),
        } = job.phase
        {
            self.timers.remove(&(at_ms, Timer::DelayOver(id)));
        }
        self.waiting_jobs -= 1;
        self.waiting_bytes -= job.waiting_bytes;
        let lane = self
            .lanes
            .get_mut(&job.pipeline.name)
            .expect("a waiting job has a lane");
        lane.remove_waiting(job.place, &job.partition);
    }
}

fn json_bytes(variables: &Variables) -> usize {
    serde_json::to_vec(variables).expect("variables come from JSON").len()
}
