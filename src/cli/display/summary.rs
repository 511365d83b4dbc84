//! The texts about tasks and jobs: how they began and ended, line by line, and the summary at the end.
//!
//! Unaware of where they are shown. Surprise: all that comes from a job is cleaned here, for a server may send anything.

use serde::Deserialize;
use serde_json::Value;

use super::clean::clean;
use crate::cli::columns::{shorten, width};
use crate::cli::table;

/// What is told of a task.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Task {
    pub name: String,
    pub status: String,
    pub start: Option<String>,
    pub duration_ms: Option<u64>,
    pub exit_code: i32,
    pub error: String,
    pub note: String,
}

/// What is told of a job.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Job {
    pub id: String,
    pub pipeline: String,
    pub status: String,
    pub duration_ms: Option<u64>,
    pub last_error: String,
    pub reason: String,
    pub tasks: Vec<Task>,
}

/// How texts are marked out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub has_color: bool,
    pub has_unicode: bool,
}

/// Columns of the mark, the duration and the blanks between them.
const BESIDE_NAMES: usize = 10;
/// Of what stands behind them: an exit status has its place on the same line, a text does not.
const SHORT_WHY: usize = 16;
/// Of a name, however narrow the terminal is.
const LEAST_NAME: usize = 8;

const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";
const DIM: &str = "2";
const BOLD: &str = "1";
/// Of task names. No red: that is for failures.
const NAMES: [&str; 10] = ["36", "33", "35", "34", "32", "96", "93", "95", "94", "92"];

/// What is over in a moment is told by milliseconds.
fn duration(duration_ms: u64) -> String {
    if duration_ms < 1000 {
        format!("{duration_ms}ms")
    } else {
        table::duration(duration_ms)
    }
}

impl Style {
    pub(super) fn paint(self, code: &str, text: &str) -> String {
        if self.has_color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A task's name in its color.
    pub(super) fn name(self, place: usize, name: &str) -> String {
        self.paint(NAMES[place % NAMES.len()], name)
    }

    fn mark(self, status: &str) -> String {
        let (code, unicode, ascii) = match status {
            "done" | "succeeded" => (GREEN, "✓", "+"),
            "error" | "failed" => (RED, "✗", "x"),
            _ => (YELLOW, "■", "-"),
        };
        self.paint(code, if self.has_unicode { unicode } else { ascii })
    }

    fn elapsed(self, elapsed_ms: u64) -> String {
        self.paint(DIM, &format!("[{:>6}]", table::duration(elapsed_ms)))
    }
}

impl Task {
    pub(super) fn of(value: &Value) -> Task {
        let task = Task::deserialize(value).unwrap_or_default();
        Task {
            name: clean(task.name.as_bytes(), false),
            error: clean(task.error.as_bytes(), false),
            note: clean(task.note.as_bytes(), false),
            ..task
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.status == "error"
    }

    fn has_run(&self) -> bool {
        self.start.is_some()
    }

    pub(super) fn begin_line(style: Style, elapsed_ms: u64, name: &str) -> String {
        format!("{}   {name} started", style.elapsed(elapsed_ms))
    }

    pub(super) fn end_line(&self, style: Style, elapsed_ms: u64, name: &str) -> String {
        let verb = match &*self.status {
            "error" => style.paint(RED, "failed"),
            "done" => style.paint(GREEN, "done"),
            _ => style.paint(YELLOW, "canceled"),
        };
        let duration = self
            .duration_ms
            .map_or_else(String::new, |duration_ms| format!(" after {}", duration(duration_ms)));
        let why = self.why();
        let why = if why.is_empty() { why } else { format!(": {why}") };
        format!(
            "{} {} {name} {verb}{duration}{why}",
            style.elapsed(elapsed_ms),
            style.mark(&self.status)
        )
    }

    /// What there is to say beside the status.
    fn why(&self) -> String {
        let mut parts = Vec::new();
        if !self.error.is_empty() {
            parts.push(self.error.clone());
        } else if self.status == "done" && self.exit_code != 0 {
            parts.push(format!("exit status {}, which is allowed", self.exit_code));
        } else if self.status == "canceled" && !self.has_run() {
            parts.push("did not run".to_owned());
        }
        if !self.note.is_empty() {
            parts.push(self.note.clone());
        }
        parts.join("; ")
    }
}

impl Job {
    pub(super) fn of(value: &Value) -> Job {
        let job = Job::deserialize(value).unwrap_or_default();
        let clean = |text: &str| clean(text.as_bytes(), false);
        let tasks = value.get("tasks").and_then(Value::as_array);
        Job {
            id: clean(&job.id),
            pipeline: clean(&job.pipeline),
            status: clean(&job.status),
            last_error: clean(&job.last_error),
            reason: clean(&job.reason),
            tasks: tasks.into_iter().flatten().map(Task::of).collect(),
            ..job
        }
    }

