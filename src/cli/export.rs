//! `prunner export`: the jobs of a data directory in the form of the server that prunner replaces.

use crate::cli::output::{self, Failure, Status};
use crate::cli::serve::{data_directory, search};
use crate::clock::wall_ms;
use crate::config::Config;
use crate::{definition, log, reload, store};

pub(super) fn run(config: &Config) -> Result<Status, Failure> {
    if !config.data.is_dir() {
        return Err(Failure::usage(format!(
            "there is no data directory `{}`",
            config.data.display()
        )));
    }
    // A server that runs would change it meanwhile.
    let directory = data_directory(config)?;
    // Jobs that ran when prunner died have ended, as they would have at the next start.
    let recovered = store::recover(&directory.path, wall_ms()).map_err(Failure::usage)?;
    for message in &recovered.messages {
        log::warning(message, &[]);
    }
    let loaded = definition::load(&search(config));
    if !reload::report(&loaded) {
        return Err(Failure::usage(
            "the pipeline files are wrong, and jobs that wait need their scripts; the errors are named above",
        ));
    }
    let script_of = |pipeline: &str, task: &str| {
        let pipeline = loaded.pipelines.get(pipeline)?;
        let task = pipeline
            .tasks
            .iter()
            .chain(&pipeline.on_error)
            .find(|known| &*known.name == task)?;
        Some((task.source.clone(), task.allow_failure))
    };
    let exported = store::export(&recovered.image, script_of);
    for job in &exported.left_out {
        log::warning(
            "a job is left out: a later version of prunner wrote it, and it can't be put in the old form",
            &[("job", job)],
        );
    }
    output::print(&exported.text)?;
    Ok(Status::DONE)
}
