//! `prunner export`: the jobs of a data directory in the form of the server that prunner replaces.

use crate::cli::output::{self, Failure, Status};
use crate::cli::serve::search;
use crate::clock::wall_ms;
use crate::config::Config;
use crate::store::{self, DataDirectory, OpenError};
use crate::{definition, log};

pub(super) fn run(config: &Config) -> Result<Status, Failure> {
    if !config.data.is_dir() {
        return Err(Failure::usage(format!(
            "there is no data directory `{}`",
            config.data.display()
        )));
    }
    // A server that runs would change it meanwhile.
    let directory = DataDirectory::open(&config.data).map_err(|error| match error {
        OpenError::InUse { .. } => Failure {
            status: Status::REFUSED,
            message: Some(error.to_string()),
        },
        OpenError::Io(..) => Failure::usage(error),
    })?;
    let recovered = store::recover(&directory.path, wall_ms()).map_err(Failure::usage)?;
    for message in &recovered.messages {
        log::warning(message, &[]);
    }
    let pipelines = definition::load(&search(config)).pipelines;
    output::print(&store::export(&recovered.image, &pipelines))?;
    Ok(Status::DONE)
}
