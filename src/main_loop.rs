//! The one thread that decides: takes events, asks the scheduler, and hands out what is to be done.
//!
//! One turn: wait for an event or a deadline; decide on every event that is there; do what need not wait; give the store
//! one batch of changes, with the answers and starts that must follow them. The loop never touches the disk or a socket,
//! so nothing slow ever delays a decision.
//!
//! Surprise: signals are read from flags, not from their events. An event only wakes the loop; so the loop can look at
//! the flags first when a task died of a signal that may have been meant for all of us.

use std::sync::Arc;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use uuid::{NoContext, Timestamp as UuidTimestamp, Uuid};

use crate::clock::Clock;
use crate::health::Health;
use crate::job::{Change, JobId, JobStatus, TaskRef, TaskStatus};
use crate::log;
use crate::requests::{Reply, Request};
use crate::schedule::ScheduleId;
use crate::scheduler::{
    Accepted, AddError, ForgetError, NotLive, Order, Outcome, PipelineView, RemoveError, ScheduleError,
    ScheduleRequest, Scheduler, Shutdown, TaskExit,
};
use crate::service_manager::{self, Watchdog};
use crate::signals::{Arrived, Stop};
use crate::store::{Batch, Store};
use crate::task::{PreparedTask, Workers};
use crate::timestamp::Timestamp;
use crate::wall_timer::WallTimer;

/// Whatever can wake the program.
#[derive(Debug)]
pub(crate) enum Event {
    Requested(Request),
    TaskExited {
        task: TaskRef,
        exit: TaskExit,
    },
    /// Which ones, the flags tell.
    SignalsArrived,
    /// It began, or it is over.
    StorageTroubled(bool),
    /// What is due by the wall clock is due, or that clock was set.
    WallClockReached,
}

/// What waits until the changes of its batch are on disk.
pub(crate) enum Release {
    Scheduled(Reply<Result<Accepted, ScheduleError>>, Result<Accepted, ScheduleError>),
    Canceled(Reply<Result<(), NotLive>>, Result<(), NotLive>),
    Forgotten(Reply<Result<(), ForgetError>>, Result<(), ForgetError>),
    Reloaded(Reply<()>),
    ScheduleAdded(Reply<Result<ScheduleId, AddError>>, Result<ScheduleId, AddError>),
    ScheduleRemoved(Reply<Result<(), RemoveError>>, Result<(), RemoveError>),
    Launch(PreparedTask),
}

impl Release {
    /// Lets it go.
    pub(crate) fn carry_out(self, workers: &Workers) {
        // A client that no longer waits for its answer has dropped the other end.
        match self {
            Release::Scheduled(reply, answer) => drop(reply.send(answer)),
            Release::Canceled(reply, answer) => drop(reply.send(answer)),
            Release::Forgotten(reply, answer) => drop(reply.send(answer)),
            Release::Reloaded(reply) => drop(reply.send(())),
            Release::ScheduleAdded(reply, answer) => drop(reply.send(answer)),
            Release::ScheduleRemoved(reply, answer) => drop(reply.send(answer)),
            Release::Launch(task) => workers.launch(task),
        }
    }
}

/// What the loop does about signals, and who hears of what happens.
pub(crate) enum Purpose {
    /// Serves until it is told to end; the log tells what happens.
    Serve { health: Arc<Health> },
    /// Runs the one job that the scheduler has, and ends with it.
    RunOne {
        job: JobId,
        /// Who cancels it with Ctrl-C.
        user: String,
        witness: Box<dyn Witness>,
    },
}

/// Hears of what happens, on the main loop's thread: must not block.
pub(crate) trait Witness {
    /// Before anything follows from it, and before it is on disk.
    fn changed(&mut self, change: &Change);

    /// The job is told to stop; `is_kill`: its tasks are killed.
    fn stopping(&mut self, is_kill: bool);
}

/// How the loop ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// It may still have batches to write.
    pub store: Store<Release>,
    /// The first signal that asked for the end.
    pub stopped_by: Option<Stop>,
}

