//! A job that runs on a server, as a stream of what happens in it: tasks start, print and end, then the job ends.
//!
//! The API tells of the end of a job and streams the outputs, but it doesn't tell when a task starts. So one thread looks
//! at the job again and again, ever more seldom while nothing changes, and after each output that ended somebody looks at
//! once, for that is when others start. Each task that runs has two connections of its own; tasks that have ended are read
//! one after the other, so that a long job needs no more of them than a short one.
//!
//! Surprise: an output that breaks off goes on where it stood when the server is back: no line is lost or comes twice.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::cli::client::job::{Job, Task};
use crate::cli::client::patience::{Patience, wait_a_while};
use crate::cli::client::{Client, ClientError, Part};
use crate::definition::ON_ERROR;
use crate::task::StreamKind;

/// How long the job is waited for between two looks: first, and at most.
const SHORTEST_LOOK: Duration = Duration::from_millis(100);
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// What is read at once of an output.
const PIECE_BYTES: usize = 32 << 10;
/// Pieces that wait to be printed: a slow reader of ours slows the connections down.
const MAX_PIECES: usize = 64;
/// The first look for the last lines of an output; each further one is eight times as large.
const TAIL_BYTES: u64 = 64 << 10;

/// What happens in a job.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// It is known which tasks there are.
    Tasks(&'a Job),
    Started(&'a Task, &'a Job),
    /// However it is cut.
    Output {
        task: &'a Arc<str>,
        stream: StreamKind,
        bytes: Vec<u8>,
    },
    /// All its output has been told.
    Ended(&'a Task, &'a Job),
    /// All has been told. It may still run where it was not followed to its end.
    Job(&'a Job),
}

/// Who is told what happens.
pub(crate) type Tell<'a> = &'a mut dyn FnMut(Event<'_>);

/// What of a job is of interest.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// To its end, else what there is now.
    pub to_the_end: bool,
    /// This task alone.
    pub task: Option<String>,
    /// In the order in which those of a task that has ended are read.
    pub streams: Vec<StreamKind>,
    /// So many of the last lines of each output, as it is when it is opened.
    pub tail: Option<usize>,
}

/// What the threads tell.
pub(crate) enum Note {
    State(Box<Job>),
    Output {
        task: Arc<str>,
        stream: StreamKind,
        bytes: Vec<u8>,
    },
    /// The outputs that were opened with one call.
    Read {
        task: Arc<str>,
        streams: usize,
    },
    Failed(ClientError),
}

/// Follows one job: started by [`Following::start`], told by [`Following::take`] what its receiver has.
pub(crate) struct Following {
    client: Client,
    id: String,
    wanted: Wanted,
    sender: Sender<Note>,
    job: Box<Job>,
    tasks: HashMap<String, Progress>,
    /// Tasks that have ended and were not read yet, in the order of the job.
    to_read: VecDeque<String>,
    /// One of those is being read.
    reads: bool,
    /// How many tasks the job had when they were told.
    told_tasks: usize,
}

#[derive(Debug)]
struct Progress {
    /// Outputs that are open or wait to be.
    open: usize,
    /// It is read after others, its outputs one after the other.
    is_queued: bool,
    end_is_told: bool,
}

/// Whether all has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    All,
    NotAll,
}

impl Following {
    /// Looks at the job for the first time, and starts to follow it.
    ///
    /// # Errors
    /// Where the server doesn't know it, or can't be reached (that it could be before, `reached` says).
    pub(crate) fn start(
        client: &Client,
        id: &str,
        wanted: Wanted,
        reached: bool,
    ) -> Result<(Following, Receiver<Note>), ClientError> {
        let job = wait_a_while(client, id, Duration::ZERO, &mut Patience::new(reached))?;
        let (sender, receiver) = bounded(MAX_PIECES);
        let following = Following {
            client: client.clone(),
            id: id.to_owned(),
            sender,
            job: Box::new(job),
            tasks: HashMap::new(),
            to_read: VecDeque::new(),
            reads: false,
            told_tasks: 0,
            wanted,
        };
        Ok((following, receiver))
    }

    /// The job as it was when it was looked at last.
    pub(crate) fn job(&self) -> &Job {
        &self.job
    }

    /// Tells what is known before the first note, and starts the threads.
    ///
    /// # Errors
    /// Where a thread can't be had.
    pub(crate) fn begin(&mut self, tell: Tell<'_>) -> io::Result<Told> {
        if self.wanted.to_the_end && !self.job.completed {
            let (client, id, sender) = (self.client.clone(), self.id.clone(), self.sender.clone());
            spawn("look", move || look(&client, &id, &sender))?;
        }
        self.advance(tell)
    }

