//! Shows a job while it runs: to people, on a terminal or not, or as JSON lines.
//!
//! Standard output holds what tasks print there, or the JSON, and nothing else; everything else goes to standard error.
//! One thread writes, so that whoever tells it something never waits for a slow terminal (but for [`Display::output`],
//! which slows down a task that prints faster than is read). Unaware of where the news comes from: of a scheduler in
//! this process or of a server.
//!
//! | file | |
//! |---|---|
//! | `screen.rs` | what is shown of each piece of news |
//! | `progress.rs` | the line of running tasks at the bottom of a terminal |
//! | `summary.rs` | what is said at the end |
//! | `lines.rs`, `clean.rs` | from bytes to lines, and to lines that can't break the picture |
//! | `held.rs` | output that is shown only if its task fails |
//! | `terminal.rs` | the two outputs of the process |
//!
//! Surprise: nothing wakes the thread but news, where no progress line is drawn; where one is, it is drawn once a second.

mod clean;
mod held;
mod lines;
mod progress;
mod screen;
mod summary;
mod terminal;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select, unbounded};
use serde_json::Value;

use crate::task::StreamKind;
use screen::Screen;
use terminal::{Outputs, RealOutputs, Surroundings};

/// Output that was handed in and not written yet, in bytes: what a pipe holds, several times.
const MOST_PENDING: usize = 1024 * 1024;
/// Somebody waits at a keyboard for the end.
const HURRIED_PATIENCE: Duration = Duration::from_secs(1);

/// How a job is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// One JSON object a line for each event, on standard output.
    pub json: bool,
    /// Of the outputs, those of failed tasks alone.
    pub quiet: bool,
    pub disable_ansi: bool,
    pub content: Content,
}

/// What of a job is shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// All that happens.
    Everything,
    /// The outputs alone, each line behind the name of its task.
    Outputs,
    /// The output of the only task that is of interest, as it is.
    OneOutput,
}

/// How showing ended.
#[derive(Debug)]
pub(crate) enum Shown {
    All,
    /// Who read standard output has gone: no failure, and nothing to say.
    Unread,
    /// Standard output can't be written.
    Failed(io::Error),
    /// An output takes nothing any more, and the time that was given is over.
    Stuck,
}

enum Message {
    Tasks {
        names: Vec<String>,
        has_on_error: bool,
    },
    Started(Value),
    Ended(Value),
    Output {
        task: Arc<str>,
        stream: StreamKind,
        bytes: Vec<u8>,
    },
    Line(String),
    Job {
        job: Value,
        hint: String,
    },
    End,
}

/// Shows a job. Can be shared between threads.
#[derive(Debug)]
pub(crate) struct Display {
    sender: Sender<Message>,
    pending: Arc<Pending>,
    ended: Receiver<Shown>,
}

/// Counts the bytes of output that wait to be written.
#[derive(Debug, Default)]
struct Pending {
    count: Mutex<Count>,
    fewer: Condvar,
}

#[derive(Debug, Default)]
struct Count {
    bytes: usize,
    /// Nobody may wait for long.
    is_hurried: bool,
}

impl Display {
    /// Shows on the outputs of this process. `unread` is called once where who reads standard output has gone, or it can't
    /// be written; on the thread of the display.
    ///
    /// # Errors
    /// Where the thread can't be had.
    pub(crate) fn start(manner: Manner, unread: impl Fn() + Send + 'static) -> io::Result<Display> {
        let surroundings = Surroundings::look(manner.disable_ansi);
        Display::start_on(manner, surroundings, Box::new(RealOutputs), Box::new(unread))
    }

    fn start_on(
        manner: Manner,
        surroundings: Surroundings,
        outputs: Box<dyn Outputs>,
        unread: Box<dyn Fn() + Send>,
    ) -> io::Result<Display> {
        let (sender, receiver) = unbounded();
        let (ending, ended) = bounded(1);
        let pending = Arc::<Pending>::default();
        let of_thread = Arc::clone(&pending);
        let screen = Screen::new(manner, surroundings, outputs, unread, Instant::now());
        Builder::new().name("display".to_owned()).spawn(move || {
            // Nobody waits for it where the time was over.
            let _ = ending.send(show(screen, &receiver, &of_thread));
        })?;
        Ok(Display { sender, pending, ended })
    }

