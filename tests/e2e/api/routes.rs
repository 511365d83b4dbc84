//! What each route answers to a request that it likes; lists and logs have files of their own.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{WAIT_FOR_GO, column, keys};
use crate::checks::check_error;
use crate::space::{TestSpace, eventually};

fn gated() -> TestSpace {
    TestSpace::new(&format!(
        "pipelines: {{p: {{tasks: {{a: {{script: [{WAIT_FOR_GO:?}]}}}}}}}}"
    ))
}

#[test]
fn health_is_open_and_says_the_version() {
    let space = gated();
    let server = space.serve();
    for headers in ["", "Authorization: Bearer a.b.c\r\n", "Authorization: Basic YTpi\r\n"] {
        let answer = server.without_token("GET", "/health", headers);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(
            answer.json(),
            json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")})
        );
    }
}

#[test]
fn pipelines_are_listed_by_name() {
    let space = TestSpace::new("pipelines: {b: {}, a_2: {}, a: {}, ä: {}, B: {}}");
    let server = space.serve();
    let list = server.get("/pipelines/").json();
    assert_eq!(keys(&list), ["pipelines"]);
    assert_eq!(column(&list["pipelines"], "pipeline"), ["B", "a", "a_2", "b", "ä"]);
    let empty = TestSpace::new("pipelines: {}");
    assert_eq!(empty.serve().get("/pipelines/").json(), json!({"pipelines": []}));
}

#[test]
fn who_asks_first_finds_all_pipelines() {
    let space = gated();
    for _ in 0..10 {
        let server = space.serve();
        assert_eq!(names(&server.get("/pipelines/").json()), ["p"]);
    }
}

#[test]
fn a_job_is_scheduled() {
    let space = gated();
    let server = space.serve();
    let answer = server.try_schedule("p");
    assert_eq!(answer.status, 202, "{answer:?}");
    let scheduled = answer.json();
    assert_eq!(keys(&scheduled), ["jobId"]);
    let id = scheduled["jobId"].as_str().unwrap();
    let parts: Vec<usize> = id.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
    // Who has the answer can ask at once.
    let job = server.job(id);
    assert_eq!((&job["id"], &job["status"]), (&json!(id), &json!("running")));
    let lone = server.get("/pipelines/jobs").json();
    assert_eq!(column(&lone["jobs"], "id"), [id]);
}

#[test]
fn variables_are_kept_as_they_were_sent() {
    let space = gated();
    let server = space.serve();
    let variables = r#"{"z":"ä","list":{"0":"a","1":"b"},"array":[1,[null],{}],"whole":12345678901234567890123,"#
        .to_owned()
        + r#""decimal":1.10,"yes":true,"nothing":null,"object":{"b":1,"a":2},"empty":""}"#;
    let body = format!(r#"{{"pipeline":"p","variables":{variables}}}"#);
    let answer = server.post("/pipelines/schedule", &body);
    assert_eq!(answer.status, 202, "{answer:?}");
    let scheduled = answer.json();
    let detail = server.get(&format!("/job/detail?id={}", scheduled["jobId"].as_str().unwrap()));
    // As text: no key has moved, no number was read as another one.
    assert!(
        detail.body.contains(&format!(r#""variables":{variables}"#)),
        "{detail:?}"
    );
}

#[test]
fn a_detail_waits_for_the_end() {
    let space = gated();
    let server = space.serve();
    let id = server.schedule("p");
    let wait = |wait: &str| {
        let target = format!("/job/detail?id={id}&wait={wait}");
        server.send("GET", &target, &server.authorization(), "")
    };
    // What is more than 60 s is 60 s, not an error.
    let waiting = ["59s", "1m", "99h", "1.5m"].map(wait);
    let begun = Instant::now();
    let answer = wait("300ms").answer();
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("running")));
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(300) && took < Duration::from_secs(20),
        "{took:?}"
    );
    let begun = Instant::now();
    space.go();
    for stream in waiting {
        let job = stream.answer().json();
        assert_eq!((&job["status"], &job["completed"]), (&json!("succeeded"), &json!(true)));
        assert_eq!(job, server.job(&id));
    }
    assert_eq!(wait("59s").answer().json()["status"], "succeeded");
    assert!(begun.elapsed() < Duration::from_secs(50), "they were answered late");
}

#[test]
fn a_wait_needs_a_unit() {
    let space = gated();
    let server = space.serve();
    let id = server.schedule("p");
    for wait in ["30", "1.5", "", "s", "-1s", "1y", "abc"] {
        let answer = server.get(&format!("/job/detail?id={id}&wait={wait}"));
        check_error(&answer, 400, "bad_request", "…");
    }
}

