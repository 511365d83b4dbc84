//! What is wrong with a definition file, and where: one [`Complaint`] for each mistake.
//!
//! Whether a complaint is an error or a warning is decided by who makes it.

use std::fmt;
use std::path::{Path, PathBuf};

/// Characters of a name or value that a message shows; what is longer is cut. Task names, of at most 200 bytes, stay whole.
const SHOWN_CHARACTERS: usize = 200;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub file: PathBuf,
    pub pipeline: Option<String>,
    pub task: Option<String>,
    /// What was found, what was expected and what to do. With a pipeline a phrase that follows its name or the task's:
    /// "depends on `lnt`, …".
    pub message: String,
}

impl Complaint {
    /// A complaint about a file as a whole.
    pub(crate) fn about(file: &Path, message: impl Into<String>) -> Complaint {
        Complaint {
            file: file.to_owned(),
            pipeline: None,
            task: None,
            message: message.into(),
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.file.display())?;
        match (&self.pipeline, &self.task) {
            (Some(pipeline), Some(task)) => {
                write!(formatter, "task `{}` of pipeline `{}` ", shown(task), shown(pipeline))?;
            }
            (Some(pipeline), None) => write!(formatter, "pipeline `{}` ", shown(pipeline))?,
            (None, _) => {}
        }
        formatter.write_str(&self.message)
    }
}

/// The text as a message shows it: on one line and not too long.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == SHOWN_CHARACTERS {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pipeline: Option<&str>, task: Option<&str>, expected: &str) {
        let complaint = Complaint {
            file: PathBuf::from("ci/pipelines.yml"),
            pipeline: pipeline.map(str::to_owned),
            task: task.map(str::to_owned),
            message: "is wrong".to_owned(),
        };
        assert_eq!(complaint.to_string(), expected);
    }

    #[test]
    fn a_complaint_says_where() {
        check(None, None, "ci/pipelines.yml: is wrong");
        check(Some("deploy"), None, "ci/pipelines.yml: pipeline `deploy` is wrong");
        check(
            Some("deploy"),
            Some("lint"),
            "ci/pipelines.yml: task `lint` of pipeline `deploy` is wrong",
        );
        check(Some("a\nb"), None, "ci/pipelines.yml: pipeline `a\\nb` is wrong");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shown(&"ä".repeat(200)), "ä".repeat(200));
        assert_eq!(shown(&"ä".repeat(201)), format!("{}…", "ä".repeat(200)));
        assert_eq!(shown("tab\there \u{1b}[1m"), "tab\\there \\u{1b}[1m");
    }
}
