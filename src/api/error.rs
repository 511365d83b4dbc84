//! Everything that can be answered instead of what was asked for: texts, codes and statuses.
//!
//! Clients match all three. Unaware of routes. Surprise: an answer to a request without a good token is plain text, since
//! clients take a JSON error to be about the job that they asked for.

use std::borrow::Cow;
use std::io;

use serde::Serialize;
use tiny_http::Header;

use super::auth;
use super::exchange::{BadRequest, Response};
use super::reply;
use crate::log;
use crate::metrics::Meters;
use crate::reason::reason;
use crate::scheduler::ScheduleError;

/// Why a request is not answered with what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Error {
    Token(auth::Refusal),
    /// No route has this path.
    UnknownPath,
    /// The route has other methods: the value of `Allow`.
    Method(String),
    JobId,
    UnknownJob,
    TaskName,
    UnknownTask,
    /// The body: what is wrong, and where.
    Json(String),
    /// A query parameter: what was found and expected.
    Parameter(String),
    ScheduleId,
    UnknownSchedule,
    ScheduleFromFile,
    /// What a client says about a schedule: what was found and expected.
    BadSchedule(String),
    TooManySchedules(String),
    Schedule(ScheduleError),
    /// No new jobs because of this trouble of the store.
    ScheduleStorage(String),
    Storage(String),
    /// A cancel came too late.
    AlreadyEnded,
    /// It waits or runs: there is nothing to forget yet.
    NotEnded,
    /// All complaints about the files.
    Definition(String),
    /// The range lies behind the end of a log of this length.
    Range(u64),
    /// The main loop did not say in time that something is on disk. It may be later on.
    NotSaved,
    Stopping,
    /// There is no file descriptor for it.
    Busy,
    Unreadable(BadRequest),
    Internal,
}

/// All of them, for whoever counts them: what was never there can't be seen to grow.
pub(super) const CODES: [&str; 31] = [
    "already_ended",
    "bad_definition",
    "bad_json",
    "bad_request",
    "bad_schedule",
    "bad_variables",
    "body_too_large",
    "busy",
    "duplicate",
    "head_too_large",
    "idempotency_key_reused",
    "internal",
    "invalid_job_id",
    "invalid_schedule_id",
    "invalid_task_name",
    "job_not_found",
    "method_not_allowed",
    "not_ended",
    "not_found",
    "queue_disabled",
    "queue_full",
    "range_not_satisfiable",
    "request_timeout",
    "schedule_from_file",
    "schedule_not_found",
    "shutting_down",
    "storage",
    "task_not_found",
    "too_many_schedules",
    "unauthorized",
    "unknown_pipeline",
];

impl Error {
    /// A failure that only the operator can do something about: the log has its cause, the client does not.
    pub(super) fn internal(what: &str, cause: &io::Error) -> Error {
        log::error(what, &[("cause", &reason(cause))]);
        Error::Internal
    }

    /// The answer, which is counted.
    pub(super) fn refuse(&self, meters: &Meters) -> Response {
        meters.count_refusal(self.code());
        self.to_response()
    }

    fn to_response(&self) -> Response {
        if let Error::Token(refusal) = self {
            return reply::text(401, refusal.text())
                .with_header(reply::header("WWW-Authenticate", &refusal.challenge()));
        }
        let mut response = reply::json(self.status(), &Body::of(self));
        for header in self.headers() {
            response.add_header(header);
        }
        response
    }

    pub(super) fn status(&self) -> u16 {
        match self {
            Error::Token(_) => 401,
            Error::UnknownPath | Error::UnknownJob | Error::UnknownTask | Error::UnknownSchedule => 404,
            Error::Method(_) => 405,
            Error::JobId | Error::TaskName | Error::Json(_) | Error::Parameter(_) | Error::Definition(_) => 400,
            Error::Schedule(why) => schedule_status(why),
            Error::ScheduleId | Error::BadSchedule(_) | Error::TooManySchedules(_) => 400,
            Error::AlreadyEnded | Error::NotEnded | Error::ScheduleFromFile => 409,
            Error::Range(_) => 416,
            Error::ScheduleStorage(_) | Error::Storage(_) | Error::NotSaved | Error::Stopping | Error::Busy => 503,
            Error::Unreadable(why) => unreadable_status(why),
            Error::Internal => 500,
        }
    }

