//! The real binary, from its start to its end, in directories of its own.
#![expect(clippy::disallowed_methods, reason = "tests start the real binary")]
#![expect(clippy::unwrap_used, reason = "a test ends where it can't go on")]

mod environment;
mod output;
mod pipelines;
mod processes;
mod run;
mod server_flags;
mod service;
mod space;
mod templates;
mod tools;

use std::io::Read;

use serde_json::{Value, json};

use crate::space::{Answer, TestSpace, eventually, is_alive, read_until, sample};

#[track_caller]
fn check_error(answer: &Answer, status: u16, code: &str, text: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("Content-Type"), "application/json", "{answer:?}");
    let error = answer.json();
    assert_eq!(error["code"], code, "{error}");
    let found = error["error"].as_str().unwrap();
    assert!(
        found == text || text.strip_suffix('…').is_some_and(|start| found.starts_with(start)),
        "`{found}` is not `{text}`"
    );
}

#[track_caller]
fn check_task(job: &Value, name: &str, status: &str, exit_code: i64, ran: bool) {
    let tasks = job["tasks"].as_array().unwrap();
    let task = tasks.iter().find(|task| task["name"] == name).unwrap();
    let found = (task["status"].as_str().unwrap(), task["exitCode"].as_i64().unwrap());
    assert_eq!(found, (status, exit_code), "{task}");
    assert_eq!(
        (task["start"].is_string(), task["end"].is_string()),
        (ran, ran),
        "{task}"
    );
    assert_eq!(task["errored"], status == "error", "{task}");
}

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

#[test]
fn clients_find_the_texts_that_they_know() {
    let space = TestSpace::new(
        "pipelines:
  quick: {tasks: {a: {script: ['true']}}}
  closed: {queue_limit: 0, tasks: {a: {script: [exec sleep 60]}}}
  short: {queue_limit: 1, tasks: {a: {script: [exec sleep 60]}}}
",
    );
    let server = space.serve();
    let answer = server.request("GET", "/pipelines/", "", "");
    assert_eq!((answer.status, answer.body.as_str()), (401, "no token found"));
    assert_eq!(answer.header("Content-Type"), "text/plain; charset=utf-8");
    assert_eq!(answer.header("WWW-Authenticate"), "Bearer");
    let answer = server.request("GET", "/nowhere", "Authorization: Bearer a.b.c\r\n", "");
    assert_eq!((answer.status, answer.body.as_str()), (401, "token is unauthorized"));
    assert_eq!(server.request("GET", "/health", "", "").json()["status"], "ok");

    let answer = server.get("/nowhere");
    check_error(&answer, 404, "not_found", "…");
    let answer = server.post("/pipelines/", "");
    check_error(&answer, 405, "method_not_allowed", "…");
    assert!(answer.header("Allow").contains("GET"), "{answer:?}");

    let text = r#"Error scheduling pipeline: pipeline "x" is not defined"#;
    check_error(&server.try_schedule("x"), 400, "unknown_pipeline", text);
    for body in ["", "{", r#"{"pipeline": 1}"#, r#"{"pipeline": "quick"} {}"#] {
        let answer = server.post("/pipelines/schedule", body);
        check_error(&answer, 400, "bad_json", "Error decoding JSON: …");
    }
    let id = server.schedule("quick");
    server.ended(&id);
    let unknown = "0193aaaa-0000-7000-8000-000000000000";
    let (no_id, no_job) = ("invalid_job_id", "job_not_found");
    check_error(&server.get("/job/detail"), 400, no_id, "Invalid job id");
    check_error(&server.get("/job/detail?id=7"), 400, no_id, "Invalid job id");
    check_error(&server.post("/job/cancel?id=7", ""), 400, no_id, "Invalid job id");
    let target = format!("/job/detail?id={unknown}");
    check_error(&server.get(&target), 404, no_job, "Job not found");
    let target = format!("/job/cancel?id={unknown}");
    check_error(&server.post(&target, ""), 404, no_job, "Job not found");
    let target = format!("/job/logs?id={id}");
    check_error(&server.get(&target), 400, "invalid_task_name", "Invalid task name");
    let target = format!("/job/logs?id={id}&task=b");
    check_error(&server.get(&target), 404, "task_not_found", "Task not found");
    let answer = server.post(&format!("/job/cancel?id={id}"), "");
    check_error(&answer, 409, "already_ended", "job has already ended");

    server.schedule("closed");
    let text = "Error scheduling pipeline: concurrency exceeded and queueing disabled for pipeline";
    check_error(&server.try_schedule("closed"), 400, "queue_disabled", text);
    server.schedule("short");
    server.schedule("short");
    let text = "Error scheduling pipeline: concurrency exceeded and queue limit reached for pipeline";
    check_error(&server.try_schedule("short"), 400, "queue_full", text);
    let pipelines = server.get("/pipelines/").json();
    let expected = json!({"pipelines": [
        {"pipeline": "closed", "schedulable": false, "running": true},
        {"pipeline": "quick", "schedulable": true, "running": false},
        {"pipeline": "short", "schedulable": false, "running": true},
    ]});
    assert_eq!(pipelines, expected);
}

