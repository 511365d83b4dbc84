//! Examples: a script of calls, and below each call the orders that it leads to.
//!
//! Jobs are called 1, 2, … in the order of the requests. Time is in milliseconds and begins at 0; `at` moves it on and
//! ticks at every deadline on the way.

mod bounds;
mod intake;
mod schedules;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Accepted, EndedJob, Limits, MAX_WAITING_BYTES, MAX_WAITING_JOBS, Order, Outcome, RequestKey, Retention,
    ScheduleError, ScheduleRequest, Scheduler, Shutdown, TaskExit, TaskStart,
};
use crate::definition::{Pipelines, load_files};
use crate::job::{Change, JobId, JobRecord, JobStatus, TaskProgress, TaskRef, TaskStatus};
use crate::template::Variables;
use crate::testing::TestDirectory;
use crate::timestamp::Timestamp;

const LIMITS: Limits = Limits {
    max_tasks: 64,
    kill_grace_ms: 2_000,
    retention: Retention {
        period_ms: None,
        count: None,
    },
};

fn load(yaml: &str) -> Pipelines {
    let directory = TestDirectory::new();
    let path = directory.path().join("pipelines.yml");
    let text = format!("pipelines: {{{yaml}}}");
    File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    let loaded = load_files(&[path]);
    assert!(loaded.errors.is_empty(), "{:?}", loaded.errors);
    loaded.pipelines
}

fn job_id(number: u128) -> JobId {
    JobId(Uuid::from_u128(number))
}

fn number(job: JobId) -> String {
    job.0.as_u128().to_string()
}

/// Ids in messages, as numbers.
fn short(text: &str) -> String {
    let (prefix, _) = text.split_at(text.find("00000000-").unwrap_or(text.len()));
    if prefix.len() == text.len() {
        return text.to_owned();
    }
    let id: JobId = text[prefix.len()..][..36].parse().unwrap();
    format!("{prefix}{}{}", number(id), &text[prefix.len() + 36..])
}

struct Play {
    yaml: String,
    limits: Limits,
    scheduler: Scheduler,
    records: BTreeMap<JobId, JobRecord>,
    now: Timestamp,
    last_id: u128,
    transcript: String,
}

impl Play {
    fn new(limits: Limits, yaml: &str) -> Play {
        Play {
            yaml: yaml.to_owned(),
            limits,
            scheduler: Scheduler::new(limits, load(yaml)),
            records: BTreeMap::new(),
            now: Timestamp { wall_ms: 0, mono_ms: 0 },
            last_id: 0,
            transcript: String::new(),
        }
    }

