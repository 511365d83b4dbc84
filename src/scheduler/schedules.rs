//! When schedules are due, and what was due already.
//!
//! A part of the scheduler. What comes of a due time is decided as for a request; here is only when there is one.
//!
//! Surprise: cron expressions and single times follow the wall clock, intervals the monotonic one. So there are two kinds
//! of deadlines, and whoever waits for the next one needs two questions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::{Accepted, Order, ScheduleError, ScheduleRequest, Scheduler, variables};
use crate::calendar::{When, Zone};
use crate::definition::schedules::Schedule;
use crate::job::{Change, JobId};
use crate::schedule::{Added, Due, ScheduleId, ScheduleRecord, ScheduleView};
use crate::timestamp::Timestamp;

/// Schedules that clients may add. A limit on everything.
pub(crate) const MAX_ADDED: usize = 1_000;
/// Bytes of what all of them say, as JSON text: their variables are held and written down. So much as 16 requests may bring.
const MAX_ADDED_BYTES: usize = 16 * 1024 * 1024;
/// Who schedules what is due.
const USER: &str = "schedule";
/// A clock that was set back by no more than this was put right: what was due already is not due again. One that was set
/// back further is followed.
const CORRECTION_MS: i64 = 60_000;
/// Both clocks, read one after the other, differ by less.
const CLOCK_WAS_SET_MS: i64 = 1_000;
/// A client's clock may be behind, and it cuts off the fraction.
const LATE_MS: i64 = 60_000;

/// Why a schedule is not added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AddError {
    /// As a request for a job now would be.
    Refused(ScheduleError),
    TooMany,
    /// They would say too much together.
    TooLarge {
        bytes: usize,
        left: usize,
    },
    /// It is for a time that is over.
    Over,
}

impl fmt::Display for AddError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddError::Refused(error) => error.fmt(formatter),
            AddError::TooMany => write!(
                formatter,
                "there are {MAX_ADDED} schedules already, the most that can be added"
            ),
            AddError::TooLarge { bytes, left } => write!(
                formatter,
                "the schedule has {bytes} bytes with its variables, expected at most {left}: those that are added have {} MiB together",
                MAX_ADDED_BYTES >> 20
            ),
            AddError::Over => formatter.write_str("field `at` is a time that is over, expected one to come"),
        }
    }
}

/// Why a schedule is not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemoveError {
    Unknown,
    FromFile,
}

#[derive(Debug, Default)]
pub(super) struct Schedules {
    /// The machine's; `None`: schedules are no matter here.
    zone: Option<Zone>,
    known: BTreeMap<ScheduleId, Known>,
    /// What is due when, by the wall and monotonic.
    wall: BTreeSet<(i64, ScheduleId)>,
    mono: BTreeSet<(i64, ScheduleId)>,
    /// By how much the wall clock was ahead of the monotonic one when they were last looked at.
    ahead_ms: i64,
    /// When this run began, by the monotonic clock.
    started_mono_ms: i64,
}

#[derive(Debug)]
struct Known {
    pipeline: Arc<str>,
    schedule: Schedule,
    record: ScheduleRecord,
    next: Next,
    /// Of what a client said, as JSON text.
    bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Wall(i64),
    Mono(i64),
    Never,
}

impl Schedules {
    fn insert(&mut self, known: Known) {
        let id = known.record.id;
        self.set_next(id, Some(known.next));
        self.known.insert(id, known);
    }

    fn remove(&mut self, id: ScheduleId) {
        self.set_next(id, None);
        self.known.remove(&id);
    }

    /// `None`: it goes.
    fn set_next(&mut self, id: ScheduleId, next: Option<Next>) {
        match self.known.get(&id).map(|known| known.next) {
            Some(Next::Wall(at_ms)) => drop(self.wall.remove(&(at_ms, id))),
            Some(Next::Mono(at_ms)) => drop(self.mono.remove(&(at_ms, id))),
            Some(Next::Never) | None => {}
        }
        match next {
            Some(Next::Wall(at_ms)) => drop(self.wall.insert((at_ms, id))),
            Some(Next::Mono(at_ms)) => drop(self.mono.insert((at_ms, id))),
            Some(Next::Never) | None => {}
        }
        if let (Some(next), Some(known)) = (next, self.known.get_mut(&id)) {
            known.next = next;
        }
    }

    fn zone_of<'a>(&'a self, schedule: &'a Schedule) -> &'a Zone {
        let zone = schedule.zone.as_ref().or(self.zone.as_ref());
        zone.expect("schedules are known where the machine's zone is")
    }

