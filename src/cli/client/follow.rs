//! A job that runs on a server, as a stream of what happens in it: tasks start, print and end, then the job ends.
//!
//! One thread waits for changes of the job. Each task that runs has two connections of its own for its outputs; tasks that
//! have ended are read one after the other, so that a long job needs no more of them than a short one.
//!
//! What happened is told in the order in which it happened, as far as the times and dependencies of the tasks tell: several
//! starts and ends may be seen with one look, and the end of a task is told behind all its output, so what came after it has
//! to wait for that.
//!
//! Surprise: an output that breaks off goes on where it stood when the server is back: no line is lost or comes twice.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::cli::client::job::{Job, Task};
use crate::cli::client::patience::{Patience, wait_for_change};
use crate::cli::client::{Client, ClientError, Part};
use crate::definition::ON_ERROR;
use crate::task::StreamKind;
use crate::timestamp::parse_rfc3339;

/// What is read at once of an output.
const PIECE_BYTES: usize = 32 << 10;
/// Pieces that wait to be printed: a slow reader of ours slows the connections down.
const MAX_PIECES: usize = 64;
/// The first look for the last lines of an output; each further one is eight times as large.
const TAIL_BYTES: u64 = 64 << 10;
/// The most that is looked at for them, as it is held in memory; where many lines are wanted, [`LINE_BYTES`] for each.
const MAX_TAIL_BYTES: u64 = 4 << 20;
/// Hardly any log has lines that are longer than that in the mean.
const LINE_BYTES: u64 = 1 << 10;

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
    /// All its output has been told, or it never ran.
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

impl Wanted {
    fn includes(&self, task: &Task) -> bool {
        self.task.as_ref().is_none_or(|wanted| *wanted == task.name)
    }
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
    /// How many tasks the job had when they were told.
    told_tasks: usize,
}

/// How much of a task has been told, whose start has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It had ended before, so its outputs are read when its end is the next thing to be told.
    Unread,
    /// So many outputs are being read.
    Reading(usize),
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Start,
    End,
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
        let job = wait_for_change(client, id, None, &mut Patience::new(reached))?;
        let (sender, receiver) = bounded(MAX_PIECES);
        let following = Following {
            client: client.clone(),
            id: id.to_owned(),
            sender,
            job: Box::new(job),
            tasks: HashMap::new(),
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
            let tag = self.job.tag.clone();
            spawn("look", move || look(&client, &id, tag, &sender))?;
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
                let progress = self.tasks.get_mut(&*task);
                if let Some(Progress::Reading(open)) = progress {
                    *open -= streams;
                }
                Ok(self.advance(tell))
            }
            Note::State(job) => {
                self.job = job;
                Ok(self.advance(tell))
            }
        }
    }

    /// Whether the only task of interest has ended, with or without having run.
    fn task_is_over(&self, job: &Job) -> bool {
        let wanted = self.wanted.task.as_ref();
        wanted.is_some_and(|name| job.tasks.iter().any(|task| task.name == *name && task.has_ended()))
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
        for (index, step) in steps(job, &self.wanted) {
            let task = &job.tasks[index];
            let progress = self.tasks.get(&task.name).copied();
            match (step, progress) {
                (Step::Start, None) => {
                    tell(Event::Started(task, job));
                    let is_live = self.wanted.to_the_end && !task.has_ended();
                    let progress = if is_live {
                        self.open_each(task)?
                    } else {
                        Progress::Unread
                    };
                    self.tasks.insert(task.name.clone(), progress);
                }
                (Step::End, Some(Progress::Unread)) => {
                    let streams = self.wanted.streams.clone();
                    self.tasks.insert(task.name.clone(), Progress::Reading(streams.len()));
                    self.open(&task.name, streams)?;
                    return Ok(Told::NotAll);
                }
                (Step::End, Some(Progress::Reading(0))) => {
                    self.tasks.insert(task.name.clone(), Progress::Over);
                    if task.has_ended() {
                        tell(Event::Ended(task, job));
                    }
                }
                (Step::End, Some(Progress::Reading(_))) => return Ok(Told::NotAll),
                (Step::Start, Some(_)) | (Step::End, Some(Progress::Over)) => {}
                (Step::End, None) => unreachable!("a start comes before its end"),
            }
        }
        if job.completed || !self.wanted.to_the_end || self.task_is_over(job) {
            // Nothing else is told of those that never ran.
            let without_start = job.tasks.iter().filter(|task| task.has_ended() && !task.has_started());
            for task in without_start.filter(|task| self.wanted.includes(task)) {
                tell(Event::Ended(task, job));
            }
            tell(Event::Job(job));
            return Ok(Told::All);
        }
        Ok(Told::NotAll)
    }

    /// Opens the outputs of a task that runs, each on a connection of its own.
    fn open_each(&self, task: &Task) -> io::Result<Progress> {
        for stream in &self.wanted.streams {
            self.open(&task.name, vec![*stream])?;
        }
        Ok(Progress::Reading(self.wanted.streams.len()))
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
}

