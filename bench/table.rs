//! Rows, their goals, and how both are printed and kept.
//!
//! Unaware of how anything is measured. Surprise: where this machine's own limit is worse than that of the machine on
//! which the goal was set, the goal moves by the same factor. It never becomes harder.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// What the machine can do at best, measured in the same run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub value: f64,
    /// The same on the machine where the goal was set.
    pub reference: Option<f64>,
}

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub name: &'static str,
    pub unit: &'static str,
    pub value: f64,
    /// Of the binary that is put beside ours.
    pub other: Option<f64>,
    pub limit: Option<Limit>,
    pub goal: Goal,
}

impl Row {
    pub(crate) fn at_most(name: &'static str, unit: &'static str, value: f64, goal: f64) -> Row {
        Row {
            name,
            unit,
            value,
            other: None,
            limit: None,
            goal: Goal::AtMost(goal),
        }
    }

    pub(crate) fn at_least(name: &'static str, unit: &'static str, value: f64, goal: f64) -> Row {
        Row {
            goal: Goal::AtLeast(goal),
            ..Row::at_most(name, unit, value, goal)
        }
    }

    pub(crate) fn beside(self, value: f64, reference: Option<f64>) -> Row {
        Row {
            limit: Some(Limit { value, reference }),
            ..self
        }
    }

    /// The goal on this machine.
    fn goal(&self) -> f64 {
        let factor = self
            .limit
            .and_then(|limit| limit.reference.map(|reference| limit.value / reference));
        match (self.goal, factor) {
            (Goal::AtMost(goal), Some(factor)) => goal * factor.max(1.0),
            (Goal::AtLeast(goal), Some(factor)) => goal * factor.min(1.0),
            (Goal::AtMost(goal) | Goal::AtLeast(goal), None) => goal,
        }
    }

    fn is_reached(&self) -> bool {
        match self.goal {
            Goal::AtMost(_) => self.value <= self.goal(),
            Goal::AtLeast(_) => self.value >= self.goal(),
        }
    }

    fn ratio(&self) -> Option<f64> {
        self.limit.map(|limit| self.value / limit.value)
    }

    fn verdict(&self) -> &'static str {
        if self.is_reached() { "ok" } else { "behind" }
    }
}

pub(crate) struct Table {
    binaries: Vec<PathBuf>,
    rows: Vec<Row>,
}

impl Table {
    pub(crate) fn new(binaries: &[PathBuf]) -> Table {
        Table {
            binaries: binaries.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn head(&self, load: &str) -> String {
        let mut text = format!("load of the machine before: {load}\n");
        for (path, which) in self.binaries.iter().zip(["this", "other"]) {
            writeln!(text, "{which}: {}", path.display()).expect("writing to a String does not fail");
        }
        text.push_str(&self.line(["figure", "limit", "this", "ratio", "other", "goal", ""].map(str::to_owned)));
        text.push('\n');
        text
    }

    pub(crate) fn foot(&self, seconds: f64, load: &str) -> String {
        let behind = self.rows.iter().filter(|row| !row.is_reached()).count();
        format!(
            "{} figures, {behind} behind their goal; {seconds:.0} s; load after: {load}\n\
             limit: what the machine does without prunner; goals move with it where it is slower than where they were set\n",
            self.rows.len()
        )
    }

    /// Returns the row as a line.
    pub(crate) fn add(&mut self, row: Row) -> String {
        let sign = match row.goal {
            Goal::AtMost(_) => "≤",
            Goal::AtLeast(_) => "≥",
        };
        let line = self.line([
            format!("{} [{}]", row.name, row.unit),
            row.limit.map_or_else(String::new, |limit| number(limit.value)),
            number(row.value),
            row.ratio().map_or_else(String::new, number),
            row.other.map_or_else(String::new, number),
            format!("{sign} {}", number(row.goal())),
            row.verdict().to_owned(),
        ]);
        self.rows.push(row);
        line
    }

    fn line(&self, [name, limit, this, ratio, other, goal, verdict]: [String; 7]) -> String {
        let other = if self.binaries.len() > 1 {
            format!("{other:>9}")
        } else {
            String::new()
        };
        format!("{name:<58}{limit:>9}{this:>9}{ratio:>8}{other}{goal:>11}  {verdict}")
    }

    pub(crate) fn to_json(&self, seconds: f64, load: &str) -> String {
        let figures: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "name": row.name,
                    "unit": row.unit,
                    "limit": row.limit.map(|limit| limit.value),
                    "this": row.value,
                    "ratio": row.ratio(),
                    "other": row.other,
                    "goal": row.goal(),
                    "verdict": row.verdict(),
                })
            })
            .collect();
        let name = |path: Option<&PathBuf>| path.and_then(|path| relative(path));
        let results = json!({
            "this": name(self.binaries.first()),
            "other": name(self.binaries.get(1)),
            "load": load,
            "seconds": seconds.round(),
            "figures": figures,
        });
        format!("{results:#}\n")
    }
}

/// Seen from the repository where it is inside.
fn relative(path: &Path) -> Option<String> {
    let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path);
    path.to_str().map(str::to_owned)
}

/// Three digits that say something.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
