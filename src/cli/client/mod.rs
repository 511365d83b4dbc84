//! The client of the API: requests to a server, and what their failures mean for the exit status.
//!
//! `http` speaks HTTP, `job` reads job objects, `patience` bears with a server that is away for a moment, `follow`
//! watches a job with its output, `interrupt` is what Ctrl-C does meanwhile. Unaware of arguments and of what is printed.
//!
//! Surprise: each request has a connection of its own. A command makes few of them, and none can find its connection
//! closed by a server that was started anew.

pub(crate) mod follow;
mod http;
pub(crate) mod interrupt;
pub(crate) mod job;
pub(crate) mod patience;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::auth::Auth;
use crate::cli::client::http::{Answer, Body, Request};
use crate::cli::client::job::Job;
use crate::cli::output::{Failure, Status};
use crate::clock::wall_ms;
use crate::config::{Config, GetVariable, TOKEN_VARIABLE, reachable_address};
use crate::definition::variables::VariableKind;
use crate::definition::{did_you_mean, shown};
use crate::reason::reason;
use crate::secret::IfMissing;
use crate::task::StreamKind;
use crate::template::Variables;

/// How long a server may take for an answer, beyond the time that it was asked to wait.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// There is nothing new.
const NOT_MODIFIED: u16 = 304;
/// No list of jobs is that long: an answer is held in memory.
const MAX_ANSWER_BYTES: u64 = 1 << 30;
/// A token that is made here counts from a minute ago: the server refuses one that was issued in its future, and the
/// clocks of two machines differ.
const CLOCK_DIFFERENCE_MS: i64 = 60_000;

/// Where a server is, and what opens it.
#[derive(Clone)]
pub(crate) struct Client {
    /// `host:port`.
    address: String,
    token: String,
    patience: Duration,
}

/// Why a request was not answered with what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientError {
    /// There is no server, it broke off, or is none of ours.
    Unreachable(String),
    /// What the server says instead.
    Answered {
        status: u16,
        /// Empty where the answer has none, as for a token that is refused.
        code: String,
        text: String,
    },
}

/// The job that a request is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Accepted {
    pub job_id: String,
    /// It was there already, and is equal to what was asked for.
    #[serde(default)]
    pub joined: bool,
}

/// Which part of a log is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What there is of the last so many bytes.
    Last(u64),
    /// All that is there from here on.
    From(u64),
    /// All from here on, to the end of the task.
    Follow(u64),
}

impl Client {
    /// A client of the server that the configuration names. The token is the one of the environment, else it is made for
    /// `$USER` from the secret.
    ///
    /// # Errors
    /// Wrong usage, where there is neither.
    pub(crate) fn new(config: &Config, variable: GetVariable<'_>) -> Result<Client, Failure> {
        let given = variable(TOKEN_VARIABLE).filter(|value| !value.is_empty());
        let token = if let Some(value) = given {
            value.to_str().and_then(clean_token).ok_or_else(|| {
                Failure::usage(format!(
                    "`{TOKEN_VARIABLE}` is no token, expected one as `prunner token` prints it"
                ))
            })?
        } else {
            let secret = config.secret(IfMissing::Refuse).map_err(Failure::usage)?;
            Auth::new(&secret).make_token(&user(variable), wall_ms() - CLOCK_DIFFERENCE_MS, None)
        };
        Ok(Client {
            address: reachable_address(&config.address),
            token,
            patience: ANSWER_PATIENCE,
        })
    }

    /// The same client with another time that an answer may take.
    pub(crate) fn with_patience(self, patience: Duration) -> Client {
        Client { patience, ..self }
    }

