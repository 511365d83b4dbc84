//! prunner

mod cli;
mod config;
mod environment;
mod log;
mod secret;

mod api;
mod definition;
mod health;
mod http;
mod job;
mod read_model;
mod reason;
mod requests;
mod scheduler;
mod store;
mod task;
mod template;
#[cfg(test)]
mod testing;
mod timestamp;
mod waker;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
