//! Thousands of random histories of schedules against a model of them: files that change, additions and removals, a wall
//! clock that is set, restarts and crashes.
//!
//! The pipelines here have no tasks, so that a job ends as it starts: only when there is one matters. A crash keeps only
//! the first of the changes that the last call asked to save; what is on disk is what the read model makes of them. The
//! model finds due times by walking from minute to minute, and shares no code with the scheduler.
//!
//! Each of these bugs was put into the scheduler, or into what reads its records, on purpose and was caught by the first
//! 400 histories:
//!
//! - the job does not say which due time it came of, so that this is due again after a restart
//! - a single time is kept after its job; one that was missed is due at the start
//! - what was missed is made up for though nobody wants that; it is made up for twice
//! - an interval begins anew after a restart; it loses its phase when it is late
//! - a cron expression does not follow a clock that is set back; where one is put right by seconds it is due again; where
//!   one is put right that was set back far, what was due before that is due again, or what was missed while prunner was down
//! - a refused due time is not written down; what is due during a shutdown is lost; what is due while nothing can be saved
//!   is accepted
//! - a schedule that no file says any more goes on; one that is the same begins anew at a reload

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::sync::Arc;

use uuid::Uuid;

use super::random::Random;
use super::{SeedInFailure, say};
use crate::calendar::{Cron, When, Zone};
use crate::definition::schedules::Schedule;
use crate::definition::{Pipeline, Pipelines, Task};
use crate::job::{Change, JobId};
use crate::read_model::Image;
use crate::schedule::{Added, Due, ScheduleId};
use crate::scheduler::schedules::AddError;
use crate::scheduler::{Limits, Order, Retention, ScheduleError, Scheduler, Shutdown};
use crate::template::{Delimiters, Template};
use crate::timestamp::Timestamp;

const CALLS: usize = 60;
const MINUTE: i64 = 60_000;
const NAMES: [&str; 3] = ["alpha", "beta", "refusing"];

#[test]
fn random_schedules_agree_with_the_model() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (first, count) = match number("SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("SEEDS").unwrap_or(800)),
    };
    let mut sum = [0; 5];
    for seed in first..first + count {
        let _named = SeedInFailure(seed);
        let mut world = World::new(seed);
        world.is_shown = number("SEED").is_some();
        world.run();
        for (sum, one) in sum.iter_mut().zip(world.counts) {
            *sum += one;
        }
    }
    let [jobs, refused, missed, restarts, crashes] = sum;
    say(&format!(
        "{count} histories: {jobs} jobs, {refused} refused, {missed} missed, {restarts} restarts, {crashes} crashes"
    ));
    // A model that sees nothing agrees with everything.
    assert!(count < 100 || sum.iter().all(|count| *count > 20));
}

/// When it is due, in a form that the model understands by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    /// Each minute whose number within the hour this divides, in UTC.
    Minutes(i64),
    Every(i64),
    At(i64),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Spec {
    pipeline: &'static str,
    rule: Rule,
    makes_up: bool,
    partition: &'static str,
}

impl Spec {
    fn random(random: &mut Random, now: Timestamp, is_from_file: bool) -> Spec {
        let rule = match random.below(if is_from_file { 2 } else { 3 }) {
            0 => Rule::Minutes(random.pick(&[1, 2, 5, 60])),
            1 => Rule::Every(random.pick(&[1_000, 1_500, 60_000, 200_000])),
            _ => Rule::At((now.wall_ms / 1000 + random.between(0, 300)) * 1000),
        };
        Spec {
            pipeline: random.pick(&NAMES),
            rule,
            makes_up: random.chance(1, 2),
            partition: random.pick(&["", "a"]),
        }
    }

    fn added(&self) -> Added {
        let mut added = Added {
            pipeline: self.pipeline.to_owned(),
            partition: self.partition.to_owned(),
            catch_up: self.makes_up.then(|| "one".to_owned()),
            timezone: Some("UTC".to_owned()),
            ..Added::default()
        };
        match self.rule {
            Rule::Minutes(60) => added.cron = Some("@hourly".to_owned()),
            Rule::Minutes(step) => added.cron = Some(format!("*/{step} * * * *")),
            Rule::Every(ms) => added.every = Some(format!("{ms}ms")),
            Rule::At(at_ms) => added.at = Some(crate::timestamp::rfc3339(at_ms)),
        }
        added
    }