/// The main loop with all that it talks to.
pub(crate) struct MainLoop {
    pub clock: Clock,
    pub scheduler: Scheduler,
    pub events: Receiver<Event>,
    pub arrived: Arrived,
    pub workers: Arc<Workers>,
    pub store: Store<Release>,
    pub purpose: Purpose,
    /// As they were shown last.
    pub shown: Vec<PipelineView>,
    /// Counts the interrupts.
    pub interrupts: usize,
    pub stopped_by: Option<Stop>,
    pub releases: Vec<Release>,
    pub watchdog: Watchdog,
    /// Wakes the loop where something is due by the wall clock.
    pub wall_timer: WallTimer,
}

/// Events that one turn takes at most, so that a flood of them can't keep the first from being saved.
const MAX_EVENTS_PER_TURN: usize = 1000;

impl MainLoop {
    /// Runs until a shutdown is complete.
    pub(crate) fn run(mut self) -> Ended {
        loop {
            // The first turn carries out what the restart of old jobs ordered.
            if self.act() {
                return Ended {
                    store: self.store,
                    stopped_by: self.stopped_by,
                };
            }
            self.handle_signals();
            self.watchdog.feed();
            let first = self.wait_for_news();
            let now = self.clock.now();
            // What is due comes before what was asked for later: a job whose delay is over before a newer one.
            if self.scheduler.next_deadline().is_some_and(|at_ms| at_ms <= now.mono_ms) {
                self.scheduler.tick(now);
            }
            self.schedule_due(now);
            if let Some(event) = first {
                self.handle(now, event);
            }
            for event in self.events.clone().try_iter().take(MAX_EVENTS_PER_TURN) {
                self.handle(now, event);
            }
        }
    }

    /// The next event, or `None` at the next deadline of either clock.
    fn wait_for_news(&mut self) -> Option<Event> {
        let at_wall_ms = self.scheduler.next_wall_deadline();
        if self.wall_timer.set(at_wall_ms) {
            return self.wait(None);
        }
        let now = self.clock.now();
        self.wait(at_wall_ms.map(|at_ms| now.mono_ms.saturating_add(at_ms - now.wall_ms)))
    }

