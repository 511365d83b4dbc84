//! `prunner export`: the jobs of a data directory in the form of the server that prunner replaces.

use crate::cli::output::{self, Failure, Status};
use crate::cli::serve::{data_directory, search};
use crate::clock::wall_ms;
use crate::config::Config;
use crate::{definition, log, store};

pub(super) fn run(config: &Config) -> Result<Status, Failure> {
    if !config.data.is_dir() {
        return Err(Failure::usage(format!(
            "there is no data directory `{}`",
            config.data.display()
        )));
    }
    // A server that runs would change it meanwhile.
    let directory = data_directory(config)?;
    let (image, messages) = store::read(&directory.path, wall_ms()).map_err(Failure::usage)?;
    for message in &messages {
        log::warning(message, &[]);
    }
    let pipelines = definition::load(&search(config)).pipelines;
    let script_of = |pipeline: &str, task: &str| {
        let pipeline = pipelines.get(pipeline)?;
        let task = pipeline
            .tasks
            .iter()
            .chain(&pipeline.on_error)
            .find(|known| &*known.name == task)?;
        Some((task.source.clone(), task.allow_failure))
    };
    output::print(&store::export(&image, script_of))?;
    Ok(Status::DONE)
}
