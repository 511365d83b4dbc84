//! Ctrl-C while a job is watched: the first is told to whoever watches, the second ends the process.
//!
//! Surprise: without a listener the system ends the process at the first one, which is right for all commands that are
//! done in a moment.

use std::io;
use std::process;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, at, bounded, never, select_biased, unbounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::client::Client;
use crate::cli::output::{self, Failure, Status};

/// The exit status is 128 and the number of the signal.
const SIGNAL_BASE: i32 = 128;

/// The exit statuses of the signals that arrive from now on.
///
/// # Errors
/// Where a handler or the thread can't be had.
pub(crate) fn listen() -> io::Result<Receiver<u8>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (sender, receiver) = unbounded();
    thread::Builder::new()
        .name("signals".to_owned())
        .stack_size(256 * 1024)
        .spawn(move || {
            let mut is_first = true;
            for signal in signals.forever() {
                let status = SIGNAL_BASE + signal;
                // Nobody may be there to hear of it: the one who watches can hang in a write or a request.
                if !is_first || sender.send(u8::try_from(status).unwrap_or(u8::MAX)).is_err() {
                    process::exit(status);
                }
                is_first = false;
            }
        })?;
    Ok(receiver)
}

/// How waiting ended.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    Done(T),
    TimedOut,
    /// The exit status of the signal that came.
    Interrupted(u8),
}

/// Waits for a message, a signal or the deadline, whichever comes first.
pub(crate) fn receive<T>(messages: &Receiver<T>, interrupts: &Receiver<u8>, deadline: Option<Instant>) -> Outcome<T> {
    receive_unless(messages, &never(), interrupts, deadline).expect("what never comes ends nothing")
}

/// As [`receive`]; `None`: `end` came first.
pub(crate) fn receive_unless<T>(
    messages: &Receiver<T>,
    end: &Receiver<()>,
    interrupts: &Receiver<u8>,
    deadline: Option<Instant>,
) -> Option<Outcome<T>> {
    let timer = deadline.map_or_else(never, at);
    Some(select_biased! {
        recv(interrupts) -> status => {
            Outcome::Interrupted(status.expect("the thread of the signals lives as long as the process"))
        }
        recv(end) -> _ => return None,
        recv(timer) -> _ => Outcome::TimedOut,
        recv(messages) -> message => Outcome::Done(message.expect("who works has a message at its end")),
    })
}

/// Does the work on a thread of its own, which goes on where the wait for its result doesn't.
///
/// # Errors
/// Where the thread can't be had.
pub(crate) fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<Receiver<T>> {
    let (sender, receiver) = bounded(1);
    thread::Builder::new()
        .name("request".to_owned())
        .spawn(move || drop(sender.send(work())))?;
    Ok(receiver)
}

/// What Ctrl-C does to the job that was watched.
pub(crate) fn carry_out(client: &Client, jobs: &[String], cancel: bool, status: u8) -> Status {
    for job in jobs {
        if !cancel {
            output::tell(&format!(
                "stopped watching, job {job} goes on; cancel it with `prunner cancel {job}`"
            ));
            continue;
        }
        match client.cancel(job) {
            Ok(()) => output::tell(&format!("canceled job {job}")),
            Err(error) => {
                error.about_job(job).report();
            }
        }
    }
    Status(status)
}

/// The failure of a wait that took too long.
pub(crate) fn timed_out(job: &str, timeout: &str) -> Failure {
    Failure {
        status: Status::TIMED_OUT,
        message: Some(format!(
            "job {job} has not ended within {timeout}, it goes on; `prunner wait {job}` waits for it, `prunner cancel \
             {job}` cancels it"
        )),
    }
}
