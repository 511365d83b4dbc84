//! The API from request to answer, without sockets.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::sync::{Mutex, MutexGuard};

use crate::definition;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use tiny_http::Header;
use uuid::Uuid;

use super::exchange::{Later, Next, Stream};
use super::*;
use crate::job::{Change, JobRecord, TaskProgress, TaskRecord, TaskStatus};
use crate::read_model::Image;
use crate::schedule::{Added, ScheduleId, ScheduleRecord, ScheduleView};
use crate::scheduler::{Accepted, PipelineView};
use crate::secret::Secret;
use crate::task::{StreamKind, log_path};
use crate::testing::TestDirectory;

const NOW_MS: i64 = 1_795_490_867_000;
const SECRET: &str = "0123456789abcdef";
const JSON: Option<&str> = Some("application/json");
const PLAIN: Option<&str> = Some("text/plain; charset=utf-8");

/// Answers one request, or drops it.
type Reaction = Box<dyn FnOnce(Request) + Send>;

/// An API, and a main loop that does what the test says.
struct World {
    api: Api,
    model: Arc<ReadModel>,
    health: Arc<Health>,
    directory: TestDirectory,
    token: String,
    reactions: Arc<Mutex<VecDeque<Reaction>>>,
}

/// A response, read.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: Vec<Header>,
    body: String,
}

impl Reply {
    fn read(response: Response) -> Reply {
        let status = response.status_code().0;
        let headers = response.headers().to_vec();
        let length = response.data_length();
        let mut body = String::new();
        response.into_reader().read_to_string(&mut body).unwrap();
        assert!(length.is_none_or(|length| length == body.len()), "{length:?}: {body}");
        Reply { status, headers, body }
    }

    fn header(&self, name: &'static str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.field.equiv(name));
        header.map(|header| header.value.as_str())
    }

    #[track_caller]
    fn expect(&self, status: u16, body: &str) {
        assert_eq!((self.status, &*self.body), (status, body));
        assert_eq!(self.header("Content-Type"), JSON);
    }

    #[track_caller]
    fn expect_error(&self, status: u16, text: &str, code: &str) {
        let expected = serde_json::json!({"error": text, "code": code}).to_string();
        self.expect(status, &expected);
        assert_eq!(self.header("Retry-After"), (status == 503).then_some("1"));
    }
}

fn id(number: u128) -> JobId {
    JobId(Uuid::from_u128(number))
}

fn record(number: u128, pipeline: &str, status: JobStatus) -> JobRecord {
    JobRecord {
        id: id(number),
        pipeline: pipeline.into(),
        user: "anna".to_owned(),
        variables: Arc::default(),
        by_default: Vec::new(),
        partition: String::new(),
        created_ms: NOW_MS,
        place: 0,
        start_after_ms: None,
        status,
        start_ms: None,
        end_ms: None,
        errored: false,
        last_error: String::new(),
        idempotency: Vec::new(),
        reason: String::new(),
        due: None,
        replaced: false,
        tasks: ["build", "test"]
            .map(|name| TaskRecord {
                name: name.into(),
                depends_on: Vec::new(),
                progress: TaskProgress::default(),
            })
            .into(),
    }
}

fn end(number: u128, status: JobStatus) -> Change {
    Change::End {
        job: id(number),
        end_ms: NOW_MS,
        status,
        reason: String::new(),
    }
}

fn task(number: u128, index: usize, status: TaskStatus) -> Change {
    Change::Task {
        job: id(number),
        index,
        name: Arc::default(),
        progress: TaskProgress {
            status,
            ..TaskProgress::default()
        },
        fails_job: false,
    }
}

fn is_awake(waker: impl std::os::fd::AsFd) -> bool {
    let mut ready = [PollFd::new(&waker, PollFlags::IN)];
    poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
}

impl World {
    fn new() -> World {
        let directory = TestDirectory::new();
        let model = Arc::new(ReadModel::new(Image::default()));
        let health = Arc::new(Health::default());
        let auth = Auth::new(&Secret::new(SECRET));
        let token = auth.make_token("anna", NOW_MS, None);
        let reactions: Arc<Mutex<VecDeque<Reaction>>> = Arc::default();
        let main_loop = Arc::clone(&reactions);
        let ask = move |request| {
            let reaction = main_loop.lock().unwrap().pop_front();
            reaction.expect("the main loop is not asked more than is expected")(request);
        };
        let search = definition::Search {
            path: directory.path().to_owned(),
            pattern: "*.yml".to_owned(),
            data: directory.path().join("data"),
        };
        let api = Api::new(Parts {
            model: Arc::clone(&model),
            health: Arc::clone(&health),
            auth,
            followers: Followers::new(),
            logs: directory.path().join("logs"),
            reloader: Arc::new(Reloader::new(search, Box::new(ask.clone()))),
            meters: Arc::default(),
            ask: Box::new(ask),
            now_wall_ms: Box::new(|| NOW_MS),
        });
        World {
            api,
            model,
            health,
            directory,
            token,
            reactions,
        }
    }

    /// With a job of each status: 1 is waiting, 2 is running, and so on in the order of `JobStatus::ALL`.
    fn with_jobs() -> World {
        let world = World::new();
        for (number, status) in (1..).zip(JobStatus::ALL) {
            let pipeline = if number % 2 == 0 { "even" } else { "odd" };
            world.publish(&[Change::Job(Box::new(record(number, pipeline, JobStatus::Waiting)))]);
            if status.has_ended() {
                world.publish(&[end(number, status)]);
            } else if status == JobStatus::Running {
                world.publish(&[Change::Start {
                    job: id(number),
                    start_ms: NOW_MS,
                }]);
            }
        }
        world
    }

    fn publish(&self, changes: &[Change]) {
        self.model.publish(changes, None);
    }

