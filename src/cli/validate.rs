//! `prunner validate`: every complaint about the pipeline files, as a result.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::calendar::{When, Zone};
use crate::cli::output::{self, Failure, Status};
use crate::cli::schedules::{machine_zone, next_due, show_times};
use crate::cli::serve::search;
use crate::clock::wall_ms;
use crate::config::Config;
use crate::definition::{self, Complaint, Pipelines, shown};
use crate::log::one_line;
use crate::timestamp::rfc3339;

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct ValidateArguments {
    /// Files to check; without any, those that the server would load
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Let warnings pass
    #[arg(long)]
    pub lenient: bool,
    /// Print one JSON object with all that was found
    #[arg(long)]
    pub json: bool,
}

/// What was found in the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Findings {
    errors: Vec<Complaint>,
    warnings: Vec<Complaint>,
    /// When pipelines are due by themselves.
    schedules: Vec<Upcoming>,
    files: usize,
    pipelines: usize,
}

impl Findings {
    fn status(&self, lenient: bool) -> Status {
        let sound = self.errors.is_empty() && (lenient || self.warnings.is_empty());
        if sound { Status::DONE } else { Status::FAILED }
    }

    fn json(&self) -> String {
        let list = |complaints: &[Complaint]| -> Vec<Value> { complaints.iter().map(complaint_value).collect() };
        let findings = json!({
            "files": self.files,
            "pipelines": self.pipelines,
            "errors": list(&self.errors),
            "warnings": list(&self.warnings),
            "schedules": self.schedules.iter().map(Upcoming::value).collect::<Vec<_>>(),
        });
        format!("{findings}\n")
    }
}

/// Where it is, as far as that is known, and all of it as text.
fn complaint_value(complaint: &Complaint) -> Value {
    json!({
        "file": complaint.file.display().to_string(),
        "pipeline": complaint.pipeline,
        "task": complaint.task,
        "text": complaint.to_string(),
    })
}

pub(crate) fn run(config: &Config, arguments: &ValidateArguments) -> Result<Status, Failure> {
    for file in &arguments.files {
        if !file.exists() {
            return Err(Failure::usage(format!("`{}` does not exist", file.display())));
        }
    }
    let findings = find(config, &arguments.files);
    if findings.files == 0 {
        return Err(Failure::usage(format!(
            "no file below `{}` matches `{}`",
            config.path.display(),
            config.pattern
        )));
    }
    let status = findings.status(arguments.lenient);
    let text = if arguments.json {
        findings.json()
    } else {
        report(&findings)
    };
    match output::print(&text) {
        // Whoever reads only the first lines still wants to know how it ended.
        Ok(()) | Err(Failure { message: None, .. }) => Ok(status),
        Err(failure) => Err(failure),
    }
}

fn find(config: &Config, files: &[PathBuf]) -> Findings {
    let loaded = if files.is_empty() {
        definition::load(&search(config))
    } else {
        definition::load_files(files)
    };
    Findings {
        errors: loaded.errors,
        warnings: loaded.warnings,
        schedules: schedules(&loaded.pipelines),
        files: loaded.files.len(),
        pipelines: loaded.pipelines.len(),
    }
}

/// One schedule, with its next times as if it were loaded now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Upcoming {
    pipeline: String,
    key: &'static str,
    text: String,
    /// That of a cron expression.
    zone: Option<String>,
    next_ms: Vec<i64>,
    /// For people.
    next: String,
}

impl Upcoming {
    fn line(&self) -> String {
        let of_zone = self.zone.as_ref().map(|zone| format!(" ({zone})")).unwrap_or_default();
        format!(
            "pipeline `{}` is due by `{}: {}`{of_zone} at {}",
            shown(&self.pipeline),
            self.key,
            self.text,
            self.next
        )
    }

    fn value(&self) -> Value {
        let next: Vec<String> = self.next_ms.iter().map(|due_ms| rfc3339(*due_ms)).collect();
        json!({"pipeline": self.pipeline, self.key: self.text, "timezone": self.zone, "next": next})
    }
}

fn schedules(pipelines: &Pipelines) -> Vec<Upcoming> {
    if pipelines.values().all(|pipeline| pipeline.schedules.is_empty()) {
        return Vec::new();
    }
    schedules_after(pipelines, &machine_zone(), wall_ms())
}

fn schedules_after(pipelines: &Pipelines, machine_zone: &Zone, now_ms: i64) -> Vec<Upcoming> {
    let mut found = Vec::new();
    for pipeline in pipelines.values() {
        for schedule in &pipeline.schedules {
            let zone = schedule.zone.as_ref().unwrap_or(machine_zone);
            let (key, text) = schedule.when.key_and_text();
            let (first_ms, of_cron) = match &schedule.when {
                When::Cron(cron) => (cron.due_after(zone, now_ms), true),
                When::Every { ms, .. } => (now_ms.checked_add(*ms), false),
                When::At { wall_ms } => (Some(*wall_ms), false),
            };
            let next_ms = next_due(&schedule.when, zone, first_ms);
            found.push(Upcoming {
                pipeline: pipeline.name.to_string(),
                key,
                text,
                zone: of_cron.then(|| zone.name().to_string()),
                next: show_times(zone, &next_ms),
                next_ms,
            });
        }
    }
    found
}