    fn call(&mut self, call: &str) {
        let (verb, rest) = call.split_once(' ').unwrap_or((call, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        match verb {
            "schedule" => self.schedule(&words),
            "cancel" => {
                let (id, by) = (job_id(words[0].parse().unwrap()), words.get(1).unwrap_or(&""));
                if self.scheduler.cancel(self.now, id, by).is_err() {
                    self.tell("not live");
                }
            }
            "forget" => {
                if let Err(error) = self.scheduler.forget(self.now, job_id(words[0].parse().unwrap())) {
                    self.tell(&format!("{error:?}"));
                }
            }
            "exit" => self.exit(&words),
            "at" => {
                let end_ms: i64 = words[0].parse().unwrap();
                while let Some(at_ms) = self.scheduler.next_deadline().filter(|&at_ms| at_ms <= end_ms) {
                    self.move_to(at_ms.max(self.now.mono_ms));
                    self.scheduler.tick(self.now);
                    self.tell_orders();
                }
                self.move_to(end_ms);
            }
            // Somebody sets the clock.
            "wall" => self.now.wall_ms += words[0].parse::<i64>().unwrap(),
            "reload" => self.scheduler.replace_pipelines(self.now, load(rest)),
            "hold" => self.scheduler.hold(self.now, true),
            "release" => self.scheduler.hold(self.now, false),
            "drain" => self.scheduler.shut_down(self.now, Shutdown::Drain),
            "stop" => self.scheduler.shut_down(self.now, Shutdown::Stop),
            "kill" => self.scheduler.shut_down(self.now, Shutdown::Kill),
            "restart" => self.restart(rest),
            "jobs" => {
                let records: Vec<JobRecord> = self.records.values().cloned().collect();
                for record in records {
                    let errored = if record.errored { ", errored" } else { "" };
                    self.tell(&format!("{} {}{errored}", number(record.id), record.status.as_str()));
                }
            }
            "pipelines" => {
                for view in self.scheduler.pipeline_views() {
                    let answer = |yes| if yes { "yes" } else { "no" };
                    let (schedulable, running) = (answer(view.schedulable), answer(view.running));
                    self.tell(&format!(
                        "{}: schedulable {schedulable}, running {running}",
                        view.pipeline
                    ));
                }
            }
            "deadline" => self.tell(&format!("{:?}", self.scheduler.next_deadline())),
            other => panic!("no such call: {other}"),
        }
        self.tell_orders();
    }

    fn move_to(&mut self, mono_ms: i64) {
        self.now.wall_ms += mono_ms - self.now.mono_ms;
        self.now.mono_ms = mono_ms;
    }

    /// `schedule PIPELINE [partition=TEXT] [key=TEXT[/HASH]] [NAME=TEXT …]`
    fn schedule(&mut self, words: &[&str]) {
        let mut variables = Variables::new();
        let mut partition = String::new();
        let mut key = None;
        for (name, value) in words[1..].iter().map(|word| word.split_once('=').unwrap()) {
            if name == "partition" {
                value.clone_into(&mut partition);
            } else if name == "key" {
                let (value, body_hash) = value.split_once('/').unwrap_or((value, ""));
                key = Some(RequestKey {
                    key: value.to_owned(),
                    body_hash: body_hash.to_owned(),
                });
            } else {
                variables.insert(name.to_owned(), Value::from(value));
            }
        }
        self.last_id += 1;
        let request = ScheduleRequest {
            pipeline: words[0].to_owned(),
            variables: Arc::new(variables),
            partition,
            user: "anna".to_owned(),
            key,
            due: None,
        };
        let id = job_id(self.last_id);
        match self.scheduler.schedule(self.now, id, request) {
            Ok(Accepted { job, .. }) if job == id => {}
            Ok(Accepted { job, joined }) => {
                let how = if joined { "joined" } else { "known" };
                self.tell(&format!("{how}: {}", number(job)));
            }
            Err(error) => self.tell(&format!("refused: {}", short(&error.to_string()))),
        }
    }

    /// `exit JOB/TASK STATUS|signal N|unstarted|terminal [stopped]`
    fn exit(&mut self, words: &[&str]) {
        let (job, task) = words[0].split_once('/').unwrap();
        let job = job_id(job.parse().unwrap());
        let tasks = &self.records[&job].tasks;
        let index = tasks.iter().position(|record| &*record.name == task).unwrap();
        let outcome = match words[1] {
            "signal" => Outcome::Signaled(words[2].parse().unwrap()),
            "unstarted" => Outcome::NotStarted("no such shell".to_owned()),
            "terminal" => Outcome::WantsTerminal,
            status => Outcome::Exited(status.parse().unwrap()),
        };
        let exit = TaskExit {
            outcome,
            stopped: words.last() == Some(&"stopped"),
            note: String::new(),
        };
        self.scheduler.task_exited(self.now, TaskRef { job, index }, exit);
    }

    /// Prunner died and starts again a second later, with other pipelines where some are given.
    fn restart(&mut self, yaml: &str) {
        if !yaml.is_empty() {
            yaml.clone_into(&mut self.yaml);
        }
        self.now = Timestamp {
            wall_ms: self.now.wall_ms + 1_000,
            mono_ms: 0,
        };
        for record in self
            .records
            .values_mut()
            .filter(|record| record.status == JobStatus::Running)
        {
            record.apply(&Change::End {
                job: record.id,
                end_ms: self.now.wall_ms,
                status: JobStatus::Interrupted,
                reason: "prunner died".to_owned(),
            });
        }
        let records = self.records.values().cloned();
        let (ended, waiting): (Vec<JobRecord>, Vec<JobRecord>) =
            records.rev().partition(|record| record.status.has_ended());
        let ended = ended.into_iter().map(|record| EndedJob {
            id: record.id,
            started: record.start_ms.is_some(),
            end_ms: record.end_ms.unwrap(),
            latest_end_ms: record.end_ms.unwrap(),
            idempotency: record.idempotency,
            pipeline: record.pipeline,
        });
        self.scheduler = Scheduler::new(self.limits, load(&self.yaml));
        self.scheduler.restore(self.now, waiting, ended.collect());
    }

    fn tell_orders(&mut self) {
        for order in self.scheduler.take_orders() {
            let text = self.describe(&order);
            match order {
                Order::Save(Change::Job(record)) => {
                    self.records.insert(record.id, *record);
                }
                Order::Save(Change::Forget { job }) => {
                    self.records.remove(&job).unwrap();
                }
                Order::Save(change) if !matches!(change, Change::DelayOver { .. }) => {
                    self.records.get_mut(&change.job().unwrap()).unwrap().apply(&change);
                }
                // No file holds the end of a delay.
                Order::Save(_)
                | Order::StartTask { .. }
                | Order::TellRetry { .. }
                | Order::StopTask(_)
                | Order::KillTask(_)
                | Order::AbandonTask(_)
                | Order::Exit => {}
            }
            if !text.is_empty() {
                self.tell(&text);
            }
        }
    }

    fn name(&self, task: TaskRef) -> String {
        let tasks = &self.records[&task.job].tasks;
        let name = tasks.get(task.index).map_or("on_error", |record| &*record.name);
        format!("{}/{name}", number(task.job))
    }

    fn describe(&self, order: &Order) -> String {
        match order {
            Order::Save(change) => self.describe_change(change),
            Order::StartTask { start, after_save } => {
                let TaskStart { task, failure, .. } = start;
                let mut text = format!("start {}", self.name(*task));
                if *after_save {
                    text.push_str(" after the save");
                }
                if let Some(failure) = failure {
                    let (name, code) = (&failure.task_name, failure.exit_code);
                    write!(text, ", for {name} failed with {code} ({})", failure.error).unwrap();
                }
                text
            }
            Order::TellRetry { task, text, .. } => format!("{}: {text}", self.name(*task)),
            Order::StopTask(task) => format!("stop {}", self.name(*task)),
            Order::KillTask(task) => format!("kill {}", self.name(*task)),
            Order::AbandonTask(task) => format!("abandon {}", self.name(*task)),
            Order::Exit => "exit".to_owned(),
        }
    }

    fn describe_change(&self, change: &Change) -> String {
        let reason = |reason: &str| {
            if reason.is_empty() {
                String::new()
            } else {
                format!(": {}", short(reason))
            }
        };
        match change {
            Change::Job(record) => match (record.status, record.start_after_ms) {
                (JobStatus::Waiting, Some(at_ms)) => format!("{} waits until {at_ms}", number(record.id)),
                (JobStatus::Waiting, None) => format!("{} waits", number(record.id)),
                _ => format!("{} runs", number(record.id)),
            },
            Change::Start { job, .. } => format!("{} runs", number(*job)),
            Change::Join { job, key } => format!("{} has the key {} too", number(*job), key.key),
            Change::Task {
                job,
                index,
                progress,
                fails_job,
                ..
            } => {
                let TaskProgress {
                    status,
                    exit_code,
                    error,
                    note,
                    ..
                } = progress;
                let task = self.name(TaskRef {
                    job: *job,
                    index: *index,
                });
                let fails = if *fails_job { ", fails the job" } else { "" };
                let note = reason(note);
                match status {
                    TaskStatus::Running => String::new(),
                    TaskStatus::Error => format!("{task} error {exit_code} ({error}){note}{fails}"),
                    TaskStatus::Done | TaskStatus::Canceled | TaskStatus::Waiting => {
                        let word = if *status == TaskStatus::Done {
                            "done"
                        } else {
                            "canceled"
                        };
                        let code = if *exit_code == 0 {
                            String::new()
                        } else {
                            format!(" {exit_code}")
                        };
                        format!("{task} {word}{code}{note}{fails}")
                    }
                }
            }
            Change::Fail { job, error } => format!("{} fails: {error}", number(*job)),
            Change::Cancel { job, reason: why, .. } => format!("{} is told to stop{}", number(*job), reason(why)),
            Change::DelayOver { job } => format!("{} is due", number(*job)),
            Change::End {
                job,
                status,
                reason: why,
                ..
            } => format!("{} {}{}", number(*job), status.as_str(), reason(why)),
            Change::Forget { job } => format!("forget {}", number(*job)),
            Change::Schedule(_) | Change::WasDue(_) | Change::ForgetSchedule { .. } => {
                unreachable!("no schedules are started here")
            }
        }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.transcript, "    {line}").unwrap();
    }
}

#[track_caller]
fn check_with(limits: Limits, yaml: &str, transcript: &str) {
    let mut play = Play::new(limits, yaml);
    let mut expected = String::new();
    for line in transcript.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(call) = line.strip_prefix("> ") {
            writeln!(expected, "> {call}").unwrap();
            writeln!(play.transcript, "> {call}").unwrap();
            play.call(call);
        } else {
            writeln!(expected, "    {line}").unwrap();
        }
    }
    assert_eq!(play.transcript, expected, "\n{}", play.transcript);
}

