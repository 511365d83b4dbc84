//! `deduplicate`: a request that equals a job makes no new one.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::thread;

use serde_json::{Value, json};

use super::pipeline;
use crate::space::{Answer, Server, TestSpace, read_until};
use crate::tools::text;

const BUSY: &str = "exec sleep 60";

fn serving(keys: &Value) -> (TestSpace, Server) {
    TestSpace::serving(&pipeline(
        &json!({"deduplicate": keys, "tasks": {"a": {"script": BUSY}}}),
    ))
}

fn ask(server: &Server, variables: &Value, partition: &str) -> Answer {
    let request = json!({"pipeline": "p", "variables": variables, "queuePartition": partition});
    server.post("/pipelines/schedule", &request.to_string())
}

#[track_caller]
fn new(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.body);
    let answer = answer.json();
    assert_eq!(answer, json!({"jobId": answer["jobId"]}));
    text(&answer["jobId"])
}

#[track_caller]
fn check_joined(answer: &Answer, id: &str) {
    assert_eq!(
        (answer.status, answer.json()),
        (202, json!({"jobId": id, "joined": true}))
    );
}

#[test]
fn by_default_all_variables_count_and_jobs_that_run_too() {
    let (_space, server) = serving(&json!({}));
    let running = new(&ask(&server, &json!({"x": 1, "y": {"a": 1, "b": 2}}), ""));
    assert_eq!(server.status_of(&running), "running");
    check_joined(&ask(&server, &json!({"y": {"b": 2, "a": 1}, "x": 1}), ""), &running);
    let waiting = new(&ask(&server, &json!({"x": 2}), ""));
    check_joined(&ask(&server, &json!({"x": 2}), ""), &waiting);
    // Another partition, another value: others.
    new(&ask(&server, &json!({"x": 2}), "tenant"));
    new(&ask(&server, &json!({"x": "2"}), ""));
    // What has ended is no job to join.
    server.cancel_job(&waiting);
    assert_ne!(new(&ask(&server, &json!({"x": 2}), "")), waiting);
    server.cancel_job(&running);
    new(&ask(&server, &json!({"x": 1, "y": {"a": 1, "b": 2}}), ""));
}

#[test]
fn among_waiting_leaves_out_those_that_run() {
    let (_space, server) = serving(&json!({"among": "waiting"}));
    let running = new(&ask(&server, &json!({}), ""));
    let waiting = new(&ask(&server, &json!({}), ""));
    assert_ne!(running, waiting);
    check_joined(&ask(&server, &json!({}), ""), &waiting);
}

#[test]
fn by_names_the_variables_that_count() {
    let (_space, server) = serving(&json!({"by": ["release"]}));
    let first = new(&ask(&server, &json!({"release": "1", "by": "anna"}), ""));
    check_joined(&ask(&server, &json!({"release": "1", "by": "berta"}), ""), &first);
    let without = new(&ask(&server, &json!({"by": "anna"}), ""));
    check_joined(&ask(&server, &json!({"release": null}), ""), &without);
}

#[test]
fn refuse_refuses_them() {
    let (space, server) = serving(&json!({"then": "refuse"}));
    let id = new(&ask(&server, &json!({"x": 1}), ""));
    let refused = ask(&server, &json!({"x": 1}), "");
    assert_eq!(
        (refused.status, refused.json()),
        (
            400,
            json!({
                "error": format!("Error scheduling pipeline: an equal job waits or runs already: {id}"),
                "code": "duplicate",
            })
        )
    );
    let refused = space.run(&["schedule", "p", "--var", "x:=1", "--address", &server.address]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
}

#[test]
fn a_key_is_remembered_with_the_job_that_was_joined() {
    let (space, server) = serving(&json!({}));
    let body = json!({"pipeline": "p"}).to_string();
    let headers = format!("{}Idempotency-Key: k\r\n", server.authorization());
    let id = new(&server.post("/pipelines/schedule", &body));
    check_joined(&server.request("POST", "/pipelines/schedule", &headers, &body), &id);
    assert_eq!(server.job(&id)["idempotency"][0]["joined"], true);
    server.kill();
    let server = space.serve();
    // It has ended; who asks without the key gets another one.
    assert_eq!(server.status_of(&id), "interrupted");
    check_joined(&server.request("POST", "/pipelines/schedule", &headers, &body), &id);
    assert_ne!(new(&server.post("/pipelines/schedule", &body)), id);
}

#[test]
fn many_clients_at_once_and_a_kill_make_one_job() {
    let keys = json!({"start_delay": "1h", "deduplicate": {}, "tasks": {"a": {"script": BUSY}}});
    let (space, mut server) = TestSpace::serving(&pipeline(&keys));
    let mut ids = BTreeSet::new();
    for _ in 0..2 {
        let answers: Vec<Answer> = thread::scope(|scope| {
            let clients: Vec<_> = (0..50)
                .map(|_| scope.spawn(|| ask(&server, &json!({"x": 1}), "")))
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        assert!(answers.iter().all(|answer| answer.status == 202));
        ids.extend(answers.iter().map(|answer| text(&answer.json()["jobId"])));
        server.kill();
        server = space.serve();
    }
    assert_eq!(ids.len(), 1);
    let jobs = server.get("/pipelines/jobs").json()["jobs"].as_array().unwrap().clone();
    assert_eq!(jobs.len(), 1);
    assert_eq!(
        (&jobs[0]["status"], jobs[0]["id"].as_str()),
        (&json!("waiting"), ids.first().map(String::as_str))
    );
}

#[test]
fn the_command_says_that_a_job_was_joined() {
    let (space, server) = TestSpace::serving(&pipeline(
        &json!({"deduplicate": {}, "tasks": {"a": {"script": super::WAIT_FOR_GO}}}),
    ));
    let schedule = |flags: &[&str]| {
        let output = space.run_with(
            &[&["schedule", "p"], flags].concat(),
            &[("PRUNNER_ADDRESS", &server.address)],
        );
        assert!(output.status.success(), "{output:?}");
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap())
    };
    let [first, nothing] = schedule(&[]);
    assert_eq!(nothing, "");
    let id = first.trim_end();
    let said = format!("prunner: joined job {id}, which is equal\n");
    assert_eq!(schedule(&[]), [first.clone(), said.clone()]);
    assert_eq!(schedule(&["--quiet"]), [first.clone(), String::new()]);
    let object = format!("{}\n", json!({"jobId": id, "joined": true}));
    assert_eq!(schedule(&["--json"]), [object, String::new()]);
    let watching = ["--wait", "--follow"].map(|flag| {
        let mut command = space.command(&["schedule", "p", flag]);
        command.env("PRUNNER_ADDRESS", &server.address);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = read_until(child.stderr.as_mut().unwrap(), "\n");
        assert!(stderr.starts_with(&said), "{flag}: {stderr}");
        child
    });
    space.write("go", "");
    for child in watching {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