    /// With a key that was given before: the job of then.
    pub(crate) fn schedule(
        &self,
        pipeline: &str,
        variables: &Variables,
        partition: &str,
        key: Option<&str>,
    ) -> Result<Accepted, ClientError> {
        let mut body = json!({"pipeline": pipeline, "variables": variables});
        if !partition.is_empty() {
            body["queuePartition"] = json!(partition);
        }
        let answer = self.send(&Request {
            method: "POST",
            target: "/pipelines/schedule",
            token: &self.token,
            header: key.map(|key| ("Idempotency-Key", key.to_owned())),
            body: body.to_string().as_bytes(),
            patience: Some(self.patience),
        })?;
        parse(&self.read(answer.body)?)
    }

    /// The job as it is at its end, or after so long.
    pub(crate) fn job(&self, id: &str, wait: Duration) -> Result<Job, ClientError> {
        let mut target = format!("/job/detail?id={}", encode(id));
        if !wait.is_zero() {
            target.push_str(&format!("&wait={}ms", wait.as_millis()));
        }
        Job::parse(self.ask("GET", &target, b"", wait)?).ok_or_else(foreign)
    }

    /// The job as soon as it is another than `known`, which is `None` after so long.
    pub(crate) fn changed_job(&self, id: &str, wait: Duration, known: &str) -> Result<Option<Job>, ClientError> {
        let answer = self.send(&Request {
            method: "GET",
            target: &format!("/job/detail?id={}&wait={}ms", encode(id), wait.as_millis()),
            token: &self.token,
            header: (!known.is_empty()).then(|| ("If-None-Match", known.to_owned())),
            body: b"",
            patience: Some(wait + self.patience),
        })?;
        if answer.status == NOT_MODIFIED {
            return Ok(None);
        }
        let tag = answer.tag.unwrap_or_default();
        let job = Job::parse(self.read(answer.body)?).ok_or_else(foreign)?;
        Ok(Some(Job { tag, ..job }))
    }

    pub(crate) fn cancel(&self, id: &str) -> Result<(), ClientError> {
        let target = format!("/job/cancel?id={}", encode(id));
        self.ask("POST", &target, b"", Duration::ZERO).map(drop)
    }

    pub(crate) fn forget(&self, id: &str) -> Result<(), ClientError> {
        let target = format!("/job/forget?id={}", encode(id));
        self.ask("POST", &target, b"", Duration::ZERO).map(drop)
    }

    /// What the server says about its pipelines, in its own JSON.
    pub(crate) fn pipelines(&self) -> Result<String, ClientError> {
        self.ask("GET", "/pipelines/", b"", Duration::ZERO)
    }

    /// Jobs with all pipelines, in the server's own JSON; each filter is a parameter and its value.
    pub(crate) fn jobs(&self, filters: &[(&str, &str)]) -> Result<String, ClientError> {
        let query: Vec<String> = filters
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        self.ask(
            "GET",
            &format!("/pipelines/jobs?{}", query.join("&")),
            b"",
            Duration::ZERO,
        )
    }

    /// When the server's pipelines run by themselves, in its own JSON.
    pub(crate) fn schedules(&self) -> Result<String, ClientError> {
        self.ask("GET", "/schedules", b"", Duration::ZERO)
    }

    /// The server's answer with the id.
    pub(crate) fn add_schedule(&self, body: &Value) -> Result<String, ClientError> {
        self.ask("POST", "/schedules", body.to_string().as_bytes(), Duration::ZERO)
    }

    pub(crate) fn remove_schedule(&self, id: &str) -> Result<(), ClientError> {
        let target = format!("/schedules?id={}", encode(id));
        self.ask("DELETE", &target, b"", Duration::ZERO).map(drop)
    }

    /// What the server says about files that it has loaded, in its own JSON.
    pub(crate) fn reload(&self) -> Result<String, ClientError> {
        self.ask("POST", "/pipelines/reload", b"", Duration::ZERO)
    }