#[track_caller]
fn check(yaml: &str, transcript: &str) {
    check_with(LIMITS, yaml, transcript);
}

#[test]
fn jobs_beyond_the_concurrency_wait_and_start_in_order() {
    check(
        "p: {concurrency: 2, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p
            2 runs
            start 2/a after the save
        > schedule p
            3 waits
        > schedule p
            4 waits
        > exit 2/a 0
            2/a done
            2 succeeded
            3 runs
            start 3/a after the save
        > exit 1/a 0
            1/a done
            1 succeeded
            4 runs
            start 4/a after the save
        > exit 3/a 0
            3/a done
            3 succeeded
        > exit 4/a 0
            4/a done
            4 succeeded
        > jobs
            1 succeeded
            2 succeeded
            3 succeeded
            4 succeeded
        > deadline
            None
        ",
    );
}

#[test]
fn append_refuses_where_the_wait_list_is_full() {
    check(
        "p: {queue_limit: 1, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p
            2 waits
        > pipelines
            p: schedulable no, running yes
        > schedule p
            refused: concurrency exceeded and queue limit reached for pipeline
        > cancel 2
            2 canceled: canceled
        > pipelines
            p: schedulable yes, running yes
        > schedule p
            4 waits
        ",
    );
}

#[test]
fn all_wait_lists_together_are_bounded() {
    const REFUSED: &str = "    refused: concurrency exceeded and queue limit reached for pipeline\n";
    let mut play = Play::new(
        LIMITS,
        "p: {tasks: {a: {script: x}}}, q: {tasks: {a: {script: x}}}, r: {queue_strategy: replace, queue_limit: 1, tasks: {a: {script: x}}}",
    );
    for pipeline in ["p", "q", "r", "r"] {
        play.schedule(&[pipeline]);
    }
    for _ in 1..MAX_WAITING_JOBS {
        play.schedule(&["p"]);
    }
    assert_eq!(play.transcript, "");
    for pipeline in ["p", "q"] {
        play.schedule(&[pipeline]);
        assert_eq!(std::mem::take(&mut play.transcript), REFUSED, "{pipeline}");
    }
    // One that replaces another needs no more room, and one that leaves makes some.
    play.schedule(&["r"]);
    play.scheduler.cancel(play.now, job_id(5), "").unwrap();
    play.schedule(&["q"]);
    assert_eq!(play.transcript, "");
    play.schedule(&["q"]);
    assert_eq!(play.transcript, REFUSED);
}

#[test]
fn the_variables_of_all_that_wait_are_bounded() {
    let mut play = Play::new(LIMITS, "p: {tasks: {a: {script: x}}}, q: {tasks: {a: {script: x}}}");
    // As if many more waited. The one that starts at once is not counted.
    play.scheduler.waiting_bytes = MAX_WAITING_BYTES - 20;
    let long = format!("x={}", "y".repeat(100));
    play.schedule(&["p", &long]);
    play.schedule(&["p", "x=123456"]);
    assert_eq!(
        (play.transcript.as_str(), play.scheduler.waiting_bytes),
        ("", MAX_WAITING_BYTES - 6)
    );
    play.schedule(&["p", "x=y"]);
    assert_eq!(
        play.transcript,
        "    refused: concurrency exceeded and queue limit reached for pipeline\n"
    );
    play.transcript.clear();
    play.scheduler.cancel(play.now, job_id(2), "").unwrap();
    play.schedule(&["p", "x=y"]);
    assert_eq!(
        (play.transcript.as_str(), play.scheduler.waiting_bytes),
        ("", MAX_WAITING_BYTES - 11)
    );
    play.schedule(&["q", &long]);
    assert_eq!(play.transcript, "");
}

#[test]
fn a_queue_limit_of_0_never_waits() {
    check(
        "p: {queue_limit: 0, tasks: {a: {script: x}}}, r: {queue_limit: 0, queue_strategy: replace, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p
            refused: concurrency exceeded and queueing disabled for pipeline
        > pipelines
            p: schedulable no, running yes
            r: schedulable yes, running no
        > exit 1/a 0
            1/a done
            1 succeeded
        > schedule p
            3 runs
            start 3/a after the save
        > schedule r
            4 runs
            start 4/a after the save
        > schedule r
            refused: concurrency exceeded and queueing disabled for pipeline
        ",
    );
}

#[test]
fn replace_ends_the_newest_that_waits() {
    check(
        "p: {queue_limit: 2, queue_strategy: replace, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p
            2 waits
        > schedule p
            3 waits
        > schedule p
            4 waits
            3 replaced: replaced by job 4
        > schedule p
            5 waits
            4 replaced: replaced by job 5
        > exit 1/a 0
            1/a done
            1 succeeded
            2 runs
            start 2/a after the save
        > exit 2/a 0
            2/a done
            2 succeeded
            5 runs
            start 5/a after the save
        > exit 5/a 0
            5/a done
            5 succeeded
        > jobs
            1 succeeded
            2 succeeded
            3 replaced
            4 replaced
            5 succeeded
        ",
    );
}

