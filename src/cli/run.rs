//! `prunner run`: one job of a pipeline, here and now, with the scheduler, the main loop and the workers of the server.
//!
//! Surprise: the pipeline that is scheduled is not quite the one of the file: delays and the wait list are a server's.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, after, bounded, unbounded};
use serde_json::Value;

use crate::cli::client::user;
use crate::cli::display::{Content, Display, Manner, Shown};
use crate::cli::output::{self, Failure, Status};
use crate::cli::serve::{data_directory, recover, search};
use crate::cli::variables::VariableArguments;
use crate::clock::Clock;
use crate::config::{Config, GetVariable, MARK_VARIABLE};
use crate::definition::bounds::NO_LIMIT;
use crate::definition::{self, Loaded, Pipeline, Queue, did_you_mean, shown};
use crate::health::Health;
use crate::job::{Change, JobId, JobRecord, JobStatus, TaskStatus};
use crate::main_loop::{Event, MainLoop, Purpose, Release, Witness, new_job_id};
use crate::read_model::ReadModel;
use crate::reason::reason;
use crate::requests::Request;
use crate::scheduler::{Limits, Retention, ScheduleRequest, Scheduler, Shutdown};
use crate::service_manager::Watchdog;
use crate::signals::{self, Stop};
use crate::store::{self, Store};
use crate::task::{Followers, Mark, Observer, Settings, Workers};
use crate::wall_timer::WallTimer;
use crate::{environment, log, process_one};

/// How long a terminal that takes nothing may keep a job's end from being shown, once somebody has asked for the end.
const DISPLAY_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct RunArguments {
    /// Name of the pipeline
    pub pipeline: String,
    #[command(flatten)]
    pub variables: VariableArguments,
    /// Print one JSON object a line: tasks that start, print and end, then the job
    #[arg(long)]
    pub json: bool,
    /// Show the output of failed tasks alone
    #[arg(long, short)]
    pub quiet: bool,
}

pub(crate) fn run(config: &Config, arguments: &RunArguments, variable: GetVariable<'_>) -> Result<Status, Failure> {
    if process_one::is_process_one() {
        return process_one::run_child().map(Status).map_err(Failure::usage);
    }
    signals::clean_up_inheritance().map_err(Failure::usage)?;
    let clock = Clock::new();
    let given = arguments.variables.read().map_err(Failure::usage)?;
    let mut loaded = definition::load(&search(config));
    complain(&loaded, arguments)?;
    let pipeline = adapt(&mut loaded, &arguments.pipeline)?;
    let declared = &pipeline.intake.declared;
    let variables = given.read_as(|name| declared.find(name).map(|variable| variable.kind));
    let environment = environment::of_tasks(env::vars_os(), &config.env_files, None).map_err(Failure::usage)?;

    let mut scheduler = Scheduler::new(
        Limits {
            max_tasks: config.max_tasks,
            kill_grace_ms: config.kill_grace_ms,
            retention: Retention {
                period_ms: config.retention_period_ms,
                count: config.retention_count,
            },
        },
        loaded.pipelines,
    );
    let mut kept = config.kept_data.as_ref().map(|_| Kept::open(config)).transpose()?;
    let now = clock.now();
    if let Some(kept) = &mut kept {
        // For retention alone: jobs that wait are the server's, who finds them as they are.
        scheduler.restore(now, Vec::new(), std::mem::take(&mut kept.recovered.ended));
    }
    let user = user(variable);
    let id = new_job_id(now);
    let request = ScheduleRequest {
        pipeline: arguments.pipeline.clone(),
        variables: Arc::new(variables),
        partition: String::new(),
        user: user.clone(),
        key: None,
        due: None,
    };
    scheduler.schedule(now, id, request).map_err(|error| Failure {
        status: Status::REFUSED,
        message: Some(error.to_string()),
    })?;
    // Nothing more is accepted: the loop ends with this job.
    scheduler.shut_down(now, Shutdown::Drain);

    let (events, receiver) = unbounded::<Event>();
    let (interrupting, interrupts) = unbounded::<()>();
    let arrived = {
        let events = events.clone();
        let on_stop = move || {
            drop(events.send(Event::SignalsArrived));
            // Nobody takes it before the job has ended.
            let _ = interrupting.send(());
        };
        signals::listen(on_stop, || ()).map_err(Failure::usage)?
    };
    let manner = Manner {
        json: arguments.json,
        quiet: arguments.quiet,
        disable_ansi: config.disable_ansi,
        content: Content::Everything,
    };
    let display = {
        let events = events.clone();
        let display = Display::start(manner, move || cancel(&events, id)).map_err(Failure::usage)?;
        Arc::new(display)
    };
    let for_log = Arc::clone(&display);
    log::redirect(move |line| for_log.line(line.to_owned()));

    let scratch = Scratch::make_if_needed(&pipeline, id, config, kept.is_some())?;
    let settings = Settings {
        logs: kept.as_ref().map_or_else(
            || scratch.as_ref().map(|scratch| scratch.path.clone()),
            |kept| Some(kept.path().join("logs")),
        ),
        observer: Some(observer(&display)),
        mark: kept.as_ref().map_or_else(
            || Mark::Inherited(variable(MARK_VARIABLE).unwrap_or_default()),
            |kept| Mark::Data(kept.path().to_owned()),
        ),
        shell: config.shell.clone(),
        log_limit: config.log_limit,
        environment,
        meters: Arc::default(),
    };
    let exits = events.clone();
    let report = Box::new(move |task, exit| drop(exits.send(Event::TaskExited { task, exit })));
    let workers = Arc::new(Workers::new(settings, Followers::new(), report));
    let release = {
        let workers = Arc::clone(&workers);
        move |release: Release| release.carry_out(&workers)
    };
    let logs = kept.as_ref().map(|kept| kept.path().join("logs").join(id.to_string()));
    let store = match kept {
        None => Store::nowhere(release),
        Some(kept) => kept.start(release, &events)?,
    };
    let (ending, ended) = bounded(1);
    let witness = Telling {
        display: Arc::clone(&display),
        talks: !arguments.json && !arguments.quiet,
        has_on_error: pipeline.on_error.is_some(),
        id,
        record: None,
        ended: ending,
    };
    let main_loop = MainLoop {
        clock,
        scheduler,
        events: receiver,
        arrived,
        workers,
        store,
        purpose: Purpose::RunOne {
            job: id,
            user,
            witness: Box::new(witness),
        },
        shown: Vec::new(),
        interrupts: 0,
        stopped_by: None,
        releases: Vec::new(),
        watchdog: Watchdog::none(),
        // Nothing is due by itself here.
        wall_timer: WallTimer::new(|| ()),
    };
    let end = main_loop.run();
    // What is told as the result is on disk.
    end.store.finish();
    drop(scratch);
    let record: JobRecord = ended.try_recv().expect("the loop ends with the end of its job");
    let job: Value = serde_json::from_str(&record.to_json()).expect("a job object is JSON");
    display.job(job, hint(&arguments.pipeline, logs.as_deref()));
    let shown = match end.stopped_by {
        // A second one must not have to wait for it.
        None => display.finish(&interrupts),
        Some(_) => display.finish(&after(DISPLAY_PATIENCE)),
    };
    if let Shown::Failed(error) = &shown {
        return Err(output::write_failure(error));
    }
    Ok(status(&record, end.stopped_by))
}

