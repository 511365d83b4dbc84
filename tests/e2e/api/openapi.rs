//! `openapi.json`: each answer that it has can be had, and every other test holds its answers against it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{UNKNOWN, WAIT_FOR_GO};
use crate::contract::{Contract, contract};
use crate::space::{Server, TestSpace};

impl Contract {
    /// Each method, path and status that is documented for it.
    fn answers(&self) -> Vec<(String, String, String)> {
        let mut answers = Vec::new();
        for (path, operations) in self.document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                for status in operation["responses"].as_object().into_iter().flat_map(Map::keys) {
                    answers.push((method.to_uppercase(), path.clone(), status.clone()));
                }
            }
        }
        answers
    }

    /// Whether the body of a request is as documented.
    fn takes_body(&self, path: &str, body: &Value) -> bool {
        let schema = &self.document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
        self.schemas.validate(body, self.indices[&schema.to_string()]).is_ok()
    }
}

#[test]
fn it_is_served_to_everybody() {
    let space = TestSpace::new("");
    let server = space.serve();
    let answer = server.without_token("GET", "/openapi.json", "");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    assert_eq!(answer.body, fs::read_to_string(path).unwrap());
    assert_eq!(server.without_token("HEAD", "/openapi.json", "").status, 200);
}

/// Sends requests, and notes which of the documented answers came.
struct Asking<'a> {
    server: &'a Server,
    seen: BTreeSet<(String, String, String)>,
}

impl Asking<'_> {
    #[track_caller]
    fn ask(&mut self, method: &str, target: &str, headers: &str, body: &str, status: u16) {
        let with_token = format!("{}{headers}", self.server.authorization());
        let answer = self.server.request(method, target, &with_token, body);
        assert_eq!(answer.status, status, "{method} {target} {body}: {answer:?}");
        let path = target.split('?').next().unwrap().to_owned();
        self.seen.insert((method.to_owned(), path, status.to_string()));
    }
}