#[test]
fn partitions_are_counted_apart() {
    check(
        "p: {queue_partition_limit: 1, queue_strategy: partitioned_replace, tasks: {a: {script: x}}}",
        "
        > schedule p partition=a
            1 runs
            start 1/a after the save
        > schedule p partition=a
            2 waits
        > schedule p partition=b
            3 waits
        > schedule p
            4 waits
        > schedule p partition=a
            5 waits
            2 replaced: replaced by job 5
        > exit 1/a 0
            1/a done
            1 succeeded
            5 runs
            start 5/a after the save
        > exit 5/a 0
            5/a done
            5 succeeded
            3 runs
            start 3/a after the save
        > exit 3/a 0
            3/a done
            3 succeeded
            4 runs
            start 4/a after the save
        ",
    );
}

#[test]
fn a_job_waits_for_its_delay() {
    check(
        "p: {start_delay: 1s, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 waits until 1000
        > deadline
            Some(1000)
        > at 999
        > at 1000
            1 is due
            1 runs
            start 1/a after the save
        > deadline
            None
        > schedule p
            2 waits until 2000
        > at 2500
            2 is due
        > exit 1/a 0
            1/a done
            1 succeeded
            2 runs
            start 2/a after the save
        ",
    );
}

#[test]
fn a_delay_that_still_runs_is_passed_over() {
    check(
        "p: {start_delay: 10s, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 waits until 10000
        > at 5000
        > reload p: {start_delay: 1s, tasks: {a: {script: x}}}
        > schedule p
            2 waits until 6000
        > at 5999
        > at 6000
            2 is due
            2 runs
            start 2/a after the save
        > at 10000
            1 is due
        > exit 2/a 0
            2/a done
            2 succeeded
            1 runs
            start 1/a after the save
        ",
    );
}

#[test]
fn requests_faster_than_the_delay_starve_a_replaced_job() {
    check(
        "p: {start_delay: 1s, queue_limit: 1, queue_strategy: replace, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 waits until 1000
        > at 900
        > schedule p
            2 waits until 1900
            1 replaced: replaced by job 2
        > at 1800
        > schedule p
            3 waits until 2800
            2 replaced: replaced by job 3
        > at 2700
        > schedule p
            4 waits until 3700
            3 replaced: replaced by job 4
        > at 4000
            4 is due
            4 runs
            start 4/a after the save
        ",
    );
}

#[test]
fn with_two_places_the_first_job_keeps_its_own() {
    check(
        "p: {start_delay: 1s, queue_limit: 2, queue_strategy: replace, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 waits until 1000
        > at 400
        > schedule p
            2 waits until 1400
        > at 800
        > schedule p
            3 waits until 1800
            2 replaced: replaced by job 3
        > at 1200
            1 is due
            1 runs
            start 1/a after the save
        > at 1800
            3 is due
        ",
    );
}

#[test]
fn a_job_that_replaces_takes_over_the_place() {
    check(
        "p: {queue_partition_limit: 1, queue_strategy: partitioned_replace, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p partition=a
            2 waits
        > schedule p partition=b
            3 waits
        > schedule p partition=a
            4 waits
            2 replaced: replaced by job 4
        > exit 1/a 0
            1/a done
            1 succeeded
            4 runs
            start 4/a after the save
        ",
    );
}

#[test]
fn a_waiting_job_is_canceled_at_once() {
    check(
        "p: {start_delay: 1s, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 waits until 1000
        > cancel 1 anna
            1 canceled: canceled by anna
        > deadline
            None
        > cancel 1
            not live
        > cancel 7
            not live
        > schedule p
            2 waits until 1000
        > at 1000
            2 is due
            2 runs
            start 2/a after the save
        > schedule p
            3 waits until 2000
        > at 2000
            3 is due
        > cancel 3
            3 canceled: canceled
        > deadline
            None
        ",
    );
}

#[test]
fn a_running_job_is_canceled() {
    check(
        "p: {tasks: {a: {script: x}, b: {script: x}, c: {script: x, depends_on: a}}, on_error: {script: x}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > schedule p
            2 waits
        > cancel 1 anna
            1 is told to stop: canceled by anna
            stop 1/a
            stop 1/b
            1/c canceled
        > cancel 1 bert
        > deadline
            Some(2000)
        > exit 1/a signal 2 stopped
            1/a canceled -1
        > exit 1/b 0 stopped
            1/b done
            1 canceled: canceled by anna
            2 runs
            start 2/a after the save
            start 2/b after the save
        > jobs
            1 canceled
            2 running
        > deadline
            None
        ",
    );
}

#[test]
fn a_cancel_stops_on_error_and_leaves_the_job_errored() {
    check(
        "p: {tasks: {a: {script: x}}, on_error: {script: x}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > exit 1/a 7
            1/a error 7 (exit status 7), fails the job
            start 1/on_error, for a failed with 7 (exit status 7)
        > cancel 1
            1 is told to stop: canceled
            stop 1/on_error
        > exit 1/on_error 130 stopped
            1/on_error canceled -1
            1 canceled: canceled
        > jobs
            1 canceled, errored
        ",
    );
}

#[test]
fn a_cancel_before_on_error_has_started_leaves_it_out() {
    check_with(
        Limits { max_tasks: 2, ..LIMITS },
        "p: {tasks: {a: {script: x}}, on_error: {script: x}}, q: {tasks: {a: {script: x}, b: {script: x, depends_on: a}, c: {script: x, depends_on: a}}}",
        "
        > schedule q
            1 runs
            start 1/a after the save
        > schedule p
            2 runs
            start 2/a after the save
        > exit 1/a 0
            1/a done
            start 1/b
        > exit 2/a 7
            2/a error 7 (exit status 7), fails the job
            start 1/c
        > cancel 2
            2 is told to stop: canceled
            2 canceled: canceled
        > jobs
            1 running
            2 canceled, errored
        > exit 1/b 0
            1/b done
        ",
    );
}