    fn reactions(&self) -> MutexGuard<'_, VecDeque<Reaction>> {
        self.reactions.lock().unwrap()
    }

    fn next_request(&self, reaction: impl FnOnce(Request) + Send + 'static) {
        self.reactions().push_back(Box::new(reaction));
    }

    fn head(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> Head {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let token = format!("Bearer {}", self.token);
        let mut all = vec![Header::from_bytes("Authorization", token).unwrap()];
        all.extend(
            headers
                .iter()
                .map(|(name, value)| Header::from_bytes(*name, *value).unwrap()),
        );
        Head {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            headers: all,
        }
    }

    fn send(&self, head: &Head, body: &str) -> Answer {
        match self.api.refuse(head) {
            Some(response) => Answer::Ready(response),
            None => self.api.handle(head, body.as_bytes()),
        }
    }

    #[track_caller]
    fn ready(&self, head: &Head, body: &str) -> Reply {
        match self.send(head, body) {
            Answer::Ready(response) => Reply::read(response),
            other @ (Answer::Later(_) | Answer::Stream(_)) => {
                panic!("expected an answer that is ready, found {other:?}")
            }
        }
    }

    #[track_caller]
    fn get(&self, target: &str) -> Reply {
        self.ready(&self.head(Method::Get, target, &[]), "")
    }

    #[track_caller]
    fn get_with(&self, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.ready(&self.head(Method::Get, target, headers), "")
    }

    #[track_caller]
    fn post(&self, target: &str, body: &str) -> Reply {
        self.ready(&self.head(Method::Post, target, &[]), body)
    }

    #[track_caller]
    fn later(&self, target: &str) -> Box<dyn Later> {
        self.later_with(target, &[])
    }

    #[track_caller]
    fn later_with(&self, target: &str, headers: &[(&str, &str)]) -> Box<dyn Later> {
        match self.send(&self.head(Method::Get, target, headers), "") {
            Answer::Later(later) => later,
            other @ (Answer::Ready(_) | Answer::Stream(_)) => {
                panic!("expected an answer that is to come, found {other:?}")
            }
        }
    }

    #[track_caller]
    fn stream(&self, target: &str) -> Box<dyn Stream> {
        match self.send(&self.head(Method::Get, target, &[]), "") {
            Answer::Stream(stream) => stream,
            other @ (Answer::Ready(_) | Answer::Later(_)) => panic!("expected a body that grows, found {other:?}"),
        }
    }

    fn append(&self, number: u128, task: &str, stream: StreamKind, data: &[u8]) {
        let path = log_path(&self.directory.path().join("logs"), id(number), task, stream);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        file.write_all(data).unwrap();
    }

    fn define(&self, file: &str, text: &str) {
        let mut file = File::create(self.directory.path().join(file)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}

#[track_caller]
fn next(stream: &mut dyn Stream) -> (Next, String) {
    let mut buffer = Vec::new();
    let next = stream.next(&mut buffer);
    (next, String::from_utf8(buffer).unwrap())
}

fn nothing(next: Next) -> (Next, String) {
    (next, String::new())
}

fn data(text: &str) -> (Next, String) {
    (Next::Data, text.to_owned())
}

// Routes

#[test]
fn every_route_has_its_methods_and_needs_a_token() {
    let world = World::new();
    let get = [
        "/health",
        "/openapi.json",
        "/metrics",
        "/pipelines",
        "/pipelines/",
        "/pipelines/jobs",
        "/job/detail",
        "/job/logs",
        "/job/log",
    ];
    let post = ["/pipelines/schedule", "/pipelines/reload", "/job/cancel", "/job/forget"];
    let methods = [
        Method::Get,
        Method::Head,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Options,
        Method::Patch,
    ];
    let all = ["/schedules"];
    for (paths, allowed) in [
        (&get[..], "GET, HEAD"),
        (&post[..], "POST"),
        (&all[..], "GET, HEAD, POST, DELETE"),
    ] {
        for path in paths {
            for method in &methods {
                let mut head = world.head(method.clone(), path, &[]);
                let refusal = world.api.refuse(&head).map(Reply::read);
                if allowed.split(", ").any(|allowed| allowed == method.as_str()) {
                    assert!(refusal.is_none(), "{method} {path}: {refusal:?}");
                } else {
                    let refusal = refusal.unwrap();
                    let text = format!("method not allowed, expected {}", allowed.replace(", ", " or "));
                    refusal.expect_error(405, &text, "method_not_allowed");
                    assert_eq!(refusal.header("Allow"), Some(allowed));
                }
                head.headers.clear();
                let refusal = world.api.refuse(&head).map(Reply::read);
                assert_eq!(
                    refusal.is_some_and(|reply| reply.status == 401),
                    !matches!(*path, "/health" | "/openapi.json"),
                    "{method} {path}"
                );
            }
        }
    }
    assert_eq!(ROUTES.len() + 1, get.len() + post.len() + 3 * all.len());
}

#[test]
fn unknown_paths_need_a_token_too() {
    let world = World::new();
    for path in [
        "/",
        "",
        "*",
        "/health/",
        "/pipelines//",
        "/pipelines/jobs/",
        "/pipelines/schedule/",
        "/job",
        "/job/detail/",
        "/job/cancel/",
        "/Pipelines",
        "/pipelines%2Fjobs",
        "//pipelines",
    ] {
        world.get(path).expect_error(404, "no such path", "not_found");
        let mut head = world.head(Method::Get, path, &[]);
        head.headers.clear();
        let reply = world.ready(&head, "");
        assert_eq!((reply.status, &*reply.body), (401, "no token found"));
    }
}

#[test]
fn without_a_good_token_the_answer_is_plain_text() {
    let world = World::new();
    for (authorization, body, challenge) in [
        ("Basic x", "no token found", "Bearer"),
        (
            "Bearer x.y.z",
            "token is unauthorized",
            "Bearer error=\"invalid_token\", error_description=\"token is unauthorized\"",
        ),
    ] {
        let mut head = world.head(Method::Post, "/pipelines/schedule", &[]);
        head.headers = vec![Header::from_bytes("Authorization", authorization).unwrap()];
        for answer in [
            world.api.refuse(&head).map(Answer::Ready),
            Some(world.api.handle(&head, b"{}")),
        ] {
            let Some(Answer::Ready(response)) = answer else {
                panic!("{authorization}")
            };
            let reply = Reply::read(response);
            assert_eq!((reply.status, &*reply.body), (401, body));
            assert_eq!(reply.header("WWW-Authenticate"), Some(challenge));
            assert_eq!(reply.header("Content-Type"), PLAIN);
        }
    }
}

#[test]
fn broken_queries_are_refused() {
    let world = World::with_jobs();
    world
        .get("/job/detail?id=%ff")
        .expect_error(400, "the query holds `%ff`, expected UTF-8", "bad_request");
    // Where no parameter is known none is looked at.
    assert_eq!(world.get("/pipelines?%").status, 200);
}

#[test]
fn health_is_open() {
    let world = World::new();
    let health = || {
        let mut head = world.head(Method::Get, "/health", &[]);
        head.headers.clear();
        world.ready(&head, "")
    };
    let version = env!("CARGO_PKG_VERSION");
    health().expect(200, &format!(r#"{{"status":"ok","version":"{version}"}}"#));
    world.health.set_storage_trouble(Some("the disk is full".to_owned()));
    let reply = health();
    reply.expect(
        503,
        &format!(r#"{{"status":"storage","version":"{version}","error":"the disk is full","code":"storage"}}"#),
    );
    assert_eq!(reply.header("Retry-After"), Some("1"));
    world.health.set_stopping();
    health().expect(
        503,
        &format!(
            r#"{{"status":"stopping","version":"{version}","error":"prunner is shutting down","code":"shutting_down"}}"#
        ),
    );
}

#[test]
fn requests_that_cannot_be_read_get_json_too() {
    let api = World::new().api;
    for (why, status, text, code) in [
        (BadRequest::Malformed("not HTTP"), 400, "not HTTP", "bad_request"),
        (
            BadRequest::Timeout,
            408,
            "the request did not come whole in time",
            "request_timeout",
        ),
        (
            BadRequest::BodyTooLarge,
            413,
            "the body is too large, expected at most 1 MiB",
            "body_too_large",
        ),
        (
            BadRequest::HeadTooLarge,
            431,
            "the head of the request is too large, expected at most 16 KiB",
            "head_too_large",
        ),
        (
            BadRequest::TooManyConnections,
            503,
            "too many connections; try again",
            "busy",
        ),
    ] {
        Reply::read(api.bad_request(&why)).expect_error(status, text, code);
    }
    Reply::read(api.internal_error()).expect_error(500, "internal error", "internal");
}

// Jobs and pipelines

#[test]
fn pipelines_are_listed() {
    let world = World::new();
    world.get("/pipelines/").expect(200, r#"{"pipelines":[]}"#);
    let deploy = PipelineView {
        pipeline: "deploy".into(),
        schedulable: true,
        running: false,
        variables: Arc::default(),
        strict_variables: false,
    };
    world.model.publish(&[], Some([deploy].into()));
    let list = r#"[{"pipeline":"deploy","schedulable":true,"running":false}]"#;
    world
        .get("/pipelines")
        .expect(200, &format!(r#"{{"pipelines":{list}}}"#));
    world
        .get("/pipelines/jobs")
        .expect(200, &format!(r#"{{"pipelines":{list},"jobs":[]}}"#));
}

#[test]
fn no_pipeline_is_schedulable_while_all_requests_are_refused() {
    let world = World::new();
    let deploy = PipelineView {
        pipeline: "deploy".into(),
        schedulable: true,
        running: true,
        variables: Arc::default(),
        strict_variables: false,
    };
    world.model.publish(&[], Some([deploy].into()));
    let list = |schedulable| format!(r#"[{{"pipeline":"deploy","schedulable":{schedulable},"running":true}}]"#);
    let check = |schedulable: bool| {
        world
            .get("/pipelines")
            .expect(200, &format!(r#"{{"pipelines":{}}}"#, list(schedulable)));
        let jobs = world.get("/pipelines/jobs");
        jobs.expect(200, &format!(r#"{{"pipelines":{},"jobs":[]}}"#, list(schedulable)));
        jobs.header("ETag").unwrap().to_owned()
    };
    let well = check(true);
    world.health.set_storage_trouble(Some("the disk is full".to_owned()));
    let troubled = check(false);
    assert_ne!(troubled, well, "who knows the one must be told of the other");
    world.health.set_storage_trouble(None);
    assert_eq!(check(true), well);
    world.health.set_stopping();
    assert_eq!(check(false), troubled);
}

#[test]
fn jobs_are_listed_newest_first() {
    let world = World::with_jobs();
    let json = |number| world.model.read().job(id(number)).unwrap().content.json();
    let expected = (1..=7).rev().map(|number| json(number).to_string()).collect::<Vec<_>>();
    world
        .get("/pipelines/jobs")
        .expect(200, &format!(r#"{{"pipelines":[],"jobs":[{}]}}"#, expected.join(",")));
}

#[track_caller]
fn check_list(world: &World, query: &str, expected: &[u128]) {
    let reply = world.get(&format!("/pipelines/jobs?{query}"));
    assert_eq!(reply.status, 200, "{reply:?}");
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    let found: Vec<&str> = body["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["id"].as_str().unwrap())
        .collect();
    let expected: Vec<String> = expected.iter().map(|number| id(*number).to_string()).collect();
    assert_eq!(found, expected, "{query}");
}

#[test]
fn lists_are_filtered() {
    let world = World::with_jobs();
    check_list(&world, "", &[7, 6, 5, 4, 3, 2, 1]);
    check_list(&world, "pipeline=even", &[6, 4, 2]);
    check_list(&world, "pipeline=even&pipeline=odd", &[7, 6, 5, 4, 3, 2, 1]);
    check_list(&world, "pipeline=none", &[]);
    check_list(&world, "status=running", &[2]);
    check_list(&world, "status=running&status=waiting&pipeline=odd", &[1]);
    check_list(&world, "status=interrupted&status=replaced", &[7, 6]);
    check_list(&world, "limit=2", &[7, 6]);
    check_list(&world, "limit=100", &[7, 6, 5, 4, 3, 2, 1]);
    check_list(&world, "pipeline=even&limit=1", &[6]);
    check_list(&world, &format!("before={}", id(3)), &[2, 1]);
    check_list(&world, &format!("before={}&limit=1&pipeline=odd", id(5)), &[3]);
    check_list(&world, &format!("before={}", id(1)), &[]);
}

#[test]
fn filters_that_make_no_sense_are_refused() {
    let world = World::with_jobs();
    let check = |query: &str, status, text: &str, code| {
        world
            .get(&format!("/pipelines/jobs?{query}"))
            .expect_error(status, text, code);
    };
    for limit in ["0", "-1", "x", ""] {
        let text = format!("`limit` is `{limit}`, expected a whole number, at least 1");
        check(&format!("limit={limit}"), 400, &text, "bad_request");
    }
    check(
        "status=waiting&status=done",
        400,
        "`status` is `done`, expected one of `waiting`, `running`, `succeeded`, `failed`, `canceled`, `replaced`, \
         `interrupted`",
        "bad_request",
    );
    check("before=7", 400, "Invalid job id", "invalid_job_id");
    check(&format!("before={}", id(99)), 404, "Job not found", "job_not_found");
}

#[test]
fn a_list_that_is_known_is_not_sent_again() {
    let world = World::with_jobs();
    let first = world.get("/pipelines/jobs");
    let tag = first.header("ETag").unwrap();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    for known in [
        tag.to_owned(),
        format!("W/{tag}"),
        format!("\"x\", {tag}"),
        format!("\"x\",W/{tag} , \"y\""),
        "*".to_owned(),
    ] {
        let reply = world.get_with("/pipelines/jobs", &[("If-None-Match", &known)]);
        assert_eq!((reply.status, &*reply.body), (304, ""), "{known}");
        assert_eq!(reply.header("ETag"), Some(tag));
    }
    for other in ["\"x\"", "", tag.trim_matches('"')] {
        assert_eq!(
            world.get_with("/pipelines/jobs", &[("If-None-Match", other)]).status,
            200
        );
    }
    let two = [("If-None-Match", "\"x\""), ("If-None-Match", tag)];
    assert_eq!(world.get_with("/pipelines/jobs", &two).status, 304);
    world.publish(&[end(1, JobStatus::Canceled)]);
    assert_eq!(world.get_with("/pipelines/jobs", &[("If-None-Match", tag)]).status, 200);
    // The same revision of another start.
    let other = World::with_jobs();
    assert_eq!(other.get_with("/pipelines/jobs", &[("If-None-Match", tag)]).status, 200);
}

#[test]
fn a_job_is_shown() {
    let world = World::with_jobs();
    for number in [1, 2, 3] {
        let json = world.model.read().job(id(number)).unwrap().content.json();
        world.get(&format!("/job/detail?id={}", id(number))).expect(200, &json);
    }
    let upper = id(0xabc_def).to_string().to_uppercase();
    for (query, status, text, code) in [
        ("", 400, "Invalid job id", "invalid_job_id"),
        ("?id=", 400, "Invalid job id", "invalid_job_id"),
        ("?id=7", 400, "Invalid job id", "invalid_job_id"),
        (
            "?id=00000000000000000000000000000001",
            400,
            "Invalid job id",
            "invalid_job_id",
        ),
        (&*format!("?id={upper}"), 404, "Job not found", "job_not_found"),
        (&*format!("?id={}", id(99)), 404, "Job not found", "job_not_found"),
    ] {
        for path in ["/job/detail", "/job/logs", "/job/log"] {
            world
                .get(&format!(
                    "{path}{query}{}task=build",
                    if query.is_empty() { "?" } else { "&" }
                ))
                .expect_error(status, text, code);
        }
        world
            .post(&format!("/job/cancel{query}"), "")
            .expect_error(status, text, code);
    }
}

#[test]
fn a_detail_waits_for_the_end() {
    let world = World::with_jobs();
    let mut later = world.later(&format!("/job/detail?id={}&wait=60s", id(2)));
    assert!(later.answer().is_none());
    assert!(!is_awake(later.waker()));
    world.publish(&[end(1, JobStatus::Canceled)]);
    assert!(!is_awake(later.waker()), "another job is no news");
    world.publish(&[task(2, 0, TaskStatus::Done)]);
    assert!(is_awake(later.waker()));
    assert!(later.answer().is_none());
    world.publish(&[end(2, JobStatus::Succeeded)]);
    let json = world.model.read().job(id(2)).unwrap().content.json();
    Reply::read(later.answer().unwrap()).expect(200, &json);
}

#[test]
fn with_what_the_client_has_a_detail_waits_for_a_change() {
    let world = World::with_jobs();
    let target = format!("/job/detail?id={}", id(2));
    let tag = world.get(&target).header("ETag").unwrap().to_owned();
    let same = world.get_with(&target, &[("If-None-Match", &tag)]);
    assert_eq!((same.status, &*same.body, same.header("ETag")), (304, "", Some(&*tag)));

    let waiting = format!("{target}&wait=60s");
    let mut later = world.later_with(&waiting, &[("If-None-Match", &tag)]);
    assert!(later.answer().is_none());
    world.publish(&[task(1, 0, TaskStatus::Done)]);
    assert!(later.answer().is_none(), "another job is no news");
    world.publish(&[task(2, 0, TaskStatus::Done)]);
    assert!(is_awake(later.waker()));
    let changed = Reply::read(later.answer().unwrap());
    let json = world.model.read().job(id(2)).unwrap().content.json();
    changed.expect(200, &json);
    assert_eq!(changed.header("Cache-Control"), Some("no-store"));
    assert_ne!(changed.header("ETag"), Some(&*tag));

    // What has changed since is told at once, what has ended does not change any more.
    let mut later = world.later_with(&waiting, &[("If-None-Match", &tag)]);
    assert_eq!(Reply::read(later.answer().unwrap()).status, 200);
    world.publish(&[end(2, JobStatus::Succeeded)]);
    let ended = world.get(&target).header("ETag").unwrap().to_owned();
    let mut later = world.later_with(&waiting, &[("If-None-Match", &ended)]);
    assert_eq!(Reply::read(later.answer().unwrap()).status, 304);
}

#[test]
fn a_wait_has_an_end() {
    let world = World::with_jobs();
    let json = world.model.read().job(id(2)).unwrap().content.json();
    let target = |wait: &str| format!("/job/detail?id={}&wait={wait}", id(2));
    // The clock is asked at each look, so this ends after a millisecond.
    let mut later = world.later(&target("1ms"));
    let response = loop {
        if let Some(response) = later.answer() {
            break response;
        }
    };
    assert!(Instant::now() >= later.deadline());
    Reply::read(response).expect(200, &json);

    let before = Instant::now();
    let deadline = world.later(&target("2h")).deadline();
    assert!(deadline >= before + Duration::from_secs(60) && deadline <= Instant::now() + Duration::from_secs(60));
    world.get(&target("0s")).expect(200, &json);
    world.get(&target("30")).expect_error(
        400,
        "`wait` is `30`, which has no unit behind `30`; expected `ms`, `s`, `m`, `h` or `d`, as in `30s`",
        "bad_request",
    );
    assert_eq!(world.get(&target("")).status, 400);
    assert_eq!(world.get(&target("-1s")).status, 400);

    let mut later = world.later(&target("60s"));
    assert!(later.answer().is_none());
    world.health.set_ending();
    world.model.wake_all();
    assert!(is_awake(later.waker()));
    Reply::read(later.answer().unwrap()).expect(200, &json);
}

#[test]
fn who_waits_for_a_job_that_is_not_there_is_told() {
    let world = World::with_jobs();
    let mut later = world.later(&format!("/job/detail?id={}&wait=60s", id(99)));
    Reply::read(later.answer().unwrap()).expect_error(404, "Job not found", "job_not_found");
    let mut later = world.later(&format!("/job/detail?id={}&wait=60s", id(2)));
    world.publish(&[Change::Forget { job: id(2) }]);
    assert!(is_awake(later.waker()));
    Reply::read(later.answer().unwrap()).expect_error(404, "Job not found", "job_not_found");
}

// What changes something

#[test]
fn schedules_are_listed_as_they_are_on_disk() {
    let world = World::new();
    let schedule = |number, is_from_file| {
        let added = Added {
            pipeline: "p".to_owned(),
            every: Some("1m".to_owned()),
            ..Added::default()
        };
        let record = ScheduleRecord {
            id: ScheduleId(Uuid::from_u128(number)),
            since_ms: NOW_MS,
            last_ms: Some(NOW_MS),
            added: Some(Box::new(added.clone())),
        };
        let view = ScheduleView {
            id: record.id,
            pipeline: "p".into(),
            schedule: added.read().unwrap(),
            zone: None,
            next_ms: None,
            last_ms: Some(NOW_MS + 60_000),
            is_from_file,
        };
        (Change::Schedule(Box::new(record)), view)
    };
    let ((saved, shown), (_, unsaved), (_, in_a_file)) = (schedule(1, false), schedule(2, false), schedule(3, true));
    world.publish(&[saved]);
    world.next_request(move |request| {
        let Request::Schedules { reply } = request else {
            panic!("{request:?}");
        };
        reply.send(vec![shown, unsaved, in_a_file]).unwrap();
    });
    let answer = world.get("/schedules");
    assert_eq!(answer.status, 200);
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let schedules = body["schedules"].as_array().unwrap();
    assert_eq!(schedules.len(), 2);
    assert_eq!(schedules[0]["id"], Uuid::from_u128(1).to_string());
    assert_eq!(schedules[0]["last"], crate::timestamp::rfc3339(NOW_MS));
    assert_eq!(schedules[1]["id"], Uuid::from_u128(3).to_string());
    assert_eq!(schedules[1]["last"], serde_json::Value::Null);
}

#[test]
fn a_job_is_scheduled() {
    let world = World::new();
    world.next_request(|request| {
        let Request::Schedule { request, reply } = request else {
            panic!("{request:?}")
        };
        assert_eq!(
            (&*request.pipeline, &*request.user, &*request.partition),
            ("deploy", "anna", "tenant")
        );
        assert_eq!(request.variables["release"], "42");
        assert_eq!(request.key, None);
        let accepted = Accepted {
            job: id(1),
            joined: false,
        };
        reply.send(Ok(accepted)).unwrap();
    });
    world
        .post(
            "/pipelines/schedule",
            r#"{"pipeline":"deploy","variables":{"release":"42"},"queuePartition":"tenant"}"#,
        )
        .expect(202, &format!(r#"{{"jobId":"{}"}}"#, id(1)));
    assert!(world.reactions().is_empty());
}

#[test]
fn a_refusal_of_the_scheduler_is_passed_on() {
    let world = World::new();
    for (why, status, text, code) in [
        (
            ScheduleError::UnknownPipeline("x".to_owned()),
            400,
            "pipeline \"x\" is not defined",
            "unknown_pipeline",
        ),
        (
            ScheduleError::QueueFull,
            400,
            "concurrency exceeded and queue limit reached for pipeline",
            "queue_full",
        ),
        (
            ScheduleError::QueueDisabled,
            400,
            "concurrency exceeded and queueing disabled for pipeline",
            "queue_disabled",
        ),
        (
            ScheduleError::BadVariables("variable name `jobID` is reserved".to_owned()),
            400,
            "variable name `jobID` is reserved",
            "bad_variables",
        ),
        (
            ScheduleError::ShuttingDown,
            503,
            "prunner is shutting down",
            "shutting_down",
        ),
    ] {
        world.next_request(|request| {
            let Request::Schedule { reply, .. } = request else {
                panic!("{request:?}")
            };
            reply.send(Err(why)).unwrap();
        });
        world.post("/pipelines/schedule", r#"{"pipeline":"x"}"#).expect_error(
            status,
            &format!("Error scheduling pipeline: {text}"),
            code,
        );
    }
}

#[test]
fn a_body_that_makes_no_sense_is_refused() {
    let world = World::new();
    world.post("/pipelines/schedule", "").expect_error(
        400,
        "Error decoding JSON: EOF while parsing a value at line 1 column 0",
        "bad_json",
    );
    world.post("/pipelines/schedule", "{\"pipeline\":\n5}").expect_error(
        400,
        "Error decoding JSON: field `pipeline`: invalid type: integer `5`, expected a string at line 2 column 1",
        "bad_json",
    );
}

#[test]
fn no_job_is_taken_in_trouble_nor_its_body_read() {
    let world = World::new();
    let head = world.head(Method::Post, "/pipelines/schedule", &[]);
    let check = |text, code| {
        let refusal = world.api.refuse(&head).expect("the head alone decides");
        Reply::read(refusal).expect_error(503, text, code);
        // It came up while the body was read.
        let Answer::Ready(response) = world.api.handle(&head, b"{}") else {
            panic!("it is decided")
        };
        Reply::read(response).expect_error(503, text, code);
    };
    world.health.set_storage_trouble(Some("the disk is full".to_owned()));
    check("Error scheduling pipeline: the disk is full", "storage");
    world.health.set_stopping();
    check("Error scheduling pipeline: prunner is shutting down", "shutting_down");
    assert_eq!(world.get("/pipelines/jobs").status, 200);
}

#[test]
fn nobody_waits_for_ever() {
    let mut world = World::with_jobs();
    world.api.patience = Duration::ZERO;
    let kept = Arc::new(Mutex::new(Vec::new()));
    let body = r#"{"pipeline":"x"}"#;
    let cancel = format!("/job/cancel?id={}", id(1));
    for (path, body) in [("/pipelines/schedule", body), ("/pipelines/reload", ""), (&*cancel, "")] {
        let keeper = Arc::clone(&kept);
        world.next_request(move |request| keeper.lock().unwrap().push(request));
        world.post(path, body).expect_error(
            503,
            "not saved in time; it may still happen, so look before you try again",
            "storage",
        );
        // The main loop is gone.
        world.next_request(drop);
        let text = if path == "/pipelines/schedule" {
            "Error scheduling pipeline: prunner is shutting down"
        } else {
            "prunner is shutting down"
        };
        world.post(path, body).expect_error(503, text, "shutting_down");
    }
}

#[test]
fn a_job_is_canceled() {
    let world = World::with_jobs();
    for number in [1, 2] {
        world.next_request(move |request| {
            let Request::Cancel { job, by, reply } = request else {
                panic!("{request:?}")
            };
            assert_eq!((job, &*by), (id(number), "anna"));
            reply.send(Ok(())).unwrap();
        });
        // Whatever the body holds.
        world
            .post(&format!("/job/cancel?id={}", id(number)), "{")
            .expect(200, "true");
    }
    assert!(world.reactions().is_empty());
    for (number, status) in (1..).zip(JobStatus::ALL).filter(|(_, status)| status.has_ended()) {
        let reply = world.post(&format!("/job/cancel?id={}", id(number)), "");
        if matches!(status, JobStatus::Canceled | JobStatus::Replaced) {
            reply.expect(200, "true");
        } else {
            reply.expect_error(409, "job has already ended", "already_ended");
        }
    }
}

#[test]
fn a_job_is_forgotten_or_not_as_the_main_loop_says() {
    let world = World::with_jobs();
    for (answer, status, body) in [
        (Ok(()), 200, "true"),
        (
            Err(ForgetError::NotEnded),
            409,
            r#"{"error":"job has not ended","code":"not_ended"}"#,
        ),
        (
            Err(ForgetError::Unknown),
            404,
            r#"{"error":"Job not found","code":"job_not_found"}"#,
        ),
    ] {
        world.next_request(move |request| {
            let Request::Forget { job, reply } = request else {
                panic!("{request:?}")
            };
            assert_eq!(job, id(3));
            reply.send(answer).unwrap();
        });
        world
            .post(&format!("/job/forget?id={}", id(3)), "")
            .expect(status, body);
    }
    world
        .post("/job/forget?id=3", "")
        .expect_error(400, "Invalid job id", "invalid_job_id");
    assert!(world.reactions().is_empty());
}

#[test]
fn a_job_may_end_before_its_cancel_comes() {
    for (change, status, body) in [
        (end(2, JobStatus::Canceled), 200, "true"),
        (
            end(2, JobStatus::Failed),
            409,
            r#"{"error":"job has already ended","code":"already_ended"}"#,
        ),
        (
            Change::Forget { job: id(2) },
            404,
            r#"{"error":"Job not found","code":"job_not_found"}"#,
        ),
    ] {
        let world = World::with_jobs();
        let model = Arc::clone(&world.model);
        world.next_request(move |request| {
            let Request::Cancel { reply, .. } = request else {
                panic!("{request:?}")
            };
            model.publish(&[change], None);
            reply.send(Err(NotLive)).unwrap();
        });
        world
            .post(&format!("/job/cancel?id={}", id(2)), "")
            .expect(status, body);
    }
}

#[test]
fn a_reload_loads_the_files() {
    let world = World::new();
    let task = "tasks: {build: {script: ['true']}}";
    world.define("a.yml", &format!("pipelines:\n  one: {{{task}}}\n  two: {{{task}}}\n"));
    world.next_request(|request| {
        let Request::Reload { pipelines, reply } = request else {
            panic!("{request:?}")
        };
        assert_eq!(pipelines.keys().map(|name| &**name).collect::<Vec<_>>(), ["one", "two"]);
        reply.unwrap().send(()).unwrap();
    });
    world
        .post("/pipelines/reload", "ignored")
        .expect(200, r#"{"pipelines":2,"warnings":[]}"#);
    assert!(world.reactions().is_empty());
}

#[test]
fn a_reload_of_broken_files_changes_nothing() {
    let world = World::new();
    world.define(
        "a.yml",
        "pipelines:\n  one: {tasks: {build: {script: 5, depends_on: [x]}}}\n  two: 7\n",
    );
    let loaded = definition::load(&world.api.parts.reloader.search);
    assert!(loaded.errors.len() > 1, "{:?}", loaded.errors);
    let text = loaded
        .errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    world
        .post("/pipelines/reload", "")
        .expect_error(400, &text, "bad_definition");
}

#[test]
fn a_reload_passes_warnings_on() {
    let world = World::new();
    world.next_request(|request| {
        let Request::Reload { reply, .. } = request else {
            panic!("{request:?}")
        };
        reply.unwrap().send(()).unwrap();
    });
    let warning = definition::load(&world.api.parts.reloader.search).warnings[0].to_string();
    let expected = serde_json::json!({"pipelines": 0, "warnings": [warning]}).to_string();
    world.post("/pipelines/reload", "").expect(200, &expected);
}

// Logs

#[test]
fn logs_are_shown() {
    let world = World::with_jobs();
    let build = format!("/job/logs?id={}&task=build", id(2));
    world.get(&build).expect(200, r#"{"stdout":"","stderr":""}"#);
    world.append(2, "build", StreamKind::Stdout, b"out\n\xff\"");
    world
        .get(&build)
        .expect(200, "{\"stdout\":\"out\\n\u{fffd}\\\"\",\"stderr\":\"\"}");
    world.append(2, "build", StreamKind::Stderr, b"err");
    world
        .get(&build)
        .expect(200, "{\"stdout\":\"out\\n\u{fffd}\\\"\",\"stderr\":\"err\"}");
    world
        .get(&format!("/job/logs?id={}&task=test", id(2)))
        .expect(200, r#"{"stdout":"","stderr":""}"#);
}

#[test]
fn the_order_of_checks_is_that_of_the_parameters() {
    let world = World::with_jobs();
    for path in ["/job/logs", "/job/log"] {
        let check = |query: String, status, text, code| {
            world.get(&format!("{path}?{query}")).expect_error(status, text, code);
        };
        check("id=x".to_owned(), 400, "Invalid job id", "invalid_job_id");
        check(format!("id={}", id(99)), 400, "Invalid task name", "invalid_task_name");
        check(
            format!("id={}&task=", id(2)),
            400,
            "Invalid task name",
            "invalid_task_name",
        );
        check(format!("id={}&task=x", id(99)), 404, "Job not found", "job_not_found");
        for task in ["x", "..%2Fbuild", "on_error", "Build"] {
            check(
                format!("id={}&task={task}", id(2)),
                404,
                "Task not found",
                "task_not_found",
            );
        }
    }
}

#[test]
fn a_list_shares_its_jobs_with_all_answers() {
    let world = World::with_jobs();
    let json = world.model.read().job(id(3)).unwrap().content.json();
    let before = Arc::strong_count(&json);
    let answer = world.send(&world.head(Method::Get, "/pipelines/jobs", &[]), "");
    assert_eq!(Arc::strong_count(&json), before + 1);
    drop(answer);
    assert_eq!(Arc::strong_count(&json), before);
}

#[test]
fn only_the_end_of_a_long_log_is_shown() {
    let world = World::with_jobs();
    let target = format!("/job/logs?id={}&task=build", id(2));
    let whole = "a".repeat(8 << 20);
    world.append(2, "build", StreamKind::Stdout, whole.as_bytes());
    assert!(world.get(&target).body == format!(r#"{{"stdout":"{whole}","stderr":""}}"#));
    world.append(2, "build", StreamKind::Stdout, b"!");
    let tail = &whole[1..];
    assert!(world.get(&target).body == format!(r#"{{"stdout":"{tail}!","stderr":"","truncated":true}}"#));

    // The first character that is shown is whole.
    world.append(2, "test", StreamKind::Stderr, "ä".as_bytes());
    world.append(2, "test", StreamKind::Stderr, &whole.as_bytes()[1..]);
    let target = format!("/job/logs?id={}&task=test", id(2));
    assert!(world.get(&target).body == format!(r#"{{"stdout":"","stderr":"{tail}","truncated":true}}"#));
}

#[test]
fn a_log_is_sent_as_it_is() {
    let world = World::with_jobs();
    let target = format!("/job/log?id={}&task=build", id(2));
    let check = |target: &str, headers: &[(&str, &str)], status, body: &str, content_range: Option<&str>| {
        let reply = world.get_with(target, headers);
        assert_eq!((reply.status, &*reply.body), (status, body), "{target} {headers:?}");
        assert_eq!(reply.header("Content-Range"), content_range);
        assert_eq!(reply.header("Content-Type"), PLAIN);
        assert_eq!(reply.header("Accept-Ranges"), Some("bytes"));
    };
    check(&target, &[], 200, "", None);
    world.append(2, "build", StreamKind::Stdout, b"0123456789");
    world.append(2, "build", StreamKind::Stderr, b"err");
    check(&target, &[], 200, "0123456789", None);
    check(
        &format!("{target}&follow=false&stream=stdout"),
        &[],
        200,
        "0123456789",
        None,
    );
    check(&format!("{target}&stream=stderr"), &[], 200, "err", None);
    check(&target, &[("Range", "bytes=3-")], 206, "3456789", Some("bytes 3-9/10"));
    check(&target, &[("Range", "bytes=3-5")], 206, "345", Some("bytes 3-5/10"));
    check(
        &target,
        &[("Range", "bytes=3-50")],
        206,
        "3456789",
        Some("bytes 3-9/10"),
    );
    check(&target, &[("Range", "bytes=-2")], 206, "89", Some("bytes 8-9/10"));
    check(&target, &[("Range", "bytes=0-1,4-5")], 200, "0123456789", None);
    check(&target, &[("Range", "nonsense")], 200, "0123456789", None);
    check(
        &target,
        &[("Range", "bytes=3-"), ("If-Range", "\"x\"")],
        200,
        "0123456789",
        None,
    );
    let past = world.get_with(&target, &[("Range", "bytes=10-")]);
    past.expect_error(
        416,
        "the range begins behind the end of the log, which has 10 bytes",
        "range_not_satisfiable",
    );
    assert_eq!(past.header("Content-Range"), Some("bytes */10"));
    let head = world.head(Method::Head, &target, &[("Range", "bytes=3-")]);
    assert_eq!(world.ready(&head, "").status, 200);
}

#[test]
fn parameters_of_logs_that_make_no_sense_are_refused() {
    let world = World::with_jobs();
    for (parameter, text) in [
        ("stream=x", "`stream` is `x`, expected `stdout` or `stderr`"),
        ("stream=", "`stream` is ``, expected `stdout` or `stderr`"),
        ("follow=yes", "`follow` is `yes`, expected `true` or `false`"),
        ("follow=true&offset=-1", "`offset` is `-1`, expected a number of bytes"),
    ] {
        world
            .get(&format!("/job/log?id={}&task=build&{parameter}", id(2)))
            .expect_error(400, text, "bad_request");
    }
}

#[test]
fn a_log_that_cannot_be_read_is_our_trouble() {
    let world = World::with_jobs();
    let path = log_path(&world.directory.path().join("logs"), id(2), "build", StreamKind::Stdout);
    fs::create_dir_all(path).unwrap();
    world
        .get(&format!("/job/logs?id={}&task=build", id(2)))
        .expect_error(500, "internal error", "internal");
    let mut stream = world.stream(&format!("/job/log?id={}&task=build&follow=true", id(2)));
    let mut buffer = Vec::new();
    assert_eq!(stream.next(&mut buffer), Next::Broken);
}

#[test]
fn a_log_is_followed_to_the_end_of_its_task() {
    let world = World::with_jobs();
    let mut stream = world.stream(&format!("/job/log?id={}&task=test&follow=true", id(2)));
    let head = Reply::read(stream.head());
    assert_eq!((head.status, head.header("Content-Type")), (200, PLAIN));
    assert_eq!(next(&mut *stream), nothing(Next::Wait));
    world.append(2, "test", StreamKind::Stdout, b"one");
    assert_eq!(next(&mut *stream), data("one"));
    assert_eq!(next(&mut *stream), nothing(Next::Wait));
    // Another task, and a step of this one that is not the end.
    world.publish(&[task(2, 0, TaskStatus::Done), task(2, 1, TaskStatus::Running)]);
    assert_eq!(next(&mut *stream), nothing(Next::Wait));
    world.append(2, "test", StreamKind::Stdout, b"two");
    world.publish(&[task(2, 1, TaskStatus::Error)]);
    assert_eq!(next(&mut *stream), data("two"));
    assert_eq!(next(&mut *stream), nothing(Next::End));
}

#[test]
fn a_follower_is_woken_by_the_end_of_the_task() {
    for change in [
        task(2, 1, TaskStatus::Done),
        task(2, 1, TaskStatus::Canceled),
        end(2, JobStatus::Canceled),
        Change::Forget { job: id(2) },
    ] {
        let world = World::with_jobs();
        let mut stream = world.stream(&format!("/job/log?id={}&task=test&follow=true", id(2)));
        assert_eq!(next(&mut *stream), nothing(Next::Wait));
        assert!(!is_awake(stream.waker()));
        world.publish(std::slice::from_ref(&change));
        assert!(is_awake(stream.waker()), "{change:?}");
        assert_eq!(next(&mut *stream), nothing(Next::End), "{change:?}");
    }
}

#[test]
fn a_follower_begins_where_it_wants() {
    let world = World::with_jobs();
    world.append(2, "build", StreamKind::Stderr, b"0123456789");
    let follow = |offset: &str| {
        world.stream(&format!(
            "/job/log?id={}&task=build&stream=stderr&follow=true&offset={offset}",
            id(2)
        ))
    };
    assert_eq!(next(&mut *follow("7")), data("789"));
    assert_eq!(next(&mut *follow("99999999999999999999")), nothing(Next::Wait));
    let mut past = follow("12");
    assert_eq!(next(&mut *past), nothing(Next::Wait));
    world.append(2, "build", StreamKind::Stderr, b"abcd");
    assert_eq!(next(&mut *past), data("cd"));
    let mut past = follow("20");
    world.publish(&[end(2, JobStatus::Succeeded)]);
    assert_eq!(next(&mut *past), nothing(Next::End));
    // Long ones come in pieces.
    world.append(2, "build", StreamKind::Stderr, &vec![b'x'; 100 << 10]);
    let mut stream = follow("14");
    assert_eq!(next(&mut *stream).1.len(), 64 << 10);
    assert_eq!(next(&mut *stream).1.len(), 36 << 10);
    assert_eq!(next(&mut *stream), nothing(Next::End));
}