/// What has happened to tasks so far, in order. Times are whole seconds: within one, all that is known is that a task starts
/// behind those it depends on, which stand before it in the list. Where only what there is now is wanted, one task comes
/// behind the other, and what runs ends with what it has printed so far.
fn steps(job: &Job, wanted: &Wanted) -> Vec<(usize, Step)> {
    let time = |text: &Option<String>| text.as_deref().and_then(parse_rfc3339).unwrap_or(i64::MIN);
    let mut ends: HashMap<&str, i64> = HashMap::new();
    let mut steps = Vec::new();
    for (index, task) in job.tasks.iter().enumerate() {
        if !task.has_started() || !wanted.includes(task) {
            continue;
        }
        if !wanted.to_the_end {
            steps.extend([(0, index, Step::Start), (0, index, Step::End)]);
            continue;
        }
        // A clock that was set back must not turn cause and effect round.
        let before = if task.name == ON_ERROR {
            ends.values().max().copied()
        } else {
            let causes = task.depends_on.iter().filter_map(|other| ends.get(&**other));
            causes.max().copied()
        };
        let start = time(&task.start).max(before.unwrap_or(i64::MIN));
        steps.push((start, index, Step::Start));
        if task.has_ended() {
            let end = time(&task.end).max(start);
            ends.insert(&task.name, end);
            steps.push((end, index, Step::End));
        }
    }
    steps.sort_unstable();
    steps.into_iter().map(|(_, index, step)| (index, step)).collect()
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(256 * 1024)
        .spawn(work)
        .map(drop)
}

/// Waits for each change of the job, to its end.
fn look(client: &Client, id: &str, mut tag: String, sender: &Sender<Note>) {
    let mut patience = Patience::new(true);
    loop {
        let job = match wait_for_change(client, id, Some(&tag), &mut patience) {
            Ok(job) => job,
            Err(error) => {
                let _ = sender.send(Note::Failed(error));
                return;
            }
        };
        tag.clone_from(&job.tag);
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

    /// Where the last lines of what there is begin; of lines that are too long, as far as is looked.
    fn start_of_last(&self, stream: StreamKind, lines: usize) -> Result<u64, ClientError> {
        let most = (lines as u64).saturating_mul(LINE_BYTES).max(MAX_TAIL_BYTES);
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
                None if count >= most => return Ok(start),
                None if start == 0 => return Ok(0),
                None => count = count.saturating_mul(8).min(most),
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

    /// Each task: name, second of its start, of its end, and what it depends on; `-`: not yet.
    #[track_caller]
    fn check_steps(tasks: &str, to_the_end: bool, expected: &str) {
        let task = |text: &str| {
            let mut words = text.split_whitespace().map(str::to_owned);
            let time = |word: Option<String>| {
                let second = word.filter(|word| word != "-")?;
                Some(format!("2026-11-24T03:27:{second}Z"))
            };
            let name = words.next().unwrap();
            let (start, end) = (time(words.next()), time(words.next()));
            let status = if end.is_some() { "done" } else { "running" }.to_owned();
            let depends_on = words.collect();
            Task {
                name,
                depends_on,
                status,
                start,
                end,
                ..Task::default()
            }
        };
        let job = Job {
            tasks: tasks.split(',').map(task).collect(),
            ..Job::default()
        };
        let wanted = Wanted {
            to_the_end,
            task: None,
            streams: StreamKind::BOTH.to_vec(),
            tail: None,
        };
        let found: Vec<String> = steps(&job, &wanted)
            .into_iter()
            .map(|(index, step)| {
                let mark = if step == Step::Start { '+' } else { '-' };
                format!("{mark}{}", job.tasks[index].name)
            })
            .collect();
        assert_eq!(found.join(" "), expected);
    }

    #[test]
    fn what_happened_is_in_order() {
        check_steps("a 10 12, b 11 -, c - -", true, "+a +b -a");
        check_steps("a 10 13, b 11 12", true, "+a +b -b -a");
        // Within one second causes come first.
        check_steps("a 10 10, b 10 10 a, c 10 - b", true, "+a -a +b -b +c");
        check_steps(
            "a 10 10, mark 10 10 a, on_error 10 -",
            true,
            "+a -a +mark -mark +on_error",
        );
        // So they do where the clock was set back.
        check_steps(
            "a 20 21, b 10 11 a, on_error 05 06",
            true,
            "+a -a +b -b +on_error -on_error",
        );
        check_steps("b 20 -, a 10 12", false, "+b -b +a -a");
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