#[test]
fn a_detail_is_the_job_itself() {
    let space = gated();
    let server = space.serve();
    let id = server.schedule("p");
    let job = server.job(&id);
    assert_eq!(job["id"], id.as_str(), "{job}");
    assert!(job.get("job").is_none() && job.get("error").is_none(), "{job}");
    // In capitals it is the same id.
    assert_eq!(server.job(&id.to_uppercase())["id"], id.as_str());
}

#[test]
fn a_cancel_is_answered_before_the_tasks_have_ended() {
    let space = TestSpace::new(&format!(
        r#"pipelines:
  p:
    tasks:
      a: {{script: ["trap 'touch told' INT; echo up > up; {WAIT_FOR_GO}"]}}
"#
    ));
    let server = space.serve();
    let id = server.schedule("p");
    space.first_line("up");
    server.cancel_job(&id);
    eventually("the task is told", || space.path.join("told").exists().then_some(()));
    let job = server.job(&id);
    assert_eq!(
        (&job["status"], &job["tasks"][0]["status"]),
        (&json!("running"), &json!("running"))
    );
    // Again is no error.
    server.cancel_job(&id);
    space.go();
    let job = server.ended(&id);
    assert_eq!((&job["status"], &job["canceled"]), (&json!("canceled"), &json!(true)));
    server.cancel_job(&id);
}

#[test]
fn a_canceled_or_replaced_job_can_be_canceled_again() {
    let space = TestSpace::new(
        "pipelines: {p: {queue_strategy: replace, queue_limit: 1, tasks: {a: {script: [exec sleep 60]}}}}",
    );
    let server = space.serve();
    let (runs, replaced, waits) = (server.schedule("p"), server.schedule("p"), server.schedule("p"));
    server.cancel_job(&replaced);
    assert_eq!(server.job(&replaced)["status"], "replaced");
    for id in [&waits, &runs] {
        server.cancel_job(id);
        assert_eq!(server.ended(id)["status"], "canceled");
        server.cancel_job(id);
        assert_eq!(server.job(id)["status"], "canceled");
    }
}

fn names(list: &Value) -> Vec<&Value> {
    column(&list["pipelines"], "pipeline")
}

#[test]
fn a_reload_takes_the_files_as_they_are_now() {
    let space = TestSpace::new("pipelines: {a: {}}");
    let server = space.serve();
    space.write("pipelines.yml", "pipelines: {b: {tasks: {a: {scripts: [a]}}}}");
    space.write(
        "more/pipelines.yaml",
        "pipelines: {c: {}, d: {queue_strategy: replace}}",
    );
    let answer = server.post("/pipelines/reload", "");
    let reloaded = answer.json();
    assert_eq!(
        (answer.status, keys(&reloaded)),
        (200, vec!["pipelines", "warnings"]),
        "{reloaded}"
    );
    assert_eq!(reloaded["pipelines"], 3);
    let warnings = reloaded["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2, "{reloaded}");
    for part in ["pipelines.yml", "`scripts`", "did you mean `script`"] {
        assert!(reloaded["warnings"].to_string().contains(part), "`{part}`: {reloaded}");
    }
    // Who has the answer finds the new set.
    assert_eq!(names(&server.get("/pipelines/").json()), ["b", "c", "d"]);
    server.schedule("b");
    check_error(&server.try_schedule("a"), 400, "unknown_pipeline", "…");

    space.write("pipelines.yml", "pipelines: {}");
    std::fs::remove_file(space.path.join("more/pipelines.yaml")).unwrap();
    let answer = server.post("/pipelines/reload", "whatever");
    assert_eq!(answer.json(), json!({"pipelines": 0, "warnings": []}));
}

#[test]
fn a_reload_of_wrong_files_changes_nothing() {
    let space = TestSpace::new("pipelines: {a: {tasks: {a: {script: ['echo a > ran']}}}}");
    let server = space.serve();
    space.write(
        "pipelines.yml",
        "pipelines: {a: {concurrency: 0, tasks: {x: {depends_on: nobody}}}, b: {start_delay: 5}}",
    );
    space.write("more/pipelines.yml", "pipelines: [");
    let answer = server.post("/pipelines/reload", "");
    check_error(&answer, 400, "bad_definition", "…");
    for part in ["`concurrency`", "`nobody`", "`start_delay`", "more/pipelines.yml"] {
        assert!(answer.body.contains(part), "`{part}`: {answer:?}");
    }
    assert_eq!(names(&server.get("/pipelines/").json()), ["a"]);
    assert_eq!(server.ended(&server.schedule("a"))["status"], "succeeded");
    assert_eq!(space.read("ran"), "a\n");
}