    pub(super) fn code(&self) -> &'static str {
        match self {
            Error::Token(_) => "unauthorized",
            Error::UnknownPath => "not_found",
            Error::Method(_) => "method_not_allowed",
            Error::JobId => "invalid_job_id",
            Error::UnknownJob => "job_not_found",
            Error::TaskName => "invalid_task_name",
            Error::UnknownTask => "task_not_found",
            Error::Json(_) => "bad_json",
            Error::Parameter(_) => "bad_request",
            Error::Schedule(why) => schedule_code(why),
            Error::ScheduleId => "invalid_schedule_id",
            Error::UnknownSchedule => "schedule_not_found",
            Error::ScheduleFromFile => "schedule_from_file",
            Error::BadSchedule(_) => "bad_schedule",
            Error::TooManySchedules(_) => "too_many_schedules",
            Error::AlreadyEnded => "already_ended",
            Error::NotEnded => "not_ended",
            Error::Definition(_) => "bad_definition",
            Error::Range(_) => "range_not_satisfiable",
            Error::ScheduleStorage(_) | Error::Storage(_) | Error::NotSaved => "storage",
            Error::Stopping => "shutting_down",
            Error::Busy => "busy",
            Error::Unreadable(why) => unreadable_code(why),
            Error::Internal => "internal",
        }
    }

    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Error::Token(refusal) => refusal.text().into(),
            Error::UnknownPath => "no such path".into(),
            Error::Method(allowed) => format!("method not allowed, expected {}", allowed.replace(", ", " or ")).into(),
            Error::JobId => "Invalid job id".into(),
            Error::UnknownJob => "Job not found".into(),
            Error::TaskName => "Invalid task name".into(),
            Error::UnknownTask => "Task not found".into(),
            Error::Json(what) => format!("Error decoding JSON: {what}").into(),
            Error::Parameter(what)
            | Error::Definition(what)
            | Error::Storage(what)
            | Error::BadSchedule(what)
            | Error::TooManySchedules(what) => what.into(),
            Error::ScheduleId => "Invalid schedule id".into(),
            Error::UnknownSchedule => "Schedule not found".into(),
            Error::ScheduleFromFile => "the schedule is from a pipeline file; remove it there, and reload".into(),
            Error::Schedule(why) => format!("Error scheduling pipeline: {why}").into(),
            Error::ScheduleStorage(trouble) => format!("Error scheduling pipeline: {trouble}").into(),
            Error::AlreadyEnded => "job has already ended".into(),
            Error::NotEnded => "job has not ended".into(),
            Error::Range(length) => {
                format!("the range begins behind the end of the log, which has {length} bytes").into()
            }
            Error::NotSaved => "not saved in time; it may still happen, so look before you try again".into(),
            Error::Stopping => "prunner is shutting down".into(),
            Error::Busy => "too many open files; try again".into(),
            Error::Unreadable(why) => unreadable_text(why).into(),
            Error::Internal => "internal error".into(),
        }
    }

    fn headers(&self) -> Vec<Header> {
        let mut headers = Vec::new();
        match self {
            Error::Method(allowed) => headers.push(reply::header("Allow", allowed)),
            Error::Range(length) => {
                headers.push(reply::header("Accept-Ranges", "bytes"));
                headers.push(reply::header("Content-Range", &format!("bytes */{length}")));
            }
            Error::Token(_)
            | Error::UnknownPath
            | Error::JobId
            | Error::UnknownJob
            | Error::TaskName
            | Error::UnknownTask
            | Error::Json(_)
            | Error::Parameter(_)
            | Error::ScheduleId
            | Error::UnknownSchedule
            | Error::ScheduleFromFile
            | Error::BadSchedule(_)
            | Error::TooManySchedules(_)
            | Error::Schedule(_)
            | Error::ScheduleStorage(_)
            | Error::Storage(_)
            | Error::AlreadyEnded
            | Error::NotEnded
            | Error::Definition(_)
            | Error::NotSaved
            | Error::Stopping
            | Error::Busy
            | Error::Unreadable(_)
            | Error::Internal => {}
        }
        if self.status() == 503 {
            headers.push(retry_after());
        }
        headers
    }
}

/// For every 503: the trouble is looked at again once a second.
pub(super) fn retry_after() -> Header {
    reply::header("Retry-After", "1")
}

fn schedule_status(why: &ScheduleError) -> u16 {
    match why {
        ScheduleError::UnknownPipeline(_)
        | ScheduleError::QueueFull
        | ScheduleError::QueueDisabled
        | ScheduleError::BadVariables(_)
        | ScheduleError::Duplicate(_) => 400,
        ScheduleError::KeyOfAnother => 409,
        ScheduleError::ShuttingDown | ScheduleError::Held => 503,
    }
}

fn schedule_code(why: &ScheduleError) -> &'static str {
    match why {
        ScheduleError::UnknownPipeline(_) => "unknown_pipeline",
        ScheduleError::QueueFull => "queue_full",
        ScheduleError::QueueDisabled => "queue_disabled",
        ScheduleError::BadVariables(_) => "bad_variables",
        ScheduleError::ShuttingDown => "shutting_down",
        ScheduleError::Duplicate(_) => "duplicate",
        ScheduleError::KeyOfAnother => "idempotency_key_reused",
        ScheduleError::Held => "storage",
    }
}

fn unreadable_status(why: &BadRequest) -> u16 {
    match why {
        BadRequest::Malformed(_) => 400,
        BadRequest::Timeout => 408,
        BadRequest::BodyTooLarge => 413,
        BadRequest::HeadTooLarge => 431,
        BadRequest::TooManyConnections => 503,
    }
}

fn unreadable_code(why: &BadRequest) -> &'static str {
    match why {
        BadRequest::Malformed(_) => "bad_request",
        BadRequest::Timeout => "request_timeout",
        BadRequest::BodyTooLarge => "body_too_large",
        BadRequest::HeadTooLarge => "head_too_large",
        BadRequest::TooManyConnections => "busy",
    }
}

fn unreadable_text(why: &BadRequest) -> &'static str {
    match why {
        BadRequest::Malformed(what) => what,
        BadRequest::Timeout => "the request did not come whole in time",
        BadRequest::BodyTooLarge => "the body is too large, expected at most 1 MiB",
        BadRequest::HeadTooLarge => "the head of the request is too large, expected at most 16 KiB",
        BadRequest::TooManyConnections => "too many connections; try again",
    }
}

/// An error in JSON.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    error: Cow<'a, str>,
    code: &'static str,
}

impl Body<'_> {
    pub(super) fn of(error: &Error) -> Body<'_> {
        Body {
            error: error.text(),
            code: error.code(),
        }
    }
}
