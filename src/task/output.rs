//! Copies what a task prints to its logs, byte for byte, by two threads that serve one task after the other.
//!
//! Unaware of processes. A log, and the directory of its job, is made at its first byte: making two files for each task
//! would halve the rate of jobs. What can't be written is dropped and counted, and the task goes on; one that prints
//! faster than the disk takes it is slowed down by its pipe. Of a stream with a limit, the end is written when all is read
//! (`cut.rs`). The surprise: a pipe may stay open after the task, in the
//! hands of a process in the background, so reading ends with the pipe or when the readers are told to cut it off.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, ioctl_fionread};
use rustix::pipe::{PipeFlags, pipe_with};

use super::cut::Cut;
use super::follow::Followers;
use super::{Observer, Settings, StreamKind, lock, log_path};
use crate::definition::bounds::NO_LIMIT;
use crate::job::TaskRef;
use crate::metrics::Meters;
use crate::reason::reason;
use crate::waker::Waker;

/// How long output is read after the task has ended, where something else still holds its pipe: time enough for what a
/// process prints while it dies.
const READ_ON: Duration = Duration::from_millis(200);

/// What a pipe holds: more is never there to be read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// Enough for a task that prints little. Readers are many and mostly idle: large buffers in all of them would be most of
/// what prunner holds.
const SMALL_BUFFER_BYTES: usize = 2 * 1024;

/// The two readers of a worker.
pub(super) struct Output {
    readers: [Reader; 2],
    shared: Arc<Shared>,
}

struct Reader {
    /// `None` once the thread has been told to end.
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

struct Order {
    pipe: OwnedFd,
    log: Log,
}

/// Tells the readers to go on no longer than what is in the pipes now.
pub(super) struct Cutter {
    is_cut: AtomicBool,
    wakers: [Waker; 2],
}

/// Which processes are being started. Until such a one has become its program, it holds a copy of every pipe of ours,
/// also of other tasks: no daemon of theirs, though it looks like one.
#[derive(Default)]
pub(super) struct Starts {
    state: Mutex<StartsState>,
    one_is_over: Condvar,
}

#[derive(Default)]
struct StartsState {
    next: u64,
    under_way: BTreeSet<u64>,
}

/// A start that is under way until this is dropped.
pub(super) struct StartUnderWay<'a> {
    starts: &'a Starts,
    number: u64,
}

struct Shared {
    cutter: Arc<Cutter>,
    ends: Mutex<[Option<StreamEnd>; 2]>,
    both_ended: Condvar,
}

/// What became of one stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct StreamEnd {
    /// Something still held the pipe.
    was_cut: bool,
    dropped_bytes: u64,
    /// Why bytes were dropped: what happened last.
    why: String,
}

impl Output {
    /// `worker` names the threads.
    pub(super) fn new(worker: u64) -> io::Result<Output> {
        let shared = Arc::new(Shared {
            cutter: Arc::new(Cutter {
                is_cut: AtomicBool::new(false),
                wakers: [Waker::new()?, Waker::new()?],
            }),
            ends: Mutex::default(),
            both_ended: Condvar::new(),
        });
        let reader = |stream: StreamKind| {
            let (sender, orders) = bounded(1);
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new()
                .name(format!("worker {worker} {}", stream.as_str()))
                .spawn(move || read_for_ever(stream, &orders, &shared))?;
            io::Result::Ok(Reader {
                orders: Some(sender),
                thread: Some(thread),
            })
        };
        Ok(Output {
            readers: [reader(StreamKind::Stdout)?, reader(StreamKind::Stderr)?],
            shared,
        })
    }

    pub(super) fn cutter(&self) -> Arc<Cutter> {
        Arc::clone(&self.shared.cutter)
    }

    /// Returns what the task is to print to: standard output and standard error, of each of which the log keeps so many bytes
    /// and the end. Close them after its start, or its output
    /// has no end.
    pub(super) fn start(
        &mut self,
        task: TaskRef,
        task_name: &Arc<str>,
        limit: u64,
        settings: &Settings,
        followers: &Arc<Followers>,
    ) -> io::Result<[OwnedFd; 2]> {
        let [stdout, stderr] = [pipe()?, pipe()?];
        self.shared.cutter.is_cut.store(false, Ordering::SeqCst);
        *lock(&self.shared.ends) = [None, None];
        for (stream, pipe) in [(StreamKind::Stdout, stdout.0), (StreamKind::Stderr, stderr.0)] {
            self.shared.cutter.wakers[stream as usize].clear();
            let log = Log::new(task, task_name, stream, settings, followers).limited(limit);
            let orders = self.readers[stream as usize].orders.as_ref();
            orders
                .expect("readers end with the worker")
                .send(Order { pipe, log })
                .expect("a reader lives as long as orders can come");
        }
        Ok([stdout.1, stderr.1])
    }