/// Says what is wrong with the files. Of the warnings, those that the job may have to do with.
fn complain(loaded: &Loaded, arguments: &RunArguments) -> Result<(), Failure> {
    for warning in &loaded.warnings {
        let concerns = warning.pipeline.as_ref().is_none_or(|name| *name == arguments.pipeline);
        if concerns && !arguments.quiet {
            output::tell(&format!("warning: {warning}"));
        }
    }
    let mut failure = Ok(());
    for error in &loaded.errors {
        if let Err(failure) = std::mem::replace(&mut failure, Err(Failure::usage(error))) {
            Failure::report(failure);
        }
    }
    failure
}

/// The pipeline, without what holds for a server alone.
fn adapt(loaded: &mut Loaded, name: &str) -> Result<Arc<Pipeline>, Failure> {
    let Some(pipeline) = loaded.pipelines.get_mut(name) else {
        let known = loaded.pipelines.keys().map(AsRef::as_ref);
        return Err(Failure {
            status: Status::REFUSED,
            message: Some(format!(
                "pipeline `{}` is not defined{}",
                shown(name),
                did_you_mean(name, known)
            )),
        });
    };
    let adapted = Arc::get_mut(pipeline).expect("nobody else has what was just loaded");
    adapted.start_delay_ms = 0;
    adapted.concurrency = 1;
    adapted.queue = Queue::Append { limit: None };
    adapted.intake.deduplicate = None;
    adapted.intake.merge = Vec::new();
    adapted.intake.interrupt_running = false;
    Ok(Arc::clone(pipeline))
}

/// Who read standard output has gone.
fn cancel(events: &Sender<Event>, job: JobId) {
    // Nobody waits for the answer.
    let (reply, _) = bounded(1);
    let by = String::new();
    let _ = events.send(Event::Requested(Request::Cancel { job, by, reply }));
}

fn observer(display: &Arc<Display>) -> Observer {
    let display = Arc::clone(display);
    Observer(Arc::new(move |_, task, stream, bytes| {
        display.output(task, stream, bytes.to_vec());
    }))
}

/// What to do when the job has failed.
fn hint(pipeline: &str, logs: Option<&Path>) -> String {
    match logs {
        Some(logs) => format!("the outputs are in `{}`", logs.display()),
        None => format!("`prunner run --data .prunner {}` keeps the outputs", shown(pipeline)),
    }
}

fn status(job: &JobRecord, stopped_by: Option<Stop>) -> Status {
    match (job.status, stopped_by) {
        (JobStatus::Succeeded, _) => Status::DONE,
        (JobStatus::Canceled | JobStatus::Replaced | JobStatus::Interrupted, Some(stop)) => {
            Status(128 + u8::try_from(stop.number()).expect("signals have small numbers"))
        }
        (JobStatus::Canceled | JobStatus::Replaced | JobStatus::Interrupted, None) => Status::CANCELED,
        (JobStatus::Failed | JobStatus::Waiting | JobStatus::Running, _) => Status::FAILED,
    }
}

