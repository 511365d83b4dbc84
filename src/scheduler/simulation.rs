//! Thousands of random histories, with simulated time, against a model that remembers on its own.
//!
//! A history is some forty calls of the scheduler, restarts and crashes included, then time enough for all to end. A
//! crash keeps only the first of the changes that the last call asked to save, however many. The model ([`model`])
//! looks at every order. Where one fails, `SEED=` is printed; `SEED=… cargo test scheduler::simulation` runs that one
//! history alone and prints it. `SEEDS=` is the number of histories.
//!
//! It is worth what it catches. Each of these bugs was put into the scheduler on purpose and was caught, by the first
//! 200 histories at the latest:
//!
//! - a start delay is ignored; the delay begins anew after a restart
//! - one job more than `concurrency` starts, of those that come and of those that wait
//! - a dependency is ignored; the order of the file is ignored; dependents of a failed task are left waiting
//! - one job more than `queue_limit` or `queue_partition_limit` waits; one task more than `max_tasks` runs
//! - a kill without grace; no kill when the grace is over
//! - a replaced job starts; the one that replaces it goes to the end of the list
//! - a canceled job holds its place, on the wait list or among those that run; a place that is freed within a start stays
//!   empty
//! - the order is lost after a restart; new jobs come before restored ones; both halves of a replacement that a crash
//!   cut in two wait
//! - a task starts twice, before its start is saved, or without waiting for the save of its job
//! - the timer of a canceled job wakes up in vain
//! - a job starts while the store has trouble, or during a shutdown
//! - `on_error` runs after a cancel; a failure does not stop the other tasks
//! - retention keeps one job too few; jobs that never started push the others out; the server's default wins over what a
//!   pipeline says
//! - a job that somebody asks to be forgotten is not saved as such; the oldest is forgotten in its place; one that never
//!   started is not found
//!
//! And these, some of which take the first 1,000 histories, for they need three things that meet in one millisecond:
//!
//! - a task is tried again after a cancel, or though a failure elsewhere or its job's limit came while it was being stopped
//!   for its own limit; `on_error` is tried again after a cancel; what can't be killed is tried again
//! - a time limit counts over all attempts; one attempt too many; `exit_codes` is ignored; a delay does not grow
//! - a task between two attempts holds a place among those that run; its turn comes by another order than the file's
//! - fail-fast stops a task that must be let end, or cancels it between two attempts; a cancel or a job's limit spares it
//! - the timer of a task that ended in time, or of a canceled wait between two attempts, wakes up in vain
//! - a job's limit goes on after a cancel, or into `on_error`; it overwrites the job's first failure; it comes before the
//!   task's own of the same millisecond; `on_error` does not learn which task ran then
//! - a task that is over its time ends as canceled; 130 means stopped whatever the stop signal is; the grace is prunner's
//!   and not the task's; the attempt is not counted
//!
//! Of requests and what becomes of them, most within the first 1,500 histories, the rest within 10,000:
//!
//! - a key is forgotten at a restart, or outlives its job; another body passes for the same; the key of a request that
//!   joined a job is not kept
//! - a request joins a job of another partition, or one that is being stopped, or one that waits before one that runs; a
//!   reload leaves the old rule about equals
//! - a default is not in the record, or not added at a restart; variables that are not declared pass where they must not
//! - merged lists begin with the new items; of merged objects the old one wins; the merged set is not checked again
//! - the newest is interrupted, or one of another partition; two are stopped for one; one is stopped while the store has
//!   trouble; the end of a delay interrupts none
//! - a job that is replaced while it runs runs `on_error`, stops what must be let end, counts a failure of that or its limit
//!   as its own, or can't be canceled any more

mod intake;
mod model;
mod random;
mod schedules;
mod shape;

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use uuid::Uuid;

