//! `prunner schedules`: when the pipelines of a server run by themselves; adds and removes such times.
//!
//! Surprise: the next times are calculated here, from the first one that is known, so that `validate` shows the same ones
//! as a server does. By cron in a time zone that is not known here there is that first one alone.

use std::env;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::calendar::{When, Zone};
use crate::cli::client::{Client, ClientError, parse, refused};
use crate::cli::columns;
use crate::cli::output::{self, Failure, Status};
use crate::cli::table::Table;
use crate::cli::variables::VariableArguments;
use crate::definition::shown;
use crate::log;
use crate::schedule::Added;
use crate::timestamp::parse_rfc3339;

/// Due times that are shown of each schedule.
const SHOWN: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(crate) struct SchedulesArguments {
    #[command(subcommand)]
    pub command: Option<SchedulesCommand>,
    /// Print the server's answer, as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub(crate) enum SchedulesCommand {
    /// Let a pipeline run at certain times; prints the id of the schedule
    Add(Box<AddArguments>),
    /// Remove schedules that were added
    Remove(RemoveArguments),
}

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(group = clap::ArgGroup::new("when").required(true).args(["cron", "every", "at"]))]
pub(crate) struct AddArguments {
    /// Name of the pipeline
    pub pipeline: String,
    /// By the wall clock: five fields such as `30 3 * * 1-5`, or `@daily` and its like
    #[arg(long, value_name = "EXPRESSION", allow_hyphen_values = true)]
    pub cron: Option<String>,
    /// Again and again, such as `15m`
    #[arg(long, value_name = "DURATION")]
    pub every: Option<String>,
    /// Once, such as `2026-11-24T03:30:00Z`
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// The time zone of `--cron`, such as `Europe/Berlin`; without, the server's
    #[arg(long, value_name = "NAME")]
    pub timezone: Option<String>,
    /// What is missed while the server is down: `none` of it is made up for, or `one` job
    #[arg(long, value_name = "WHAT", value_parser = ["none", "one"])]
    pub catch_up: Option<String>,
    /// The partition of the wait list that the jobs belong to
    #[arg(long, value_name = "NAME")]
    pub partition: Option<String>,
    #[command(flatten)]
    pub variables: VariableArguments,
    /// Print the server's answer, as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct RemoveArguments {
    /// Ids of the schedules
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct List {
    schedules: Vec<Listed>,
}

/// As the server has it.
#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
    source: String,
    next: Option<String>,
    last: Option<String>,
    #[serde(flatten)]
    added: Added,
}

pub(crate) fn run(client: &Client, arguments: &SchedulesArguments) -> Result<Status, Failure> {
    match &arguments.command {
        None => list(client, arguments.json),
        Some(SchedulesCommand::Add(arguments)) => add(client, arguments),
        Some(SchedulesCommand::Remove(arguments)) => Ok(remove(client, arguments)),
    }
}

fn list(client: &Client, as_json: bool) -> Result<Status, Failure> {
    let answer = client.schedules()?;
    let text = if as_json {
        answer + "\n"
    } else {
        table(&parse::<List>(&answer)?.schedules, &machine_zone()).print(columns::of_standard_output())
    };
    output::print(&text)?;
    Ok(Status::DONE)
}

fn table(schedules: &[Listed], machine_zone: &Zone) -> Table {
    let mut table = Table::new(&["id", "pipeline", "when", "source", "last", "next"], 1);
    for listed in schedules {
        let added = &listed.added;
        let own_zone = added.timezone.as_deref().and_then(Zone::named);
        let zone = own_zone.as_ref().unwrap_or(machine_zone);
        let time = |text: &Option<String>| text.as_deref().and_then(parse_rfc3339);
        // A server that is newer may know what is not known here.
        let schedule = Added {
            timezone: None,
            ..added.clone()
        }
        .read();
        let (when, next) = match &schedule {
            Ok(schedule) => {
                let (key, text) = schedule.when.key_and_text();
                let first_ms = time(&listed.next);
                // Some zones of machines have no name that means the same elsewhere.
                let next_ms = if matches!(schedule.when, When::Cron(_)) && own_zone.is_none() {
                    first_ms.into_iter().collect()
                } else {
                    next_due(&schedule.when, zone, first_ms)
                };
                (format!("{key} {text}"), show_times(zone, &next_ms))
            }
            Err(_) => (String::new(), listed.next.clone().unwrap_or_default()),
        };
        table.add(&[
            listed.id.clone(),
            added.pipeline.clone(),
            when,
            listed.source.clone(),
            time(&listed.last).map_or_else(String::new, |last_ms| zone.show(last_ms)),
            next,
        ]);
    }
    table
}

