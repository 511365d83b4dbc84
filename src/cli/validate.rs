//! `prunner validate`: every complaint about the pipeline files, as a result.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::output::{self, Failure, Status};
use crate::cli::serve::search;
use crate::config::Config;
use crate::definition::{self, Complaint};
use crate::log::one_line;

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
        files: loaded.files.len(),
        pipelines: loaded.pipelines.len(),
    }
}

/// One line for each complaint, then one that sums up.
fn report(findings: &Findings) -> String {
    let mut text = String::new();
    for (kind, complaints) in [("error", &findings.errors), ("warning", &findings.warnings)] {
        for complaint in complaints {
            writeln!(text, "{kind}: {}", one_line(&complaint.to_string())).expect("writing to a String does not fail");
        }
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
