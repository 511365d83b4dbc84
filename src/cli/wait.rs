//! `prunner wait` and `prunner cancel`: jobs by their ids.
//!
//! Surprise: an id that goes wrong doesn't keep the others from being waited for or canceled; the first of the exit
//! statuses that is not 0 counts, in the order of the ids.

use std::time::{Duration, Instant};

use crate::cli::arguments::duration_ms;
use crate::cli::client::Client;
use crate::cli::client::interrupt::{self, Outcome};
use crate::cli::client::patience::{Patience, wait_for_end};
use crate::cli::output::{self, Failure, Status};

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct WaitArguments {
    /// Ids of the jobs
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// How long to wait for all of them, such as `10m`; then the exit status is 124, and the jobs go on
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
    /// Print each job as it ends, one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Don't say how the jobs ended
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct CancelArguments {
    /// Ids of the jobs
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
}

pub(crate) fn wait(client: &Client, arguments: &WaitArguments) -> Result<Status, Failure> {
    let timeout_ms = arguments
        .timeout
        .as_ref()
        .map(|text| duration_ms("--timeout", text))
        .transpose()?;
    let deadline = timeout_ms.map(|timeout_ms| Instant::now() + Duration::from_millis(timeout_ms.unsigned_abs()));
    let interrupts = interrupt::listen().map_err(Failure::usage)?;
    let mut status = Status::DONE;
    for (index, id) in arguments.ids.iter().enumerate() {
        let ended = {
            let (client, id) = (client.clone(), id.clone());
            interrupt::in_background(move || wait_for_end(&client, &id, &mut Patience::new(index > 0)))
                .map_err(Failure::usage)?
        };
        let found = match interrupt::receive(&ended, &interrupts, deadline) {
            Outcome::Interrupted(interrupted) => {
                return Ok(interrupt::carry_out(
                    client,
                    &arguments.ids[index..],
                    false,
                    interrupted,
                ));
            }
            Outcome::TimedOut => {
                let timeout = arguments.timeout.as_deref().unwrap_or_default();
                interrupt::timed_out(id, timeout).report()
            }
            Outcome::Done(Err(error)) => error.about_job(id).report(),
            Outcome::Done(Ok(job)) => {
                if arguments.json {
                    print_on(&format!("{}\n", job.json))?;
                } else if !arguments.quiet {
                    output::tell(&job.summary());
                }
                job.exit_status()
            }
        };
        status = status.or(found);
    }
    Ok(status)
}

pub(crate) fn cancel(client: &Client, arguments: &CancelArguments) -> Status {
    let mut status = Status::DONE;
    for id in &arguments.ids {
        let found = match client.cancel(id) {
            Ok(()) => Status::DONE,
            Err(error) => error.about_job(id).report(),
        };
        status = status.or(found);
    }
    status
}

/// Prints; who doesn't listen any more still wants to know the exit status.
pub(crate) fn print_on(text: &str) -> Result<(), Failure> {
    match output::print(text) {
        Ok(()) | Err(Failure { message: None, .. }) => Ok(()),
        Err(failure) => Err(failure),
    }
}