    /// The next event, or `None` at the next deadline or at this one.
    fn wait(&self, other_deadline_ms: Option<i64>) -> Option<Event> {
        let deadlines = [self.scheduler.next_deadline(), other_deadline_ms];
        let due = deadlines.into_iter().flatten().min();
        let due = due.map(|at_ms| self.clock.instant(at_ms));
        let Some(deadline) = due.into_iter().chain(self.watchdog.deadline()).min() else {
            return Some(
                self.events
                    .recv()
                    .expect("the loop's own senders live as long as it does"),
            );
        };
        match self.events.recv_deadline(deadline) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => unreachable!("the loop's own senders live as long as it does"),
        }
    }

    fn handle(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::Requested(Request::Schedule { request, reply }) => self.schedule(now, request, reply),
            Event::Requested(Request::Cancel { job, by, reply }) => {
                let answer = self.scheduler.cancel(now, job, &by);
                self.releases.push(Release::Canceled(reply, answer));
            }
            Event::Requested(Request::Forget { job, reply }) => {
                let answer = self.scheduler.forget(now, job);
                self.releases.push(Release::Forgotten(reply, answer));
            }
            Event::Requested(Request::Schedules { reply }) => {
                // What of it is on disk is for the one who shows it to find out.
                drop(reply.send(self.scheduler.schedule_views(now)));
            }
            Event::Requested(Request::AddSchedule { added, schedule, reply }) => {
                let id = ScheduleId(new_job_id(now).0);
                let answer = self.scheduler.add_schedule(now, id, *added, *schedule).map(|()| id);
                match &answer {
                    Ok(id) => log::info("schedule added", &[("schedule", id)]),
                    Err(error) => log::info("schedule refused", &[("reason", error)]),
                }
                self.releases.push(Release::ScheduleAdded(reply, answer));
            }
            Event::Requested(Request::RemoveSchedule { schedule, reply }) => {
                let answer = self.scheduler.remove_schedule(schedule);
                if answer.is_ok() {
                    log::info("schedule removed", &[("schedule", &schedule)]);
                }
                self.releases.push(Release::ScheduleRemoved(reply, answer));
            }
            Event::Requested(Request::Reload { pipelines, reply }) => {
                log::info("pipelines loaded", &[("pipelines", &pipelines.len())]);
                self.scheduler.replace_pipelines(now, pipelines);
                match reply {
                    Some(reply) => self.releases.push(Release::Reloaded(reply)),
                    None => service_manager::ready(),
                }
            }
            Event::TaskExited { task, exit } => {
                if died_of_a_common_signal(&exit) {
                    self.handle_signals();
                }
                self.scheduler.task_exited(now, task, exit);
            }
            Event::SignalsArrived => self.handle_signals(),
            Event::StorageTroubled(is_held) => self.scheduler.hold(now, is_held),
            // The next turn looks.
            Event::WallClockReached => self.wall_timer.has_rung(),
        }
    }

    fn schedule(&mut self, now: Timestamp, request: ScheduleRequest, reply: Reply<Result<Accepted, ScheduleError>>) {
        let id = new_job_id(now);
        let answer = self.scheduler.schedule(now, id, request);
        match &answer {
            // The job's record says the rest.
            Ok(accepted) if accepted.job == id => {}
            Ok(accepted) => log::info("request answered with a job that is there", &[("job", &accepted.job)]),
            Err(error) => log::info("request refused", &[("reason", error)]),
        }
        // The job may be one of an earlier turn: batches are saved in their order, so that it is on disk by then.
        self.releases.push(Release::Scheduled(reply, answer));
    }

    /// What is due goes through the same door as a request.
    fn schedule_due(&mut self, now: Timestamp) {
        while let Some(request) = self.scheduler.take_due(now) {
            let (pipeline, due) = (request.pipeline.clone(), request.due);
            if let Err(error) = self.scheduler.schedule_due(now, new_job_id(now), request)
                && let Some(due) = due
            {
                log::warning(
                    "what was due is refused",
                    &[("pipeline", &pipeline), ("schedule", &due.id), ("reason", &error)],
                );
            }
        }
    }

    fn handle_signals(&mut self) {
        while let Some(stop) = self.arrived.take() {
            let is_first = self.stopped_by.is_none();
            self.stopped_by.get_or_insert(stop);
            let now = self.clock.now();
            match &mut self.purpose {
                Purpose::Serve { health } => {
                    let (how, message) = match stop {
                        Stop::Interrupt if self.interrupts == 0 => (
                            Shutdown::Drain,
                            "shutting down when the running jobs have ended; interrupt again to stop them",
                        ),
                        Stop::Interrupt | Stop::Terminate | Stop::HangUp => {
                            (Shutdown::Stop, "shutting down, running jobs are stopped")
                        }
                    };
                    if stop == Stop::Interrupt {
                        self.interrupts += 1;
                    }
                    log::info(message, &[("signal", &stop.name())]);
                    health.set_stopping();
                    service_manager::stopping();
                    self.scheduler.shut_down(now, how);
                }
                Purpose::RunOne { job, user, witness } => {
                    // A closed terminal sends more than one hang-up; only a person who insists wants a kill.
                    let is_kill = !is_first && stop == Stop::Interrupt;
                    witness.stopping(is_kill);
                    if is_kill {
                        self.scheduler.shut_down(now, Shutdown::Kill);
                    } else if stop == Stop::Interrupt {
                        // Where it has just ended, nothing is left to cancel.
                        let _ = self.scheduler.cancel(now, *job, user);
                    } else {
                        self.scheduler.shut_down(now, Shutdown::Stop);
                    }
                }
            }
        }
    }

    /// Carries out what the scheduler ordered. True: the shutdown is complete.
    fn act(&mut self) -> bool {
        let mut changes = Vec::new();
        let mut launches = Vec::new();
        let mut exits = false;
        for order in self.scheduler.take_orders() {
            match order {
                Order::Save(change) => {
                    match &mut self.purpose {
                        Purpose::Serve { .. } => report(&change),
                        Purpose::RunOne { witness, .. } => witness.changed(&change),
                    }
                    changes.push(change);
                }
                Order::StartTask { start, after_save } => {
                    let task = self.workers.prepare(start);
                    if after_save {
                        self.releases.push(Release::Launch(task));
                    } else {
                        launches.push(task);
                    }
                }
                Order::TellRetry { task, pipeline, text } => {
                    // Who runs one job sees it in the task's output.
                    if matches!(self.purpose, Purpose::Serve { .. }) {
                        log::info(&text, &[("job", &task.job), ("task", &pipeline.task(task.index).name)]);
                    }
                    self.workers.tell_retry(task, &pipeline, &text);
                }
                Order::StopTask(task) => self.workers.interrupt(task),
                Order::KillTask(task) => self.workers.kill(task),
                Order::AbandonTask(task) => self.workers.abandon(task),
                Order::Exit => exits = true,
            }
        }
        let views = self.scheduler.pipeline_views();
        let pipelines = (views != self.shown).then(|| {
            self.shown.clone_from(&views);
            Arc::from(views)
        });
        let releases = std::mem::take(&mut self.releases);
        if !changes.is_empty() || pipelines.is_some() || !releases.is_empty() {
            self.store.save(Batch {
                changes,
                pipelines,
                releases,
            });
        }
        for task in launches {
            self.workers.launch(task);
        }
        exits
    }
}