/// A data directory that the job is kept in.
struct Kept {
    directory: store::DataDirectory,
    recovered: store::Recovered,
}

impl Kept {
    fn open(config: &Config) -> Result<Kept, Failure> {
        let directory = data_directory(config)?;
        let recovered = recover(&directory)?;
        Ok(Kept { directory, recovered })
    }

    fn path(&self) -> &Path {
        &self.directory.path
    }

    fn start(
        self,
        release: impl FnMut(Release) + Send + 'static,
        events: &Sender<Event>,
    ) -> Result<Store<Release>, Failure> {
        let events = events.clone();
        let parts = store::Parts {
            directory: self.directory,
            model: Arc::new(ReadModel::new(self.recovered.image)),
            health: Arc::new(Health::default()),
            meters: Arc::default(),
            journal: self.recovered.journal,
        };
        let trouble = move |is_troubled| drop(events.send(Event::StorageTroubled(is_troubled)));
        Store::start(parts, release, trouble)
            .map_err(|error| Failure::usage(format!("failed to write the state: {error}")))
    }
}

/// A directory for outputs that `on_error` or a further attempt needs, which goes with this.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn make_if_needed(
        pipeline: &Pipeline,
        id: JobId,
        config: &Config,
        is_kept: bool,
    ) -> Result<Option<Scratch>, Failure> {
        let tells = pipeline.on_error.as_ref().is_some_and(|task| !task.is_marker());
        // What an attempt has printed counts towards the limit of the next.
        let counts = pipeline.tasks.iter().any(|task| {
            let limit = task.bounds.log_limit.unwrap_or(config.log_limit);
            task.bounds.retry.is_some() && limit != NO_LIMIT
        });
        if !(tells || counts) || is_kept {
            return Ok(None);
        }
        let path = env::temp_dir().join(format!("prunner-run-{id}"));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error: io::Error| {
                Failure::usage(format!(
                    "failed to make `{}` for outputs that are needed later: {}",
                    path.display(),
                    reason(&error)
                ))
            })?;
        Ok(Some(Scratch { path }))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            log::warning(
                "can't remove a directory",
                &[("directory", &self.path.display()), ("error", &reason(&error))],
            );
        }
    }
}

/// Tells the display what happens to the job.
struct Telling {
    display: Arc<Display>,
    /// Says what a signal does.
    talks: bool,
    has_on_error: bool,
    id: JobId,
    record: Option<JobRecord>,
    /// Takes the job at its end.
    ended: Sender<JobRecord>,
}

impl Witness for Telling {
    fn changed(&mut self, change: &Change) {
        if change.job() != Some(self.id) {
            return;
        }
        if let Change::Job(record) = change {
            let names = record.tasks.iter().map(|task| task.name.to_string()).collect();
            self.display.tasks(names, self.has_on_error);
            self.record = Some((**record).clone());
            return;
        }
        // It may be forgotten after its end.
        let Some(record) = &mut self.record else { return };
        let changed: Vec<usize> = match change {
            Change::End { .. } => (0..record.tasks.len()).collect(),
            Change::Task { index, .. } => vec![*index],
            Change::Job(_)
            | Change::Start { .. }
            | Change::Fail { .. }
            | Change::Cancel { .. }
            | Change::Join { .. }
            | Change::DelayOver { .. }
            | Change::Forget { .. }
            | Change::Schedule(_)
            | Change::WasDue(_)
            | Change::ForgetSchedule { .. } => Vec::new(),
        };
        let status_of = |record: &JobRecord, index: usize| record.tasks.get(index).map(|task| task.progress.status);
        let before: Vec<Option<TaskStatus>> = changed.iter().map(|&index| status_of(record, index)).collect();
        record.apply(change);
        for (index, before) in changed.into_iter().zip(before) {
            // A further attempt of a task is no start: it has not ended in between.
            if before == status_of(record, index) {
                continue;
            }
            let task = &record.tasks[index];
            match task.progress.status {
                TaskStatus::Waiting => {}
                TaskStatus::Running => self.display.started(task.to_value()),
                TaskStatus::Done | TaskStatus::Error | TaskStatus::Canceled => {
                    let value = task.to_value();
                    // A marker is over as soon as it starts.
                    if before == Some(TaskStatus::Waiting) && !value["start"].is_null() {
                        self.display.started(value.clone());
                    }
                    self.display.ended(value);
                }
            }
        }
        if matches!(change, Change::End { .. })
            && let Some(record) = self.record.take()
        {
            self.ended.send(record).expect("there is room for one job, and one job");
        }
    }

    fn stopping(&mut self, is_kill: bool) {
        self.display.hurry();
        if self.talks {
            let text = if is_kill {
                "killing the tasks"
            } else {
                "stopping the tasks; Ctrl-C kills them"
            };
            self.display.line(format!("prunner: {text}"));
        }
    }
}