use super::{
    Accepted, EndedJob, Limits, Order, Outcome, Retention, ScheduleError, ScheduleRequest, Scheduler, Shutdown,
    TaskExit,
};
use crate::definition::Pipelines;
use crate::job::{Change, JobId, JobRecord, JobStatus, TaskRef};
use crate::timestamp::Timestamp;
use intake::Ask;
use model::{Decision, Model, State};
use random::Random;
use shape::Shape;

const CALLS: usize = 40;
/// After the calls, all jobs have ended within this many steps, or something turns in a circle.
const MAX_STEPS_TO_END: usize = 2_000;
const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

#[test]
fn random_histories_agree_with_the_model() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (first, count) = match number("SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("SEEDS").unwrap_or(800)),
    };
    let started = Instant::now();
    let mut sum = Summary::default();
    for seed in first..first + count {
        let _named = SeedInFailure(seed);
        let mut world = World::new(seed);
        world.is_shown = number("SEED").is_some();
        world.run();
        sum.add(&world.summary);
    }
    say(&format!(
        "{count} histories in {:.1} s: {} calls, {} jobs, {} known requests, {} merges, {} interrupts, {} tasks, {} retries, {} stops, {} kills, {} restarts, {} crashes, {} forgets",
        started.elapsed().as_secs_f64(),
        sum.calls,
        sum.jobs,
        sum.known,
        sum.merges,
        sum.interrupts,
        sum.tasks,
        sum.retries,
        sum.stops,
        sum.kills,
        sum.restarts,
        sum.crashes,
        sum.forgets
    ));
}

#[derive(Debug, Default)]
struct Summary {
    calls: usize,
    jobs: usize,
    known: usize,
    tasks: usize,
    retries: usize,
    stops: usize,
    kills: usize,
    restarts: usize,
    crashes: usize,
    interrupts: usize,
    merges: usize,
    forgets: usize,
}

impl Summary {
    fn add(&mut self, other: &Summary) {
        self.calls += other.calls;
        self.jobs += other.jobs;
        self.known += other.known;
        self.tasks += other.tasks;
        self.retries += other.retries;
        self.stops += other.stops;
        self.kills += other.kills;
        self.restarts += other.restarts;
        self.crashes += other.crashes;
        self.interrupts += other.interrupts;
        self.merges += other.merges;
        self.forgets += other.forgets;
    }
}

struct SeedInFailure(u64);

impl Drop for SeedInFailure {
    fn drop(&mut self) {
        if thread::panicking() {
            say(&format!("SEED={}", self.0));
        }
    }
}

#[expect(
    clippy::print_stdout,
    reason = "the harness shows it where the test fails or with --nocapture"
)]
fn say(text: &str) {
    println!("{text}");
}

/// A task that was started and has not exited.
#[derive(Clone, Copy, Debug)]
struct Process {
    task: TaskRef,
    is_told: bool,
    is_abandoned: bool,
}

#[derive(Debug)]
struct World {
    random: Random,
    is_shown: bool,
    limits: Limits,
    shapes: BTreeMap<String, Arc<Shape>>,
    scheduler: Scheduler,
    model: Model,
    /// What is on disk.
    records: BTreeMap<JobId, JobRecord>,
    processes: Vec<Process>,
    now: Timestamp,
    next_id: u128,
    asked: Vec<Ask>,
    summary: Summary,
}

