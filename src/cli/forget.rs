//! `prunner forget`: removes jobs that have ended, with their logs: by their ids, or the old ones of pipelines.
//!
//! Surprise: which jobs are old is decided here, by the clock of this machine; a job that is gone by the time it is asked
//! for counts as forgotten.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::json;

use crate::cli::client::job::Job;
use crate::cli::client::{Client, parse};
use crate::cli::jobs::with_statuses;
use crate::cli::output::{self, Failure, Status};
use crate::cli::validate::count;
use crate::clock::wall_ms;
use crate::definition::duration;
use crate::timestamp::parse_rfc3339;

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct ForgetArguments {
    /// Ids of the jobs
    #[arg(value_name = "ID", required_unless_present = "forgotten_pipeline", conflicts_with_all = ["forgotten_pipeline", "older_than"])]
    pub ids: Vec<String>,
    /// All jobs of this pipeline that ended long enough ago, with `--older-than`; may be given again and again
    #[arg(
        id = "forgotten_pipeline",
        long = "pipeline",
        value_name = "NAME",
        requires = "older_than"
    )]
    pub pipeline: Vec<String>,
    /// How long ago they ended, such as `30d`; `0`: all that have ended
    #[arg(long, value_name = "DURATION", requires = "forgotten_pipeline")]
    pub older_than: Option<String>,
    /// Print the ids of the forgotten jobs, as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Deserialize)]
struct List {
    jobs: Vec<Job>,
}

pub(crate) fn run(client: &Client, arguments: &ForgetArguments) -> Result<Status, Failure> {
    let is_bulk = !arguments.pipeline.is_empty();
    let ids = match &arguments.older_than {
        Some(age) if is_bulk => old_jobs(client, &arguments.pipeline, age)?,
        Some(_) | None => arguments.ids.clone(),
    };
    let mut status = Status::DONE;
    let mut forgotten = Vec::new();
    let mut seen = HashSet::new();
    for id in ids.iter().filter(|id| seen.insert(*id)) {
        match client.forget(id) {
            Ok(()) => forgotten.push(id),
            // Its retention was over just now, or somebody else was faster.
            Err(error) if is_bulk && error.has_code("job_not_found") => {}
            Err(error) => {
                let found = error.about_job(id).report();
                status = status.or(found);
                if found == Status::UNREACHABLE {
                    break;
                }
            }
        }
    }
    if arguments.json {
        output::print(&format!("{}\n", json!({ "forgotten": forgotten })))?;
    } else if is_bulk {
        output::print(&format!("{} forgotten\n", count(forgotten.len(), "job")))?;
    }
    Ok(status)
}

/// The jobs of these pipelines that ended so long ago, oldest first.
fn old_jobs(client: &Client, pipelines: &[String], age: &str) -> Result<Vec<String>, Failure> {
    let age_ms = duration::parse(age).map_err(|what| Failure::usage(format!("`--older-than` is {what}")))?;
    let mut filters: Vec<(&str, &str)> = with_statuses(true);
    filters.extend(pipelines.iter().map(|name| ("pipeline", &**name)));
    let list: List = parse(&client.jobs(&filters)?)?;
    let latest_ms = wall_ms().saturating_sub(age_ms);
    let is_old = |job: &Job| {
        let end_ms = job.end.as_deref().and_then(parse_rfc3339);
        age_ms == 0 || end_ms.is_some_and(|end_ms| end_ms <= latest_ms)
    };
    let old = list.jobs.into_iter().rev().filter(is_old);
    Ok(old.map(|job| job.id).collect())
}