    /// When one is due first that is new, or was known before this run.
    fn first(&self, now: Timestamp, schedule: &Schedule, record: &ScheduleRecord, is_new: bool) -> Next {
        let base_ms = record.last_ms.unwrap_or(record.since_ms);
        let from_ms = if is_new { now.wall_ms } else { base_ms };
        match &schedule.when {
            When::At { wall_ms } => Next::Wall(*wall_ms),
            When::Cron(cron) => {
                let after_ms = if schedule.makes_up && from_ms < now.wall_ms {
                    from_ms
                } else {
                    not_again(now, record)
                };
                let due = cron.due_after(self.zone_of(schedule), after_ms);
                due.map_or(Next::Never, Next::Wall)
            }
            When::Every { ms, .. } => {
                let elapsed_ms = now.wall_ms.saturating_sub(from_ms);
                // The clock may have been set back meanwhile: it is due after one interval at the latest.
                let left_ms = if elapsed_ms < *ms {
                    ms.saturating_sub(elapsed_ms).min(*ms)
                } else if schedule.makes_up {
                    0
                } else {
                    ms - elapsed_ms % ms
                };
                Next::Mono(now.mono_ms.saturating_add(left_ms))
            }
        }
    }

    /// Looks whether the wall clock was set, or the machine slept: then what is due by the wall is found anew.
    fn follow_clock(&mut self, now: Timestamp) {
        let ahead_ms = now.wall_ms.saturating_sub(now.mono_ms);
        let changed_ms = ahead_ms.saturating_sub(self.ahead_ms).saturating_abs();
        if changed_ms < CLOCK_WAS_SET_MS {
            return;
        }
        self.ahead_ms = ahead_ms;
        let mut found = Vec::new();
        for (id, known) in &self.known {
            let When::Cron(cron) = &known.schedule.when else {
                continue;
            };
            let base_ms = known.record.last_ms.unwrap_or(known.record.since_ms);
            let after_ms = match known.next {
                // The clock had been set back, and is put right: what was due before that is not due again. A machine
                // that does not keep the time begins far in the past with each boot.
                Next::Wall(at_ms) if at_ms <= base_ms && base_ms <= now.wall_ms => {
                    let started_ms = now.wall_ms.saturating_sub(now.mono_ms - self.started_mono_ms);
                    if known.schedule.makes_up {
                        base_ms
                    } else {
                        base_ms.max(started_ms)
                    }
                }
                // What was jumped over is due now.
                Next::Wall(at_ms) if base_ms < at_ms && at_ms <= now.wall_ms => continue,
                Next::Wall(_) | Next::Never => not_again(now, &known.record),
                Next::Mono(_) => unreachable!("expressions follow the wall clock"),
            };
            let due = cron.due_after(self.zone_of(&known.schedule), after_ms);
            found.push((*id, due.map_or(Next::Never, Next::Wall)));
        }
        for (id, next) in found {
            self.set_next(id, Some(next));
        }
    }

    /// Takes out what is due first, and finds when that is due again.
    fn take_due(&mut self, now: Timestamp) -> Option<Due> {
        let wall = self.wall.first().filter(|(at_ms, _)| *at_ms <= now.wall_ms);
        let mono = self.mono.first().filter(|(at_ms, _)| *at_ms <= now.mono_ms);
        let (due_ms, id) = *wall.or(mono)?;
        let known = &self.known[&id];
        // Several due times that were missed are made up for by one; it stands for the last of them.
        let (at_ms, next) = match &known.schedule.when {
            When::At { .. } => (due_ms, Next::Never),
            When::Cron(cron) => {
                let zone = self.zone_of(&known.schedule);
                let mut at_ms = due_ms;
                let mut next = cron.due_after(zone, due_ms);
                if next.is_some_and(|next_ms| next_ms <= now.wall_ms) {
                    at_ms = now.wall_ms;
                    next = cron.due_after(zone, now.wall_ms);
                }
                (at_ms, next.map_or(Next::Never, Next::Wall))
            }
            When::Every { ms, .. } => {
                let late_ms = (now.mono_ms - due_ms) % ms;
                let next_ms = now.mono_ms.saturating_sub(late_ms).saturating_add(*ms);
                (now.wall_ms.saturating_sub(late_ms), Next::Mono(next_ms))
            }
        };
        self.set_next(id, Some(next));
        Some(Due { id, at_ms })
    }
}

/// Behind which instant a cron expression is due again.
fn not_again(now: Timestamp, record: &ScheduleRecord) -> i64 {
    let is_corrected = |last_ms: &i64| last_ms.saturating_sub(now.wall_ms) <= CORRECTION_MS;
    let last_ms = record.last_ms.filter(is_corrected);
    last_ms.map_or(now.wall_ms, |last_ms| last_ms.max(now.wall_ms))
}

