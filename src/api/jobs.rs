//! What is shown of jobs and pipelines, from the read model alone.
//!
//! Unaware of the main loop. Surprise: nothing is made into JSON here but the list of pipelines: a job is a string that
//! all answers share.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Api;
use super::error::Error;
use super::exchange::{Answer, Head, Later, Response};
use super::query::{Query, parse_job_id};
use super::reply::{self, Chain};
use crate::definition::{duration, shown};
use crate::health::Health;
use crate::job::{JobId, JobStatus};
use crate::metrics::Meters;
use crate::read_model::{Content, Entry, ReadModel, Watch};
use crate::scheduler::PipelineView;
use crate::waker::Waker;

/// Proxies give up on an answer that takes much longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct Pipelines<'a> {
    pipelines: &'a [PipelineView],
}

pub(super) fn pipelines(api: &Api) -> Response {
    let pipelines = Arc::clone(api.parts.model.read().pipelines());
    let pipelines = as_of_now(pipelines, api.parts.health.refusal().is_some());
    reply::json(200, &Pipelines { pipelines: &pipelines })
}

/// What the store can't save is not shown either: so that all requests are refused is known here alone.
fn as_of_now(pipelines: Arc<[PipelineView]>, all_are_refused: bool) -> Arc<[PipelineView]> {
    if !all_are_refused {
        return pipelines;
    }
    let refused = |view: &PipelineView| PipelineView {
        schedulable: false,
        ..view.clone()
    };
    pipelines.iter().map(refused).collect()
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
    fn take<'e>(&self, jobs: impl DoubleEndedIterator<Item = &'e Entry>) -> Vec<Content> {
        jobs.rev()
            .filter(|entry| self.shows(entry))
            .take(self.limit)
            .map(|entry| entry.content.clone())
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
    let all_are_refused = api.parts.health.refusal().is_some();
    let (tag, pipelines, jobs) = {
        let image = api.parts.model.read();
        let before = match filter.before {
            None => None,
            Some(id) => Some(image.jobs_before(id).ok_or(Error::UnknownJob)?),
        };
        let refused = if all_are_refused { "-refused" } else { "" };
        let tag = format!("\"{}-{}{refused}\"", api.start_mark, image.revision());
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
    let jobs: Vec<Arc<str>> = jobs.iter().map(Content::json).collect();
    let pipelines = as_of_now(pipelines, all_are_refused);
    let (body, length) = Chain::new(list_texts(&pipelines, jobs));
    Ok(reply::new(200, reply::JSON, body, Some(length)).with_header(reply::header("ETag", &tag)))
}

/// What the list is put together from. However many clients read it, there is one of each job.
fn list_texts(pipelines: &[PipelineView], jobs: Vec<Arc<str>>) -> Vec<Arc<str>> {
    let pipelines = serde_json::to_string(pipelines).expect("pipelines are made of what JSON can hold");
    let comma: Arc<str> = ",".into();
    let mut texts = Vec::with_capacity(2 * jobs.len() + 2);
    texts.push(format!(r#"{{"pipelines":{pipelines},"jobs":["#).into());
    for (index, job) in jobs.into_iter().enumerate() {
        if index > 0 {
            texts.push(Arc::clone(&comma));
        }
        texts.push(job);
    }
    texts.push("]}".into());
    texts
}

/// Whether the client has what this tag stands for. Tags are compared without their weakness, as RFC 9110 has it; none of
/// ours holds a comma.
fn is_known(head: &Head, tag: &str) -> bool {
    tags(head).any(|known| known == "*" || known == tag)
}

fn tags(head: &Head) -> impl Iterator<Item = &str> {
    head.headers
        .iter()
        .filter(|header| header.field.equiv("If-None-Match"))
        .flat_map(|header| header.value.as_str().split(','))
        .map(|tag| {
            let tag = tag.trim();
            tag.strip_prefix("W/").unwrap_or(tag)
        })
}

/// One job. With the tag of what the client has, a wait ends with any change, else with the end of the job.
pub(super) fn detail(api: &Api, head: &Head, query: &Query) -> Result<Answer, Error> {
    let id = query.job_id()?;
    let wait = match query.first("wait") {
        None => Duration::ZERO,
        Some(text) => parse_wait(text)?,
    };
    let known = Known {
        tags: tags(head).map(str::to_owned).collect(),
        start_mark: api.start_mark.clone(),
    };
    if wait.is_zero() {
        let look = Look::at(&api.parts.model, id).ok_or(Error::UnknownJob)?;
        return Ok(Answer::Ready(known.answer(&look)));
    }
    let waker = Arc::new(Waker::new().map_err(|_| Error::Busy)?);
    Ok(Answer::Later(Box::new(Detail {
        // Before the first look, or an end that comes between the two is missed.
        watch: api.parts.model.watch(id, waker),
        model: Arc::clone(&api.parts.model),
        health: Arc::clone(&api.parts.health),
        meters: Arc::clone(&api.parts.meters),
        id,
        known,
        deadline: Instant::now() + wait,
    })))
}

fn parse_wait(text: &str) -> Result<Duration, Error> {
    let wait_ms = duration::parse(text).map_err(|what| Error::Parameter(format!("`wait` is {what}")))?;
    Ok(Duration::from_millis(wait_ms.unsigned_abs()).min(LONGEST_WAIT))
}

/// A job at one moment.
struct Look {
    status: JobStatus,
    content: Content,
    revision: u64,
}

impl Look {
    fn at(model: &ReadModel, id: JobId) -> Option<Look> {
        model.read().job(id).map(|entry| Look {
            status: entry.status,
            content: entry.content.clone(),
            revision: entry.revision,
        })
    }
}

/// What a client has of a job already.
struct Known {
    /// Empty: it did not say.
    tags: Vec<String>,
    start_mark: String,
}

impl Known {
    fn tag(&self, look: &Look) -> String {
        format!("\"{}-{}\"", self.start_mark, look.revision)
    }

    fn has(&self, look: &Look) -> bool {
        let tag = self.tag(look);
        self.tags.iter().any(|known| known == "*" || *known == tag)
    }

    fn answer(&self, look: &Look) -> Response {
        let response = if self.has(look) {
            reply::empty(304)
        } else {
            reply::json_bytes(200, SharedText(look.content.json()))
        };
        response.with_header(reply::header("ETag", &self.tag(look)))
    }
}

/// Waits for the end of a job, or for a change of it.
struct Detail {
    watch: Watch,
    model: Arc<ReadModel>,
    health: Arc<Health>,
    meters: Arc<Meters>,
    id: JobId,
    known: Known,
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
        let Some(look) = Look::at(&self.model, self.id) else {
            return Some(Error::UnknownJob.refuse(&self.meters));
        };
        let is_news = look.status.has_ended() || !self.known.tags.is_empty() && !self.known.has(&look);
        // What a cache would add to the request unasked would end its wait.
        let kept_by_nobody = reply::header("Cache-Control", "no-store");
        (is_last_chance || is_news).then(|| self.known.answer(&look).with_header(kept_by_nobody))
    }
}

/// A body that is not copied.
struct SharedText(Arc<str>);

impl AsRef<[u8]> for SharedText {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