#[test]
fn a_cancel_during_fail_fast() {
    check(
        "p: {tasks: {a: {script: x}, b: {script: x}}, on_error: {script: x}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > exit 1/a 7
            1/a error 7 (exit status 7), fails the job
            stop 1/b
        > cancel 1
            1 is told to stop: canceled
        > exit 1/b 137 stopped
            1/b canceled -1
            1 canceled: canceled
        > jobs
            1 canceled, errored
        ",
    );
}

#[test]
fn a_failure_stops_the_other_tasks() {
    check(
        "p: {tasks: {a: {script: x}, b: {script: x}, c: {script: x, depends_on: b}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > exit 1/a 7
            1/a error 7 (exit status 7), fails the job
            stop 1/b
            1/c canceled
        > exit 1/b signal 15 stopped
            1/b canceled -1
            1 failed
        > jobs
            1 failed, errored
        ",
    );
}

#[test]
fn tasks_that_do_not_depend_on_a_failed_one_go_on() {
    check(
        "p: {continue_running_tasks_after_failure: true, tasks: {a: {script: x}, b: {script: x}, c: {script: x, depends_on: b}, d: {script: x, depends_on: a}, e: {script: x, depends_on: [c, d]}}, on_error: {script: x}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > exit 1/a signal 11
            1/a error 139 (signal: segmentation fault), fails the job
            1/d canceled
            1/e canceled
        > exit 1/b 0
            1/b done
            start 1/c
        > exit 1/c 3
            1/c error 3 (exit status 3)
            start 1/on_error, for a failed with 139 (signal: segmentation fault)
        > exit 1/on_error 5
            1/on_error error 5 (exit status 5)
            1 failed
        > jobs
            1 failed, errored
        ",
    );
}

#[test]
fn on_error_runs_last_and_its_own_failure_changes_nothing() {
    check(
        "p: {tasks: {a: {script: x}}, on_error: {script: x}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > exit 1/a unstarted
            1/a error -1 (no such shell), fails the job
            start 1/on_error, for a failed with -1 (no such shell)
        > exit 1/on_error terminal
            1/on_error error -1 (wants the terminal; tasks have none)
            1 failed
        > jobs
            1 failed, errored
        > schedule p
            2 runs
            start 2/a after the save
        > exit 2/a 0
            2/a done
            2 succeeded
        ",
    );
}

#[test]
fn an_on_error_without_lines_passes() {
    check(
        "p: {tasks: {a: {script: x}}, on_error: {script: ''}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > exit 1/a 1
            1/a error 1 (exit status 1), fails the job
            1/on_error done
            1 failed
        > jobs
            1 failed, errored
        ",
    );
}

#[test]
fn an_allowed_failure_is_done() {
    check(
        "p: {tasks: {a: {script: x, allow_failure: true}, b: {script: x, depends_on: a}, c: {script: x, allow_failure: true, depends_on: b}, d: {script: x, allow_failure: true, depends_on: c}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > exit 1/a 3
            1/a done 3
            start 1/b
        > exit 1/b 0
            1/b done
            start 1/c
        > exit 1/c signal 9
            1/c done 137
            start 1/d
        > exit 1/d unstarted
            1/d done -1: no such shell
            1 succeeded
        > jobs
            1 succeeded
        ",
    );
}

#[test]
fn an_allowed_failure_that_is_stopped_is_no_success() {
    check(
        "p: {tasks: {a: {script: x, allow_failure: true}, b: {script: x, allow_failure: true}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > cancel 1
            1 is told to stop: canceled
            stop 1/a
            stop 1/b
        > exit 1/a 130 stopped
            1/a canceled -1
        > exit 1/b 143 stopped
            1/b error 143 (exit status 143)
            1 canceled: canceled
        > jobs
            1 canceled
        ",
    );
}

#[test]
fn markers_pass_without_a_process() {
    check_with(
        Limits { max_tasks: 1, ..LIMITS },
        "p: {tasks: {first: {}, a: {script: x, depends_on: first}, b: {script: x, depends_on: first}, both: {script: [''], depends_on: [a, b]}, c: {script: x, depends_on: both}}}",
        "
        > schedule p
            1 runs
            1/first done
            start 1/a after the save
        > exit 1/a 0
            1/a done
            start 1/b
        > exit 1/b 0
            1/b done
            1/both done
            start 1/c
        > exit 1/c 0
            1/c done
            1 succeeded
        ",
    );
}

#[test]
fn a_job_of_markers_ends_at_once() {
    check(
        "p: {start_delay: 1s, tasks: {a: {}, b: {depends_on: a}}}, q: {queue_limit: 0}",
        "
        > schedule q
            1 runs
            1 succeeded
        > schedule q
            2 runs
            2 succeeded
        > schedule p
            3 waits until 1000
        > schedule p
            4 waits until 1000
        > at 1000
            3 is due
            4 is due
            3 runs
            3/a done
            3/b done
            3 succeeded
            4 runs
            4/a done
            4/b done
            4 succeeded
        > jobs
            1 succeeded
            2 succeeded
            3 succeeded
            4 succeeded
        > pipelines
            p: schedulable yes, running no
            q: schedulable yes, running no
        ",
    );
}

#[test]
fn tasks_start_in_file_order() {
    check_with(
        Limits { max_tasks: 1, ..LIMITS },
        "p: {tasks: {c: {script: x, depends_on: z}, b: {script: x}, z: {script: x}, a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/b after the save
        > exit 1/b 0
            1/b done
            start 1/z
        > exit 1/z 0
            1/z done
            start 1/c
        > exit 1/c 0
            1/c done
            start 1/a
        > exit 1/a 0
            1/a done
            1 succeeded
        ",
    );
}

#[test]
fn the_limit_on_tasks_holds_across_jobs() {
    check_with(
        Limits { max_tasks: 2, ..LIMITS },
        "p: {tasks: {a: {script: x}, b: {script: x, depends_on: a}}}, q: {tasks: {a: {script: x}, b: {script: x}}}",
        "
        > schedule q
            1 runs
            start 1/a after the save
            start 1/b after the save
        > schedule p
            2 runs
        > exit 1/b 0
            1/b done
            start 2/a after the save
        > exit 1/a 0
            1/a done
            1 succeeded
        > schedule q
            3 runs
            start 3/a after the save
        > exit 2/a 0
            2/a done
            start 2/b
        > exit 2/b 0
            2/b done
            2 succeeded
            start 3/b after the save
        ",
    );
}

