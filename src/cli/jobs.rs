//! `prunner jobs`, `prunner job` and `prunner pipelines`: what a server has, as tables or as its own JSON.

use std::collections::HashMap;

use serde::Deserialize;

use crate::cli::client::job::Job;
use crate::cli::client::{Client, ClientError, parse};
use crate::cli::columns;
use crate::cli::output::{self, Failure, Status};
use crate::cli::table::{Table, duration};
use crate::clock::wall_ms;
use crate::job::JobStatus;
use crate::log::one_line;

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct JobsArguments {
    /// Jobs of this pipeline alone; may be given again and again
    #[arg(long, value_name = "NAME")]
    pub pipeline: Vec<String>,
    /// Jobs with this status alone; may be given again and again
    #[arg(long, value_name = "STATUS", value_parser = JobStatus::ALL.map(JobStatus::as_str))]
    pub status: Vec<String>,
    /// The newest so many alone
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Print the server's answer, as JSON
    #[arg(long)]
    pub json: bool,
}

/// The filters of jobs that have ended, or of those that have not.
pub(crate) fn with_statuses(have_ended: bool) -> Vec<(&'static str, &'static str)> {
    let statuses = JobStatus::ALL.into_iter();
    statuses
        .filter(|status| status.has_ended() == have_ended)
        .map(|status| ("status", status.as_str()))
        .collect()
}

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct JobArguments {
    /// Id of the job
    pub id: String,
    /// Print the server's answer, as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct PipelinesArguments {
    /// Print the server's answer, as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Deserialize)]
struct List {
    #[serde(default)]
    jobs: Vec<Job>,
    pipelines: Vec<Pipeline>,
}

#[derive(Debug, Deserialize)]
struct Pipeline {
    pipeline: String,
    schedulable: bool,
}

pub(crate) fn list(client: &Client, arguments: &JobsArguments) -> Result<Status, Failure> {
    let limit = arguments.limit.map(|limit| limit.to_string());
    let mut filters: Vec<(&str, &str)> = Vec::new();
    filters.extend(arguments.pipeline.iter().map(|name| ("pipeline", &**name)));
    filters.extend(arguments.status.iter().map(|status| ("status", &**status)));
    filters.extend(limit.iter().map(|limit| ("limit", &**limit)));
    let answer = client.jobs(&filters)?;
    let text = if arguments.json {
        answer + "\n"
    } else {
        jobs_table(&parse::<List>(&answer)?.jobs, wall_ms()).print(columns::of_standard_output())
    };
    output::print(&text)?;
    Ok(Status::DONE)
}

fn jobs_table(jobs: &[Job], now_ms: i64) -> Table {
    let mut table = Table::new(&["id", "pipeline", "status", "age", "duration", "user"], 1);
    for job in jobs {
        table.add(&[
            job.id.clone(),
            job.pipeline.clone(),
            job.status.clone(),
            job.age_ms(now_ms).map_or_else(String::new, duration),
            job.lasted_ms(now_ms).map_or_else(String::new, duration),
            job.user.clone(),
        ]);
    }
    table
}

pub(crate) fn pipelines(client: &Client, arguments: &PipelinesArguments) -> Result<Status, Failure> {
    let text = if arguments.json {
        client.pipelines()? + "\n"
    } else {
        let answer = client.jobs(&with_statuses(false))?;
        pipelines_table(&parse::<List>(&answer)?).print(columns::of_standard_output())
    };
    output::print(&text)?;
    Ok(Status::DONE)
}

fn pipelines_table(list: &List) -> Table {
    let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
    for job in &list.jobs {
        *counts.entry((&job.pipeline, &job.status)).or_default() += 1;
    }
    let mut table = Table::new(&["name", "running", "waiting", "schedulable"], 0);
    for pipeline in &list.pipelines {
        let count = |status| {
            counts
                .get(&(&*pipeline.pipeline, status))
                .copied()
                .unwrap_or(0)
                .to_string()
        };
        table.add(&[
            pipeline.pipeline.clone(),
            count("running"),
            count("waiting"),
            if pipeline.schedulable { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table
}

pub(crate) fn show(client: &Client, arguments: &JobArguments) -> Result<Status, Failure> {
    let job = client
        .job(&arguments.id, std::time::Duration::ZERO)
        .map_err(|error: ClientError| error.about_job(&arguments.id))?;
    let text = if arguments.json {
        job.json + "\n"
    } else {
        describe(&job, wall_ms(), columns::of_standard_output())
    };
    output::print(&text)?;
    Ok(Status::DONE)
}

/// What there is to know of a job, and its tasks as a table, for a terminal of so many columns where there is one.
fn describe(job: &Job, now_ms: i64, columns: Option<usize>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("{name:11}{}\n", one_line(value)));
        }
    };
    line("job", &job.id);
    line("pipeline", &job.pipeline);
    line("status", &job.status);
    line("reason", &job.reason);
    if job.reason != job.last_error {
        line("error", &job.last_error);
    }
    line("user", &job.user);
    line("partition", &job.queue_partition);
    for (name, time) in [
        ("created", &job.created),
        ("not before", &job.start_after),
        ("start", &job.start),
        ("end", &job.end),
    ] {
        line(name, time.as_deref().unwrap_or_default());
    }
    line("duration", &job.lasted_ms(now_ms).map_or_else(String::new, duration));
    for (index, (name, value)) in job.variables.iter().enumerate() {
        line(if index == 0 { "variables" } else { "" }, &format!("{name}={value}"));
    }
    if job.tasks.is_empty() {
        return text;
    }
    let mut table = Table::new(&["task", "status", "exit", "duration", "note"], 0);
    for task in &job.tasks {
        let remarks: Vec<&str> = [&*task.error, &*task.note]
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect();
        table.add(&[
            task.name.clone(),
            task.status.clone(),
            if task.has_started() && task.has_ended() {
                task.exit_code.to_string()
            } else {
                String::new()
            },
            task.lasted_ms(now_ms).map_or_else(String::new, duration),
            remarks.join("; "),
        ]);
    }
    text + "\n" + &table.print(columns)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::timestamp::parse_rfc3339;

    fn now_ms() -> i64 {
        parse_rfc3339("2026-11-24T03:30:00Z").unwrap()
    }

    fn job() -> Job {
        let job = json!({"id": "0193", "pipeline": "deploy", "user": "anna", "variables": {"release": "42", "dry": true},
            "created": "2026-11-24T03:27:47Z", "start": "2026-11-24T03:27:48Z", "end": null, "status": "running",
            "completed": false, "lastError": "exit status 7", "queuePartition": "eu", "tasks": [
            {"name": "build", "status": "error", "start": "2026-11-24T03:27:48Z", "end": "2026-11-24T03:27:49Z",
                "durationMs": 1250, "exitCode": 7, "error": "exit status 7", "note": "odd"},
            {"name": "watch", "status": "running", "start": "2026-11-24T03:27:48Z", "end": null, "exitCode": 0},
            {"name": "upload", "status": "waiting", "start": null, "end": null, "exitCode": 0}]});
        Job::parse(job.to_string()).unwrap()
    }

    #[test]
    fn jobs_are_a_table() {
        let expected = "\
ID    PIPELINE  STATUS   AGE    DURATION  USER
0193  deploy    running  2m13s  2m12s     anna
";
        assert_eq!(jobs_table(&[job()], now_ms()).print(None), expected);
        assert_eq!(
            jobs_table(&[], now_ms()).print(None),
            "ID  PIPELINE  STATUS  AGE  DURATION  USER\n"
        );
    }

    #[test]
    fn pipelines_are_a_table() {
        let list = json!({"pipelines": [
            {"pipeline": "deploy", "schedulable": true, "running": true},
            {"pipeline": "test", "schedulable": false, "running": false}],
            "jobs": [
                {"id": "1", "pipeline": "deploy", "status": "running"},
                {"id": "2", "pipeline": "deploy", "status": "waiting"},
                {"id": "3", "pipeline": "deploy", "status": "waiting"},
                {"id": "4", "pipeline": "gone", "status": "waiting"}]});
        let expected = "\
NAME    RUNNING  WAITING  SCHEDULABLE
deploy  1        2        yes
test    0        0        no
";
        assert_eq!(
            pipelines_table(&parse(&list.to_string()).unwrap()).print(None),
            expected
        );
    }

    #[test]
    fn a_job_is_described_with_its_tasks() {
        let expected = "\
job        0193
pipeline   deploy
status     running
error      exit status 7
user       anna
partition  eu
created    2026-11-24T03:27:47Z
start      2026-11-24T03:27:48Z
duration   2m12s
variables  release=\"42\"
           dry=true

TASK    STATUS   EXIT  DURATION  NOTE
build   error    7     1.3s      exit status 7; odd
watch   running        2m12s
upload  waiting
";
        assert_eq!(describe(&job(), now_ms(), None), expected);
    }
}
