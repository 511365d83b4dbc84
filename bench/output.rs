//! How fast much output of one task reaches its log.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use crate::limits::{Spread, copy_output, wrapped};
use crate::server::{Server, Space};
use crate::table::Row;

const MEGABYTES: f64 = 300.0;
const COMMAND: &str = "head -c 300000000 /dev/zero";

pub(crate) fn output(binary: &Path) -> Result<Vec<Row>> {
    let space = Space::with(&format!(
        "pipelines: {{much: {{tasks: {{only: {{script: ['{COMMAND}']}}}}}}}}\n"
    ))?;
    let server = Server::start(binary, &space)?;
    let mut client = server.client()?;
    let request = client.schedule_request("much");
    let bare_log = space.path.join("bare.log");
    let (mut bare, mut ours, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        bare.push(copy_output(&wrapped(COMMAND), &bare_log)?);
        fs::remove_file(&bare_log)?;
        let before = server.cpu()?;
        let begun = Instant::now();
        let id = client.run(&request)?;
        ours.push(begun.elapsed().as_secs_f64());
        cpu.push(server.cpu()? - before);
        // The disk must not be busy with it while the next is measured.
        let _ = fs::remove_dir_all(space.path.join(".prunner/logs").join(id));
    }
    let best = |seconds: &[f64]| MEGABYTES / seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let (bare, ours) = (best(&bare), best(&ours));
    Ok(vec![
        Row::at_least(
            "300 MB of output, best of five; limit: bare copy",
            "MB/s",
            ours,
            0.95 * bare,
        )
        .beside(bare, None),
        Row::at_most("300 MB of output: peak memory", "MB", server.peak()?, 6.0),
        Row::at_most("300 MB of output: own CPU", "s", Spread::new(cpu).p50(), 0.3),
    ])
}
