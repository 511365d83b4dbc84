//! What is shown of jobs and pipelines, from the read model alone.
//!
//! Unaware of the main loop. Surprise: nothing is made into JSON here but the list of pipelines: a job is a string that
//! all answers share.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Api;
use super::error::Error;
use super::exchange::{Answer, Head, Later, Response};
use super::query::{Query, parse_job_id};
use super::reply;
use crate::definition::{duration, shown};
use crate::health::Health;
use crate::job::{JobId, JobStatus};
use crate::read_model::{Entry, ReadModel, Watch};
use crate::scheduler::PipelineView;
use crate::waker::Waker;

/// Proxies give up on an answer that takes much longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct Pipelines<'a> {
    pipelines: &'a [PipelineView],
}

pub(super) fn pipelines(api: &Api) -> Response {
    let pipelines = Arc::clone(api.model.read().pipelines());
    reply::json(200, &Pipelines { pipelines: &pipelines })
}

/// Which jobs are listed.
struct Filter<'a> {
    /// Any of them; empty: all.
    pipelines: Vec<&'a str>,
    /// Any of them; empty: all.
    statuses: Vec<JobStatus>,
    limit: usize,
    before: Option<JobId>,
}

impl<'a> Filter<'a> {
    fn new(query: &'a Query) -> Result<Filter<'a>, Error> {
        Ok(Filter {
            pipelines: query.all("pipeline").collect(),
            statuses: query.all("status").map(parse_status).collect::<Result<_, _>>()?,
            limit: query.first("limit").map_or(Ok(usize::MAX), parse_limit)?,
            before: query.first("before").map(parse_job_id).transpose()?,
        })
    }

    fn shows(&self, entry: &Entry) -> bool {
        (self.pipelines.is_empty() || self.pipelines.contains(&&*entry.pipeline))
            && (self.statuses.is_empty() || self.statuses.contains(&entry.status))
    }

    /// Newest first.
    fn take<'e>(&self, jobs: impl DoubleEndedIterator<Item = &'e Entry>) -> Vec<Arc<str>> {
        jobs.rev()
            .filter(|entry| self.shows(entry))
            .take(self.limit)
            .map(Entry::json)
            .collect()
    }
}

fn parse_status(text: &str) -> Result<JobStatus, Error> {
    let known = JobStatus::ALL.into_iter().find(|status| status.as_str() == text);
    known.ok_or_else(|| {
        let names: Vec<String> = JobStatus::ALL
            .iter()
            .map(|status| format!("`{}`", status.as_str()))
            .collect();
        Error::Parameter(format!(
            "`status` is `{}`, expected one of {}",
            shown(text),
            names.join(", ")
        ))
    })
}

fn parse_limit(text: &str) -> Result<usize, Error> {
    text.parse().ok().filter(|limit| *limit >= 1).ok_or_else(|| {
        Error::Parameter(format!(
            "`limit` is `{}`, expected a whole number, at least 1",
            shown(text)
        ))
    })
}

/// The jobs that the filter lets through. The tag stands for all that there is, so it changes more often than a
/// filtered list does, and never too seldom.
pub(super) fn list(api: &Api, head: &Head, query: &Query) -> Result<Response, Error> {
    let filter = Filter::new(query)?;
    let (tag, pipelines, jobs) = {
        let image = api.model.read();
        let before = match filter.before {
            None => None,
            Some(id) => Some(image.jobs_before(id).ok_or(Error::UnknownJob)?),
        };
        let tag = format!("\"{}-{}\"", api.start_mark, image.revision());
        if is_known(head, &tag) {
            return Ok(reply::empty(304).with_header(reply::header("ETag", &tag)));
        }
        let jobs = match before {
            None => filter.take(image.jobs()),
            Some(jobs) => filter.take(jobs),
        };
        (tag, Arc::clone(image.pipelines()), jobs)
    };
    // Nothing is locked any more: what comes now takes time.
    let list = List::new(&pipelines, jobs);
    let length = list.length();
    Ok(reply::new(200, reply::JSON, list, Some(length)).with_header(reply::header("ETag", &tag)))
}

/// The body of a list, put together while it is sent: as one text it would be as large as all jobs.
struct List {
    start: String,
    jobs: Vec<Arc<str>>,
    /// The piece that comes next: 0 is the start, then come the jobs, then the end.
    piece: usize,
    /// How much of it has been read.
    offset: usize,
}

impl List {
    const END: &str = "]}";

