//! `prunner schedule`: asks a server for a job, and watches it where that is wanted.
//!
//! Surprise: with `--follow` the id goes to standard error, for standard output holds what the tasks print there.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use serde_json::json;

use crate::cli::arguments::duration_ms;
use crate::cli::client::follow::Wanted;
use crate::cli::client::interrupt::{self, Outcome};
use crate::cli::client::job::Job;
use crate::cli::client::patience::{Patience, wait_for_end};
use crate::cli::client::{Accepted, Client, ClientError};
use crate::cli::display::{Content, Manner};
use crate::cli::output::{self, Failure, Status};
use crate::cli::variables::{Given, VariableArguments};
use crate::cli::wait::print_on;
use crate::cli::watch::{Watch, Watched};
use crate::definition::shown;
use crate::job::IdempotencyKey;
use crate::task::StreamKind;

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct ScheduleArguments {
    /// Name of the pipeline
    pub pipeline: String,
    #[command(flatten)]
    pub variables: VariableArguments,
    /// The partition of the wait list that the job belongs to
    #[arg(long, value_name = "NAME")]
    pub partition: Option<String>,
    /// A name for this request: the same again, after a failure say, makes no second job
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Wait for the job, and end with its result
    #[arg(long)]
    pub wait: bool,
    /// Show the output of the job while it runs, and end with its result
    #[arg(long, short)]
    pub follow: bool,
    /// How long to wait, such as `10m`; then the exit status is 124, and the job goes on
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
    /// Cancel the job at Ctrl-C, which else goes on
    #[arg(long)]
    pub cancel_on_interrupt: bool,
    /// Print JSON: the id, with `--wait` the job at its end, with `--follow` one object a line for all that happens
    #[arg(long)]
    pub json: bool,
    /// With `--follow` the output of failed tasks alone, with `--wait` nothing but the id
    #[arg(long, short)]
    pub quiet: bool,
}

/// What is asked for.
struct Request {
    pipeline: String,
    given: Given,
    partition: String,
    key: Option<String>,
}

impl Request {
    fn send(self, client: &Client) -> Result<Accepted, ClientError> {
        let variables = self.given.read_for(client, &self.pipeline)?;
        client.schedule(&self.pipeline, &variables, &self.partition, self.key.as_deref())
    }
}

pub(crate) fn run(client: &Client, arguments: &ScheduleArguments, disable_ansi: bool) -> Result<Status, Failure> {
    let is_watched = arguments.wait || arguments.follow;
    for (is_given, flag) in [
        (arguments.timeout.is_some(), "--timeout"),
        (arguments.cancel_on_interrupt, "--cancel-on-interrupt"),
    ] {
        if is_given && !is_watched {
            return Err(Failure::usage(format!(
                "`{flag}` means something with `--wait` or `--follow` alone; add one of them"
            )));
        }
    }
    if let Some(key) = &arguments.key
        && !IdempotencyKey::accepts(key)
    {
        return Err(Failure::usage(format!(
            "`--key` is `{}`, expected {}",
            shown(key),
            IdempotencyKey::EXPECTED
        )));
    }
    let timeout_ms = arguments
        .timeout
        .as_ref()
        .map(|text| duration_ms("--timeout", text))
        .transpose()?;
    let request = Request {
        pipeline: arguments.pipeline.clone(),
        given: arguments.variables.read().map_err(Failure::usage)?,
        partition: arguments.partition.clone().unwrap_or_default(),
        key: arguments.key.clone(),
    };
    if !is_watched {
        let accepted = request
            .send(client)
            .map_err(|error| error.about_pipeline(client, &arguments.pipeline, "schedule"))?;
        tell_joined(&accepted, arguments);
        output::print(&id_line(&accepted, arguments.json))?;
        return Ok(Status::DONE);
    }

    let interrupts = interrupt::listen().map_err(Failure::usage)?;
    let scheduled = {
        let client = client.clone();
        interrupt::in_background(move || request.send(&client)).map_err(Failure::usage)?
    };
    let (answer, interrupted) = match interrupt::receive(&scheduled, &interrupts, None) {
        Outcome::Done(answer) => (answer, None),
        Outcome::TimedOut => unreachable!("there is no deadline"),
        Outcome::Interrupted(status) if arguments.cancel_on_interrupt => {
            // What is asked for can't be taken back, but canceled as soon as its id is known. A second Ctrl-C ends that.
            output::tell("waiting for the server's answer, to cancel the job; Ctrl-C ends that");
            let answer = scheduled.recv().expect("who works has a message at its end");
            (answer, Some(status))
        }
        Outcome::Interrupted(status) => {
            output::tell("stopped before the server answered; `prunner jobs` shows whether it has accepted the job");
            return Ok(Status(status));
        }
    };
    let accepted = answer.map_err(|error| error.about_pipeline(client, &arguments.pipeline, "schedule"))?;
    let deadline = timeout_ms.map(|timeout_ms| Instant::now() + Duration::from_millis(timeout_ms.unsigned_abs()));
    print_id(&accepted, arguments)?;
    let id = accepted.job_id;
    let end = match interrupted {
        Some(status) => Watched::Interrupted(status),
        None if arguments.follow => following(client, &id, arguments, &interrupts, deadline, disable_ansi).run()?,
        None => wait(client, &id, &interrupts, deadline)?,
    };
    match end {
        Watched::Over(job) => {
            if !arguments.follow {
                print_end(&job, arguments)?;
            }
            Ok(job.exit_status())
        }
        Watched::TimedOut => Err(interrupt::timed_out(
            &id,
            arguments.timeout.as_deref().unwrap_or_default(),
        )),
        Watched::Interrupted(status) => Ok(interrupt::carry_out(
            client,
            &[id],
            arguments.cancel_on_interrupt,
            status,
        )),
    }
}