    /// Takes what a thread told, and tells what follows from it.
    ///
    /// # Errors
    /// Where a thread can't be had.
    pub(crate) fn take(&mut self, note: Note, tell: Tell<'_>) -> Result<io::Result<Told>, ClientError> {
        match note {
            Note::Failed(error) => Err(error),
            Note::Output { task, stream, bytes } => {
                tell(Event::Output {
                    task: &task,
                    stream,
                    bytes,
                });
                Ok(Ok(Told::NotAll))
            }
            Note::Read { task, streams } => {
                self.read(&task, streams);
                Ok(self.advance(tell))
            }
            Note::State(job) => {
                // Looks overtake each other: what has ended does not run again.
                if !self.job.completed {
                    self.job = job;
                }
                Ok(self.advance(tell))
            }
        }
    }

    /// Whether the only task of interest has ended, with or without having run.
    fn task_is_over(&self, job: &Job) -> bool {
        let wanted = self.wanted.task.as_ref();
        wanted.is_some_and(|name| job.tasks.iter().any(|task| task.name == *name && task.has_ended()))
    }

    fn is_wanted(&self, task: &Task) -> bool {
        self.wanted.task.as_ref().is_none_or(|wanted| *wanted == task.name)
    }

    /// Tells what follows from the state, and opens the outputs of tasks that have started.
    fn advance(&mut self, tell: Tell<'_>) -> io::Result<Told> {
        let job = std::mem::take(&mut self.job);
        let result = self.advance_to(&job, tell);
        self.job = job;
        result
    }

    fn advance_to(&mut self, job: &Job, tell: Tell<'_>) -> io::Result<Told> {
        if self.told_tasks != job.tasks.len() {
            self.told_tasks = job.tasks.len();
            tell(Event::Tasks(job));
        }
        let mut all = job.completed || !self.wanted.to_the_end || self.task_is_over(job);
        for task in &job.tasks {
            if !task.has_started() || !self.is_wanted(task) {
                continue;
            }
            if !self.tasks.contains_key(&task.name) {
                if self.is_early(task, job) {
                    all = false;
                    continue;
                }
                let is_queued = task.has_ended() || !self.wanted.to_the_end;
                let open = if is_queued { 1 } else { self.wanted.streams.len() };
                let progress = Progress {
                    open,
                    is_queued,
                    end_is_told: false,
                };
                self.tasks.insert(task.name.clone(), progress);
                if is_queued {
                    self.to_read.push_back(task.name.clone());
                } else {
                    tell(Event::Started(task, job));
                    for stream in &self.wanted.streams {
                        self.open(&task.name, vec![*stream])?;
                    }
                }
            }
            let progress = self.tasks.get_mut(&task.name).expect("it was entered above");
            if progress.open > 0 {
                all = false;
            } else if task.has_ended() && !progress.end_is_told {
                progress.end_is_told = true;
                tell(Event::Ended(task, job));
            }
        }
        self.read_next(job, tell)?;
        if all {
            tell(Event::Job(job));
            return Ok(Told::All);
        }
        Ok(Told::NotAll)
    }

    /// Whether it started behind the end of others of which not all is told: it is told when they are, so that causes
    /// come before what follows from them.
    fn is_early(&self, task: &Task, job: &Job) -> bool {
        let ended = |other: &Task| self.tasks.get(&other.name).is_none_or(|progress| progress.end_is_told);
        let mut others = job.tasks.iter().filter(|other| {
            let is_before = task.name == ON_ERROR || task.depends_on.contains(&other.name);
            is_before && other.has_ended() && other.name != task.name && self.is_wanted(other) && other.has_started()
        });
        others.any(|other| !ended(other))
    }

    /// Reads the next task that has ended, where none is being read.
    fn read_next(&mut self, job: &Job, tell: Tell<'_>) -> io::Result<()> {
        if self.reads {
            return Ok(());
        }
        let Some(name) = self.to_read.pop_front() else {
            return Ok(());
        };
        if let Some(task) = job.tasks.iter().find(|task| task.name == name) {
            tell(Event::Started(task, job));
        }
        self.reads = true;
        self.open(&name, self.wanted.streams.clone())
    }

    fn open(&self, task: &str, streams: Vec<StreamKind>) -> io::Result<()> {
        let reader = Reader {
            client: self.client.clone(),
            id: self.id.clone(),
            task: task.into(),
            to_the_end: self.wanted.to_the_end,
            tail: self.wanted.tail,
            sender: self.sender.clone(),
        };
        spawn("output", move || reader.read(&streams))
    }