    /// A part of a task's output, and where it begins, which the server says of the last bytes alone; `None`: there is
    /// nothing.
    fn log(
        &self,
        id: &str,
        task: &str,
        stream: StreamKind,
        part: Part,
    ) -> Result<Option<(Body, Option<u64>)>, ClientError> {
        let mut target = format!(
            "/job/log?id={}&task={}&stream={}",
            encode(id),
            encode(task),
            stream.as_str()
        );
        let mut range = None;
        let mut patience = Some(self.patience);
        match part {
            Part::Last(count) => range = Some(format!("bytes=-{count}")),
            Part::From(offset) => range = Some(format!("bytes={offset}-")),
            Part::Follow(offset) => {
                target.push_str(&format!("&follow=true&offset={offset}"));
                patience = None;
            }
        }
        let request = Request {
            method: "GET",
            target: &target,
            token: &self.token,
            header: range.map(|range| ("Range", range)),
            body: b"",
            patience,
        };
        let answer = match self.send(&request) {
            Ok(answer) => answer,
            Err(error) if error.has_code("range_not_satisfiable") => return Ok(None),
            Err(error) => return Err(error),
        };
        let start = answer
            .content_range
            .as_ref()
            .and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
        Ok(Some((answer.body, start)))
    }

    fn ask(&self, method: &'static str, target: &str, body: &[u8], wait: Duration) -> Result<String, ClientError> {
        let answer = self.send(&Request {
            method,
            target,
            token: &self.token,
            header: None,
            body,
            patience: Some(wait + self.patience),
        })?;
        self.read(answer.body)
    }

    /// An answer that is no error.
    fn send(&self, request: &Request<'_>) -> Result<Answer, ClientError> {
        let answer = http::send(&self.address, request).map_err(|error| self.unreachable(&error))?;
        if matches!(answer.status, 200..=299 | NOT_MODIFIED) {
            return Ok(answer);
        }
        let status = answer.status;
        let body = self.read(answer.body)?;
        Err(refusal(status, &body))
    }

    fn read(&self, body: Body) -> Result<String, ClientError> {
        let mut bytes = Vec::new();
        body.take(MAX_ANSWER_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|error| self.unreachable(&error))?;
        String::from_utf8(bytes).map_err(|_| foreign())
    }

    /// What an error of the connection means.
    pub(super) fn unreachable(&self, error: &io::Error) -> ClientError {
        let address = &self.address;
        let is_one_of = |kinds: &[ErrorKind]| kinds.contains(&error.kind());
        ClientError::Unreachable(if is_one_of(&[ErrorKind::ConnectionRefused]) {
            format!(
                "no server listens at `{address}`; start one with `prunner serve`, or give the `--address` of the one \
                 that runs"
            )
        } else if is_one_of(&[ErrorKind::WouldBlock, ErrorKind::TimedOut]) {
            format!("the server at `{address}` doesn't answer; is it the right `--address`?")
        } else if is_one_of(&[ErrorKind::InvalidData]) {
            format!(
                "what listens at `{address}` is no prunner: {}; give another `--address`",
                reason(error)
            )
        } else if is_one_of(&[
            ErrorKind::ConnectionReset,
            ErrorKind::BrokenPipe,
            ErrorKind::UnexpectedEof,
        ]) {
            format!(
                "the server at `{address}` broke off before its answer was whole; see its log, and `prunner jobs` for \
                 what it has accepted"
            )
        } else {
            format!(
                "failed to reach the server at `{address}`: {}; is it the right `--address`?",
                reason(error)
            )
        })
    }

    /// The known pipeline that is nearest to the name, as the end of a message; says how to list them where none is near.
    pub(crate) fn suggest_pipeline(&self, name: &str) -> String {
        let known = self.pipeline_names().unwrap_or_default();
        let suggestion = did_you_mean(name, known.iter().map(String::as_str));
        if suggestion.is_empty() {
            "; `prunner pipelines` lists those that are".to_owned()
        } else {
            suggestion
        }
    }

