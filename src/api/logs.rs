//! What tasks print: the end of it as JSON, or all of it as it is, also while it grows.
//!
//! Unaware of who writes the files. Surprise: the name of a task is looked for in its job before it becomes part of a
//! path, so that no request can reach another file.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tiny_http::Method;

use super::Api;
use super::error::Error;
use super::exchange::{Answer, Head, Next, Response, Stream};
use super::query::Query;
use super::reply;
use super::tails::Tails;
use crate::definition::shown;
use crate::job::{JobId, TaskRef, TaskStatus};
use crate::read_model::{Content, ReadModel, Watch};
use crate::task::{Follower, StreamKind, log_path};
use crate::waker::Waker;

/// What a follower gets at once.
const PIECE_BYTES: usize = 64 << 10;

/// The part of the object of a job that has ended that is needed here.
#[derive(Debug, Default, Deserialize)]
struct Job<'a> {
    #[serde(borrow)]
    tasks: Vec<Task<'a>>,
}

#[derive(Debug, Deserialize)]
struct Task<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

impl Job<'_> {
    /// A job object from a file of an older form may lack what ours have: then nothing is known of its tasks.
    fn parse(json: &str) -> Job<'_> {
        serde_json::from_str(json).unwrap_or_default()
    }
}

/// Where the task stands in its job.
fn find_task(model: &ReadModel, job: JobId, name: &str) -> Result<TaskRef, Error> {
    let content = model.read().job(job).map(|entry| entry.content.clone());
    let index = match content.ok_or(Error::UnknownJob)? {
        Content::Live(live) => live.record.tasks.iter().position(|task| *task.name == *name),
        Content::Ended(json) => Job::parse(&json).tasks.iter().position(|task| task.name == name),
    };
    index.map(|index| TaskRef { job, index }).ok_or(Error::UnknownTask)
}

/// A log that may not be there, as there is none before there is output.
fn open(path: &Path) -> Result<Option<File>, io::Error> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn not_readable(error: &io::Error) -> Error {
    Error::internal("failed to read the output of a task", error)
}

/// Both streams in JSON.
pub(super) fn tails(api: &Api, query: &Query) -> Result<Response, Error> {
    let job = query.job_id()?;
    let name = query.task_name()?;
    find_task(&api.parts.model, job, name)?;
    let [stdout, stderr] = StreamKind::BOTH.map(|stream| open(&log_path(&api.parts.logs, job, name, stream)));
    let body = stdout.and_then(|stdout| Tails::new(stdout, stderr?));
    let body = body.and_then(|body| Ok((body.length()?, body)));
    let (length, body) = body.map_err(|error| not_readable(&error))?;
    Ok(reply::new(200, reply::JSON, body, Some(length)))
}

/// One stream as it is.
pub(super) fn raw(api: &Api, head: &Head, query: &Query) -> Result<Answer, Error> {
    let job = query.job_id()?;
    let name = query.task_name()?;
    let stream = query.first("stream").map_or(Ok(StreamKind::Stdout), parse_stream)?;
    let follow = query.first("follow").map_or(Ok(false), parse_follow)?;
    let offset = query.first("offset").map_or(Ok(0), parse_offset)?;
    let task = find_task(&api.parts.model, job, name)?;
    let path = log_path(&api.parts.logs, job, name, stream);
    if !follow {
        return whole_or_part(head, &path).map(Answer::Ready);
    }
    let waker = Arc::new(Waker::new().map_err(|_| Error::Busy)?);
    Ok(Answer::Stream(Box::new(Following {
        _watch: api.parts.model.watch(job, Arc::clone(&waker)),
        follower: api.parts.followers.register(task, stream, waker),
        model: Arc::clone(&api.parts.model),
        task,
        path,
        file: None,
        offset,
    })))
}

fn parse_stream(text: &str) -> Result<StreamKind, Error> {
    let known = StreamKind::BOTH.into_iter().find(|stream| stream.as_str() == text);
    known.ok_or_else(|| Error::Parameter(format!("`stream` is `{}`, expected `stdout` or `stderr`", shown(text))))
}

fn parse_follow(text: &str) -> Result<bool, Error> {
    text.parse()
        .map_err(|_| Error::Parameter(format!("`follow` is `{}`, expected `true` or `false`", shown(text))))
}

fn parse_offset(text: &str) -> Result<u64, Error> {
    parse_digits(text)
        .ok_or_else(|| Error::Parameter(format!("`offset` is `{}`, expected a number of bytes", shown(text))))
}

/// A number that is too large is the largest: no log is that long.
fn parse_digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

fn whole_or_part(head: &Head, path: &Path) -> Result<Response, Error> {
    let file = open(path).map_err(|error| not_readable(&error))?;
    let length = match &file {
        Some(file) => file.metadata().map_err(|error| not_readable(&error))?.len(),
        None => 0,
    };
    // RFC 9110 defines ranges for GET alone. What `If-Range` holds can't match, as logs have no tag.
    let has_range = head.method == Method::Get && head.header("If-Range").is_none();
    let range = head.header("Range").filter(|_| has_range);
    let (status, first, end) = match wanted(range, length) {
        Wanted::Whole => (200, 0, length),
        Wanted::Part { first, end } => (206, first, end),
        Wanted::Nothing => return Err(Error::Range(length)),
    };
    let body: Box<dyn Read + Send> = match file {
        Some(mut file) => {
            file.seek(SeekFrom::Start(first))
                .map_err(|error| not_readable(&error))?;
            Box::new(file.take(end - first))
        }
        None => Box::new(io::empty()),
    };
    let body_length = usize::try_from(end - first).expect("an address has 64 bits");
    let mut response =
        reply::new(status, reply::TEXT, body, Some(body_length)).with_header(reply::header("Accept-Ranges", "bytes"));
    if status == 206 {
        let last = end - 1;
        response.add_header(reply::header(
            "Content-Range",
            &format!("bytes {first}-{last}/{length}"),
        ));
    }
    Ok(response)
}