    fn schedule(&self) -> Schedule {
        self.added().read().unwrap()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Wall(i64),
    Mono(i64),
}

#[derive(Clone, Debug)]
struct Known {
    spec: Spec,
    is_from_file: bool,
    since_ms: i64,
    last_ms: Option<i64>,
    next: Next,
}

/// What is on disk of a schedule, as the model has seen it go there.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    since_ms: i64,
    last_ms: Option<i64>,
    /// `None`: a file says it.
    spec: Option<Spec>,
}

#[derive(Clone, Debug, Default)]
struct Model {
    known: BTreeMap<ScheduleId, Known>,
    kept: BTreeMap<ScheduleId, Kept>,
    /// Of jobs that are on disk.
    jobs: Vec<Due>,
    /// Schedules that are due once in all.
    singles: BTreeSet<ScheduleId>,
    ahead_ms: i64,
    started_mono_ms: i64,
    is_held: bool,
    shuts_down: bool,
}

/// The first minute behind this one that fits, found on foot.
fn next_minute(step: i64, after_ms: i64) -> i64 {
    let mut minute = after_ms.div_euclid(MINUTE) + 1;
    while (minute % 60) % step != 0 {
        minute += 1;
    }
    minute * MINUTE
}

impl Model {
    /// Where a clock that was put right by at most a minute makes nothing due again.
    fn behind(now: Timestamp, last_ms: Option<i64>) -> i64 {
        match last_ms {
            Some(last_ms) if last_ms > now.wall_ms && last_ms - now.wall_ms <= MINUTE => last_ms,
            _ => now.wall_ms,
        }
    }

    fn learn(&mut self, now: Timestamp, id: ScheduleId, spec: Spec, is_from_file: bool) {
        let next = match spec.rule {
            Rule::Minutes(step) => Next::Wall(next_minute(step, now.wall_ms)),
            Rule::Every(ms) => Next::Mono(now.mono_ms + ms),
            Rule::At(at_ms) => Next::Wall(at_ms),
        };
        if matches!(spec.rule, Rule::At(_)) {
            self.singles.insert(id);
        }
        let known = Known {
            spec,
            is_from_file,
            since_ms: now.wall_ms,
            last_ms: None,
            next,
        };
        self.known.insert(id, known);
    }

    /// After a restart, all that is known comes from the disk. The number of single times that were missed.
    fn restart(&mut self, now: Timestamp, files: &BTreeMap<ScheduleId, Spec>) -> usize {
        self.known.clear();
        self.ahead_ms = now.wall_ms - now.mono_ms;
        self.started_mono_ms = now.mono_ms;
        (self.is_held, self.shuts_down) = (false, false);
        let mut missed = 0;
        for (id, kept) in self.kept.clone() {
            let Some(spec) = kept.spec.clone().or_else(|| files.get(&id).cloned()) else {
                continue;
            };
            let base_ms = kept.last_ms.unwrap_or(kept.since_ms);
            let next = match spec.rule {
                Rule::At(at_ms) if at_ms <= now.wall_ms && !spec.makes_up => {
                    missed += 1;
                    continue;
                }
                Rule::At(at_ms) => Next::Wall(at_ms),
                Rule::Minutes(step) => {
                    let missed = next_minute(step, base_ms);
                    if spec.makes_up && missed <= now.wall_ms {
                        Next::Wall(missed)
                    } else {
                        Next::Wall(next_minute(step, Self::behind(now, kept.last_ms)))
                    }
                }
                Rule::Every(ms) => {
                    let mut due_ms = base_ms + ms;
                    if due_ms <= now.wall_ms && spec.makes_up {
                        due_ms = now.wall_ms;
                    } else {
                        while due_ms <= now.wall_ms {
                            due_ms += ms;
                        }
                    }
                    Next::Mono(now.mono_ms + (due_ms - now.wall_ms).min(ms))
                }
            };
            let known = Known {
                is_from_file: kept.spec.is_none(),
                spec,
                since_ms: kept.since_ms,
                last_ms: kept.last_ms,
                next,
            };
            self.known.insert(id, known);
        }
        for (id, spec) in files {
            if !self.known.contains_key(id) {
                self.learn(now, *id, spec.clone(), true);
            }
        }
        missed
    }

    fn reload(&mut self, now: Timestamp, files: &BTreeMap<ScheduleId, Spec>) {
        self.known
            .retain(|id, known| !known.is_from_file || files.contains_key(id));
        for (id, spec) in files {
            match self.known.get_mut(id) {
                Some(known) => known.spec = spec.clone(),
                None => self.learn(now, *id, spec.clone(), true),
            }
        }
    }