    fn read(&mut self, task: &str, streams: usize) {
        let progress = self.tasks.get_mut(task).expect("only tasks that have started are read");
        if progress.is_queued {
            progress.open = 0;
            self.reads = false;
        } else {
            progress.open -= streams;
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(256 * 1024)
        .spawn(work)
        .map(drop)
}

/// Looks at the job to its end.
fn look(client: &Client, id: &str, sender: &Sender<Note>) {
    let mut patience = Patience::new(true);
    let mut wait = SHORTEST_LOOK;
    let mut seen = String::new();
    loop {
        let job = match wait_a_while(client, id, wait, &mut patience) {
            Ok(job) => job,
            Err(error) => {
                let _ = sender.send(Note::Failed(error));
                return;
            }
        };
        wait = if job.json == seen {
            (wait * 3 / 2).min(LONGEST_LOOK)
        } else {
            SHORTEST_LOOK
        };
        seen.clone_from(&job.json);
        let is_last = job.completed;
        if sender.send(Note::State(Box::new(job))).is_err() || is_last {
            return;
        }
    }
}

/// Reads outputs of one task.
struct Reader {
    client: Client,
    id: String,
    task: Arc<str>,
    to_the_end: bool,
    tail: Option<usize>,
    sender: Sender<Note>,
}

/// Why reading ended before the output did.
enum Broken {
    /// It may go on.
    Client(ClientError),
    /// Nobody listens any more.
    Unheard,
}

impl Reader {
    fn read(self, streams: &[StreamKind]) {
        for stream in streams {
            match self.read_stream(*stream) {
                Ok(()) => {}
                Err(Broken::Unheard) => return,
                Err(Broken::Client(error)) => {
                    let _ = self.sender.send(Note::Failed(error));
                    return;
                }
            }
        }
        if self.to_the_end
            && let Ok(job) = self.client.job(&self.id, Duration::ZERO)
        {
            // Where it fails the thread that looks will have it, only later.
            let _ = self.sender.send(Note::State(Box::new(job)));
        }
        let task = Arc::clone(&self.task);
        let streams = streams.len();
        let _ = self.sender.send(Note::Read { task, streams });
    }

    fn read_stream(&self, stream: StreamKind) -> Result<(), Broken> {
        let mut patience = Patience::new(true);
        let mut offset = match self.tail {
            None => 0,
            Some(lines) => loop {
                match self.start_of_last(stream, lines) {
                    Ok(start) => break start,
                    Err(error) => patience.bear(error).map_err(Broken::Client)?,
                }
            },
        };
        loop {
            match self.read_from(stream, &mut offset, &mut patience) {
                Ok(()) => return Ok(()),
                Err(Broken::Client(error)) => patience.bear(error).map_err(Broken::Client)?,
                Err(Broken::Unheard) => return Err(Broken::Unheard),
            }
        }
    }

    /// Reads on from `offset`, which it moves along, to the end.
    fn read_from(&self, stream: StreamKind, offset: &mut u64, patience: &mut Patience) -> Result<(), Broken> {
        let part = if self.to_the_end {
            Part::Follow(*offset)
        } else {
            Part::From(*offset)
        };
        let log = self
            .client
            .log(&self.id, &self.task, stream, part)
            .map_err(Broken::Client)?;
        patience.answered();
        let Some((mut body, _)) = log else { return Ok(()) };
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Broken::Client(self.client.unreachable(&error))),
            };
            *offset += count as u64;
            let output = Note::Output {
                task: Arc::clone(&self.task),
                stream,
                bytes: buffer[..count].to_vec(),
            };
            self.sender.send(output).map_err(|_| Broken::Unheard)?;
        }
    }

    /// Where the last lines of what there is begin.
    fn start_of_last(&self, stream: StreamKind, lines: usize) -> Result<u64, ClientError> {
        let mut count = TAIL_BYTES;
        loop {
            let Some((body, start)) = self.client.log(&self.id, &self.task, stream, Part::Last(count))? else {
                return Ok(0);
            };
            let mut bytes = Vec::new();
            body.take(count)
                .read_to_end(&mut bytes)
                .map_err(|error| self.client.unreachable(&error))?;
            let start = start.unwrap_or(0);
            match last_lines(&bytes, lines) {
                Some(position) => return Ok(start + position as u64),
                None if start == 0 => return Ok(0),
                None => count = count.saturating_mul(8),
            }
        }
    }
}

/// Where the last lines begin; `None`: these bytes hold fewer, or just as many with the beginning of the first unknown.
fn last_lines(bytes: &[u8], lines: usize) -> Option<usize> {
    if lines == 0 {
        return Some(bytes.len());
    }
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let ends = text.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    ends.map(|(position, _)| position + 1).nth(lines - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, lines: usize, expected: Option<&str>) {
        let found = last_lines(text.as_bytes(), lines).map(|start| &text[start..]);
        assert_eq!(found, expected);
    }

    #[test]
    fn the_last_lines_are_found() {
        check("a\nb\nc\n", 1, Some("c\n"));
        check("a\nb\nc\n", 2, Some("b\nc\n"));
        check("a\nb\nc\n", 3, None);
        check("a\nb\nc", 1, Some("c"));
        check("a\n\n\n", 2, Some("\n\n"));
        check("a\nb", 0, Some(""));
        check("", 1, None);
        check("", 0, Some(""));
    }
}