    /// All tasks of the job, as it lists them: makes room for their names, and counts them. `has_on_error`: one more may be
    /// listed later.
    pub(crate) fn tasks(&self, names: Vec<String>, has_on_error: bool) {
        self.send(Message::Tasks { names, has_on_error });
    }

    /// `task`: the task object of the API, as it is in its job.
    pub(crate) fn started(&self, task: Value) {
        self.send(Message::Started(task));
    }

    /// All its output was handed in before; it may never have run. `task`: the task object of the API.
    pub(crate) fn ended(&self, task: Value) {
        self.send(Message::Ended(task));
    }

    /// What a task printed, however it is cut; nothing: what it has begun is a line. Waits while much of it is to be written still.
    pub(crate) fn output(&self, task: &Arc<str>, stream: StreamKind, bytes: Vec<u8>) {
        if !self.pending.add(bytes.len()) {
            return;
        }
        self.send(Message::Output {
            task: Arc::clone(task),
            stream,
            bytes,
        });
    }

    /// The job is to end soon: output is dropped from now on where an output of ours takes nothing for a second.
    pub(crate) fn hurry(&self) {
        self.pending.lock().is_hurried = true;
        self.pending.fewer.notify_all();
    }

    /// A line for standard error, without its end.
    pub(crate) fn line(&self, text: String) {
        self.send(Message::Line(text));
    }

    /// The end: `job` as the API has it. `hint` tells people what to do next where it failed; empty: nothing.
    pub(crate) fn job(&self, job: Value, hint: String) {
        self.send(Message::Job { job, hint });
    }

    /// Returns when all is written, or at a message that says to wait no longer. What is told later is not shown.
    pub(crate) fn finish<T>(&self, give_up: &Receiver<T>) -> Shown {
        self.send(Message::End);
        select! {
            // Without an answer the thread panicked, which has been reported.
            recv(self.ended) -> shown => shown.unwrap_or(Shown::Stuck),
            recv(give_up) -> _ => Shown::Stuck,
        }
    }

    fn send(&self, message: Message) {
        // It fails only where the thread has ended.
        let _ = self.sender.send(message);
    }
}

impl Pending {
    /// False: there is no room for them, and no time.
    fn add(&self, bytes: usize) -> bool {
        let mut count = self.lock();
        while count.bytes > 0 && count.bytes + bytes > MOST_PENDING {
            if count.is_hurried {
                let before = count.bytes;
                let waited = self.fewer.wait_timeout(count, HURRIED_PATIENCE);
                let (waited, result) = waited.unwrap_or_else(PoisonError::into_inner);
                count = waited;
                if result.timed_out() && count.bytes >= before {
                    return false;
                }
            } else {
                count = self.fewer.wait(count).unwrap_or_else(PoisonError::into_inner);
            }
        }
        count.bytes += bytes;
        true
    }

    fn take(&self, bytes: usize) {
        self.lock().bytes -= bytes;
        self.fewer.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn show(mut screen: Screen, receiver: &Receiver<Message>, pending: &Pending) -> Shown {
    loop {
        let message = match screen.next_draw() {
            None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => receiver.recv_deadline(at),
        };
        let now = Instant::now();
        match message {
            Ok(message) => {
                let bytes = match &message {
                    Message::Output { bytes, .. } => bytes.len(),
                    Message::End => return screen.end(now),
                    Message::Tasks { .. }
                    | Message::Started(_)
                    | Message::Ended(_)
                    | Message::Line(_)
                    | Message::Job { .. } => 0,
                };
                take(&mut screen, now, message);
                if bytes > 0 {
                    pending.take(bytes);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return screen.end(now),
        }
        screen.draw_if_due(now, receiver.is_empty());
    }
}

fn take(screen: &mut Screen, now: Instant, message: Message) {
    match message {
        Message::Tasks { names, has_on_error } => screen.tasks(&names, has_on_error),
        Message::Started(task) => screen.started(now, &task),
        Message::Ended(task) => screen.ended(now, &task),
        Message::Output { task, stream, bytes } => screen.output(now, &task, stream, &bytes),
        Message::Line(text) => screen.line(now, &text),
        Message::Job { job, hint } => screen.job(now, &job, &hint),
        Message::End => unreachable!("it ends the thread before"),
    }
}