#[derive(Debug)]
enum Call {
    Schedule(Ask),
    Cancel(JobId),
    Forget(JobId),
    Exit(Process, TaskExit),
    Reload(BTreeMap<String, Arc<Shape>>),
    Hold(bool),
    ShutDown(Shutdown),
    Restart(BTreeMap<String, Arc<Shape>>),
    Tick,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let limits = Limits {
            max_tasks: 1 + random.below(5),
            kill_grace_ms: random.between(0, 2_000),
            retention: Retention {
                period_ms: random.chance(1, 4).then(|| random.between(1, 20_000)),
                count: random.chance(1, 4).then(|| 1 + random.below(4)),
            },
        };
        let count = 1 + random.below(NAMES.len());
        let shapes: BTreeMap<_, _> = NAMES[..count]
            .iter()
            .map(|&name| (name.to_owned(), Arc::new(Shape::random(&mut random))))
            .collect();
        World {
            is_shown: false,
            limits,
            scheduler: Scheduler::new(limits, pipelines(&shapes)),
            model: Model::new(limits, shapes.clone()),
            shapes,
            records: BTreeMap::new(),
            processes: Vec::new(),
            now: Timestamp {
                wall_ms: 1_000_000_000,
                mono_ms: random.between(0, 1_000),
            },
            next_id: 1,
            asked: Vec::new(),
            summary: Summary::default(),
            random,
        }
    }

    fn run(&mut self) {
        if self.is_shown {
            say(&format!("{:?}\n{:#?}", self.limits, self.shapes));
        }
        for _ in 0..CALLS {
            self.let_time_pass();
            let call = self.random_call();
            let crashes = self.random.chance(1, 25);
            self.call(call, crashes);
        }
        self.come_to_an_end();
    }

    fn let_time_pass(&mut self) {
        let to_deadline = self.scheduler.next_deadline().map(|at_ms| at_ms - self.now.mono_ms);
        let step_ms = match (self.random.below(6), to_deadline) {
            (0, _) => 0,
            (1 | 2, Some(ms)) => ms,
            (3, Some(ms)) => (ms - 1).max(0),
            (4, _) => self.random.between(1, 3_000),
            _ => self.random.between(1, 100),
        };
        self.now.mono_ms += step_ms;
        self.now.wall_ms += step_ms;
        if self.random.chance(1, 40) {
            self.now.wall_ms += self.random.between(-10_000, 10_000);
        }
        // A call may come in the millisecond in which something is due, or later, and be decided on first. But a request that
        // is refused forgets nobody.
        if self.random.chance(9, 10) || self.model.must_forget(self.now) {
            self.tick_if_due();
        }
    }

    fn tick_if_due(&mut self) {
        let is_due = |world: &World| {
            let deadline = world.scheduler.next_deadline();
            deadline.is_some_and(|at_ms| at_ms <= world.now.mono_ms)
        };
        // One that is stopped for another may have no grace at all, and may be killed in a second one.
        for _ in 0..2 {
            if is_due(self) {
                let crashes = self.random.chance(1, 40);
                self.call(Call::Tick, crashes);
            }
        }
        assert!(!is_due(self), "a tick leaves something that is due");
    }

    fn random_call(&mut self) -> Call {
        if let Some(process) = self.processes.iter().find(|process| process.is_abandoned) {
            let exit = TaskExit {
                outcome: Outcome::Signaled(9),
                stopped: true,
                note: String::new(),
            };
            return Call::Exit(*process, exit);
        }
        match self.random.below(100) {
            0..40 => {
                // Some come again.
                let ask = if !self.asked.is_empty() && self.random.chance(1, 4) {
                    self.random.pick(&self.asked)
                } else {
                    Ask::random(&mut self.random, &NAMES)
                };
                self.asked.push(ask.clone());
                Call::Schedule(ask)
            }
            40..75 if !self.processes.is_empty() => {
                let process = self.random.pick(&self.processes);
                let exit = self.random_exit(process);
                Call::Exit(process, exit)
            }
            75..85 => self.random_live_job().map_or(Call::Tick, Call::Cancel),
            85..88 => Call::Reload(self.random_shapes()),
            88..91 => Call::Hold(!self.model.is_held),
            91..92 => Call::ShutDown(Shutdown::Drain),
            92..93 => Call::ShutDown(Shutdown::Stop),
            93..95 => Call::Restart(self.random_shapes()),
            95..98 => self.random_job_to_forget().map_or(Call::Tick, Call::Forget),
            _ if self.model.has_exited => Call::Restart(self.random_shapes()),
            _ => Call::Tick,
        }
    }

    fn random_live_job(&mut self) -> Option<JobId> {
        // Now and then one that has ended, which must be refused.
        let allows_ended = self.random.chance(1, 10);
        let jobs: Vec<JobId> = self
            .model
            .jobs
            .iter()
            .filter(|(_, job)| allows_ended || !matches!(job.state, State::Ended(_)))
            .map(|(&id, _)| id)
            .collect();
        (!jobs.is_empty()).then(|| self.random.pick(&jobs))
    }

    fn random_job_to_forget(&mut self) -> Option<JobId> {
        // Now and then one that lives or is forgotten, which must be refused.
        let allows_others = self.random.chance(1, 5);
        let jobs: Vec<JobId> = if allows_others {
            self.model.jobs.keys().copied().collect()
        } else {
            self.model.kept_jobs()
        };
        (!jobs.is_empty()).then(|| self.random.pick(&jobs))
    }

    fn random_exit(&mut self, process: Process) -> TaskExit {
        let outcome = match self.random.below(10) {
            0..5 => Outcome::Exited(0),
            5 => Outcome::Exited(self.random.pick(&[1, 7, 124])),
            6 => Outcome::Exited(self.random.pick(&[130, 137, 138, 143])),
            7 => Outcome::Signaled(self.random.pick(&[2, 9, 10, 15])),
            8 => Outcome::NotStarted("no such shell".to_owned()),
            _ => Outcome::WantsTerminal,
        };
        TaskExit {
            outcome,
            stopped: process.is_told && self.random.chance(4, 5),
            note: String::new(),
        }
    }

    fn random_shapes(&mut self) -> BTreeMap<String, Arc<Shape>> {
        let mut shapes = BTreeMap::new();
        for name in NAMES {
            let shape = match (self.random.below(8), self.shapes.get(name)) {
                (0, _) => continue,
                (1 | 2, _) => Shape::random(&mut self.random),
                (3 | 4, Some(old)) => {
                    let mut shape = Shape::clone(old);
                    shape.redraw_limits(&mut self.random);
                    shape
                }
                (_, Some(old)) => Shape::clone(old),
                (_, None) => continue,
            };
            shapes.insert(name.to_owned(), Arc::new(shape));
        }
        shapes
    }

    /// Makes the call, and where prunner `crashes`, dies before all of its changes are on disk.
    fn call(&mut self, call: Call, crashes: bool) {
        self.summary.calls += 1;
        if self.is_shown {
            say(&format!("{:?} {call:?}", self.now));
        }
        let now = self.now;
        // `before` is how things stood on disk, and what the model expected of the call.
        let before = |world: &World| crashes.then(|| (world.model.clone(), world.records.clone()));
        let before = match call {
            Call::Schedule(ask) => self.schedule(&ask, before),
            Call::Cancel(id) => {
                let is_live = self.model.will_cancel(id);
                let before = before(self);
                assert_eq!(self.scheduler.cancel(now, id, "anna").is_ok(), is_live);
                before
            }
            Call::Forget(id) => {
                let decision = self.model.will_forget(id);
                self.summary.forgets += usize::from(decision.is_ok());
                let before = before(self);
                assert_eq!(self.scheduler.forget(now, id), decision);
                before
            }
            Call::Exit(process, exit) => {
                self.processes.retain(|other| other.task != process.task);
                self.model.will_exit(now, process.task, &exit);
                let before = before(self);
                self.scheduler.task_exited(now, process.task, exit);
                before
            }
            Call::Reload(shapes) => {
                self.shapes.clone_from(&shapes);
                self.model.will_reload(shapes);
                let before = before(self);
                self.scheduler.replace_pipelines(now, pipelines(&self.shapes));
                before
            }
            Call::Hold(is_held) => {
                self.model.is_held = is_held;
                let before = before(self);
                self.scheduler.hold(now, is_held);
                before
            }
            Call::ShutDown(how) => {
                self.model.shuts_down = true;
                if how == Shutdown::Stop {
                    self.model.will_stop_all();
                }
                let before = before(self);
                self.scheduler.shut_down(now, how);
                before
            }
            Call::Restart(shapes) => self.restart(shapes, before),
            Call::Tick => {
                self.model.will_tick(now);
                let before = before(self);
                self.scheduler.tick(now);
                before
            }
        };
        let orders = self.scheduler.take_orders();
        for order in &orders {
            if self.is_shown {
                if let Order::StartTask { start, after_save } = order {
                    say(&format!(
                        "    StartTask {{ {:?}, after_save: {after_save} }}",
                        start.task
                    ));
                } else {
                    say(&format!("    {order:?}"));
                }
            }
            self.model.see(self.now, order);
            save(&mut self.records, order);
            self.follow(order);
        }
        let views = self.scheduler.pipeline_views();
        self.model
            .check_at_rest(self.now, self.scheduler.next_deadline(), &views);
        self.model.check_records(&self.records);
        if let Some((model, records)) = before {
            self.crash(model, records, &orders);
        }
    }

    fn schedule(
        &mut self,
        ask: &Ask,
        before: impl FnOnce(&World) -> Option<(Model, BTreeMap<JobId, JobRecord>)>,
    ) -> Option<(Model, BTreeMap<JobId, JobRecord>)> {
        let id = JobId(Uuid::from_u128(self.next_id));
        self.next_id += 1;
        let decision = self.model.decide(ask);
        let mut expected = Accepted { job: id, joined: false };
        if let Ok(decision) = decision {
            if let Decision::Is { job, joined } = decision {
                self.summary.known += 1;
                expected = Accepted { job, joined };
            } else {
                self.summary.jobs += 1;
                self.summary.merges += usize::from(self.model.merges(ask, decision));
            }
            self.model.will_accept(self.now, id, ask, decision);
        }
        let before = before(self);
        let request = ScheduleRequest {
            pipeline: ask.pipeline.to_owned(),
            variables: Arc::new(ask.variables.clone()),
            partition: ask.partition.to_owned(),
            user: String::new(),
            key: ask.request_key(),
            due: None,
        };
        let mut answer = self.scheduler.schedule(self.now, id, request);
        if let Err(ScheduleError::BadVariables(complaints)) = &mut answer {
            complaints.clear();
        }
        assert_eq!(answer, decision.map(|_| expected));
        before
    }

    fn restart(
        &mut self,
        shapes: BTreeMap<String, Arc<Shape>>,
        before: impl FnOnce(&World) -> Option<(Model, BTreeMap<JobId, JobRecord>)>,
    ) -> Option<(Model, BTreeMap<JobId, JobRecord>)> {
        self.summary.restarts += 1;
        self.now.mono_ms = self.random.between(0, 10);
        self.now.wall_ms += self.random.between(0, 2_000);
        if self.random.chance(1, 10) {
            self.now.wall_ms -= self.random.between(0, 50_000);
        }
        self.processes.clear();
        self.shapes.clone_from(&shapes);
        for record in self
            .records
            .values_mut()
            .filter(|record| record.status == JobStatus::Running)
        {
            let status = if record.reason.is_empty() {
                JobStatus::Interrupted
            } else if record.replaced {
                JobStatus::Replaced
            } else {
                JobStatus::Canceled
            };
            record.apply(&Change::End {
                job: record.id,
                end_ms: self.now.wall_ms,
                status,
                reason: "prunner died".to_owned(),
            });
        }
        self.model.will_restart(self.now, shapes);
        let before = before(self);
        let (ended, waiting): (Vec<JobRecord>, Vec<JobRecord>) = self
            .records
            .values()
            .cloned()
            .partition(|record| record.status.has_ended());
        let ended = ended.into_iter().map(|record| EndedJob {
            id: record.id,
            started: record.start_ms.is_some(),
            end_ms: record.end_ms.unwrap(),
            latest_end_ms: record.end_ms.unwrap(),
            idempotency: record.idempotency,
            pipeline: record.pipeline,
        });
        self.scheduler = Scheduler::new(self.limits, pipelines(&self.shapes));
        self.scheduler.restore(self.now, waiting, ended.collect());
        before
    }

    /// Only some of the changes of the last call have reached the disk, the first ones.
    fn crash(&mut self, mut model: Model, mut records: BTreeMap<JobId, JobRecord>, orders: &[Order]) {
        self.summary.crashes += 1;
        let kept = self.random.below(orders.len() + 1);
        for order in &orders[..kept] {
            model.see(self.now, order);
            save(&mut records, order);
        }
        self.model = model;
        self.records = records;
        let shapes = self.random_shapes();
        if self.is_shown {
            say(&format!("crash after {kept} orders"));
        }
        self.call(Call::Restart(shapes), false);
    }

    fn follow(&mut self, order: &Order) {
        let told = match order {
            Order::StartTask { start, .. } => {
                self.summary.tasks += 1;
                assert!(self.processes.iter().all(|process| process.task != start.task));
                self.processes.push(Process {
                    task: start.task,
                    is_told: false,
                    is_abandoned: false,
                });
                return;
            }
            Order::TellRetry { .. } => {
                self.summary.retries += 1;
                return;
            }
            Order::Save(Change::Cancel { replaced: true, .. }) => {
                self.summary.interrupts += 1;
                return;
            }
            Order::Save(_) | Order::Exit => return,
            Order::StopTask(task) | Order::KillTask(task) | Order::AbandonTask(task) => *task,
        };
        let mut processes = self.processes.iter_mut();
        let process = processes.find(|process| process.task == told).expect("it runs");
        process.is_told = true;
        process.is_abandoned |= matches!(order, Order::AbandonTask(_));
        self.summary.stops += usize::from(matches!(order, Order::StopTask(_)));
        self.summary.kills += usize::from(matches!(order, Order::KillTask(_)));
    }

    /// Lets everything end: each accepted job must.
    fn come_to_an_end(&mut self) {
        for step in 0.. {
            assert!(step < MAX_STEPS_TO_END, "jobs never end");
            if self.model.has_exited {
                let shapes = self.shapes.clone();
                self.call(Call::Restart(shapes), false);
            } else if self.model.is_held {
                self.call(Call::Hold(false), false);
            } else if !self.processes.is_empty() && self.random.chance(3, 4) {
                let process = self.random.pick(&self.processes);
                let exit = self.random_exit(process);
                self.call(Call::Exit(process, exit), false);
            } else if let Some(at_ms) = self.scheduler.next_deadline() {
                self.now.wall_ms += at_ms - self.now.mono_ms;
                self.now.mono_ms = at_ms;
                self.tick_if_due();
            } else if self.processes.is_empty() {
                break;
            }
        }
        assert_eq!(self.model.waiting_count(), 0, "a job waits for ever");
        let all_ended = self.model.jobs.values().all(|job| matches!(job.state, State::Ended(_)));
        assert!(all_ended, "a job runs for ever");
    }
}

/// What the store does, but for what only memory knows.
fn save(records: &mut BTreeMap<JobId, JobRecord>, order: &Order) {
    // No file holds the end of a delay.
    if matches!(order, Order::Save(Change::DelayOver { .. })) {
        return;
    }
    match order {
        Order::Save(Change::Job(record)) => {
            records.insert(record.id, (**record).clone());
        }
        Order::Save(Change::Forget { job }) => {
            records.remove(job).expect("only what is kept is forgotten");
        }
        Order::Save(change) => records
            .get_mut(&change.job().expect("a job's change"))
            .expect("a change of a known job")
            .apply(change),
        Order::StartTask { .. }
        | Order::TellRetry { .. }
        | Order::StopTask(_)
        | Order::KillTask(_)
        | Order::AbandonTask(_)
        | Order::Exit => {}
    }
}

fn pipelines(shapes: &BTreeMap<String, Arc<Shape>>) -> Pipelines {
    let named = |(name, shape): (&String, &Arc<Shape>)| (name.as_str().into(), shape.to_pipeline(name));
    shapes.iter().map(named).collect()
}
