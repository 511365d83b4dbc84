//! The API: requests in, answers out, without sockets.
//!
//! What is shown comes from the read model and from log files, on the thread of the connection; only what changes
//! something is asked of the main loop. Unaware of how jobs run and of how they are kept.
//! Surprise: a request is looked at twice. `refuse` decides from its head alone, before a body is read, and `handle`
//! looks at the token and at the state of prunner again, as the body may have taken its time.
//!
//! ```text
//! mod.rs        the routes; what changes something
//! auth.rs       tokens
//! query.rs      query parameters
//! body.rs       bodies that are objects
//! schedule.rs   the body of a request for a job
//! schedules.rs  schedules
//! guard.rs      what no body may hold
//! jobs.rs       jobs and pipelines
//! logs.rs       what tasks print
//! tails.rs      the end of that as JSON
//! metrics.rs    numbers for whoever watches
//! openapi.rs    all of this for programs
//! error.rs      what is answered instead: texts, codes, statuses
//! reply.rs      responses
//! exchange.rs   the types between this and the sockets
//! ```
//!
//! A new route is a line in [`ROUTES`], a variant of [`Action`], a function, and its part of `openapi.json`.

pub(crate) mod auth;
mod body;
mod error;
pub(crate) mod exchange;
mod guard;
mod jobs;
mod logs;
mod metrics;
mod openapi;
mod query;
mod reply;
mod schedule;
mod schedules;
mod tails;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use serde::Serialize;
use tiny_http::Method;

use self::auth::{Auth, User};
use self::error::Error;
use self::exchange::{Answer, BadRequest, Head, Response, Service};
use self::query::Query;
use crate::definition::Complaint;
use crate::health::{Health, Refusal};
use crate::job::{JobId, JobStatus};
use crate::metrics::Meters;
use crate::read_model::ReadModel;
use crate::reload::{self, Reloader};
use crate::requests::Request;
use crate::scheduler::{Accepted, ForgetError, NotLive, ScheduleError};
use crate::task::Followers;

/// How long the main loop and the disk may take. Clients give up soon after.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the API needs of the rest of prunner.
pub(crate) struct Parts {
    pub model: Arc<ReadModel>,
    pub health: Arc<Health>,
    pub auth: Auth,
    pub followers: Arc<Followers>,
    /// The directory of the logs.
    pub logs: PathBuf,
    pub reloader: Arc<Reloader>,
    pub meters: Arc<Meters>,
    /// Hands a request to the main loop.
    pub ask: Box<dyn Fn(Request) + Send + Sync>,
    /// Milliseconds since 1970.
    pub now_wall_ms: Box<dyn Fn() -> i64 + Send + Sync>,
}

/// Answers requests.
pub(crate) struct Api {
    parts: Parts,
    /// Makes the tags of this start different from those of all others, as each counts its changes from 0.
    start_mark: String,
    patience: Duration,
}

impl fmt::Debug for Parts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Parts")
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Api")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    /// HEAD is answered too.
    Get,
    Post,
    Delete,
}

impl Verb {
    fn takes(self, method: &Method) -> bool {
        match self {
            Verb::Get => matches!(method, Method::Get | Method::Head),
            Verb::Post => *method == Method::Post,
            Verb::Delete => *method == Method::Delete,
        }
    }

    /// Its part of `Allow`.
    fn allowed(self) -> &'static str {
        match self {
            Verb::Get => "GET, HEAD",
            Verb::Post => "POST",
            Verb::Delete => "DELETE",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Health,
    Metrics,
    Openapi,
    Pipelines,
    Jobs,
    Schedule,
    Detail,
    Logs,
    Log,
    Cancel,
    Forget,
    Reload,
    Schedules,
    AddSchedule,
    RemoveSchedule,
}

#[derive(Clone, Copy, Debug)]
struct Route {
    /// Without a slash at its end.
    path: &'static str,
    /// A slash at its end is accepted too.
    trailing_slash: bool,
    verb: Verb,
    /// No token is needed.
    open: bool,
    action: Action,
}

const fn route(verb: Verb, path: &'static str, action: Action) -> Route {
    Route {
        path,
        trailing_slash: false,
        verb,
        open: false,
        action,
    }
}

/// The routes of a path are all open or none is.
const ROUTES: [Route; 15] = [
    Route {
        open: true,
        ..route(Verb::Get, "/health", Action::Health)
    },
    Route {
        open: true,
        ..route(Verb::Get, "/openapi.json", Action::Openapi)
    },
    Route {
        trailing_slash: true,
        ..route(Verb::Get, "/pipelines", Action::Pipelines)
    },
    route(Verb::Get, "/metrics", Action::Metrics),
    route(Verb::Get, "/pipelines/jobs", Action::Jobs),
    route(Verb::Post, "/pipelines/schedule", Action::Schedule),
    route(Verb::Post, "/pipelines/reload", Action::Reload),
    route(Verb::Get, "/job/detail", Action::Detail),
    route(Verb::Get, "/job/logs", Action::Logs),
    route(Verb::Get, "/job/log", Action::Log),
    route(Verb::Post, "/job/cancel", Action::Cancel),
    route(Verb::Post, "/job/forget", Action::Forget),
    route(Verb::Get, "/schedules", Action::Schedules),
    route(Verb::Post, "/schedules", Action::AddSchedule),
    route(Verb::Delete, "/schedules", Action::RemoveSchedule),
];

/// One for each method.
fn routes_at(path: &str) -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(move |route| {
        path == route.path || (route.trailing_slash && path.strip_suffix('/').is_some_and(|path| path == route.path))
    })
}