fn add(client: &Client, arguments: &AddArguments) -> Result<Status, Failure> {
    let given = arguments.variables.read().map_err(Failure::usage)?;
    let name = &*arguments.pipeline;
    let failure = |error: ClientError| error.about_pipeline(client, name, "add a schedule of");
    let variables = given.read_for(client, name).map_err(failure)?;
    let mut body = json!({"pipeline": name, "variables": variables});
    for (key, value) in [
        ("cron", &arguments.cron),
        ("every", &arguments.every),
        ("at", &arguments.at),
        ("timezone", &arguments.timezone),
        ("catch_up", &arguments.catch_up),
        ("queuePartition", &arguments.partition),
    ] {
        if let Some(value) = value {
            body[key] = json!(value);
        }
    }
    let answer = client.add_schedule(&body).map_err(failure)?;
    let text = if arguments.json {
        answer
    } else {
        let answer: Value = parse(&answer)?;
        answer["scheduleId"].as_str().unwrap_or_default().to_owned()
    };
    output::print(&(text + "\n"))?;
    Ok(Status::DONE)
}

/// Each of them; the first failure counts.
fn remove(client: &Client, arguments: &RemoveArguments) -> Status {
    let mut status = Status::DONE;
    for id in &arguments.ids {
        let Err(error) = client.remove_schedule(id) else {
            continue;
        };
        let failure = match &error {
            ClientError::Answered { code, .. } if code == "invalid_schedule_id" => refused(format!(
                "`{}` is no id of a schedule; `prunner schedules` lists them",
                shown(id)
            )),
            ClientError::Answered { code, text, .. } if code.contains("schedule") => {
                refused(format!("failed to remove schedule `{}`: {text}", shown(id)))
            }
            ClientError::Answered { .. } | ClientError::Unreachable(_) => error.into(),
        };
        status = status.or(failure.report());
    }
    status
}

/// The time zone of schedules that name none. Where it can't be told, the log says so.
pub(crate) fn machine_zone() -> Zone {
    let tz = env::var_os("TZ").map(|tz| tz.to_string_lossy().into_owned());
    Zone::of_machine(tz.as_deref()).unwrap_or_else(|reason| {
        log::warning("schedules without a time zone follow UTC", &[("reason", &reason)]);
        Zone::utc()
    })
}

/// The due times that are shown, beginning with one that is known.
pub(super) fn next_due(when: &When, zone: &Zone, first_ms: Option<i64>) -> Vec<i64> {
    first_ms.map_or_else(Vec::new, |first_ms| when.due_from(zone, first_ms, SHOWN))
}

/// `2026-11-25 03:30 CET, …`
pub(super) fn show_times(zone: &Zone, due_ms: &[i64]) -> String {
    let shown: Vec<String> = due_ms.iter().map(|due_ms| zone.show(*due_ms)).collect();
    if shown.is_empty() {
        "never".to_owned()
    } else {
        shown.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_a_table_with_their_next_three_times() {
        let list: List = parse(
            r#"{"schedules": [
            {"id": "1", "pipeline": "p", "cron": "30 3 * * *", "timezone": "Europe/Berlin", "variables": {}, "queuePartition": "",
                "catch_up": "none", "next": "2026-10-24T01:30:00Z", "last": "2026-10-23T01:30:00Z", "source": "file"},
            {"id": "2", "pipeline": "p", "every": "90s", "timezone": null, "variables": {"a": 1}, "queuePartition": "x",
                "catch_up": "one", "next": "2026-10-24T01:30:05Z", "last": null, "source": "api"},
            {"id": "3", "pipeline": "q", "at": "2026-10-24T01:30:00Z", "timezone": "local", "variables": {},
                "next": "2026-10-24T01:30:00Z", "last": null, "source": "api"},
            {"id": "4", "pipeline": "q", "on": "boot", "next": null, "last": null, "source": "api"},
            {"id": "5", "pipeline": "q", "cron": "30 3 * * *", "timezone": "local", "next": "2026-10-24T01:30:00Z", "source": "file"},
            {"id": "6", "pipeline": "q", "cron": "30 3 * * *", "timezone": "CET-1CEST,M3.5.0,M10.5.0/3",
                "next": "2026-10-24T01:30:00Z", "source": "file"}]}"#,
        )
        .unwrap();
        let expected = "\
ID  PIPELINE  WHEN                     SOURCE  LAST                   NEXT
1   p         cron 30 3 * * *          file    2026-10-23 03:30 CEST  2026-10-24 03:30 CEST, 2026-10-25 03:30 CET, 2026-10-26 03:30 CET
2   p         every 90s                api                            2026-10-24 01:30:05 UTC, 2026-10-24 01:31:35 UTC, 2026-10-24 01:33:05 UTC
3   q         at 2026-10-24T01:30:00Z  api                            2026-10-24 01:30 UTC
4   q                                  api
5   q         cron 30 3 * * *          file                           2026-10-24 01:30 UTC
6   q         cron 30 3 * * *          file                           2026-10-24 01:30 UTC
";
        assert_eq!(table(&list.schedules, &Zone::utc()).print(None), expected);
    }
}