#[test]
fn what_does_not_stop_is_killed_then_given_up() {
    check(
        "p: {tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > at 100
        > cancel 1
            1 is told to stop: canceled
            stop 1/a
        > deadline
            Some(2100)
        > at 2099
        > at 2100
            kill 1/a
        > at 7099
        > at 7100
            abandon 1/a
        > deadline
            None
        > exit 1/a signal 9 stopped
            1/a canceled -1
            1 canceled: canceled
        ",
    );
}

#[test]
fn a_kill_ends_the_grace() {
    check(
        "
        p: {tasks: {a: {script: x}, b: {script: x}}}
        ",
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > at 100
        > cancel 1
            1 is told to stop: canceled
            stop 1/a
            stop 1/b
        > exit 1/b signal 2 stopped
            1/b canceled -1
        > at 200
        > kill
            kill 1/a
        > deadline
            Some(5200)
        > kill
        > exit 1/a signal 9 stopped
            1/a canceled -1
            1 canceled: canceled
            exit
        > deadline
            None
        ",
    );
}

#[test]
fn a_kill_stops_what_runs() {
    check(
        "p: {tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > kill
            1 is told to stop: prunner was stopped
            stop 1/a
            kill 1/a
        > exit 1/a signal 9 stopped
            1/a canceled -1
            1 canceled: prunner was stopped
            exit
        ",
    );
}

#[test]
fn a_task_that_ends_in_its_grace_is_not_killed() {
    check(
        "p: {tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > cancel 1
            1 is told to stop: canceled
            stop 1/a
        > at 1999
        > exit 1/a signal 2 stopped
            1/a canceled -1
            1 canceled: canceled
        > deadline
            None
        > at 9000
        ",
    );
}

#[test]
fn how_a_stopped_task_ended_counts() {
    check(
        "p: {tasks: {a: {script: x}, b: {script: x}, c: {script: x}, d: {script: x}, e: {script: x}, f: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
            start 1/c after the save
            start 1/d after the save
            start 1/e after the save
            start 1/f after the save
        > cancel 1
            1 is told to stop: canceled
            stop 1/a
            stop 1/b
            stop 1/c
            stop 1/d
            stop 1/e
            stop 1/f
        > exit 1/a 143 stopped
            1/a error 143 (exit status 143)
        > exit 1/b 130 stopped
            1/b canceled -1
        > exit 1/c 137 stopped
            1/c canceled -1
        > exit 1/d 0 stopped
            1/d done
        > exit 1/e signal 15
            1/e canceled -1
        > exit 1/f unstarted stopped
            1/f canceled -1
            1 canceled: canceled
        > jobs
            1 canceled
        ",
    );
}

#[test]
fn the_same_ends_without_a_stop_are_failures() {
    check(
        "p: {continue_running_tasks_after_failure: true, tasks: {a: {script: x}, b: {script: x}, c: {script: x}, d: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
            start 1/c after the save
            start 1/d after the save
        > exit 1/a 130
            1/a error 130 (exit status 130), fails the job
        > exit 1/b 137
            1/b error 137 (exit status 137)
        > exit 1/c signal 15
            1/c error 143 (signal: terminated)
        > exit 1/d signal 40
            1/d error 168 (signal: signal 40)
            1 failed
        > jobs
            1 failed, errored
        ",
    );
}

#[test]
fn a_drain_lets_running_jobs_end() {
    check(
        "p: {tasks: {a: {script: x}, b: {script: x, depends_on: a}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p
            2 waits
        > drain
        > schedule p
            refused: prunner is shutting down
        > pipelines
            p: schedulable no, running yes
        > exit 1/a 0
            1/a done
            start 1/b
        > exit 1/b 0
            1/b done
            1 succeeded
            exit
        > jobs
            1 succeeded
            2 waiting
        ",
    );
}

#[test]
fn an_interrupt_that_tasks_got_too_stops_their_jobs() {
    check(
        "p: {concurrency: 3, tasks: {a: {script: x}, b: {script: x}}, on_error: {script: x}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > schedule p
            2 runs
            start 2/a after the save
            start 2/b after the save
        > drain
        > exit 1/a signal 2
            1 is told to stop: prunner was stopped
            stop 1/b
            1/a canceled -1
        > exit 1/b 130
            1/b canceled -1
            1 canceled: prunner was stopped
        > exit 2/a 0
            2/a done
        > exit 2/b signal 9
            2/b error 137 (signal: killed), fails the job
            start 2/on_error, for b failed with 137 (signal: killed)
        > exit 2/on_error 0
            2/on_error done
            2 failed
            exit
        ",
    );
}

#[test]
fn a_stop_ends_running_jobs() {
    check(
        "p: {tasks: {a: {script: x}}, on_error: {script: x}}, q: {start_delay: 1s, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p
            2 waits
        > schedule q
            3 waits until 1000
        > drain
        > stop
            1 is told to stop: prunner was stopped
            stop 1/a
        > at 1500
            3 is due
        > drain
        > exit 1/a signal 2 stopped
            1/a canceled -1
            1 canceled: prunner was stopped
            exit
        > jobs
            1 canceled
            2 waiting
            3 waiting
        ",
    );
}

#[test]
fn a_shutdown_with_nothing_running_is_complete() {
    check(
        "p: {tasks: {a: {script: x}}}",
        "
        > drain
            exit
        > stop
        ",
    );
}

#[test]
fn nothing_that_waits_starts_while_it_is_held() {
    check(
        "p: {tasks: {a: {script: x}, b: {script: x, depends_on: a}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p
            2 waits
        > hold
        > pipelines
            p: schedulable no, running yes
        > exit 1/a 0
            1/a done
            start 1/b
        > exit 1/b 0
            1/b done
            1 succeeded
        > schedule p
            3 waits
        > release
            2 runs
            start 2/a after the save
        ",
    );
}