/// Where prunner and its tasks are signaled at once, as systemd does, the exit may be here before our own signal was
/// looked at.
fn died_of_a_common_signal(exit: &TaskExit) -> bool {
    !exit.stopped && matches!(exit.outcome, Outcome::Signaled(2 | 15) | Outcome::Exited(130 | 143))
}

pub(crate) fn new_job_id(now: Timestamp) -> JobId {
    let milliseconds = u64::try_from(now.wall_ms).unwrap_or(0);
    let nanoseconds = u32::try_from(milliseconds % 1000).unwrap_or(0) * 1_000_000;
    JobId(Uuid::new_v7(UuidTimestamp::from_unix(
        NoContext,
        milliseconds / 1000,
        nanoseconds,
    )))
}

/// One line in the log for each thing that happened.
fn report(change: &Change) {
    match change {
        Change::Job(record) => log::info(
            "job accepted",
            &[
                ("job", &record.id),
                ("pipeline", &record.pipeline),
                ("status", &record.status.as_str()),
                ("user", &record.user),
            ],
        ),
        Change::Start { job, .. } => log::info("job started", &[("job", job)]),
        Change::Task {
            job,
            name,
            progress,
            fails_job,
            ..
        } => {
            if *fails_job {
                log::warning("job fails", &[("job", job), ("task", name), ("error", &progress.error)]);
            }
            if !progress.note.is_empty() && progress.status != TaskStatus::Running {
                log::warning(
                    "task ended with a note",
                    &[("job", job), ("task", name), ("note", &progress.note)],
                );
            }
        }
        Change::Fail { job, error } => log::warning("job fails", &[("job", job), ("error", error)]),
        Change::Cancel { job, reason, .. } => log::info("job is being stopped", &[("job", job), ("reason", reason)]),
        // The answer to the request is told.
        Change::Join { .. } | Change::DelayOver { .. } => {}
        Change::End {
            job, status, reason, ..
        } => {
            if *status == JobStatus::Succeeded || reason.is_empty() {
                log::info("job ended", &[("job", job), ("status", &status.as_str())]);
            } else {
                log::info(
                    "job ended",
                    &[("job", job), ("status", &status.as_str()), ("reason", reason)],
                );
            }
        }
        Change::Forget { job } => log::debug("job forgotten", &[("job", job)]),
        Change::Schedule(record) => log::debug("schedule kept", &[("schedule", &record.id)]),
        // Why, is told where it was refused.
        Change::WasDue(_) => {}
        Change::ForgetSchedule { schedule } => log::debug("schedule forgotten", &[("schedule", schedule)]),
    }
}