    pub(super) fn has_succeeded(&self) -> bool {
        self.status == "succeeded"
    }

    pub(super) fn has_failed(&self) -> bool {
        self.status == "failed"
    }

    /// One line for each task, in so many columns where they have an end, and below it what `last_lines` has of it.
    pub(super) fn task_lines(
        &self,
        style: Style,
        columns: Option<usize>,
        place_of: impl Fn(&str) -> usize,
        last_lines: impl Fn(&str) -> Vec<String>,
    ) -> Vec<String> {
        let longest = |columns: &dyn Fn(&Task) -> usize| self.tasks.iter().map(columns).max().unwrap_or(0);
        let beside = BESIDE_NAMES
            + longest(&|task| match width(&task.why()) {
                short @ 1..=SHORT_WHY => short + 2,
                _ => 0,
            });
        let most = columns.map_or(usize::MAX, |columns| columns.saturating_sub(beside).max(LEAST_NAME));
        let name_columns = longest(&|task| width(&task.name)).min(most);
        let mut lines = Vec::new();
        for task in &self.tasks {
            let shown = shorten(&task.name, name_columns);
            let padding = " ".repeat(name_columns.saturating_sub(width(&shown)));
            let name = style.name(place_of(&task.name), &shown);
            let duration = task
                .duration_ms
                .filter(|_| task.has_run())
                .map(duration)
                .unwrap_or_default();
            let line = format!(
                "{} {name}{padding} {duration:>6}  {}",
                style.mark(&task.status),
                task.why()
            );
            lines.push(line.trim_end().to_owned());
            if task.has_failed() {
                lines.extend(
                    last_lines(&task.name)
                        .iter()
                        .map(|line| format!("    {line}").trim_end().to_owned()),
                );
            }
        }
        lines
    }

    /// How it ended and why.
    pub(super) fn line(&self, style: Style) -> String {
        let verb = match &*self.status {
            "succeeded" | "failed" => self.status.clone(),
            "waiting" => "waits".to_owned(),
            "running" => "runs".to_owned(),
            other => format!("was {other}"),
        };
        let code = match &*self.status {
            "succeeded" => GREEN,
            "failed" => RED,
            _ => YELLOW,
        };
        let duration = self
            .duration_ms
            .map_or_else(String::new, |duration_ms| format!(" after {}", duration(duration_ms)));
        let why = match self.tasks.iter().find(|task| task.has_failed()) {
            Some(task) if self.status == "failed" => format!(": task `{}`: {}", task.name, task.error),
            Some(_) | None if !self.reason.is_empty() => format!(": {}", self.reason),
            Some(_) | None if !self.last_error.is_empty() => format!(": {}", self.last_error),
            Some(_) | None => String::new(),
        };
        format!(
            "{} {} {}{duration}{why}",
            style.mark(&self.status),
            style.paint(BOLD, &self.pipeline),
            style.paint(code, &verb)
        )
    }
}