    /// What must be due at this look, each once: and from which moments on it is due again.
    fn look(&mut self, now: Timestamp) -> BTreeMap<ScheduleId, i64> {
        let mut due = BTreeMap::new();
        if self.shuts_down {
            return due;
        }
        let was_set = (now.wall_ms - now.mono_ms - self.ahead_ms).abs() >= 1_000;
        if was_set && !self.known.is_empty() {
            self.ahead_ms = now.wall_ms - now.mono_ms;
        }
        let started_ms = now.wall_ms - (now.mono_ms - self.started_mono_ms);
        for (id, known) in &mut self.known {
            // A clock that was set back and is put right.
            let since_ms = known.last_ms.unwrap_or(known.since_ms);
            if let (Rule::Minutes(step), Next::Wall(at_ms), true) = (known.spec.rule, known.next, was_set)
                && at_ms <= since_ms
            {
                let behind_ms = if since_ms > now.wall_ms {
                    Self::behind(now, known.last_ms)
                } else if known.spec.makes_up {
                    since_ms
                } else {
                    since_ms.max(started_ms)
                };
                known.next = Next::Wall(next_minute(step, behind_ms));
            }
            match (known.spec.rule, known.next) {
                (Rule::Minutes(step), Next::Wall(at_ms)) if at_ms <= now.wall_ms => {
                    let following = next_minute(step, at_ms);
                    let stands_for = if following <= now.wall_ms { now.wall_ms } else { at_ms };
                    due.insert(*id, stands_for);
                    known.next = Next::Wall(next_minute(step, stands_for));
                }
                (Rule::Minutes(step), Next::Wall(_)) if was_set => {
                    known.next = Next::Wall(next_minute(step, Self::behind(now, known.last_ms)));
                }
                (Rule::At(at_ms), _) if at_ms <= now.wall_ms => drop(due.insert(*id, at_ms)),
                (Rule::Every(ms), Next::Mono(at_ms)) if at_ms <= now.mono_ms => {
                    let mut last = at_ms;
                    while last + ms <= now.mono_ms {
                        last += ms;
                    }
                    due.insert(*id, now.wall_ms - (now.mono_ms - last));
                    known.next = Next::Mono(last + ms);
                }
                _ => {}
            }
        }
        due
    }

    fn note_due(&mut self, due: Due) {
        if let Some(kept) = self.kept.get_mut(&due.id) {
            kept.last_ms = Some(due.at_ms);
            if kept.spec.as_ref().is_some_and(|spec| matches!(spec.rule, Rule::At(_))) {
                self.kept.remove(&due.id);
            }
        }
    }

    /// A change goes to the disk.
    fn see(&mut self, change: &Change) {
        match change {
            Change::Job(record) => {
                let due = record.due.expect("all jobs come of schedules");
                assert_eq!(record.user, "schedule");
                self.jobs.push(due);
                self.note_due(due);
            }
            Change::Schedule(record) => {
                let spec = self.known.get(&record.id).filter(|known| !known.is_from_file);
                let kept = Kept {
                    since_ms: record.since_ms,
                    last_ms: record.last_ms,
                    spec: spec.map(|known| known.spec.clone()),
                };
                assert_eq!(kept.spec.is_some(), record.added.is_some());
                self.kept.insert(record.id, kept);
            }
            Change::WasDue(due) => self.note_due(*due),
            Change::ForgetSchedule { schedule } => {
                self.kept.remove(schedule).expect("it is on disk");
            }
            Change::End { .. } => {}
            Change::Start { .. }
            | Change::Task { .. }
            | Change::Fail { .. }
            | Change::Cancel { .. }
            | Change::Join { .. }
            | Change::DelayOver { .. }
            | Change::Forget { .. } => panic!("no job here does that: {change:?}"),
        }
    }
}