#[test]
fn retention_by_count_keeps_unstarted_jobs_apart() {
    check(
        "p: {retention_count: 1, queue_limit: 1, queue_strategy: replace, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p
            2 waits
        > schedule p
            3 waits
            2 replaced: replaced by job 3
        > schedule p
            4 waits
            3 replaced: replaced by job 4
            forget 2
        > exit 1/a 0
            1/a done
            1 succeeded
            4 runs
            start 4/a after the save
        > exit 4/a 0
            4/a done
            4 succeeded
            forget 1
        > jobs
            3 replaced
            4 succeeded
        ",
    );
}

#[test]
fn what_has_ended_is_forgotten_when_asked() {
    check(
        "p: {queue_limit: 2, queue_strategy: replace, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p
            2 waits
        > forget 1
            NotEnded
        > forget 2
            NotEnded
        > cancel 2
            2 canceled: canceled
        > exit 1/a 0
            1/a done
            1 succeeded
        > forget 2
            forget 2
        > forget 2
            Unknown
        > forget 1
            forget 1
        > forget 9
            Unknown
        > jobs
        ",
    );
}

#[test]
fn defaults_of_retention_hold_for_pipelines_that_say_nothing() {
    let retention = Retention {
        period_ms: Some(5_000),
        count: Some(1),
    };
    check_with(
        Limits { retention, ..LIMITS },
        "p: {tasks: {}}, q: {retention_count: 2, tasks: {}}",
        "
        > schedule p
            1 runs
            1 succeeded
        > schedule p
            2 runs
            2 succeeded
            forget 1
        > schedule q
            3 runs
            3 succeeded
        > schedule q
            4 runs
            4 succeeded
        > reload q: {retention_period: 7s, tasks: {}}, r: {tasks: {}}
            forget 3
        > schedule r
            5 runs
            5 succeeded
        > deadline
            Some(5000)
        > at 5000
            forget 2
            forget 5
        > deadline
            Some(7000)
        > restart r: {tasks: {}}
        > deadline
            None
        > jobs
            4 succeeded
        ",
    );
}

#[test]
fn retention_by_period() {
    check(
        "p: {retention_period: 1s, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p
            2 waits
        > schedule p
            3 waits
        > cancel 2
            2 canceled: canceled
        > at 500
        > exit 1/a 0
            1/a done
            1 succeeded
            3 runs
            start 3/a after the save
        > deadline
            Some(1000)
        > at 1000
            forget 2
        > exit 3/a 0
            3/a done
            3 succeeded
        > at 1500
            forget 1
        > deadline
            Some(2000)
        > at 2000
            forget 3
        > deadline
            None
        ",
    );
}

#[test]
fn a_reload_brings_other_limits_and_leaves_jobs_alone() {
    check(
        "p: {concurrency: 2, tasks: {a: {script: x}, b: {script: x, depends_on: a}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p
            2 runs
            start 2/a after the save
        > schedule p
            3 waits
        > reload p: {concurrency: 1, queue_limit: 1, tasks: {c: {script: x}}}
        > exit 1/a 0
            1/a done
            start 1/b
        > exit 1/b 0
            1/b done
            1 succeeded
        > schedule p
            refused: concurrency exceeded and queue limit reached for pipeline
        > exit 2/a 0
            2/a done
            start 2/b
        > exit 2/b 0
            2/b done
            2 succeeded
            3 runs
            start 3/a after the save
        > reload p: {concurrency: 2, tasks: {c: {script: x}}}
        > schedule p
            5 runs
            start 5/c after the save
        > exit 3/a 0
            3/a done
            start 3/b
        ",
    );
}

#[test]
fn a_pipeline_that_is_gone_finishes_what_it_has() {
    check(
        "p: {retention_count: 1, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p
            2 waits
        > reload q: {tasks: {}}
        > schedule p
            refused: pipeline \"p\" is not defined
        > pipelines
            q: schedulable yes, running no
        > exit 1/a 0
            1/a done
            1 succeeded
            2 runs
            start 2/a after the save
        > exit 2/a 0
            2/a done
            2 succeeded
            forget 1
        ",
    );
}

/// Half a year forward, and back, and to the ends of time.
#[test]
fn a_clock_that_is_set_moves_no_deadline() {
    for jump in [
        "15000000000",
        "-15000000000",
        "9000000000000000000",
        "-9000000000000000000",
    ] {
        let history = "
        > schedule q
            1 waits until 5000
        > schedule p
            2 runs
            start 2/a after the save
        > wall JUMP
        > cancel 2
            2 is told to stop: canceled
            stop 2/a
        > at 1999
        > at 2000
            kill 2/a
        > exit 2/a signal 9 stopped
            2/a canceled -1
            2 canceled: canceled
        > at 4999
        > at 5000
            1 is due
            1 runs
            start 1/a after the save
        > exit 1/a 0
            1/a done
            1 succeeded
        > at 61999
        > at 62000
            forget 2
        ";
        check(
            "p: {retention_period: 1m, tasks: {a: {script: x}}}, q: {start_delay: 5s, tasks: {a: {script: x}}}",
            &history.replace("JUMP", jump),
        );
    }
}

#[test]
fn after_a_restart_with_another_clock_no_more_than_the_delay_is_left() {
    for (jump, left) in [("-86400000", "Some(5000)"), ("86400000", "None"), ("0", "Some(4000)")] {
        let due = if left == "None" {
            "
            1 is due
            1 runs
            start 1/a after the save"
        } else {
            ""
        };
        let history = format!(
            "
        > schedule q
            1 waits until 5000
        > wall {jump}
        > restart{due}
        > deadline
            {left}
        "
        );
        check("q: {start_delay: 5s, tasks: {a: {script: x}}}", &history);
    }
    // What ended in the future ended just now, and what ended long ago is too old.
    for (jump, forgotten) in [("-86400000", ""), ("86400000", "\n            forget 1")] {
        let left = if forgotten.is_empty() { "Some(60000)" } else { "None" };
        let history = format!(
            "
        > schedule p
            1 runs
            start 1/a after the save
        > exit 1/a 0
            1/a done
            1 succeeded
        > wall {jump}
        > restart{forgotten}
        > deadline
            {left}
        "
        );
        check("p: {retention_period: 1m, tasks: {a: {script: x}}}", &history);
    }
}

