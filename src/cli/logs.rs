//! `prunner logs`: what the tasks of a job have printed, or print.

use std::slice;
use std::time::Duration;

use crate::cli::client::follow::Wanted;
use crate::cli::client::interrupt;
use crate::cli::client::{Client, refused};
use crate::cli::display::{Content, Manner};
use crate::cli::output::{Failure, Status};
use crate::cli::watch::{Watch, Watched};
use crate::definition::{did_you_mean, shown};
use crate::task::StreamKind;

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct LogsArguments {
    /// Id of the job
    pub id: String,
    /// This task alone, without its name before each line; else all tasks
    pub task: Option<String>,
    /// Go on until the job, or the task, has ended
    #[arg(long, short)]
    pub follow: bool,
    /// Standard error alone
    #[arg(long)]
    pub stderr: bool,
    /// Standard output alone
    #[arg(long)]
    pub stdout: bool,
    /// The last so many lines of each output alone, of long lines the last 4 MiB
    #[arg(long, value_name = "NUMBER")]
    pub tail: Option<usize>,
    /// Print one JSON object a line: tasks that start, print and end, then the job
    #[arg(long)]
    pub json: bool,
    /// Print the output of failed tasks alone
    #[arg(long, short)]
    pub quiet: bool,
}

pub(crate) fn run(client: &Client, arguments: &LogsArguments, disable_ansi: bool) -> Result<Status, Failure> {
    let id = &arguments.id;
    if let Some(task) = &arguments.task {
        let job = client.job(id, Duration::ZERO).map_err(|error| error.about_job(id))?;
        let known = job.tasks.iter().map(|task| &*task.name);
        // The task of `on_error` is listed once it runs.
        if !known.clone().any(|name| name == task) {
            let suggestion = did_you_mean(task, known.clone());
            let suggestion = if suggestion.is_empty() {
                format!("; it has {}", shown(&known.collect::<Vec<_>>().join(", ")))
            } else {
                suggestion
            };
            return Err(refused(format!(
                "job `{}` has no task `{}`{suggestion}",
                shown(id),
                shown(task)
            )));
        }
    }
    let streams = match (arguments.stdout, arguments.stderr) {
        (true, false) => vec![StreamKind::Stdout],
        (false, true) => vec![StreamKind::Stderr],
        (true, true) | (false, false) => vec![StreamKind::Stdout, StreamKind::Stderr],
    };
    let wanted = Wanted {
        to_the_end: arguments.follow,
        task: arguments.task.clone(),
        streams,
        tail: arguments.tail,
    };
    let content = match (&arguments.task, arguments.follow) {
        (Some(_), _) => Content::OneOutput,
        (None, true) => Content::Everything,
        (None, false) => Content::Outputs,
    };
    let interrupts = interrupt::listen().map_err(Failure::usage)?;
    let watch = Watch {
        client,
        id,
        wanted,
        manner: Manner {
            json: arguments.json,
            quiet: arguments.quiet,
            disable_ansi,
            content,
        },
        hint: String::new(),
        interrupts: &interrupts,
        deadline: None,
        reached: arguments.task.is_some(),
    };
    match watch.run()? {
        Watched::Over(_) | Watched::TimedOut => Ok(Status::DONE),
        Watched::Interrupted(status) => {
            let watched = if arguments.follow { slice::from_ref(id) } else { &[] };
            Ok(interrupt::carry_out(client, watched, false, status))
        }
    }
}