    /// Call it when the task has ended: reads what is left and returns what a person should know of it.
    pub(super) fn finish(&mut self, starts: &Starts) -> Vec<String> {
        let ends = self.shared.wait(Some(Instant::now() + READ_ON)).unwrap_or_else(|| {
            // On a busy machine. Not for long: a start can hang in a file system.
            starts.wait_for_those_under_way(Instant::now() + READ_ON);
            self.shared.cutter.cut();
            self.shared
                .wait(None)
                .expect("without a deadline both ends are waited for")
        });
        notes(&ends)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        for reader in &mut self.readers {
            reader.orders = None;
        }
        for reader in &mut self.readers {
            if let Some(thread) = reader.thread.take() {
                // A panic was printed by the thread itself.
                let _ = thread.join();
            }
        }
    }
}

impl Cutter {
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        self.wakers.iter().for_each(Waker::wake);
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::SeqCst)
    }
}

impl Starts {
    pub(super) fn begin(&self) -> StartUnderWay<'_> {
        let mut state = lock(&self.state);
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number);
        StartUnderWay { starts: self, number }
    }

    /// Later ones hold no copies of pipes that are closed by now.
    fn wait_for_those_under_way(&self, deadline: Instant) {
        let mut state = lock(&self.state);
        let end = state.next;
        while state.under_way.first().is_some_and(|&first| first < end) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return;
            };
            let waited = self.one_is_over.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for StartUnderWay<'_> {
    fn drop(&mut self) {
        lock(&self.starts.state).under_way.remove(&self.number);
        self.starts.one_is_over.notify_all();
    }
}

impl Shared {
    fn put(&self, stream: StreamKind, end: StreamEnd) {
        let mut ends = lock(&self.ends);
        ends[stream as usize] = Some(end);
        if ends.iter().all(Option::is_some) {
            self.both_ended.notify_one();
        }
    }

