//! `prunner validate`: every complaint about the pipeline files, as a result.

use std::fmt::Write;
use std::path::PathBuf;

use crate::cli::output::{self, Failure, Status};
use crate::cli::serve::search;
use crate::config::Config;
use crate::definition;
use crate::log::one_line;

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct ValidateArguments {
    /// Files to check; without any, those that the server would load
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Let warnings pass
    #[arg(long)]
    pub lenient: bool,
}

/// What was found in the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
    files: usize,
    pipelines: usize,
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
    let (text, status) = report(&findings, arguments.lenient);
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
        errors: loaded.errors.iter().map(ToString::to_string).collect(),
        warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
        files: loaded.files.len(),
        pipelines: loaded.pipelines.len(),
    }
}

/// One line for each complaint, then one that sums up; and the status that follows from them.
fn report(findings: &Findings, lenient: bool) -> (String, Status) {
    let mut text = String::new();
    for (kind, complaints) in [("error", &findings.errors), ("warning", &findings.warnings)] {
        for complaint in complaints {
            writeln!(text, "{kind}: {}", one_line(complaint)).expect("writing to a String does not fail");
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
    let sound = findings.errors.is_empty() && (lenient || findings.warnings.is_empty());
    (text, if sound { Status::DONE } else { Status::FAILED })
}

pub(super) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(errors: &[&str], warnings: &[&str], lenient: bool, text: &str, status: Status) {
        let findings = Findings {
            errors: errors.iter().map(ToString::to_string).collect(),
            warnings: warnings.iter().map(ToString::to_string).collect(),
            files: 1,
            pipelines: 2,
        };
        assert_eq!(report(&findings, lenient), (text.to_owned(), status));
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
        let text = "warning: a\n2 pipelines in 1 file: 0 errors, 1 warning\n";
        check(&[], &["a"], false, text, Status::FAILED);
        check(&[], &["a"], true, text, Status::DONE);
        let text = "error: b\\nc\nwarning: a\n2 pipelines in 1 file: 1 error, 1 warning\n";
        check(&["b\nc"], &["a"], true, text, Status::FAILED);
    }

    #[test]
    fn a_file_that_is_missing_is_wrong_usage() {
        let config = Config::new(&crate::config::Flags::default(), &|_| None).unwrap();
        let arguments = ValidateArguments {
            files: vec!["/nonexistent/a.yml".into()],
            lenient: false,
        };
        assert_eq!(
            run(&config, &arguments),
            Err(Failure::usage("`/nonexistent/a.yml` does not exist"))
        );
    }
}