#[test]
fn jobs_that_wait_outlive_a_kill_and_run_once_in_order() {
    let space = TestSpace::new(
        r#"pipelines:
  list:
    tasks:
      a:
        script:
          - if test -e gate; then echo $$ > pid; exec sleep 60; fi
          - echo "$PRUNNER_JOB_ID" >> ran
"#,
    );
    space.write("gate", "");
    let server = space.serve();
    let first = server.schedule("list");
    let pid = space.first_line("pid");
    let waiting: Vec<String> = (0..50).map(|_| server.schedule("list")).collect();
    server.kill();
    assert!(is_alive(&pid), "it is for the next start to end it");
    std::fs::remove_file(space.path.join("gate")).unwrap();

    let server = space.serve();
    assert!(!is_alive(&pid));
    let job = server.job(&first);
    assert_eq!(
        [&job["status"], &job["reason"]],
        ["interrupted", "prunner ended while the job ran"]
    );
    check_task(&job, "a", "canceled", -1, true);
    for id in &waiting {
        assert_eq!(server.ended(id)["status"], "succeeded");
    }
    assert_eq!(space.read("ran").lines().collect::<Vec<_>>(), waiting);
    let jobs = server.get("/pipelines/jobs").json();
    let mut listed: Vec<_> = jobs["jobs"].as_array().unwrap().iter().map(|job| &job["id"]).collect();
    listed.reverse();
    let mut all = vec![first];
    all.extend(waiting);
    assert_eq!(listed, all.iter().collect::<Vec<_>>());
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn broken_files_are_refused_with_all_complaints() {
    let space = TestSpace::new(&sample("broken.yml"));
    let output = space.run(&["validate"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "dangling",
        "did you mean `render_finished`",
        "a -> c -> b -> a",
        "self",
        "retention_period_hours",
        "scripts",
        "no_unit",
        "wrong_type",
        "zero",
        "partition_without_strategy",
        "delay_without_queue",
        "open_if",
        "range",
        "../up",
    ] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    let output = space.run(&["--address", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("prunner: error: the pipeline files are wrong"), "{text}");
}

#[test]
fn one_prunner_has_a_data_directory() {
    let space = TestSpace::new("pipelines: {}");
    let server = space.serve();
    let pid = server.pid();
    for arguments in [&["--address", "127.0.0.1:0"][..], &["export"]] {
        let output = space.run(arguments);
        assert_eq!(output.status.code(), Some(3));
        let text = String::from_utf8(output.stderr).unwrap();
        let data = space.path.canonicalize().unwrap().join(".prunner");
        assert!(text.contains(&format!("process {pid}")), "{text}");
        assert!(text.contains(data.to_str().unwrap()), "{text}");
    }
    server.kill();
    assert_eq!(space.serve().stop(), Some(0));
}

#[test]
fn raw_logs_come_in_ranges_and_as_they_are_written() {
    let space = TestSpace::new(
        r#"pipelines:
  talk:
    tasks:
      a: {script: ["echo first", "until test -e go; do sleep 0.02; done", "echo second"]}
"#,
    );
    let server = space.serve();
    let id = server.schedule("talk");
    let target = format!("/job/log?id={id}&task=a");
    let follow = format!("{target}&follow=true");
    let mut stream = server.send("GET", &follow, &server.authorization(), "");
    let mut read = read_until(&mut stream, "first\n");
    assert!(!read.contains("second"), "{read}");
    assert_eq!(server.job(&id)["status"], "running");
    space.write("go", "");
    stream.read_to_string(&mut read).unwrap();
    assert!(read.contains("second\n") && read.ends_with("\r\n0\r\n\r\n"), "{read}");

    server.ended(&id);
    let answer = server.get(&target);
    assert_eq!((answer.status, answer.body.as_str()), (200, "first\nsecond\n"));
    assert_eq!(answer.header("Content-Type"), "text/plain; charset=utf-8");
    for (range, status, content_range, body) in [
        ("bytes=2-4", 206, "bytes 2-4/13", "rst"),
        ("bytes=6-", 206, "bytes 6-12/13", "second\n"),
        ("bytes=-3", 206, "bytes 10-12/13", "nd\n"),
        ("lines=1-", 200, "", "first\nsecond\n"),
    ] {
        let headers = format!("{}Range: {range}\r\n", server.authorization());
        let answer = server.request("GET", &target, &headers, "");
        let found = (answer.status, answer.header("Content-Range"), answer.body.as_str());
        assert_eq!(found, (status, content_range, body), "{range}");
    }
    let headers = format!("{}Range: bytes=13-\r\n", server.authorization());
    let answer = server.request("GET", &target, &headers, "");
    check_error(&answer, 416, "range_not_satisfiable", "…");
    assert_eq!(answer.header("Content-Range"), "bytes */13");
    let stderr = server.get(&format!("{target}&stream=stderr"));
    assert_eq!((stderr.status, stderr.body.as_str()), (200, ""));
}

#[test]
fn the_old_servers_file_is_taken_over_and_given_back() {
    let space = TestSpace::new("pipelines: {deploy: {tasks: {build: {script: ['touch built']}}}}");
    let (done, waits, ran) = (
        "11111111-1111-4111-8111-111111111111",
        "22222222-2222-4222-8222-222222222222",
        "33333333-3333-4333-8333-333333333333",
    );
    let time = "2026-11-24T03:27:47Z";
    let task = json!({"Name": "build", "Script": ["make"], "AllowFailure": false, "Status": "done",
        "Start": time, "End": time, "Skipped": false, "ExitCode": -1, "Errored": false});
    let new = json!({"Name": "build", "Script": ["make"], "AllowFailure": false, "Status": "waiting",
        "Skipped": false, "ExitCode": 0, "Errored": false});
    let old = json!({"Jobs": [
        {"ID": done, "Pipeline": "deploy", "Completed": true, "Canceled": false, "Created": time, "Start": time,
            "End": time, "User": "ben", "Variables": {"release": "42"}, "Tasks": [task]},
        {"ID": waits, "Pipeline": "deploy", "Completed": false, "Canceled": false, "Created": time, "Tasks": [new]},
        {"ID": ran, "Pipeline": "deploy", "Completed": false, "Canceled": false, "Created": time, "Start": time,
            "Tasks": [new]},
    ]});
    space.write(".prunner/data.json", &old.to_string());
    let server = space.serve();
    let job = server.job(done);
    assert_eq!(
        [&job["status"], &job["user"], &job["end"]],
        ["succeeded", "ben", time],
        "{job}"
    );
    assert_eq!(job["variables"], json!({"release": "42"}));
    check_task(&job, "build", "done", 0, true);
    assert_eq!(server.job(ran)["status"], "interrupted");
    assert_eq!(server.ended(waits)["status"], "succeeded");
    assert!(space.path.join("built").exists());
    assert_eq!(server.stop(), Some(0));
    assert_eq!(space.read(".prunner/data.json"), old.to_string());

    let output = space.run(&["export"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let exported: Value = serde_json::from_slice(&output.stdout).unwrap();
    let jobs = exported["Jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 3, "{exported}");
    let job = jobs.iter().find(|job| job["ID"] == done).unwrap();
    assert_eq!((&job["Completed"], &job["End"]), (&json!(true), &json!(time)), "{job}");
    assert_eq!(job["Variables"], json!({"release": "42"}));
    assert_eq!(job["Tasks"][0]["Status"], "done", "{job}");
}

#[test]
fn a_stop_ends_what_runs_and_keeps_what_waits() {
    let space = TestSpace::new("pipelines: {long: {tasks: {a: {script: ['echo $$ > pid', exec sleep 60]}}}}");
    let server = space.serve();
    let (runs, waits) = (server.schedule("long"), server.schedule("long"));
    let pid = space.first_line("pid");
    assert_eq!(server.stop(), Some(0));
    assert!(!is_alive(&pid));
    let server = space.serve();
    let job = server.job(&runs);
    assert_eq!(
        [&job["status"], &job["reason"]],
        ["canceled", "prunner was stopped"],
        "{job}"
    );
    eventually("the one that waited runs", || {
        (server.job(&waits)["status"] == "running").then_some(())
    });
}