    /// `None` where the deadline came first.
    fn wait(&self, deadline: Option<Instant>) -> Option<[StreamEnd; 2]> {
        let mut ends = lock(&self.ends);
        loop {
            if let [Some(stdout), Some(stderr)] = &mut *ends {
                return Some([std::mem::take(stdout), std::mem::take(stderr)]);
            }
            ends = match deadline {
                None => self.both_ended.wait(ends).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.checked_duration_since(Instant::now())?;
                    let waited = self.both_ended.wait_timeout(ends, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// A pipe that children don't inherit by accident, and whose end for reading never blocks.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setfl(&reader, OFlags::NONBLOCK)?;
    Ok((reader, writer))
}

fn notes(ends: &[StreamEnd; 2]) -> Vec<String> {
    let mut notes = Vec::new();
    for (end, name) in ends.iter().zip(["standard output", "standard error"]) {
        if end.dropped_bytes > 0 {
            let bytes = if end.dropped_bytes == 1 {
                "byte was"
            } else {
                "bytes were"
            };
            notes.push(format!("{} {bytes} dropped of {name}: {}", end.dropped_bytes, end.why));
        }
    }
    if ends.iter().any(|end| end.was_cut) {
        let milliseconds = READ_ON.as_millis();
        notes.push(format!(
            "output was cut off: a process in the background still held it {milliseconds} ms after the task ended"
        ));
    }
    notes
}

fn read_for_ever(stream: StreamKind, orders: &Receiver<Order>, shared: &Shared) {
    let mut buffer = vec![0; SMALL_BUFFER_BYTES];
    let waker = &shared.cutter.wakers[stream as usize];
    while let Ok(Order { pipe, mut log }) = orders.recv() {
        let was_cut = copy(&pipe, &mut log, &mut buffer, &shared.cutter, waker);
        drop(pipe);
        log.finish();
        let end = StreamEnd {
            was_cut,
            dropped_bytes: log.dropped_bytes,
            why: std::mem::take(&mut log.why),
        };
        drop(log);
        buffer.truncate(SMALL_BUFFER_BYTES);
        buffer.shrink_to_fit();
        shared.put(stream, end);
    }
}

/// Returns whether it was cut off before the end.
fn copy(pipe: &OwnedFd, log: &mut Log, buffer: &mut Vec<u8>, cutter: &Cutter, waker: &Waker) -> bool {
    // Once cut: how much is still read, so that what the task itself has printed is whole.
    let mut left = None;
    loop {
        if left.is_none() && cutter.is_cut() {
            left = Some(ioctl_fionread(pipe).unwrap_or_default());
        }
        match rustix::io::read(pipe, &mut buffer[..]) {
            Ok(0) => return false,
            Ok(count) => {
                log.write(&buffer[..count]);
                if count == buffer.len() {
                    buffer.resize(BUFFER_BYTES, 0);
                }
                if let Some(left) = &mut left {
                    if *left == 0 {
                        return true;
                    }
                    *left = left.saturating_sub(count as u64);
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if left.is_some() => return true,
            Err(Errno::AGAIN) => wait_for_more(pipe, waker),
            // A pipe has no other errors; one that had could only be closed.
            Err(_) => return true,
        }
    }
}

fn wait_for_more(pipe: &OwnedFd, waker: &Waker) {
    let mut waited_for = [
        PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(waker.as_fd(), PollFlags::IN),
    ];
    // Whatever ended the wait, an interrupt too: the caller tries to read.
    let _ = poll(&mut waited_for, None);
}

/// Where the output of a stream goes: to one log file, which may not exist yet, and to whoever observes it.
struct Log {
    path: Option<PathBuf>,
    observer: Option<Observer>,
    task_name: Arc<str>,
    file: Option<File>,
    /// `None`: all of it is kept.
    cut: Option<Cut>,
    /// The byte that was written last.
    last: Option<u8>,
    dropped_bytes: u64,
    why: String,
    task: TaskRef,
    stream: StreamKind,
    followers: Arc<Followers>,
    meters: Arc<Meters>,
}

impl Log {
    fn new(
        task: TaskRef,
        task_name: &Arc<str>,
        stream: StreamKind,
        settings: &Settings,
        followers: &Arc<Followers>,
    ) -> Log {
        let logs = settings.logs.as_ref();
        Log {
            path: logs.map(|logs| log_path(logs, task.job, task_name, stream)),
            observer: settings.observer.clone(),
            task_name: Arc::clone(task_name),
            file: None,
            cut: None,
            last: None,
            dropped_bytes: 0,
            why: String::new(),
            task,
            stream,
            followers: Arc::clone(followers),
            meters: Arc::clone(&settings.meters),
        }
    }

    /// Of so many bytes; what an earlier attempt has printed counts too.
    fn limited(mut self, limit: u64) -> Log {
        if limit != NO_LIMIT {
            let file = self.path.as_ref().and_then(|path| fs::metadata(path).ok());
            self.cut = Some(Cut::new(limit, file.map_or(0, |file| file.len())));
        }
        self
    }

    fn write(&mut self, bytes: &[u8]) {
        let bytes = match &mut self.cut {
            None => bytes,
            Some(cut) => cut.take(bytes),
        };
        if !bytes.is_empty() {
            self.put(bytes);
        }
    }

    /// Nothing more comes: writes what was held back.
    fn finish(&mut self) {
        let Some(cut) = self.cut.take() else { return };
        let (marker, end) = cut.end();
        if let Some(marker) = marker {
            let line_end = if self.is_within_a_line() { "\n" } else { "" };
            self.put(format!("{line_end}{marker}").as_bytes());
        }
        for part in end.into_iter().filter(|part| !part.is_empty()) {
            self.put(part);
        }
    }

    /// Whether what was written so far, perhaps by an earlier attempt, ends without a line end.
    fn is_within_a_line(&self) -> bool {
        let before = || {
            let path = self.path.as_ref()?;
            read_end(path, 0).ok()?.last().copied()
        };
        self.last.or_else(before).is_some_and(|byte| byte != b'\n')
    }

    /// What can't be written is dropped and counted. The next call tries again: a disk that is full may have room then.
    fn put(&mut self, bytes: &[u8]) {
        self.last = bytes.last().copied();
        if let Some(path) = &self.path {
            let mut written = 0;
            if let Err(error) = write_to(path, &mut self.file, bytes, &mut written) {
                self.dropped_bytes += (bytes.len() - written) as u64;
                self.why = format!("failed to write `{}`: {}", path.display(), reason(&error));
            }
            if written > 0 {
                self.meters.count_log_bytes(self.stream as usize, written);
                self.followers.notify(self.task, self.stream);
            }
        }
        if let Some(Observer(observe)) = &self.observer {
            observe(self.task, &self.task_name, self.stream, bytes);
        }
    }
}

fn write_to(path: &Path, file: &mut Option<File>, bytes: &[u8], written: &mut usize) -> io::Result<()> {
    let file = match file {
        Some(file) => file,
        none => none.insert(create_log(path)?),
    };
    while *written < bytes.len() {
        match rustix::io::write(&*file, &bytes[*written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => *written += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Appends a line of prunner's own to what a task has printed so far. Nobody else may write to that log meanwhile. What
/// can't be written is left out.
pub(super) fn append_line(
    task: TaskRef,
    task_name: &Arc<str>,
    settings: &Settings,
    followers: &Arc<Followers>,
    text: &str,
) {
    let mut log = Log::new(task, task_name, StreamKind::Stderr, settings, followers);
    if let Some(Observer(observe)) = log.observer.take() {
        // Without a file nobody else knows how the attempt's outputs ended.
        for stream in StreamKind::BOTH {
            observe(task, task_name, stream, b"");
        }
        observe(task, task_name, StreamKind::Stderr, format!("{text}\n").as_bytes());
    }
    let line_end = if log.is_within_a_line() { "\n" } else { "" };
    log.write(format!("{line_end}{text}\n").as_bytes());
}

/// Opens a log to append to it; makes it and its directory where they are missing, for this user's eyes only, whatever the
/// umask.
fn create_log(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let file = match open() {
        // No permission: the other stream may have made the directory under a strict umask a moment ago.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            let directory = path.parent().ok_or(error)?;
            create_directory(directory)?;
            fs::set_permissions(directory, Permissions::from_mode(0o700))?;
            open()?
        }
        other => other?,
    };
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn create_directory(path: &Path) -> io::Result<()> {
    let create = || fs::DirBuilder::new().mode(0o700).create(path);
    let created = create().or_else(|error| match path.parent() {
        Some(parent) if error.kind() == ErrorKind::NotFound => {
            create_directory(parent)?;
            create()
        }
        _ => Err(error),
    });
    match created {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o700)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The end of a log, at most `limit` bytes of text: from the start of a line, or where one line is longer, from a
/// character. NUL, which no environment can hold, and what is not UTF-8 become U+FFFD. Empty where there is no log.
pub(super) fn tail(path: &Path, limit: u64) -> String {
    let bytes = read_end(path, limit).unwrap_or_default();
    // Replacing never makes it shorter, so that more than the limit was read exactly where there is more.
    let text = String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}");
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let Some(start) = text.len().checked_sub(limit).filter(|&start| start > 0) else {
        return text;
    };
    let character = (start..=text.len())
        .find(|&place| text.is_char_boundary(place))
        .unwrap_or(text.len());
    // A line that begins right at the place has its line end before it.
    let line = text.as_bytes()[start - 1..]
        .iter()
        .position(|&byte| byte == b'\n')
        .map(|place| start + place);
    let start = line.filter(|&line| line < text.len()).unwrap_or(character);
    text[start..].to_owned()
}

/// The last bytes of a file, one more than `limit` where there are so many.
fn read_end(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit + 1)))?;
    let mut bytes = Vec::new();
    // It may still grow.
    file.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use rustix::event::Timespec;
    use uuid::Uuid;

    use super::*;
    use crate::job::JobId;
    use crate::task::Mark;

    #[test]
    fn only_the_starts_that_are_under_way_are_waited_for() {
        let starts = Starts::default();
        let first = starts.begin();
        let begun = Instant::now();
        starts.wait_for_those_under_way(begun + Duration::from_millis(50));
        assert!(begun.elapsed() >= Duration::from_millis(50));

        thread::scope(|scope| {
            let waiter = scope.spawn(|| starts.wait_for_those_under_way(Instant::now() + Duration::from_secs(30)));
            drop(first);
            waiter.join().unwrap();
        });
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(lock(&starts.state).under_way.is_empty());
    }

    #[test]
    fn readers_that_were_cut_off_wait_again_for_the_next_task() {
        let mut output = Output::new(0).unwrap();
        let task = TaskRef {
            job: JobId(Uuid::from_u128(1)),
            index: 0,
        };
        let followers = Followers::new();
        let settings = Settings {
            logs: None,
            observer: None,
            mark: Mark::Inherited(OsString::new()),
            shell: Vec::new(),
            log_limit: NO_LIMIT,
            environment: Vec::new(),
            meters: Arc::default(),
        };
        let held = output
            .start(task, &"build".into(), NO_LIMIT, &settings, &followers)
            .unwrap();
        let [note] = output.finish(&Starts::default()).try_into().unwrap();
        assert!(note.starts_with("output was cut off"), "{note}");
        drop(held);

        let pipes = output
            .start(task, &"build".into(), NO_LIMIT, &settings, &followers)
            .unwrap();
        // A wake that is left over would make the readers spin.
        for waker in &output.shared.cutter.wakers {
            let mut ready = [PollFd::new(waker, PollFlags::IN)];
            assert_eq!(poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0));
        }
        drop(pipes);
        assert_eq!(output.finish(&Starts::default()), Vec::<String>::new());
    }
}
