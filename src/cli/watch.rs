//! Watches a job of a server and prints what happens in it, until it is over, Ctrl-C comes, or the time is up.

use std::io;
use std::time::Instant;

use crossbeam_channel::Receiver;

use crate::cli::client::Client;
use crate::cli::client::follow::{Event, Following, Note, Told, Wanted};
use crate::cli::client::interrupt::{self, Outcome};
use crate::cli::client::job::Job;
use crate::cli::live::{Live, Manner};
use crate::cli::output::{self, Failure};

/// How watching ended.
#[derive(Debug)]
pub(crate) enum Watched {
    /// All was told; with the job as it is then.
    Over(Box<Job>),
    TimedOut,
    /// The exit status of the signal that came.
    Interrupted(u8),
}

/// Prints what is wanted of the job that is known to the server.
///
/// # Errors
/// Of the server, or of standard output: quiet where its reader has gone.
pub(crate) fn watch(
    client: &Client,
    id: &str,
    wanted: Wanted,
    manner: Manner,
    interrupts: &Receiver<u8>,
    deadline: Option<Instant>,
    reached: bool,
) -> Result<Watched, Failure> {
    let starting = {
        let (client, id) = (client.clone(), id.to_owned());
        interrupt::in_background(move || Following::start(&client, &id, wanted, reached)).map_err(Failure::usage)?
    };
    let (following, notes) = match interrupt::receive(&starting, interrupts, deadline) {
        Outcome::Interrupted(status) => return Ok(Watched::Interrupted(status)),
        Outcome::TimedOut => return Ok(Watched::TimedOut),
        Outcome::Done(started) => started.map_err(|error| error.about_job(id))?,
    };
    let mut live = Live::new(manner);
    let result = print(following, &notes, interrupts, deadline, &mut live);
    live.clear();
    result.map_err(|error| match error {
        Trouble::Printing(error) => output::write_failure(&error),
        Trouble::Server(failure) => failure,
    })
}

enum Trouble {
    Printing(io::Error),
    Server(Failure),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Printing(error)
    }
}

fn print(
    mut following: Following,
    notes: &Receiver<Note>,
    interrupts: &Receiver<u8>,
    deadline: Option<Instant>,
    live: &mut Live,
) -> Result<Watched, Trouble> {
    let mut tell = |event: Event<'_>| live.tell(&event);
    let mut told = following.begin(&mut tell)?;
    while told == Told::NotAll {
        let note = match interrupt::receive(notes, interrupts, deadline) {
            Outcome::Interrupted(status) => return Ok(Watched::Interrupted(status)),
            Outcome::TimedOut => return Ok(Watched::TimedOut),
            Outcome::Done(note) => note,
        };
        let id = following.job().id.clone();
        told = following
            .take(note, &mut tell)
            .map_err(|error| Trouble::Server(error.about_job(&id)))??;
    }
    Ok(Watched::Over(Box::new(following.job().clone())))
}
