//! Watches a job of a server and shows what happens in it, until it is over, Ctrl-C comes, or the time is up.

use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, bounded};

use crate::cli::client::Client;
use crate::cli::client::follow::{Event, Following, Note, Told, Wanted};
use crate::cli::client::interrupt::{self, Outcome};
use crate::cli::client::job::{Job, task_value};
use crate::cli::display::{Display, Manner, Shown};
use crate::cli::output::{self, Failure};

/// How long a display may take for what is under way, where nobody wants more.
const DISPLAY_PATIENCE: Duration = Duration::from_secs(1);

/// How watching ended.
#[derive(Debug)]
pub(crate) enum Watched {
    /// All was told; with the job as it is then.
    Over(Box<Job>),
    TimedOut,
    /// The exit status of the signal that came.
    Interrupted(u8),
}

/// A job to be watched.
pub(crate) struct Watch<'a> {
    pub client: &'a Client,
    pub id: &'a str,
    pub wanted: Wanted,
    pub manner: Manner,
    /// What to do next where it did not succeed; empty: nothing.
    pub hint: String,
    pub interrupts: &'a Receiver<u8>,
    pub deadline: Option<Instant>,
    /// The server has answered before, and is waited for where it is away.
    pub reached: bool,
}

impl Watch<'_> {
    /// Shows the job until it is over, or until a signal or the end of the time.
    ///
    /// # Errors
    /// Of the server, or of standard output: quiet where its reader has gone.
    pub(crate) fn run(self) -> Result<Watched, Failure> {
        let starting = {
            let (client, id) = (self.client.clone(), self.id.to_owned());
            let (wanted, reached) = (self.wanted.clone(), self.reached);
            interrupt::in_background(move || Following::start(&client, &id, wanted, reached)).map_err(Failure::usage)?
        };
        let (following, notes) = match interrupt::receive(&starting, self.interrupts, self.deadline) {
            Outcome::Interrupted(status) => return Ok(Watched::Interrupted(status)),
            Outcome::TimedOut => return Ok(Watched::TimedOut),
            Outcome::Done(started) => started.map_err(|error| error.about_job(self.id))?,
        };
        let (sender, unread) = bounded(1);
        // Without a reader a job that is silent would be watched to its end.
        let display = Display::start(self.manner, move || {
            let _ = sender.try_send(());
        })
        .map_err(Failure::usage)?;
        let watched = self.show(following, &notes, &unread, &display);
        let shown = match &watched {
            Ok(Some(Watched::Over(_))) => display.finish(self.interrupts),
            Ok(_) | Err(_) => display.finish(&after(DISPLAY_PATIENCE)),
        };
        match (shown, watched?) {
            (Shown::Failed(error), _) => Err(output::write_failure(&error)),
            // What is known by then counts, whether somebody has read all of it or not.
            (Shown::All | Shown::Stuck | Shown::Unread, Some(watched)) => Ok(watched),
            (Shown::All | Shown::Stuck | Shown::Unread, None) => {
                Err(output::write_failure(&io::ErrorKind::BrokenPipe.into()))
            }
        }
    }

    /// `None`: nobody reads what is shown.
    fn show(
        &self,
        mut following: Following,
        notes: &Receiver<Note>,
        unread: &Receiver<()>,
        display: &Display,
    ) -> Result<Option<Watched>, Failure> {
        let mut tell = |event: Event<'_>| show(event, display, &self.hint);
        let mut told = following.begin(&mut tell).map_err(Failure::usage)?;
        while told == Told::NotAll {
            let note = match interrupt::receive_unless(notes, unread, self.interrupts, self.deadline) {
                None => return Ok(None),
                Some(Outcome::Interrupted(status)) => return Ok(Some(Watched::Interrupted(status))),
                Some(Outcome::TimedOut) => return Ok(Some(Watched::TimedOut)),
                Some(Outcome::Done(note)) => note,
            };
            told = following
                .take(note, &mut tell)
                .map_err(|error| error.about_job(self.id))?
                .map_err(Failure::usage)?;
        }
        Ok(Some(Watched::Over(Box::new(following.job().clone()))))
    }
}

fn show(event: Event<'_>, display: &Display, hint: &str) {
    match event {
        Event::Tasks(job) => {
            // Whether there is one for `on_error` is known once it runs.
            display.tasks(job.tasks.iter().map(|task| task.name.clone()).collect(), false);
        }
        Event::Started(task, job) => display.started(task_value(job, &task.name)),
        Event::Output { task, stream, bytes } => display.output(task, stream, bytes),
        Event::Ended(task, job) => display.ended(task_value(job, &task.name)),
        Event::Job(job) => display.job(job.value(), hint.to_owned()),
    }
}
