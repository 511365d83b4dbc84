//! prunner

mod cli;
mod config;
mod environment;
mod log;
mod secret;

mod api;
mod definition;
mod http;
mod job;
mod reason;
mod scheduler;
mod template;
#[cfg(test)]
mod testing;
mod timestamp;
mod waker;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