impl Scheduler {
    /// From now on, schedules count. Takes over what an earlier run left of them, and says what a person should know of
    /// that. Called once, after `restore`.
    pub(crate) fn start_schedules(&mut self, now: Timestamp, zone: Zone, records: Vec<ScheduleRecord>) -> Vec<String> {
        let mut messages = Vec::new();
        self.schedules.zone = Some(zone);
        self.schedules.ahead_ms = now.wall_ms.saturating_sub(now.mono_ms);
        self.schedules.started_mono_ms = now.mono_ms;
        let mut of_files = BTreeMap::new();
        for record in records {
            let Some(added) = &record.added else {
                of_files.insert(record.id, record);
                continue;
            };
            let schedule = match added.read() {
                Ok(schedule) => schedule,
                Err(why) => {
                    // A version that understands it may come back.
                    messages.push(format!("schedule {} is left alone: {why}", record.id));
                    continue;
                }
            };
            if let When::At { wall_ms } = schedule.when
                && wall_ms <= now.wall_ms
                && !schedule.makes_up
            {
                messages.push(format!(
                    "schedule {} of pipeline `{}` was missed while prunner was down; it is removed",
                    record.id, added.pipeline
                ));
                self.orders
                    .push(Order::Save(Change::ForgetSchedule { schedule: record.id }));
                continue;
            }
            self.schedules.insert(Known {
                bytes: added.json_bytes(),
                pipeline: added.pipeline.as_str().into(),
                next: self.schedules.first(now, &schedule, &record, false),
                schedule,
                record,
            });
        }
        self.take_over_files(now, of_files);
        messages
    }

    /// Brings the schedules in line with the pipelines that are loaded now.
    pub(super) fn load_schedules(&mut self, now: Timestamp) {
        if self.schedules.zone.is_some() {
            self.take_over_files(now, BTreeMap::new());
        }
    }

    fn take_over_files(&mut self, now: Timestamp, mut records: BTreeMap<ScheduleId, ScheduleRecord>) {
        let mut found = BTreeSet::new();
        for pipeline in self.pipelines.values() {
            for schedule in &pipeline.schedules {
                let id = ScheduleId::of_file(&pipeline.name, schedule);
                found.insert(id);
                if let Some(known) = self.schedules.known.get_mut(&id) {
                    known.schedule = schedule.clone();
                    continue;
                }
                let kept = records.remove(&id);
                let is_new = kept.is_none();
                let record = kept.unwrap_or(ScheduleRecord {
                    id,
                    since_ms: now.wall_ms,
                    last_ms: None,
                    added: None,
                });
                if is_new {
                    self.orders
                        .push(Order::Save(Change::Schedule(Box::new(record.clone()))));
                }
                self.schedules.insert(Known {
                    bytes: 0,
                    pipeline: Arc::clone(&pipeline.name),
                    schedule: schedule.clone(),
                    next: self.schedules.first(now, schedule, &record, is_new),
                    record,
                });
            }
        }
        let known = self.schedules.known.values();
        let gone = known
            .filter(|known| known.record.added.is_none() && !found.contains(&known.record.id))
            .map(|known| known.record.id)
            .chain(records.into_keys());
        for id in gone.collect::<Vec<_>>() {
            self.schedules.remove(id);
            self.orders.push(Order::Save(Change::ForgetSchedule { schedule: id }));
        }
    }