    /// The types of the variables that a pipeline declares, by their names.
    pub(crate) fn variable_kinds(&self, pipeline: &str) -> Result<BTreeMap<String, VariableKind>, ClientError> {
        let answer: Value = parse(&self.pipelines()?)?;
        let pipelines = answer["pipelines"].as_array().ok_or_else(foreign)?;
        let found = pipelines.iter().find(|found| found["pipeline"] == pipeline);
        let variables = found.and_then(|found| found["variables"].as_object());
        let kind = |(name, keys): (&String, &Value)| {
            let kind = keys["type"].as_str().and_then(VariableKind::from_name)?;
            Some((name.clone(), kind))
        };
        Ok(variables.into_iter().flatten().filter_map(kind).collect())
    }

    pub(crate) fn pipeline_names(&self) -> Result<Vec<String>, ClientError> {
        let answer: Value = parse(&self.pipelines()?)?;
        let pipelines = answer["pipelines"].as_array().ok_or_else(foreign)?;
        let names = pipelines.iter().filter_map(|pipeline| pipeline["pipeline"].as_str());
        Ok(names.map(str::to_owned).collect())
    }
}

/// The user that commands act for; empty where nobody knows.
pub(crate) fn user(variable: GetVariable<'_>) -> String {
    variable("USER")
        .and_then(|user| user.into_string().ok())
        .unwrap_or_default()
}

/// Accepts what `MINIMAL_OUTPUT=1 prunner debug` prints too. `None` for what would not stay in its header.
fn clean_token(text: &str) -> Option<String> {
    let text = text.trim();
    let token = match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => token.trim(),
        Some(_) | None => text,
    };
    let is_clean = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    is_clean.then(|| token.to_owned())
}

/// The text as part of a query.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

pub(crate) fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, ClientError> {
    serde_json::from_str(text).map_err(|_| foreign())
}

fn foreign() -> ClientError {
    ClientError::Unreachable("the answer is none that prunner gives; is it the right `--address`?".to_owned())
}

fn refusal(status: u16, body: &str) -> ClientError {
    #[derive(Deserialize)]
    struct Error {
        error: String,
        #[serde(default)]
        code: String,
    }
    let (code, text) = match serde_json::from_str::<Error>(body) {
        Ok(error) => (error.code, error.error),
        Err(_) => (String::new(), body.trim().to_owned()),
    };
    ClientError::Answered { status, code, text }
}

impl ClientError {
    pub(crate) fn has_code(&self, wanted: &str) -> bool {
        matches!(self, ClientError::Answered { code, .. } if code == wanted)
    }

    /// Whether it may be gone in a moment: the server is away, or stops, or can't write.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            ClientError::Unreachable(_) => true,
            ClientError::Answered { status, .. } => *status == 503,
        }
    }

    /// The failure of a command that is about `job`.
    pub(crate) fn about_job(self, job: &str) -> Failure {
        let job = shown(job);
        let message = if self.has_code("job_not_found") {
            format!("job `{job}` is not known; `prunner jobs` lists those that are")
        } else if self.has_code("invalid_job_id") {
            format!("`{job}` is no id of a job; `prunner jobs` lists them")
        } else if self.has_code("already_ended") {
            format!("job `{job}` has already ended, so there is nothing to cancel")
        } else if self.has_code("not_ended") {
            format!("job `{job}` has not ended, so it can't be forgotten; `prunner cancel {job}` ends it")
        } else {
            return self.into();
        };
        refused(message)
    }

    /// The failure of a command that asked for something of `pipeline`; `purpose` begins what failed, as `schedule`.
    pub(crate) fn about_pipeline(self, client: &Client, pipeline: &str, purpose: &str) -> Failure {
        let ClientError::Answered { code, text, .. } = &self else {
            return self.into();
        };
        let name = shown(pipeline);
        let text = text.strip_prefix("Error scheduling pipeline: ").unwrap_or(text);
        let failed = || format!("failed to {purpose} pipeline `{name}`: {text}");
        match &**code {
            "unknown_pipeline" => refused(format!(
                "pipeline `{name}` is not defined{}",
                client.suggest_pipeline(pipeline)
            )),
            "queue_full" | "queue_disabled" => {
                refused(format!("{}; try again when one of its jobs has ended", failed()))
            }
            "bad_variables" => refused(format!("{}; give variables with `--var name=value`", failed())),
            // What is wrong is on the command line.
            "bad_schedule" => Failure::usage(text),
            _ => self.into(),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        match error {
            ClientError::Unreachable(message) => Failure {
                status: Status::UNREACHABLE,
                message: Some(message),
            },
            ClientError::Answered { status: 401, text, .. } => refused(format!(
                "the server refuses the token: {}; give the `--config` or the `--jwt-secret` of the \
                 server, or one of its tokens as `{TOKEN_VARIABLE}`",
                shown(&text)
            )),
            ClientError::Answered { status, text, .. } if status >= 500 && status != 503 => Failure {
                status: Status::UNREACHABLE,
                message: Some(format!("the server answers {status}: {text}; its log says more")),
            },
            ClientError::Answered { status: 503, text, .. } => refused(format!("{text}; try again later")),
            ClientError::Answered { status: 404, code, .. } if code.is_empty() || code == "not_found" => {
                let ClientError::Unreachable(message) = foreign() else {
                    unreachable!("that is what it is")
                };
                Failure {
                    status: Status::UNREACHABLE,
                    message: Some(message),
                }
            }
            ClientError::Answered { text, .. } => refused(text),
        }
    }
}