#[derive(Serialize)]
struct Scheduled {
    #[serde(rename = "jobId")]
    job: JobId,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    joined: bool,
}

#[derive(Serialize)]
struct Reloaded {
    pipelines: usize,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct HealthBody<'a> {
    status: &'static str,
    version: &'static str,
    #[serde(flatten)]
    error: Option<error::Body<'a>>,
}

impl Api {
    /// # Panics
    /// Where the system has no random numbers.
    pub(crate) fn new(parts: Parts) -> Api {
        let random = getrandom::u64().expect("the system has random numbers");
        Api {
            parts,
            start_mark: format!("{random:016x}"),
            patience: PATIENCE,
        }
    }

    /// What the head alone decides. The token comes first, so that nobody without one learns which paths there are.
    fn admit(&self, head: &Head) -> Result<(&'static Route, User), Error> {
        let routes: Vec<&Route> = routes_at(&head.path).collect();
        let user = match routes.first() {
            Some(route) if route.open => User(String::new()),
            Some(_) | None => self
                .parts
                .auth
                .check(head.header("Authorization"), (self.parts.now_wall_ms)())
                .map_err(Error::Token)?,
        };
        if routes.is_empty() {
            return Err(Error::UnknownPath);
        }
        let Some(route) = routes.iter().find(|route| route.verb.takes(&head.method)) else {
            let allowed: Vec<&str> = routes.iter().map(|route| route.verb.allowed()).collect();
            return Err(Error::Method(allowed.join(", ")));
        };
        if matches!(route.action, Action::Schedule | Action::AddSchedule) {
            self.check_takes_jobs()?;
        }
        Ok((route, user))
    }

    fn check_takes_jobs(&self) -> Result<(), Error> {
        match self.parts.health.refusal() {
            None => Ok(()),
            Some(Refusal::Stopping) => Err(Error::Schedule(ScheduleError::ShuttingDown)),
            Some(Refusal::Storage(trouble)) => Err(Error::ScheduleStorage(trouble)),
        }
    }

    fn answer(&self, head: &Head, body: &[u8]) -> Result<Answer, Error> {
        let (route, user) = self.admit(head)?;
        let query = || Query::parse(&head.query);
        match route.action {
            Action::Health => Ok(self.health()),
            Action::Metrics => Ok(metrics::page(self)),
            Action::Openapi => Ok(openapi::document()),
            Action::Pipelines => Ok(jobs::pipelines(self)),
            Action::Jobs => jobs::list(self, head, &query()?),
            Action::Schedule => self.schedule(head, body, user),
            Action::Detail => return jobs::detail(self, head, &query()?),
            Action::Logs => logs::tails(self, &query()?),
            Action::Log => return logs::raw(self, head, &query()?),
            Action::Cancel => self.cancel(&query()?, user),
            Action::Forget => self.forget(&query()?),
            Action::Reload => self.reload(),
            Action::Schedules => schedules::list(self),
            Action::AddSchedule => schedules::add(self, body),
            Action::RemoveSchedule => schedules::remove(self, &query()?),
        }
        .map(Answer::Ready)
    }

    fn health(&self) -> Response {
        let (status, trouble) = match self.parts.health.refusal() {
            None => ("ok", None),
            Some(Refusal::Stopping) => ("stopping", Some(Error::Stopping)),
            Some(Refusal::Storage(trouble)) => ("storage", Some(Error::Storage(trouble))),
        };
        let body = HealthBody {
            status,
            version: env!("CARGO_PKG_VERSION"),
            error: trouble.as_ref().map(error::Body::of),
        };
        match trouble {
            None => reply::json(200, &body),
            Some(_) => reply::json(503, &body).with_header(error::retry_after()),
        }
    }