#[test]
fn a_restart_keeps_the_order_and_the_rest_of_the_delay() {
    check(
        "p: {tasks: {a: {script: x}}}, q: {start_delay: 5s, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p
            2 waits
        > schedule q
            3 waits until 5000
        > schedule p
            4 waits
        > at 1500
        > restart
            2 runs
            start 2/a after the save
        > deadline
            Some(2500)
        > schedule p
            5 waits
        > exit 2/a 0
            2/a done
            2 succeeded
            4 runs
            start 4/a after the save
        > exit 4/a 0
            4/a done
            4 succeeded
            5 runs
            start 5/a after the save
        > at 2500
            3 is due
            3 runs
            start 3/a after the save
        > jobs
            1 interrupted
            2 succeeded
            3 running
            4 succeeded
            5 running
        ",
    );
}

#[test]
fn a_restart_takes_over_the_place_of_a_replaced_job() {
    check(
        "p: {queue_partition_limit: 1, queue_strategy: partitioned_replace, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p partition=a
            2 waits
        > schedule p partition=b
            3 waits
        > schedule p partition=a
            4 waits
            2 replaced: replaced by job 4
        > restart
            4 runs
            start 4/a after the save
        > exit 4/a 0
            4/a done
            4 succeeded
            3 runs
            start 3/a after the save
        ",
    );
}

#[test]
fn a_restart_cancels_what_no_longer_fits() {
    check(
        "p: {tasks: {a: {script: x}}}, q: {tasks: {a: {script: x}}}, r: {tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p
            2 waits
        > schedule q
            3 runs
            start 3/a after the save
        > schedule q
            4 waits
        > schedule r x=1
            5 runs
            start 5/a after the save
        > schedule r x=1
            6 waits
        > restart q: {tasks: {a: {script: 'echo << .x >>'}}}, r: {tasks: {b: {script: 'echo << .x >>'}}}
            2 canceled: pipeline \"p\" is not defined any more
            4 canceled: its variables no longer fit: variable `x` is not defined, used in task `a`, line 1
            6 waits
            6 runs
            start 6/b after the save
        > exit 6/b 0
            6/b done
            6 succeeded
        > jobs
            1 interrupted
            2 canceled
            3 interrupted
            4 canceled
            5 interrupted
            6 succeeded
        ",
    );
}

/// A crash may come between the two changes of a replacement; then both jobs stand at one place.
#[test]
fn a_half_done_replacement_is_completed_at_the_start() {
    let yaml = "p: {queue_limit: 1, queue_strategy: replace, tasks: {a: {script: x}}}";
    let mut play = Play::new(LIMITS, yaml);
    for call in ["schedule p", "schedule p", "schedule p"] {
        play.call(call);
    }
    let replaced = play.records.get_mut(&job_id(2)).unwrap();
    replaced.status = JobStatus::Waiting;
    replaced.end_ms = None;
    play.transcript.clear();
    play.call("restart");
    assert_eq!(
        play.transcript,
        "    2 replaced: replaced by job 3\n    3 runs\n    start 3/a after the save\n"
    );
}

#[track_caller]
fn check_variables(yaml: &str, variables: &Value, expected: &str) {
    let mut scheduler = Scheduler::new(LIMITS, load(yaml));
    let request = ScheduleRequest {
        pipeline: "p".to_owned(),
        variables: Arc::new(variables.as_object().unwrap().clone()),
        partition: String::new(),
        user: String::new(),
        key: None,
        due: None,
    };
    let now = Timestamp { wall_ms: 0, mono_ms: 0 };
    let answer = scheduler.schedule(now, job_id(1), request);
    let expected = if expected.is_empty() {
        Ok(Accepted {
            job: job_id(1),
            joined: false,
        })
    } else {
        Err(ScheduleError::BadVariables(expected.to_owned()))
    };
    assert_eq!(answer, expected);
    assert_eq!(
        scheduler.take_orders().is_empty(),
        expected.is_err(),
        "a refused request leaves nothing behind"
    );
}

#[test]
fn variables_are_checked_before_a_job_is_accepted() {
    let yaml = "p: {tasks: {a: {script: x}}}";
    check_variables(yaml, &json!({"x": 1, "failed": 2}), "");
    check_variables(yaml, &json!({"__jobID": 1}), "variable name `__jobID` is reserved");
    check_variables(
        yaml,
        &json!({"failedTaskFoo": 1}),
        "variable name `failedTaskFoo` is reserved",
    );
    check_variables(yaml, &json!({"x": "a\0b"}), "variable `x` holds a NUL character");
    check_variables(yaml, &json!({"x": [{"y": "\0"}]}), "variable `x` holds a NUL character");
    check_variables(yaml, &json!({"x": {"y\0": 1}}), "variable `x` holds a NUL character");
    check_variables(yaml, &json!({"x\0": 1}), "variable `x\\0` holds a NUL character");
    let yaml = "p: {tasks: {a: {script: [x, 'echo << .x >> << .__jobID >>']}, b: {script: 'echo << .y.z >>'}}}";
    check_variables(yaml, &json!({"x": 1, "y": {"z": 1}}), "");
    check_variables(
        yaml,
        &json!({}),
        "variable `x` is not defined, used in task `a`, line 2; variable `y.z` is not defined, used in task `b`, line 1",
    );
    let yaml = "p: {tasks: {a: {script: x}}, on_error: {script: 'echo << .failedTaskName >> << .z >>'}}";
    check_variables(yaml, &json!({"z": 1}), "");
    check_variables(
        yaml,
        &json!({}),
        "variable `z` is not defined, used in task `on_error`, line 1",
    );
    let yaml = "p: {tasks: {a: {script: 'echo << .failedTaskName >>'}}}";
    check_variables(
        yaml,
        &json!({}),
        "variable `failedTaskName` is not defined, used in task `a`, line 1",
    );
}

#[test]
fn an_unknown_pipeline_is_named() {
    check(
        "p: {tasks: {}}",
        "
        > schedule q
            refused: pipeline \"q\" is not defined
        ",
    );
}
