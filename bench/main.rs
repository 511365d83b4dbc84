//! Measures the release binary from outside, as a client does, beside what the machine itself can do.
//!
//! `make bench` prints one row for each figure and writes `bench/results.json`. Unaware of the program's code. Surprise: a
//! goal that has a limit of the machine moves with it, because times mean nothing on another machine: see `table.rs`.
#![expect(
    clippy::disallowed_methods,
    reason = "what is measured is started here, and files are made for it"
)]
#![expect(clippy::cast_precision_loss, reason = "figures are printed with three digits")]

mod client;
mod history;
mod idle;
mod jobs;
mod limits;
mod output;
mod server;
mod table;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::table::{Row, Table};

/// Measures one binary.
type Measure = fn(&Path) -> Result<Vec<Row>>;

const SUBJECTS: [(&str, Measure); 14] = [
    ("size", idle::size),
    ("start", idle::start),
    ("idle", idle::idle),
    ("schedule", jobs::schedule),
    ("printed", jobs::printed),
    ("trivial", jobs::trivial),
    ("chain", jobs::chain),
    ("fan", jobs::fan),
    ("rate", jobs::rate),
    ("detail", history::detail),
    ("finished", history::finished),
    ("output", output::output),
    ("killed", history::killed),
    ("retention", history::retention),
];

struct Arguments {
    /// The one that is judged, and one to put beside it.
    binaries: Vec<PathBuf>,
    /// Only subjects with this in their names.
    only: String,
    results: Option<PathBuf>,
}

fn arguments() -> Result<Arguments> {
    let mut found = Arguments {
        binaries: Vec::new(),
        only: String::new(),
        results: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What cargo adds.
            "--bench" => {}
            "--only" => found.only = arguments.next().context("`--only` needs a value")?,
            "--results" => found.results = Some(arguments.next().context("`--results` needs a value")?.into()),
            path => {
                let path = Path::new(path);
                let path = path
                    .canonicalize()
                    .with_context(|| format!("failed to find `{}`", path.display()))?;
                found.binaries.push(path);
            }
        }
    }
    if !(1..=2).contains(&found.binaries.len()) {
        bail!("expected one or two binaries, found {}", found.binaries.len());
    }
    Ok(found)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments = arguments()?;
    let begun = Instant::now();
    let load = server::load();
    let mut table = Table::new(&arguments.binaries);
    let mut out = io::stdout();
    write!(out, "{}", table.head(&load))?;
    for (name, measure) in SUBJECTS {
        if !name.contains(&arguments.only) {
            continue;
        }
        let mut rows: Vec<Row> = measure(&arguments.binaries[0]).with_context(|| format!("failed at `{name}`"))?;
        if let Some(other) = arguments.binaries.get(1) {
            match measure(other) {
                Ok(others) => {
                    for row in &mut rows {
                        row.other = others
                            .iter()
                            .find(|other| other.name == row.name)
                            .map(|other| other.value);
                    }
                }
                // It may know less than ours.
                Err(error) => writeln!(out, "  the other one fails at `{name}`: {error:#}")?,
            }
        }
        for row in rows {
            writeln!(out, "{}", table.add(row))?;
            out.flush()?;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    write!(out, "{}", table.foot(seconds, &server::load()))?;
    if let Some(path) = &arguments.results {
        std::fs::write(path, table.to_json(seconds, &load))
            .with_context(|| format!("failed to write `{}`", path.display()))?;
    }
    Ok(())
}
