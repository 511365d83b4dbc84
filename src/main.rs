//! prunner: pipelines of shell tasks, inside a project.
//!
//! One thread decides, the others do:
//!
//! | thread | does |
//! |---|---|
//! | main loop | takes events, asks the scheduler, hands out orders (`main_loop`, `scheduler`) |
//! | workers, each with two readers | one task process each, and its output (`task`) |
//! | store | the journal; lets go what waited for it, shows it in the `read_model` (`store`) |
//! | http | one accepts, one for each connection (`http`, `api`) |
//! | wall clock | while schedules follow it: wakes the main loop when one is due or the clock is set (`wall_timer`) |
//! | signals, watch | wake the main loop, load files anew (`signals`, `reload`) |
//! | log | writes to standard error, which may be stuck (`log`) |
//!
//! Life of a job: a request is checked (`api`), becomes an event (`requests`), is decided on (`scheduler`), is written
//! down and synced (`store`), is shown (`read_model`) and answered; its first tasks start after that (`task`); their
//! exits are events, and the last one ends the job, which is written down, shown, and tells who waits.
//!
//! Invariants: `scheduler` names no clock, thread, file or socket; nothing is shown that is not on disk; no signal goes
//! to a process that was reaped; nothing wakes while nothing happens.

mod cli;
mod clock;
mod config;
mod environment;
mod log;
mod secret;

mod api;
mod calendar;
mod definition;
mod health;
mod http;
mod id;
mod job;
mod main_loop;
mod metrics;
mod open_files;
mod process_one;
mod read_model;
mod reason;
mod reload;
mod requests;
mod schedule;
mod scheduler;
mod service_manager;
mod signals;
mod small_file;
mod store;
mod task;
mod template;
#[cfg(test)]
mod testing;
mod timestamp;
mod waker;
mod wall_timer;

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;

/// musl's own gives large pieces back at once and asks for them again: a start takes half as long again. glibc's keeps a
/// heap for each of several threads.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    cli::main()
}
