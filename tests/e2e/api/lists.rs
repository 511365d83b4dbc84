//! `GET /pipelines/jobs`: all jobs, some of them, and nothing where nothing changed.

use serde_json::json;

use super::{column, keys};
use crate::checks::check_error;
use crate::space::{Server, TestSpace};

const PIPELINES: &str = "pipelines:
  good: {tasks: {a: {script: ['true']}}}
  bad: {tasks: {a: {script: ['false']}}}
  long: {tasks: {a: {script: [exec sleep 60]}}}
";

#[track_caller]
fn check_list(server: &Server, query: &str, expected: &[&String]) {
    let answer = server.get(&format!("/pipelines/jobs{query}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    let list = answer.json();
    assert_eq!(column(&list["jobs"], "id"), expected, "{query}");
    assert_eq!(
        column(&list["pipelines"], "pipeline"),
        ["bad", "good", "long"],
        "{query}"
    );
}

#[test]
fn jobs_are_listed_newest_first_and_filtered() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let run = |pipeline: &str| {
        let id = server.schedule(pipeline);
        server.ended(&id);
        id
    };
    check_list(&server, "", &[]);
    let (good, bad, more) = (run("good"), run("bad"), run("good"));
    let (runs, waits, canceled) = (
        server.schedule("long"),
        server.schedule("long"),
        server.schedule("long"),
    );
    server.cancel_job(&canceled);
    let all = [&canceled, &waits, &runs, &more, &bad, &good];
    check_list(&server, "", &all);
    for (query, expected) in [
        ("?pipeline=good", &[&more, &good][..]),
        ("?pipeline=good&pipeline=bad", &[&more, &bad, &good]),
        ("?pipeline=goo", &[]),
        ("?status=succeeded", &[&more, &good]),
        ("?status=failed", &[&bad]),
        ("?status=running", &[&runs]),
        ("?status=waiting", &[&waits]),
        ("?status=canceled", &[&canceled]),
        ("?status=replaced", &[]),
        ("?status=interrupted", &[]),
        ("?status=waiting&status=failed", &[&waits, &bad]),
        ("?status=waiting&pipeline=good", &[]),
        ("?status=succeeded&pipeline=good&limit=1", &[&more]),
        ("?limit=1", &[&canceled]),
        ("?limit=4", &all[..4]),
        ("?limit=100", &all),
        ("?unknown=1", &all),
    ] {
        check_list(&server, query, expected);
    }
    check_list(&server, &format!("?before={runs}"), &[&more, &bad, &good]);
    check_list(&server, &format!("?before={runs}&limit=2"), &[&more, &bad]);
    check_list(&server, &format!("?before={runs}&pipeline=good"), &[&more, &good]);
    check_list(&server, &format!("?before={more}&pipeline=long"), &[]);
    check_list(&server, &format!("?before={good}"), &[]);
}

#[test]
fn filters_that_make_no_sense_are_400() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    for query in [
        "limit=0",
        "limit=-1",
        "limit=",
        "limit=a",
        "limit=1.5",
        "status=",
        "status=Failed",
        "status=done",
    ] {
        let answer = server.get(&format!("/pipelines/jobs?{query}"));
        check_error(&answer, 400, "bad_request", "…");
    }
}

#[test]
fn a_list_holds_what_details_show() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let id = server.schedule("bad");
    let job = server.ended(&id);
    let list = server.get("/pipelines/jobs").json();
    assert_eq!(keys(&list), ["pipelines", "jobs"]);
    assert_eq!(list["jobs"], json!([job]));
    assert_eq!(list["pipelines"], server.get("/pipelines/").json()["pipelines"]);
}

#[test]
fn what_is_known_is_not_sent_again() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let ask = |server: &Server, known: &str| {
        let headers = format!("{}If-None-Match: {known}\r\n", server.authorization());
        server.request("GET", "/pipelines/jobs", &headers, "")
    };
    let tag = server.get("/pipelines/jobs").header("ETag").to_owned();
    assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    for known in [
        tag.clone(),
        format!("W/{tag}"),
        format!("\"other\", {tag}"),
        "*".to_owned(),
    ] {
        let answer = ask(&server, &known);
        assert_eq!((answer.status, answer.body.as_str()), (304, ""), "{known}");
        assert_eq!(answer.header("ETag"), tag);
    }
    assert_eq!(ask(&server, "\"other\"").status, 200);
    server.ended(&server.schedule("good"));
    let answer = ask(&server, &tag);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_ne!(answer.header("ETag"), tag);
    assert_eq!(server.stop(), Some(0));

    // A tag of an earlier start stands for nothing: it may count to the same number.
    let (first, second) = (space.serve(), TestSpace::new(PIPELINES));
    let tag = first.get("/pipelines/jobs").header("ETag").to_owned();
    assert_ne!(second.serve().get("/pipelines/jobs").header("ETag"), tag);
    assert_eq!(first.stop(), Some(0));
    let again = space.serve();
    let found = again.get("/pipelines/jobs");
    assert_ne!(found.header("ETag"), tag);
    assert_eq!(ask(&again, &tag).status, 200);
}