/// What a client wants of something that has a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    /// At least one byte.
    Part {
        first: u64,
        /// Behind the last.
        end: u64,
    },
    /// It begins behind the end.
    Nothing,
}

fn wanted(range: Option<&str>, length: u64) -> Wanted {
    range
        .and_then(|range| parse_range(range, length))
        .unwrap_or(Wanted::Whole)
}

/// `None` where it can't be read, or is more than one.
fn parse_range(range: &str, length: u64) -> Option<Wanted> {
    let (unit, range) = range.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    if first.is_empty() {
        let count = parse_digits(last)?.min(length);
        return Some(match count {
            0 => Wanted::Nothing,
            count => Wanted::Part {
                first: length - count,
                end: length,
            },
        });
    }
    let first = parse_digits(first)?;
    let last = if last.is_empty() { u64::MAX } else { parse_digits(last)? };
    if last < first {
        return None;
    }
    if first >= length {
        return Some(Wanted::Nothing);
    }
    Some(Wanted::Part {
        first,
        end: last.saturating_add(1).min(length),
    })
}

/// A log while it grows, to its end.
struct Following {
    /// Stands for the state of the task, and the follower for its output; both wake the same waker.
    _watch: Watch,
    follower: Follower,
    model: Arc<ReadModel>,
    task: TaskRef,
    path: PathBuf,
    /// `None` as long as there is none.
    file: Option<File>,
    offset: u64,
}

impl Following {
    fn task_has_ended(&self) -> bool {
        let image = self.model.read();
        // Without the job: it was forgotten.
        let Some(Content::Live(live)) = image.job(self.task.job).map(|entry| &entry.content) else {
            return true;
        };
        match live.record.tasks.get(self.task.index).map(|task| task.progress.status) {
            Some(TaskStatus::Waiting | TaskStatus::Running) => false,
            Some(TaskStatus::Done | TaskStatus::Error | TaskStatus::Canceled) | None => true,
        }
    }

    /// Appends what there is, and says whether there was anything.
    fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        if self.file.is_none() {
            self.file = open(&self.path)?;
        }
        let Some(file) = &self.file else { return Ok(false) };
        buffer.resize(PIECE_BYTES, 0);
        let count = loop {
            match file.read_at(buffer, self.offset) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Behind all that a file can hold.
                Err(error) if error.kind() == ErrorKind::InvalidInput => break 0,
                other => break other?,
            }
        };
        buffer.truncate(count);
        self.offset += count as u64;
        Ok(count > 0)
    }

    fn next_piece(&mut self, buffer: &mut Vec<u8>) -> io::Result<Next> {
        if self.read(buffer)? {
            return Ok(Next::Data);
        }
        // In this order: what was written before the end is there to be read after it was seen.
        let is_last = self.task_has_ended();
        if self.read(buffer)? {
            return Ok(Next::Data);
        }
        Ok(if is_last { Next::End } else { Next::Wait })
    }
}

impl Stream for Following {
    fn head(&self) -> Response {
        reply::new(200, reply::TEXT, io::empty(), None)
    }

    fn waker(&self) -> BorrowedFd<'_> {
        self.follower.waker().as_fd()
    }

    fn next(&mut self, buffer: &mut Vec<u8>) -> Next {
        self.next_piece(buffer).unwrap_or_else(|error| {
            not_readable(&error);
            Next::Broken
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(range: &str, length: u64, expected: Wanted) {
        assert_eq!(wanted(Some(range), length), expected);
    }

    fn part(first: u64, end: u64) -> Wanted {
        Wanted::Part { first, end }
    }

    #[test]
    fn ranges_are_read() {
        assert_eq!(wanted(None, 10), Wanted::Whole);
        check("bytes=0-", 10, part(0, 10));
        check("bytes=9-", 10, part(9, 10));
        check("bytes=2-4", 10, part(2, 5));
        check("Bytes = 2-4 ", 10, part(2, 5));
        check("bytes=2-2", 10, part(2, 3));
        check("bytes=2-99999999999999999999", 10, part(2, 10));
        check("bytes=2-18446744073709551615", 10, part(2, 10));
        check("bytes=-3", 10, part(7, 10));
        check("bytes=-30", 10, part(0, 10));
    }

    #[test]
    fn ranges_behind_the_end_hold_nothing() {
        check("bytes=10-", 10, Wanted::Nothing);
        check("bytes=10-12", 10, Wanted::Nothing);
        check("bytes=99999999999999999999-", 10, Wanted::Nothing);
        check("bytes=-0", 10, Wanted::Nothing);
        check("bytes=0-", 0, Wanted::Nothing);
        check("bytes=-5", 0, Wanted::Nothing);
    }

    #[test]
    fn what_is_no_range_is_ignored() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5",
            "bytes=4-2",
            "bytes=a-",
            "bytes=1-b",
            "bytes=+1-2",
            "bytes=--1",
            "bytes=0-1,3-4",
            "bytes=0-1, 3-4",
            "lines=0-1",
            "0-1",
        ] {
            check(range, 10, Wanted::Whole);
        }
    }
}
