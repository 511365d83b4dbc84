//! prunner

mod cli;
mod clock;
mod config;
mod environment;
mod log;
mod secret;

mod api;
mod definition;
mod health;
mod http;
mod job;
mod main_loop;
mod process_one;
mod read_model;
mod reason;
mod reload;
mod requests;
mod scheduler;
mod signals;
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