#[derive(Debug)]
struct World {
    random: Random,
    is_shown: bool,
    scheduler: Scheduler,
    files: BTreeMap<ScheduleId, Spec>,
    model: Model,
    disk: Vec<Change>,
    now: Timestamp,
    next_id: u128,
    /// The clock is set back by more than puts it right.
    goes_back: bool,
    /// It was set back by so much and is not put right yet.
    behind_ms: i64,
    /// Jobs, refused, missed, restarts, crashes.
    counts: [usize; 5],
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let now = Timestamp {
            wall_ms: 1_795_489_200_000 + random.between(0, 7_200_000),
            mono_ms: random.between(0, 1_000),
        };
        let mut world = World {
            is_shown: false,
            scheduler: new_scheduler(&BTreeMap::new()),
            files: BTreeMap::new(),
            model: Model::default(),
            disk: Vec::new(),
            now,
            next_id: 1,
            goes_back: random.chance(1, 2),
            behind_ms: 0,
            random,
            counts: [0; 5],
        };
        world.files = world.random_files();
        world.start();
        world
    }

    fn random_files(&mut self) -> BTreeMap<ScheduleId, Spec> {
        // Some stay as they are.
        let mut files = self.files.clone();
        files.retain(|_, _| self.random.chance(2, 3));
        for _ in 0..self.random.below(3) {
            let spec = Spec::random(&mut self.random, self.now, true);
            files.insert(ScheduleId::of_file(spec.pipeline, &spec.schedule()), spec);
        }
        files
    }

    fn run(&mut self) {
        for _ in 0..CALLS {
            self.let_time_pass();
            let before = self
                .random
                .chance(1, 15)
                .then(|| (self.model.clone(), self.disk.clone()));
            let orders = self.call();
            if let Some((model, disk)) = before {
                self.crash(model, disk, &orders);
            }
        }
    }

    fn let_time_pass(&mut self) {
        let to_wall = self
            .scheduler
            .next_wall_deadline()
            .map(|at_ms| at_ms - self.now.wall_ms);
        let to_mono = self.scheduler.next_deadline().map(|at_ms| at_ms - self.now.mono_ms);
        let first = [to_wall, to_mono].into_iter().flatten().min();
        let step_ms = match (self.random.below(6), first) {
            (0 | 1, Some(ms)) => ms.max(0),
            (2, Some(ms)) => (ms - 1).max(0),
            (3, Some(ms)) => ms.max(0) + self.random.between(0, 200_000),
            (4, _) => self.random.between(0, 1_000),
            _ => self.random.between(0, 100_000),
        };
        self.now.wall_ms += step_ms;
        self.now.mono_ms += step_ms;
        if self.random.chance(1, 10) {
            // By less than a second, by some, by minutes, by hours.
            let most_ms = self.random.pick(&[900, 50_000, 600_000, 10_000_000]);
            let back_ms = if self.goes_back { most_ms } else { most_ms.min(900) };
            self.now.wall_ms += self.random.between(-back_ms, most_ms);
        }
        if self.behind_ms > 0 && self.random.chance(1, 5) {
            self.now.wall_ms += std::mem::take(&mut self.behind_ms);
        } else if self.goes_back && self.random.chance(1, 40) {
            self.fall_behind();
        }
    }

    /// The clock begins anew, or somebody sets it wrong.
    fn fall_behind(&mut self) {
        let by_ms = self.random.pick(&[600_000, 7_200_000, 86_400_000]);
        self.now.wall_ms -= by_ms;
        self.behind_ms += by_ms;
    }

    /// The orders that it brought.
    fn call(&mut self) -> Vec<Change> {
        match self.random.below(20) {
            0..2 => self.add(),
            2 => self.remove(),
            3 => {
                self.files = self.random_files();
                self.model.reload(self.now, &self.files);
                self.scheduler.replace_pipelines(self.now, pipelines(&self.files));
            }
            4 => {
                self.model.is_held = !self.model.is_held;
                self.scheduler.hold(self.now, self.model.is_held);
            }
            5 if self.random.chance(1, 3) => {
                self.model.shuts_down = true;
                self.scheduler.shut_down(self.now, Shutdown::Drain);
            }
            6 => {
                self.restart();
                return Vec::new();
            }
            _ if self.model.shuts_down && self.random.chance(1, 3) => {
                self.restart();
                return Vec::new();
            }
            _ => self.look(),
        }
        self.save()
    }

    fn look(&mut self) {
        let mut due = self.model.look(self.now);
        if self.is_shown {
            say(&format!("{:?} due: {due:?}", self.now));
        }
        while let Some(request) = self.scheduler.take_due(self.now) {
            let found = request.due.unwrap();
            let known = &self.model.known[&found.id];
            assert_eq!(due.remove(&found.id), Some(found.at_ms), "{known:?}");
            assert_eq!(
                (&*request.pipeline, &*request.partition),
                (known.spec.pipeline, known.spec.partition)
            );
            let id = JobId(Uuid::from_u128(self.next_id));
            self.next_id += 1;
            let expected = if self.model.is_held {
                Err(ScheduleError::Held)
            } else if known.spec.pipeline == "refusing" {
                Err(ScheduleError::BadVariables(String::new()))
            } else {
                Ok(())
            };
            let mut answer = self.scheduler.schedule_due(self.now, id, request).map(drop);
            if let Err(ScheduleError::BadVariables(why)) = &mut answer {
                why.clear();
            }
            assert_eq!(answer, expected);
            self.counts[usize::from(answer.is_err())] += 1;
            let is_over = matches!(known.spec.rule, Rule::At(_));
            if is_over {
                self.model.known.remove(&found.id);
            } else {
                self.model.known.get_mut(&found.id).unwrap().last_ms = Some(found.at_ms);
            }
        }
        assert!(due.is_empty(), "not all that is due was: {due:?}");
    }

    fn add(&mut self) {
        let mut spec = Spec::random(&mut self.random, self.now, false);
        // One that is refused now is not taken either.
        if spec.pipeline == "refusing" && self.random.chance(3, 4) {
            spec.pipeline = "alpha";
        }
        let id = ScheduleId(Uuid::from_u128(1 << 100 | self.next_id));
        self.next_id += 1;
        let answer = self.scheduler.add_schedule(self.now, id, spec.added(), spec.schedule());
        if self.model.shuts_down {
            assert_eq!(answer, Err(AddError::Refused(ScheduleError::ShuttingDown)));
        } else if spec.pipeline == "refusing" {
            assert!(matches!(answer, Err(AddError::Refused(ScheduleError::BadVariables(_)))));
        } else {
            assert_eq!(answer, Ok(()));
            self.model.learn(self.now, id, spec, false);
        }
    }

    fn remove(&mut self) {
        let added: Vec<ScheduleId> = self.model.known.keys().copied().collect();
        if added.is_empty() {
            return;
        }
        let id = self.random.pick(&added);
        let is_from_file = self.model.known[&id].is_from_file;
        assert_eq!(self.scheduler.remove_schedule(id).is_err(), is_from_file);
        if !is_from_file {
            self.model.known.remove(&id);
        }
    }

    fn restart(&mut self) {
        self.counts[3] += 1;
        self.now.mono_ms = self.random.between(0, 1_000);
        self.now.wall_ms += self.random.pick(&[0, 500, 30_000, 400_000, 4_000_000]);
        match self.random.below(10) {
            0 if self.goes_back => self.now.wall_ms -= self.random.pick(&[500, 50_000, 400_000]),
            1 if self.goes_back => self.fall_behind(),
            _ => {}
        }
        self.files = self.random_files();
        self.start();
    }

    /// With what is on disk.
    fn start(&mut self) {
        let mut image = Image::default();
        self.disk.iter().for_each(|change| image.apply(change));
        let on_disk: BTreeMap<ScheduleId, (i64, Option<i64>)> = image
            .schedules()
            .map(|record| (record.id, (record.since_ms, record.last_ms)))
            .collect();
        let kept = self.model.kept.iter();
        let kept: BTreeMap<_, _> = kept.map(|(id, kept)| (*id, (kept.since_ms, kept.last_ms))).collect();
        assert_eq!(on_disk, kept);
        let missed = self.model.restart(self.now, &self.files);
        self.counts[2] += missed;
        self.scheduler = new_scheduler(&self.files);
        let records = image.schedules().cloned().collect();
        let messages = self.scheduler.start_schedules(self.now, Zone::utc(), records);
        assert_eq!(messages.len(), missed, "{messages:?}");
        self.save();
    }

    /// Only the first changes of the last call have reached the disk.
    fn crash(&mut self, model: Model, disk: Vec<Change>, changes: &[Change]) {
        self.counts[4] += 1;
        let known = std::mem::take(&mut self.model.known);
        self.model = model;
        self.disk = disk;
        // It is looked up there what a schedule says that is being added.
        self.model.known.extend(known);
        let kept = self.random.below(changes.len() + 1);
        for change in &changes[..kept] {
            self.model.see(change);
            self.disk.push(change.clone());
        }
        if self.is_shown {
            say(&format!("crash after {kept} of {} changes", changes.len()));
        }
        self.restart();
    }

    /// Brings all changes to the disk, and looks whether all is as the model has it.
    fn save(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for order in self.scheduler.take_orders() {
            match order {
                Order::Save(change) => changes.push(change),
                Order::Exit => {}
                Order::StartTask { .. }
                | Order::TellRetry { .. }
                | Order::StopTask(_)
                | Order::KillTask(_)
                | Order::AbandonTask(_) => panic!("no task is run here: {order:?}"),
            }
        }
        for change in &changes {
            if self.is_shown {
                say(&format!("    {change:?}"));
            }
            self.model.see(change);
            self.disk.push(change.clone());
        }
        self.check();
        changes
    }

    fn check(&self) {
        let model = &self.model;
        let found: BTreeMap<ScheduleId, (Option<i64>, Option<i64>)> = self
            .scheduler
            .schedule_views(self.now)
            .into_iter()
            .map(|view| (view.id, (view.next_ms, view.last_ms)))
            .collect();
        let known = model.known.iter().map(|(id, known)| {
            let next_ms = match known.next {
                Next::Wall(at_ms) => at_ms,
                Next::Mono(at_ms) => self.now.wall_ms + at_ms - self.now.mono_ms,
            };
            (*id, (Some(next_ms), known.last_ms))
        });
        assert_eq!(found, known.collect());
        let deadlines = |pick: fn(Next) -> Option<i64>| {
            let next = model.known.values().filter_map(|known| pick(known.next)).min();
            next.filter(|_| !model.shuts_down)
        };
        let wall = deadlines(|next| match next {
            Next::Wall(at_ms) => Some(at_ms),
            Next::Mono(_) => None,
        });
        let mono = deadlines(|next| match next {
            Next::Mono(at_ms) => Some(at_ms),
            Next::Wall(_) => None,
        });
        assert_eq!(self.scheduler.next_wall_deadline(), wall);
        assert_eq!(self.scheduler.next_deadline(), mono);
        // What is known is on disk, and nothing else.
        assert!(model.known.keys().eq(model.kept.keys()), "{model:?}");
        for (id, known) in &model.known {
            let kept = &model.kept[id];
            assert_eq!(
                (kept.since_ms, kept.last_ms),
                (known.since_ms, known.last_ms),
                "{known:?}"
            );
        }
        // What follows a clock that was set back far is due again; a single time never is.
        let mut once = BTreeSet::new();
        for due in &model.jobs {
            let is_single = model.singles.contains(&due.id);
            let at_ms = if is_single { 0 } else { due.at_ms };
            if is_single || (!self.goes_back && due.at_ms % MINUTE == 0) {
                assert!(once.insert((due.id, at_ms)), "a due time has two jobs: {due:?}");
            }
        }
    }
}