fn id_line(accepted: &Accepted, as_json: bool) -> String {
    let id = &accepted.job_id;
    if !as_json {
        return format!("{id}\n");
    }
    let mut object = json!({"jobId": id});
    if accepted.joined {
        object["joined"] = json!(true);
    }
    format!("{object}\n")
}

fn print_id(accepted: &Accepted, arguments: &ScheduleArguments) -> Result<(), Failure> {
    tell_joined(accepted, arguments);
    if arguments.json || !arguments.follow {
        print_on(&id_line(accepted, arguments.json))?;
    } else if !arguments.quiet && !accepted.joined {
        output::tell(&format!(
            "job {} of pipeline `{}` was accepted",
            accepted.job_id, arguments.pipeline
        ));
    }
    Ok(())
}

/// Whoever counts on a job of its own is told that there is none; the JSON says it itself.
fn tell_joined(accepted: &Accepted, arguments: &ScheduleArguments) {
    if accepted.joined && !arguments.json && !arguments.quiet {
        output::tell(&format!("joined job {}, which is equal", accepted.job_id));
    }
}

fn print_end(job: &Job, arguments: &ScheduleArguments) -> Result<(), Failure> {
    if arguments.json {
        print_on(&format!("{}\n", job.event()))?;
    } else if !arguments.quiet {
        output::tell(&job.summary());
    }
    Ok(())
}

fn wait(client: &Client, id: &str, interrupts: &Receiver<u8>, deadline: Option<Instant>) -> Result<Watched, Failure> {
    let ended = {
        let (client, id) = (client.clone(), id.to_owned());
        interrupt::in_background(move || wait_for_end(&client, &id, &mut Patience::new(true)))
            .map_err(Failure::usage)?
    };
    Ok(match interrupt::receive(&ended, interrupts, deadline) {
        Outcome::Done(job) => Watched::Over(Box::new(job.map_err(|error| error.about_job(id))?)),
        Outcome::TimedOut => Watched::TimedOut,
        Outcome::Interrupted(status) => Watched::Interrupted(status),
    })
}

/// How a job is followed that was just accepted.
fn following<'a>(
    client: &'a Client,
    id: &'a str,
    arguments: &ScheduleArguments,
    interrupts: &'a Receiver<u8>,
    deadline: Option<Instant>,
    disable_ansi: bool,
) -> Watch<'a> {
    Watch {
        client,
        id,
        wanted: Wanted {
            to_the_end: true,
            task: None,
            streams: StreamKind::BOTH.to_vec(),
            tail: None,
        },
        manner: Manner {
            json: arguments.json,
            quiet: arguments.quiet,
            disable_ansi,
            content: Content::Everything,
        },
        hint: format!("`prunner logs {id}` shows all that it printed"),
        interrupts,
        deadline,
        reached: true,
    }
}