    fn new(pipelines: &[PipelineView], jobs: Vec<Arc<str>>) -> List {
        let pipelines = serde_json::to_string(pipelines).expect("pipelines are made of what JSON can hold");
        List {
            start: format!(r#"{{"pipelines":{pipelines},"jobs":["#),
            jobs,
            piece: 0,
            offset: 0,
        }
    }

    fn length(&self) -> usize {
        let jobs: usize = self.jobs.iter().map(|job| job.len()).sum();
        let commas = self.jobs.len().saturating_sub(1);
        self.start.len() + jobs + commas + List::END.len()
    }

    /// What is left of the piece at hand; empty behind the last.
    fn rest(&self) -> &[u8] {
        let (piece, comma) = match self.piece.checked_sub(1) {
            None => (self.start.as_str(), ""),
            Some(index) if index < self.jobs.len() => (&*self.jobs[index], if index > 0 { "," } else { "" }),
            Some(index) if index == self.jobs.len() => (List::END, ""),
            Some(_) => ("", ""),
        };
        if self.offset < comma.len() {
            comma.as_bytes()
        } else {
            &piece.as_bytes()[self.offset - comma.len()..]
        }
    }
}

impl Read for List {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < buffer.len() {
            let rest = self.rest();
            if rest.is_empty() {
                if self.piece > self.jobs.len() {
                    break;
                }
                self.piece += 1;
                self.offset = 0;
                continue;
            }
            let count = rest.len().min(buffer.len() - written);
            buffer[written..written + count].copy_from_slice(&rest[..count]);
            written += count;
            self.offset += count;
        }
        Ok(written)
    }
}

/// Whether the client has what this tag stands for. Tags are compared without their weakness, as RFC 9110 has it; none of
/// ours holds a comma.
fn is_known(head: &Head, tag: &str) -> bool {
    head.headers
        .iter()
        .filter(|header| header.field.equiv("If-None-Match"))
        .flat_map(|header| header.value.as_str().split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

pub(super) fn detail(api: &Api, query: &Query) -> Result<Answer, Error> {
    let id = query.job_id()?;
    let wait = match query.first("wait") {
        None => Duration::ZERO,
        Some(text) => parse_wait(text)?,
    };
    if wait.is_zero() {
        let entry = api.model.read().job(id).map(Entry::json).ok_or(Error::UnknownJob)?;
        return Ok(Answer::Ready(reply::json_bytes(200, SharedText(entry))));
    }
    let waker = Arc::new(Waker::new().map_err(|_| Error::Busy)?);
    Ok(Answer::Later(Box::new(Detail {
        // Before the first look, or an end that comes between the two is missed.
        watch: api.model.watch(id, waker),
        model: Arc::clone(&api.model),
        health: Arc::clone(&api.health),
        id,
        deadline: Instant::now() + wait,
    })))
}

fn parse_wait(text: &str) -> Result<Duration, Error> {
    let wait_ms = duration::parse(text).map_err(|what| Error::Parameter(format!("`wait` is {what}")))?;
    Ok(Duration::from_millis(wait_ms.unsigned_abs()).min(LONGEST_WAIT))
}

/// Waits for the end of a job.
struct Detail {
    watch: Watch,
    model: Arc<ReadModel>,
    health: Arc<Health>,
    id: JobId,
    deadline: Instant,
}

impl Later for Detail {
    fn waker(&self) -> BorrowedFd<'_> {
        self.watch.waker().as_fd()
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn answer(&mut self) -> Option<Response> {
        let is_last_chance = Instant::now() >= self.deadline || self.health.is_ending();
        let image = self.model.read();
        match image.job(self.id) {
            None => Some(Error::UnknownJob.to_response()),
            Some(entry) if is_last_chance || entry.status.has_ended() => {
                Some(reply::json_bytes(200, SharedText(entry.json())))
            }
            Some(_) => None,
        }
    }
}

/// A body that is not copied.
struct SharedText(Arc<str>);

impl AsRef<[u8]> for SharedText {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_list(jobs: &[&str], expected: &str) {
        for size in 1..=expected.len() + 1 {
            let mut list = List::new(&[], jobs.iter().map(|&job| job.into()).collect());
            assert_eq!(list.length(), expected.len());
            let (mut body, mut buffer) = (Vec::new(), vec![0; size]);
            loop {
                let count = list.read(&mut buffer).unwrap();
                if count == 0 {
                    break;
                }
                body.extend_from_slice(&buffer[..count]);
            }
            assert_eq!(String::from_utf8(body).unwrap(), expected, "read by {size}");
        }
    }

    #[test]
    fn a_list_is_whole_in_pieces_of_any_size() {
        check_list(&[], r#"{"pipelines":[],"jobs":[]}"#);
        check_list(&[r#"{"id":1}"#], r#"{"pipelines":[],"jobs":[{"id":1}]}"#);
        check_list(
            &[r#"{"id":1}"#, r#"{"id":23}"#, r#"{"id":4}"#],
            r#"{"pipelines":[],"jobs":[{"id":1},{"id":23},{"id":4}]}"#,
        );
    }
}