fn new_scheduler(files: &BTreeMap<ScheduleId, Spec>) -> Scheduler {
    let limits = Limits {
        max_tasks: 1,
        kill_grace_ms: 0,
        retention: Retention::default(),
    };
    Scheduler::new(limits, pipelines(files))
}

/// Without tasks, but for one that is refused for what its task needs.
fn pipelines(files: &BTreeMap<ScheduleId, Spec>) -> Pipelines {
    let mut pipelines = Pipelines::new();
    for name in NAMES {
        let mut pipeline = Pipeline::unknown(name.into());
        let own = files.values().filter(|spec| spec.pipeline == name);
        pipeline.schedules = own.map(Spec::schedule).collect();
        if name == "refusing" {
            pipeline.tasks.push(Task {
                name: "never".into(),
                script: vec![Template::parse("<< .x >>", Delimiters::Angle).unwrap()],
                source: Vec::new(),
                depends_on: Vec::new(),
                allow_failure: false,
                env: Vec::new(),
                shell: None,
                bounds: crate::definition::bounds::Bounds::default(),
            });
            pipeline.file_order.push(0);
            pipeline.dependents.push(Vec::new());
        }
        pipelines.insert(name.into(), Arc::new(pipeline));
    }
    pipelines
}

#[test]
fn the_model_reads_expressions_as_they_are_meant() {
    let spec = |rule| Spec {
        pipeline: "alpha",
        rule,
        makes_up: false,
        partition: "",
    };
    let cron = |text| When::Cron(Cron::parse(text).unwrap());
    assert_eq!(spec(Rule::Minutes(5)).schedule().when, cron("*/5 * * * *"));
    assert_eq!(spec(Rule::Minutes(60)).schedule().when, cron("@hourly"));
    assert_eq!(spec(Rule::At(5_000)).schedule().when, When::At { wall_ms: 5_000 });
}
