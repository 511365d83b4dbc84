//! What prunner costs before it does anything.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::client::Client;
use crate::jobs::{run_many, trivial_pipeline};
use crate::limits::{self, Spread, milliseconds};
use crate::server::{Server, Space, pause};
use crate::table::Row;

/// Long enough that a tick a second would show.
const WATCHED: Duration = Duration::from_secs(3);

/// Eight, each of three tasks.
fn pipelines() -> String {
    (1..=8).fold("pipelines:\n".to_owned(), |mut text, number| {
        write!(
            text,
            "  service_{number}:\n    concurrency: 2\n    retention_count: 50\n    tasks:\n      \
             lint: {{script: [./lint]}}\n      test: {{script: [./prepare, ./test]}}\n      \
             deploy: {{script: ['./deploy << .release | default \"main\" >>'], depends_on: [lint, test]}}\n"
        )
        .expect("writing to a String does not fail");
        text
    })
}

pub(crate) fn size(binary: &Path) -> Result<Vec<Row>> {
    let bytes = std::fs::metadata(binary)?.len();
    Ok(vec![Row::at_most("release binary", "MB", bytes as f64 / 1e6, 4.0)])
}

pub(crate) fn start(binary: &Path) -> Result<Vec<Row>> {
    let space = Space::with(&pipelines())?;
    let mut times = Vec::new();
    for _ in 0..15 {
        let server = Server::start(binary, &space)?;
        times.push(milliseconds(server.ready));
        server.stop()?;
    }
    let limit = limits::shells(50, "true")?.p50();
    let times = Spread::new(times);
    let row = Row::at_most("start to first answer, 8 pipelines; limit: sh", "ms", times.p50(), 3.0);
    Ok(vec![row.beside(limit, None)])
}

pub(crate) fn idle(binary: &Path) -> Result<Vec<Row>> {
    let space = Space::with(&pipelines())?;
    let server = Server::start(binary, &space)?;
    server.rest();
    let before = server.context_switches()?;
    pause(WATCHED);
    let switches = (server.context_switches()? - before) / WATCHED.as_secs_f64();
    let fresh = server.resident()?;
    let threads = server.threads()?;
    server.stop()?;

    let space = Space::with(&trivial_pipeline("concurrency: 4, retention_count: 50, "))?;
    let server = Server::start(binary, &space)?;
    let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect::<Result<_>>()?;
    run_many(&mut clients, 1000)?;
    drop(clients);
    server.rest();
    Ok(vec![
        Row::at_most("idle: resident", "MB", fresh, 4.0),
        Row::at_most("idle: threads", "", threads, 10.0),
        Row::at_most("idle: context switches a second", "", switches, 0.0),
        Row::at_most("idle again after 1,000 jobs: resident", "MB", server.resident()?, 4.0),
        Row::at_most("idle again after 1,000 jobs: threads", "", server.threads()?, 10.0),
    ])
}