pub(crate) fn refused(message: String) -> Failure {
    Failure {
        status: Status::REFUSED,
        message: Some(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded() {
        for (text, expected) in [
            ("a-b_c.d~E1", "a-b_c.d~E1"),
            ("a b&c=d+%/ä\n", "a%20b%26c%3Dd%2B%25%2F%C3%A4%0A"),
        ] {
            assert_eq!(encode(text), expected);
        }
    }

    #[test]
    fn a_token_may_stand_behind_its_scheme() {
        for (text, expected) in [
            ("a.b.c", Some("a.b.c")),
            (" a.b.c\n", Some("a.b.c")),
            ("Bearer a.b.c", Some("a.b.c")),
            ("bearer  a.b.c", Some("a.b.c")),
            ("Basic a.b.c", None),
            ("a\r\nX: y", None),
            ("Bearer ", Some("Bearer")),
            (" ", None),
        ] {
            assert_eq!(clean_token(text).as_deref(), expected, "{text:?}");
        }
    }

    #[track_caller]
    fn check(status: u16, body: &str, exit: Status, message: &str) {
        let failure = refusal(status, body).about_job("1");
        assert_eq!((failure.status, failure.message.as_deref()), (exit, Some(message)));
    }

    #[test]
    fn answers_have_their_exit_status() {
        check(
            401,
            "token is expired",
            Status::REFUSED,
            "the server refuses the token: token is expired; give the `--config` or the `--jwt-secret` of the server, \
             or one of its tokens as `PRUNNER_TOKEN`",
        );
        check(
            404,
            r#"{"error":"Job not found","code":"job_not_found"}"#,
            Status::REFUSED,
            "job `1` is not known; `prunner jobs` lists those that are",
        );
        check(
            400,
            r#"{"error":"Invalid job id","code":"invalid_job_id"}"#,
            Status::REFUSED,
            "`1` is no id of a job; `prunner jobs` lists them",
        );
        check(
            409,
            r#"{"error":"job has already ended","code":"already_ended"}"#,
            Status::REFUSED,
            "job `1` has already ended, so there is nothing to cancel",
        );
        check(
            503,
            r#"{"error":"prunner is shutting down","code":"shutting_down"}"#,
            Status::REFUSED,
            "prunner is shutting down; try again later",
        );
        check(
            500,
            r#"{"error":"internal error","code":"internal"}"#,
            Status::UNREACHABLE,
            "the server answers 500: internal error; its log says more",
        );
        check(
            404,
            "<html>",
            Status::UNREACHABLE,
            "the answer is none that prunner gives; is it the right `--address`?",
        );
        check(400, r#"{"error":"odd"}"#, Status::REFUSED, "odd");
    }
}