    fn schedule(&self, head: &Head, body: &[u8], user: User) -> Result<Response, Error> {
        let mut request = schedule::parse(body, user)?;
        request.key = schedule::key(head.header("Idempotency-Key"), body)?;
        let Accepted { job, joined } = self
            .ask_to_accept(|reply| Request::Schedule { request, reply })?
            .map_err(Error::Schedule)?;
        Ok(reply::json(202, &Scheduled { job, joined }))
    }

    fn cancel(&self, query: &Query, user: User) -> Result<Response, Error> {
        let job = query.job_id()?;
        if !self.ended_as_canceled(job)? {
            let by = user.0;
            let answer = self.ask(|reply| Request::Cancel { job, by, reply })?;
            // It ended since it was looked at, and its end can be seen by now.
            if answer == Err(NotLive) && !self.ended_as_canceled(job)? {
                return Err(Error::AlreadyEnded);
            }
        }
        Ok(reply::json(200, &true))
    }

    fn forget(&self, query: &Query) -> Result<Response, Error> {
        let job = query.job_id()?;
        match self.ask(|reply| Request::Forget { job, reply })? {
            Ok(()) => Ok(reply::json(200, &true)),
            Err(ForgetError::Unknown) => Err(Error::UnknownJob),
            Err(ForgetError::NotEnded) => Err(Error::NotEnded),
        }
    }

    /// Whether the job is where a cancel would bring it; false where it lives.
    fn ended_as_canceled(&self, job: JobId) -> Result<bool, Error> {
        let status = self.parts.model.read().job(job).map(|entry| entry.status);
        match status.ok_or(Error::UnknownJob)? {
            JobStatus::Waiting | JobStatus::Running => Ok(false),
            JobStatus::Canceled | JobStatus::Replaced => Ok(true),
            JobStatus::Succeeded | JobStatus::Failed | JobStatus::Interrupted => Err(Error::AlreadyEnded),
        }
    }

    fn reload(&self) -> Result<Response, Error> {
        let (reply, answer) = bounded(1);
        let reload::Reloaded {
            pipelines,
            warnings,
            errors,
        } = self.parts.reloader.reload(Some(reply));
        if !errors.is_empty() {
            return Err(Error::Definition(texts(&errors).join("; ")));
        }
        self.wait_for(&answer)?;
        Ok(reply::json(
            200,
            &Reloaded {
                pipelines,
                warnings: texts(&warnings),
            },
        ))
    }

    /// Asks the main loop, and waits for what it says.
    fn ask<T>(&self, request: impl FnOnce(Sender<T>) -> Request) -> Result<T, Error> {
        // The place in the channel keeps the main loop from waiting for us.
        let (reply, answer) = bounded(1);
        (self.parts.ask)(request(reply));
        self.wait_for(&answer)
    }

    /// Asks for something new. Where prunner stops meanwhile, it is refused as it is before it is asked for.
    fn ask_to_accept<T>(&self, request: impl FnOnce(Sender<T>) -> Request) -> Result<T, Error> {
        self.ask(request).map_err(|error| {
            if matches!(error, Error::Stopping) {
                Error::Schedule(ScheduleError::ShuttingDown)
            } else {
                error
            }
        })
    }

    fn wait_for<T>(&self, answer: &crossbeam_channel::Receiver<T>) -> Result<T, Error> {
        answer.recv_timeout(self.patience).map_err(|why| match why {
            RecvTimeoutError::Timeout => Error::NotSaved,
            // The main loop has ended.
            RecvTimeoutError::Disconnected => Error::Stopping,
        })
    }
}

fn texts(complaints: &[Complaint]) -> Vec<String> {
    complaints.iter().map(ToString::to_string).collect()
}

impl Service for Api {
    fn refuse(&self, head: &Head) -> Option<Response> {
        self.admit(head).err().map(|error| error.refuse(&self.parts.meters))
    }

    fn handle(&self, head: &Head, body: &[u8]) -> Answer {
        self.answer(head, body)
            .unwrap_or_else(|error| Answer::Ready(error.refuse(&self.parts.meters)))
    }

    fn bad_request(&self, why: &BadRequest) -> Response {
        Error::Unreadable(why.clone()).refuse(&self.parts.meters)
    }

    fn internal_error(&self) -> Response {
        Error::Internal.refuse(&self.parts.meters)
    }
}
