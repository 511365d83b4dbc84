//! `Idempotency-Key`: a request that comes again makes no second job, whatever lies in between.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};

use super::{FLAGS, pipeline};
use crate::space::{Answer, Server, TestSpace, eventually};
use crate::tools::text;

fn ask(server: &Server, key: &str, body: &str) -> Answer {
    let headers = format!("{}Idempotency-Key: {key}\r\n", server.authorization());
    server.request("POST", "/pipelines/schedule", &headers, body)
}

fn body(release: &str) -> String {
    json!({"pipeline": "p", "variables": {"release": release}}).to_string()
}

#[track_caller]
fn accepted(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.body);
    let answer = answer.json();
    assert_eq!(answer, json!({"jobId": answer["jobId"]}));
    text(&answer["jobId"])
}

fn jobs(server: &Server) -> Vec<Value> {
    server.get("/pipelines/jobs").json()["jobs"].as_array().unwrap().clone()
}

#[test]
fn the_same_key_is_answered_with_the_same_job() {
    let (_space, server) = TestSpace::serving(
        &json!({"pipelines": {"p": {"queue_limit": 0, "tasks": {"a": {"script": "exec sleep 60"}}}, "q": {}}})
            .to_string(),
    );
    let id = accepted(&ask(&server, "k", &body("1")));
    // Without the key there is no place for it.
    assert_eq!(server.post("/pipelines/schedule", &body("1")).status, 400);
    assert_eq!(accepted(&ask(&server, "k", &body("1"))), id);
    server.cancel_job(&id);
    // Also when the job has ended.
    let job = server.ended(&id);
    assert_eq!(accepted(&ask(&server, "k", &body("1"))), id);
    assert_eq!(jobs(&server).len(), 1);
    assert_eq!(job["idempotency"][0]["key"], "k");
    assert_eq!(text(&job["idempotency"][0]["bodyHash"]).len(), 32);
    // Another key, and the same key for another pipeline, are other requests.
    assert_ne!(accepted(&ask(&server, "l", &body("1"))), id);
    assert_ne!(accepted(&ask(&server, "k", r#"{"pipeline":"q"}"#)), id);
}

#[test]
fn another_body_with_it_is_refused() {
    let (_space, server) = TestSpace::serving(&pipeline(&json!({})));
    let id = accepted(&ask(&server, "k", &body("1")));
    let refused = ask(&server, "k", &body("2"));
    assert_eq!(
        (refused.status, refused.json()),
        (
            409,
            json!({
                "error": "Error scheduling pipeline: the idempotency key was given to a request with another body; give \
                          each its own",
                "code": "idempotency_key_reused",
            })
        )
    );
    assert_eq!(accepted(&ask(&server, "k", &body("1"))), id);
    for key in ["", &"k".repeat(201)] {
        let refused = ask(&server, key, &body("1"));
        assert_eq!((refused.status, &refused.json()["code"]), (400, &json!("bad_request")));
    }
}

#[test]
fn a_request_that_was_refused_leaves_no_key() {
    let (_space, server) = TestSpace::serving(&pipeline(&json!({"variables": {"release": {"pattern": "[0-9]+"}}})));
    assert_eq!(ask(&server, "k", &body("x")).status, 400);
    accepted(&ask(&server, "k", &body("1")));
}

#[test]
fn a_key_lasts_as_long_as_its_job() {
    let (_space, server) = TestSpace::serving(&pipeline(&json!({"retention_count": 1})));
    let id = accepted(&ask(&server, "k", &body("1")));
    server.ended(&id);
    server.ended(&accepted(&ask(&server, "l", &body("1"))));
    eventually("it is forgotten", || {
        (server.get(&format!("/job/detail?id={id}")).status == 404).then_some(())
    });
    assert_ne!(accepted(&ask(&server, "k", &body("2"))), id);
}

/// All at once, again and again over kills: one job, and the same answer for all.
#[test]
fn many_clients_at_once_and_kills_in_between_make_one_job() {
    const CLIENTS: usize = 50;
    let (space, mut server) = TestSpace::serving(&pipeline(&json!({"tasks": {"a": {"script": "exec sleep 60"}}})));
    let mut ids = BTreeSet::new();
    let flags: Vec<String> = FLAGS.iter().map(ToString::to_string).collect();
    for round in 0..3 {
        let answers: Vec<Answer> = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| scope.spawn(|| ask(&server, "k", &body("1"))))
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        ids.extend(answers.iter().map(accepted));
        assert_eq!(ids.len(), 1, "round {round}");
        server.kill();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        server = space.serve_with(&flags, &[]);
    }
    let jobs = jobs(&server);
    assert_eq!(jobs.len(), 1);
    assert_eq!(
        (&jobs[0]["status"], jobs[0]["id"].as_str()),
        (&json!("interrupted"), ids.first().map(String::as_str))
    );
    // A clean end writes the journal anew.
    assert_eq!(server.stop(), Some(0));
    let server = space.serve();
    assert_eq!(Some(&accepted(&ask(&server, "k", &body("1")))), ids.first());
    assert_eq!(ask(&server, "k", &body("2")).status, 409);
}

/// A job that nobody was told of may be lost, one that anybody was told of never: also while the kill comes.
#[test]
fn an_answer_that_came_before_a_kill_holds_after_it() {
    let (space, server) = TestSpace::serving(&pipeline(&json!({"tasks": {"a": {"script": "exec sleep 60"}}})));
    let told: BTreeSet<String> = thread::scope(|scope| {
        let clients: Vec<_> = (0..50)
            .map(|_| {
                let (server, body) = (&server, body("1"));
                scope.spawn(move || {
                    use std::io::Read;
                    let headers = format!("{}Idempotency-Key: k\r\n", server.authorization());
                    let mut stream = server.send("POST", "/pipelines/schedule", &headers, &body);
                    let mut text = String::new();
                    // Some are cut off.
                    let _ = stream.read_to_string(&mut text);
                    text.contains("\r\n\r\n").then(|| Answer::new(&text))
                })
            })
            .collect();
        let mut clients = clients.into_iter();
        let first = clients.next().unwrap().join().unwrap();
        server.signal("KILL");
        let answers = clients.filter_map(|client| client.join().ok().flatten());
        first
            .into_iter()
            .chain(answers)
            .filter(|answer| answer.status == 202)
            .map(|answer| accepted(&answer))
            .collect()
    });
    assert_eq!(told.len(), 1);
    server.kill();
    let server = space.serve();
    assert_eq!(Some(&accepted(&ask(&server, "k", &body("1")))), told.first());
    assert_eq!(jobs(&server).len(), 1);
}

#[test]
fn the_command_line_has_a_key_too() {
    let (space, server) = TestSpace::serving(&pipeline(&json!({})));
    let schedule = |key: &str, release: &str| {
        let release = format!("release={release}");
        space.run(&[
            "schedule",
            "p",
            "--key",
            key,
            "--var",
            &release,
            "--address",
            &server.address,
        ])
    };
    let first = schedule("k", "1");
    assert!(first.status.success(), "{first:?}");
    assert_eq!(schedule("k", "1").stdout, first.stdout);
    assert_ne!(schedule("l", "1").stdout, first.stdout);
    let refused = schedule("k", "2");
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(
        String::from_utf8(refused.stderr)
            .unwrap()
            .contains("the idempotency key was given to a request with another body")
    );
    let wrong = schedule("ä", "1");
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(wrong.stderr).unwrap(),
        "prunner: error: `--key` is `ä`, expected 1 to 200 printable ASCII characters\n"
    );
}
