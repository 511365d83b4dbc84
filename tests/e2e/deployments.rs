//! Deployments as users run them, from the request to the files that they leave.

use serde_json::{Value, json};

use crate::checks::{check_error, check_task};
use crate::space::{TestSpace, is_alive, sample};

#[test]
fn the_sample_deployment_runs_to_its_end() {
    let space = TestSpace::new(&sample("deploy.yml"));
    space.write("src/app", "");
    space.write("src/vendor", "");
    for (name, script) in [
        ("lint", r#"echo "lint $*""#),
        ("test", r#"echo "test $*""#),
        ("upload", r#"test -s "$1" && echo "upload $RELEASES $2 $(pwd)""#),
        ("smoke", "exit 3"),
        ("notify", r#"echo "$1" > notified.txt"#),
    ] {
        space.write_script(&format!("ci/{name}"), script);
    }
    let server = space.serve();
    let request = json!({"pipeline": "deploy", "variables": {"seed": 5}}).to_string();
    let answer = server.post("/pipelines/schedule", &request);
    assert_eq!(answer.status, 202, "{answer:?}");
    let id = answer.json()["jobId"].as_str().unwrap().to_owned();
    let job = server.ended(&id);
    assert_eq!(job["status"], "succeeded", "{job}");
    assert_eq!((&job["user"], &job["errored"]), (&json!("anna"), &json!(false)));
    assert_eq!(job["variables"], json!({"seed": 5}));
    let names: Vec<_> = job["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| &task["name"])
        .collect();
    assert_eq!(names, ["lint", "test", "build", "upload", "smoke"]);
    check_task(&job, "upload", "done", 0, true);
    check_task(&job, "smoke", "done", 3, true);
    let build = space.path.canonicalize().unwrap().join("build");
    for (task, stdout) in [
        ("lint", "lint app\n".to_owned()),
        ("test", "test --seed 5\n".to_owned()),
        ("upload", format!("upload 5 /srv/app {}\n", build.display())),
        ("smoke", "smoke test over\n".to_owned()),
    ] {
        let logs = server.get(&format!("/job/logs?id={id}&task={task}")).json();
        assert_eq!(logs, json!({"stdout": stdout, "stderr": ""}), "{task}");
    }
    assert_eq!(space.read("build/parts.txt"), "a\nb\nc\n");
    assert_eq!(space.read("notified.txt"), "");

    space.write_script("ci/upload", "exit 9");
    let job = server.ended(&server.schedule("deploy"));
    assert_eq!(job["status"], "failed", "{job}");
    check_task(&job, "on_error", "done", 0, true);
    assert_eq!(space.read("notified.txt"), "deploy failed in upload: exit status 9\n");
}

/// Stands in for the commands of the release: each call is one line of `calls`.
const RECORD: &str = r#"printf '%s|' "${0##*/}" "$@" >>calls; echo >>calls; echo "$2""#;

#[test]
fn the_sample_releases_run_to_their_end() {
    let space = TestSpace::new(&sample("content-release.yml"));
    space.write_script("site", RECORD);
    space.write_script("render-worker.sh", RECORD);
    let server = space.serve();
    let run = |pipeline: &str, variables: &Value| {
        let job = server.ended(&server.schedule_with(pipeline, variables));
        assert_eq!(job["status"], "succeeded", "{job}");
        for task in job["tasks"].as_array().unwrap() {
            check_task(&job, task["name"].as_str().unwrap(), "done", 0, true);
        }
        job
    };

    let job = run(
        "content_release",
        &json!({"releaseId": "42", "workspace": "live", "account": "anna b", "flushCache": null, "validate": true}),
    );
    let id = job["id"].as_str().unwrap();
    let calls = space.read("calls");
    let mut calls: Vec<&str> = calls.lines().collect();
    // These four and the one beside them run at once.
    calls[4..9].sort_unstable();
    let create = format!("site|release:create|42|{id}|--workspace|live|--account|anna b|");
    let expected = [
        &*create,
        "site|release:stop-others|42|",
        "site|cache:flush-if|42|--flush=|",
        "site|pages:enumerate|42|",
        "render-worker.sh|42|w1|",
        "render-worker.sh|42|w2|",
        "render-worker.sh|42|w3|",
        "render-worker.sh|42|w4|",
        "site|render:orchestrate|42|",
        "site|release:validate|42|",
        "site|release:ensure-valid|42|",
        "site|release:transfer|42|primary|",
        "site|release:transfer|42|secondary|",
        "site|release:switch|42|",
    ];
    assert_eq!(calls, expected);
    let logs = server.get(&format!("/job/logs?id={id}&task=render_3")).json();
    assert_eq!(logs, json!({"stdout": "w3\n", "stderr": ""}));

    space.write("calls", "");
    run(
        "quick_release",
        &json!({"releaseId": 43, "currentReleaseId": "42", "pages": {"0": "it's"}}),
    );
    let calls = space.read("calls");
    let mut calls: Vec<&str> = calls.lines().collect();
    calls[1..4].sort_unstable();
    let expected = [
        r#"site|release:copy|42|43|--pages|{"0":"it's"}|"#,
        "render-worker.sh|43|w1|",
        "render-worker.sh|43|w2|",
        "site|render:orchestrate|43|",
        "site|release:ensure-valid|43|",
        "site|release:transfer|43|primary|",
        "site|release:transfer|43|secondary|",
    ];
    assert_eq!(calls, expected);

    let refused = server.post("/pipelines/schedule", r#"{"pipeline":"content_release"}"#);
    check_error(&refused, 400, "bad_variables", "Error scheduling pipeline: …");
}

#[test]
fn a_task_that_fails_stops_the_others() {
    let space = TestSpace::new(
        r#"pipelines:
  deploy:
    tasks:
      build: {script: ["until test -s pid; do sleep 0.02; done", "exit 7"]}
      watch: {script: ["echo $$ > pid", "exec sleep 60"]}
      upload: {script: ["touch uploaded"], depends_on: [build]}
"#,
    );
    let server = space.serve();
    let job = server.ended(&server.schedule("deploy"));
    assert_eq!(job["status"], "failed", "{job}");
    assert_eq!(
        [&job["completed"], &job["canceled"], &job["errored"], &job["lastError"]],
        [&json!(true), &json!(false), &json!(true), &json!("exit status 7")]
    );
    assert!(job["end"].is_string() && job["durationMs"].is_u64(), "{job}");
    assert!(job.get("reason").is_none() && job.get("error").is_none(), "{job}");
    check_task(&job, "build", "error", 7, true);
    check_task(&job, "watch", "canceled", -1, true);
    check_task(&job, "upload", "canceled", 0, false);
    let tasks = job["tasks"].as_array().unwrap();
    assert_eq!(
        tasks.iter().filter(|task| task.get("error").is_some()).count(),
        1,
        "{job}"
    );
    assert!(!is_alive(&space.first_line("pid")));
    assert!(!space.path.join("uploaded").exists());
}

#[test]
fn a_canceled_job_leaves_no_process() {
    let space = TestSpace::new("pipelines: {long: {tasks: {a: {script: ['echo $$ > pid', exec sleep 60]}}}}");
    let server = space.serve();
    let id = server.schedule("long");
    let pid = space.first_line("pid");
    assert!(is_alive(&pid));
    let answer = server.post(&format!("/job/cancel?id={id}"), "");
    assert_eq!((answer.status, answer.body.trim()), (200, "true"));
    let job = server.ended(&id);
    assert_eq!(
        [&job["status"], &job["reason"]],
        ["canceled", "canceled by anna"],
        "{job}"
    );
    assert_eq!((&job["canceled"], &job["errored"]), (&json!(true), &json!(false)));
    check_task(&job, "a", "canceled", -1, true);
    assert!(!is_alive(&pid));
    assert_eq!(server.post(&format!("/job/cancel?id={id}"), "").status, 200);
}