#[test]
fn each_documented_answer_can_be_had() {
    let space = TestSpace::new(&format!(
        "pipelines: {{quick: {{schedules: [{{every: 1h}}], tasks: {{say: {{script: [echo hello]}}}}}}, typed: {{variables: {{n: {{type: integer}}}}}}, \
         slow: {{tasks: {{wait: {{script: ['{WAIT_FOR_GO}']}}}}}}}}"
    ));
    let server = space.serve();
    let done = server.schedule("quick");
    server.ended(&done);
    let slow = server.schedule("slow");
    let list_tag = server.get("/pipelines/jobs").header("ETag").to_owned();
    let job_tag = server.get(&format!("/job/detail?id={done}")).header("ETag").to_owned();
    let mut asking = Asking {
        server: &server,
        seen: BTreeSet::new(),
    };
    let schedule =
        |pipeline: &str| json!({"pipeline": pipeline, "variables": {"n": 1}, "queuePartition": null}).to_string();
    assert!(contract().takes_body(
        "/pipelines/schedule",
        &serde_json::from_str(&schedule("quick")).unwrap()
    ));
    assert!(!contract().takes_body("/pipelines/schedule", &json!({"pipeline": "quick", "variables": []})));
    let key = "Idempotency-Key: one\r\n";
    asking.ask("GET", "/health", "", "", 200);
    asking.ask("GET", "/openapi.json", "", "", 200);
    asking.ask("GET", "/metrics", "", "", 200);
    asking.ask("GET", "/pipelines", "", "", 200);
    asking.ask("GET", "/pipelines/", "", "", 200);
    asking.ask(
        "GET",
        "/pipelines/jobs?limit=1&status=succeeded&pipeline=quick",
        "",
        "",
        200,
    );
    asking.ask(
        "GET",
        "/pipelines/jobs",
        &format!("If-None-Match: {list_tag}\r\n"),
        "",
        304,
    );
    asking.ask("GET", "/pipelines/jobs?limit=0", "", "", 400);
    asking.ask("GET", &format!("/pipelines/jobs?before={UNKNOWN}"), "", "", 404);
    asking.ask("POST", "/pipelines/schedule", key, &schedule("quick"), 202);
    asking.ask("POST", "/pipelines/schedule", key, &schedule("quick"), 202);
    asking.ask("POST", "/pipelines/schedule", key, "{\"pipeline\": \"quick\"}", 409);
    asking.ask(
        "POST",
        "/pipelines/schedule",
        "",
        "{\"pipeline\": \"typed\", \"variables\": {\"n\": \"x\"}}",
        400,
    );
    asking.ask("POST", "/pipelines/reload", "", "", 200);
    for path in ["/job/detail", "/job/logs", "/job/log", "/job/cancel", "/job/forget"] {
        let method = if matches!(path, "/job/cancel" | "/job/forget") {
            "POST"
        } else {
            "GET"
        };
        asking.ask(method, path, "", "", 400);
        asking.ask(method, &format!("{path}?id={UNKNOWN}&task=say"), "", "", 404);
    }
    asking.ask("GET", &format!("/job/detail?id={done}&wait=30s"), "", "", 200);
    asking.ask(
        "GET",
        &format!("/job/detail?id={done}"),
        &format!("If-None-Match: {job_tag}\r\n"),
        "",
        304,
    );
    asking.ask("GET", &format!("/job/logs?id={done}&task=say"), "", "", 200);
    let log = format!("/job/log?id={done}&task=say&stream=stdout");
    asking.ask("GET", &log, "", "", 200);
    asking.ask("GET", &format!("{log}&follow=true&offset=2"), "", "", 200);
    asking.ask("GET", &log, "Range: bytes=1-2\r\n", "", 206);
    asking.ask("GET", &log, "Range: bytes=9-\r\n", "", 416);
    asking.ask("POST", &format!("/job/cancel?id={done}"), "", "", 409);
    asking.ask("POST", &format!("/job/forget?id={slow}"), "", "", 409);
    asking.ask("POST", &format!("/job/cancel?id={slow}"), "", "", 200);
    server.ended(&slow);
    asking.ask("POST", &format!("/job/forget?id={slow}"), "", "", 200);
    asking.ask("GET", "/schedules", "", "", 200);
    let of_file = server.get("/schedules").json()["schedules"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let added = json!({"pipeline": "quick", "cron": "@daily", "timezone": null, "catch_up": "one", "variables": {}});
    asking.ask("POST", "/schedules", "", &added.to_string(), 201);
    let listed = server.get("/schedules").json();
    let listed = listed["schedules"].as_array().unwrap();
    let added = listed.iter().find(|schedule| schedule["source"] == "api").unwrap();
    asking.ask("DELETE", &format!("/schedules?id={of_file}"), "", "", 409);
    asking.ask("DELETE", &format!("/schedules?id={UNKNOWN}"), "", "", 404);
    let added = format!("/schedules?id={}", added["id"].as_str().unwrap());
    asking.ask("DELETE", &added, "", "", 200);
    space.write("pipelines.yml", "pipelines: [a]");
    asking.ask("POST", "/pipelines/reload", "", "", 400);
    let mut missing = BTreeSet::new();
    for answer in contract().answers() {
        let (method, path, status) = &answer;
        match &**status {
            "401" => assert_eq!(server.without_token(method, path, "").status, 401, "{method} {path}"),
            // A head that can't be read; others have their own tests, which no path decides about.
            "400" | "408" | "413" | "431" | "500" | "503" => {}
            _ if asking.seen.contains(&answer) => {}
            _ => {
                missing.insert(answer);
            }
        }
    }
    assert!(missing.is_empty(), "no request had these answers: {missing:?}");
}

#[test]
fn what_is_not_documented_is_noticed() {
    let space = TestSpace::new("pipelines: {quick: {}}");
    let server = space.serve();
    let id = server.schedule("quick");
    server.ended(&id);
    let target = format!("/job/detail?id={id}");
    let mut answer = server.get(&target);
    let body = answer.body.clone();
    assert_eq!(contract().check("GET", &target, &answer), Ok(()));
    for (old, new) in [
        ("{", "{\"more\":1,"),
        ("\"completed\":true", "\"completed\":\"true\""),
        ("\"status\":\"succeeded\"", "\"status\":\"good\""),
        ("\"user\":", "\"usr\":"),
        ("Z\"", ".5Z\""),
    ] {
        answer.body = body.replacen(old, new, 1);
        assert_ne!(answer.body, body);
        assert!(contract().check("GET", &target, &answer).is_err(), "{old} as {new}");
    }
    answer.body = body;
    assert!(contract().check("GET", "/job/logs", &answer).is_err());
    assert!(contract().check("GET", "/nowhere", &answer).is_err());
    answer.status = 202;
    assert!(contract().check("GET", &target, &answer).is_err());
}