    /// What is due now, as a request for `schedule_due`; `None`: nothing more. During a shutdown nothing is.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Option<ScheduleRequest> {
        if self.shutdown.is_some() || self.schedules.known.is_empty() {
            return None;
        }
        self.schedules.follow_clock(now);
        let due = self.schedules.take_due(now)?;
        let known = &self.schedules.known[&due.id];
        Some(ScheduleRequest {
            pipeline: known.pipeline.to_string(),
            variables: Arc::clone(&known.schedule.variables),
            partition: known.schedule.partition.clone(),
            user: USER.to_owned(),
            key: None,
            due: Some(due),
        })
    }

    /// Accepts a job for what is due.
    ///
    /// # Errors
    /// As for any request. It is missed then.
    pub(crate) fn schedule_due(
        &mut self,
        now: Timestamp,
        id: JobId,
        request: ScheduleRequest,
    ) -> Result<Accepted, ScheduleError> {
        let due = request.due.expect("it is asked for a due time");
        let orders_before = self.orders.len();
        let result = if self.is_held {
            Err(ScheduleError::Held)
        } else {
            self.schedule(now, id, request)
        };
        let is_saved = self.orders[orders_before..]
            .iter()
            .any(|order| matches!(order, Order::Save(Change::Job(record)) if record.due == Some(due)));
        let known = self.schedules.known.get_mut(&due.id).expect("it was due");
        known.record.last_ms = Some(due.at_ms);
        if known.record.is_once() {
            self.schedules.remove(due.id);
        }
        if !is_saved {
            self.orders.push(Order::Save(Change::WasDue(due)));
        }
        result
    }

    /// Takes a schedule of a client.
    ///
    /// # Errors
    /// Where a job of it would be refused now for what it says, where there are too many, and where its time is over.
    pub(crate) fn add_schedule(
        &mut self,
        now: Timestamp,
        id: ScheduleId,
        added: Added,
        schedule: Schedule,
    ) -> Result<(), AddError> {
        if self.shutdown.is_some() {
            return Err(AddError::Refused(ScheduleError::ShuttingDown));
        }
        let Some(pipeline) = self.pipelines.get(added.pipeline.as_str()) else {
            return Err(AddError::Refused(ScheduleError::UnknownPipeline(added.pipeline)));
        };
        let complete = pipeline.intake.declared.complete(Arc::clone(&schedule.variables));
        variables::check(pipeline, JobId(id.0), &complete)
            .map_err(|complaints| AddError::Refused(ScheduleError::BadVariables(complaints)))?;
        let known = self.schedules.known.values();
        let sizes = known
            .filter(|known| known.record.added.is_some())
            .map(|known| known.bytes);
        let (count, sum) = sizes.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes));
        if count >= MAX_ADDED {
            return Err(AddError::TooMany);
        }
        let (bytes, left) = (added.json_bytes(), MAX_ADDED_BYTES.saturating_sub(sum));
        if bytes > left {
            return Err(AddError::TooLarge { bytes, left });
        }
        if let When::At { wall_ms } = schedule.when
            && wall_ms < now.wall_ms.saturating_sub(LATE_MS)
        {
            return Err(AddError::Over);
        }
        let record = ScheduleRecord {
            id,
            since_ms: now.wall_ms,
            last_ms: None,
            added: Some(Box::new(added)),
        };
        self.orders
            .push(Order::Save(Change::Schedule(Box::new(record.clone()))));
        self.schedules.insert(Known {
            bytes,
            pipeline: Arc::clone(&pipeline.name),
            next: self.schedules.first(now, &schedule, &record, true),
            schedule,
            record,
        });
        Ok(())
    }

    /// Removes a schedule that a client added.
    ///
    /// # Errors
    /// Where there is none, or a file says it.
    pub(crate) fn remove_schedule(&mut self, id: ScheduleId) -> Result<(), RemoveError> {
        let known = self.schedules.known.get(&id).ok_or(RemoveError::Unknown)?;
        if known.record.added.is_none() {
            return Err(RemoveError::FromFile);
        }
        self.schedules.remove(id);
        self.orders.push(Order::Save(Change::ForgetSchedule { schedule: id }));
        Ok(())
    }

    /// When `take_due` must be called at the latest, by the wall; what is due by the other clock is in `next_deadline`.
    pub(crate) fn next_wall_deadline(&self) -> Option<i64> {
        let first = self.schedules.wall.first().filter(|_| self.shutdown.is_none());
        first.map(|&(at_ms, _)| at_ms)
    }

    pub(super) fn next_interval(&self) -> Option<i64> {
        let first = self.schedules.mono.first().filter(|_| self.shutdown.is_none());
        first.map(|&(at_ms, _)| at_ms)
    }

    /// All schedules, by pipeline and by what is due first.
    pub(crate) fn schedule_views(&self, now: Timestamp) -> Vec<ScheduleView> {
        let mut views: Vec<ScheduleView> = self
            .schedules
            .known
            .values()
            .map(|known| {
                let is_cron = matches!(known.schedule.when, When::Cron(_));
                let zone = known.schedule.zone.as_ref();
                let zone = zone.or(self.schedules.zone.as_ref().filter(|_| is_cron));
                ScheduleView {
                    id: known.record.id,
                    pipeline: Arc::clone(&known.pipeline),
                    schedule: known.schedule.clone(),
                    zone: zone.map(|zone| Arc::clone(zone.name())),
                    next_ms: match known.next {
                        Next::Wall(at_ms) => Some(at_ms),
                        Next::Mono(at_ms) => Some(now.wall_ms.saturating_add(at_ms - now.mono_ms)),
                        Next::Never => None,
                    },
                    last_ms: known.record.last_ms,
                    is_from_file: known.record.added.is_none(),
                }
            })
            .collect();
        views.sort_by(|one, other| {
            (&one.pipeline, one.next_ms, one.id).cmp(&(&other.pipeline, other.next_ms, other.id))
        });
        views
    }
}