/// One line for each complaint and each schedule, then one that sums up.
fn report(findings: &Findings) -> String {
    let mut text = String::new();
    for (kind, complaints) in [("error", &findings.errors), ("warning", &findings.warnings)] {
        for complaint in complaints {
            writeln!(text, "{kind}: {}", one_line(&complaint.to_string())).expect("writing to a String does not fail");
        }
    }
    for schedule in &findings.schedules {
        writeln!(text, "{}", one_line(&schedule.line())).expect("writing to a String does not fail");
    }
    writeln!(
        text,
        "{} in {}: {}, {}",
        count(findings.pipelines, "pipeline"),
        count(findings.files, "file"),
        count(findings.errors.len(), "error"),
        count(findings.warnings.len(), "warning"),
    )
    .expect("writing to a String does not fail");
    text
}

pub(super) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[track_caller]
    fn check(errors: &[&str], warnings: &[&str], lenient: bool, text: &str, status: Status) {
        let about = |messages: &[&str]| -> Vec<Complaint> {
            let file = Path::new("p.yml");
            messages
                .iter()
                .map(|message| Complaint::about(file, *message))
                .collect()
        };
        let findings = Findings {
            errors: about(errors),
            warnings: about(warnings),
            schedules: Vec::new(),
            files: 1,
            pipelines: 2,
        };
        assert_eq!((&*report(&findings), findings.status(lenient)), (text, status));
    }

    #[test]
    fn warnings_count_unless_they_may_pass() {
        check(
            &[],
            &[],
            false,
            "2 pipelines in 1 file: 0 errors, 0 warnings\n",
            Status::DONE,
        );
        let text = "warning: p.yml: a\n2 pipelines in 1 file: 0 errors, 1 warning\n";
        check(&[], &["a"], false, text, Status::FAILED);
        check(&[], &["a"], true, text, Status::DONE);
        let text = "error: p.yml: b\\nc\nwarning: p.yml: a\n2 pipelines in 1 file: 1 error, 1 warning\n";
        check(&["b\nc"], &["a"], true, text, Status::FAILED);
    }

    #[test]
    fn schedules_are_shown_with_their_next_three_times() {
        let space = crate::definition::testing::Space::new();
        space.write(
            "p.yml",
            "pipelines: {p: {schedules: [{cron: 30 3 * * 1-5, timezone: Europe/Berlin}, {cron: '@yearly'}, {every: 12h}]}, q: {}}",
        );
        let loaded = definition::load_files(&[space.path("p.yml")]);
        let now_ms = crate::timestamp::parse_rfc3339("2026-10-23T12:00:00Z").unwrap();
        let zone = Zone::named("Asia/Kathmandu").unwrap();
        let expected = [
            "pipeline `p` is due by `cron: 30 3 * * 1-5` (Europe/Berlin) at 2026-10-26 03:30 CET, 2026-10-27 03:30 CET, \
             2026-10-28 03:30 CET",
            "pipeline `p` is due by `cron: @yearly` (Asia/Kathmandu) at 2027-01-01 00:00 +0545, 2028-01-01 00:00 +0545, \
             2029-01-01 00:00 +0545",
            "pipeline `p` is due by `every: 12h` at 2026-10-24 05:45 +0545, 2026-10-24 17:45 +0545, 2026-10-25 05:45 +0545",
        ];
        let found = schedules_after(&loaded.pipelines, &zone, now_ms);
        assert_eq!(found.iter().map(Upcoming::line).collect::<Vec<_>>(), expected);
        let value = json!({"pipeline": "p", "cron": "30 3 * * 1-5", "timezone": "Europe/Berlin",
            "next": ["2026-10-26T02:30:00Z", "2026-10-27T02:30:00Z", "2026-10-28T02:30:00Z"]});
        assert_eq!(found[0].value(), value);
        let findings = Findings {
            schedules: found[..1].to_vec(),
            ..Findings::default()
        };
        let text = format!("{}\n0 pipelines in 0 files: 0 errors, 0 warnings\n", expected[0]);
        assert_eq!(report(&findings), text);
    }

    #[test]
    fn each_key_of_the_json_is_documented() {
        let document = include_str!("../../docs/command-line.md");
        let row = document
            .lines()
            .find(|line| line.starts_with("| `validate` | "))
            .unwrap();
        let findings = Findings {
            errors: vec![Complaint::about(Path::new("p.yml"), "a")],
            schedules: ["cron", "every"]
                .map(|key| Upcoming {
                    key,
                    ..Upcoming::default()
                })
                .to_vec(),
            ..Findings::default()
        };
        let value: Value = serde_json::from_str(&findings.json()).unwrap();
        let lists = value.as_object().unwrap().values().filter_map(Value::as_array);
        let objects = lists.flatten().chain([&value]);
        let keys: Vec<&String> = objects.flat_map(|object| object.as_object().unwrap().keys()).collect();
        assert!(keys.len() >= 5 + 4 + 2 * 4, "{keys:?}");
        for key in keys {
            assert!(row.contains(&format!("\"{key}\"")), "{key}");
        }
    }

    #[test]
    fn a_file_that_is_missing_is_wrong_usage() {
        let config = Config::new(&crate::config::Flags::default(), &|_| None).unwrap();
        let arguments = ValidateArguments {
            files: vec!["/nonexistent/a.yml".into()],
            lenient: false,
            json: false,
        };
        assert_eq!(
            run(&config, &arguments),
            Err(Failure::usage("`/nonexistent/a.yml` does not exist"))
        );
    }
}
