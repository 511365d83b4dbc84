//! `schedule`, and what its flags change.

use serde_json::json;

use super::{PIPELINES, check_failure, check_status, objects, only_line, run, run_with_input, text};
use crate::space::TestSpace;

#[test]
fn the_id_alone_is_printed() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let output = run(&space, &server, &["schedule", "good"]);
    check_status(&output, 0);
    assert_eq!(text(&output.stderr), "");
    let job = server.ended(&only_line(&output));
    assert_eq!(
        (&job["pipeline"], &job["user"]),
        (&json!("good"), &json!("anna")),
        "{job}"
    );

    let output = run(&space, &server, &["schedule", "good", "--json"]);
    let [object] = &objects(&output)[..] else {
        panic!("{output:?}")
    };
    assert_eq!(server.ended(object["jobId"].as_str().unwrap())["status"], "succeeded");
}

#[test]
fn waiting_ends_with_the_result_of_the_job() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let output = run(&space, &server, &["schedule", "--wait", "good"]);
    check_status(&output, 0);
    let id = only_line(&output);
    let said = text(&output.stderr);
    assert!(
        said.starts_with(&format!("prunner: job {id} of pipeline `good` succeeded after ")),
        "{said}"
    );
    assert_eq!(server.job(&id)["status"], "succeeded");

    let output = run(&space, &server, &["schedule", "--wait", "bad"]);
    check_status(&output, 1);
    let said = text(&output.stderr);
    assert!(said.ends_with(": task `fail`: exit status 7\n"), "{said}");

    let output = run(&space, &server, &["schedule", "--wait", "--quiet", "bad"]);
    check_status(&output, 1);
    assert_eq!(text(&output.stderr), "");
    only_line(&output);

    let output = run(&space, &server, &["schedule", "--wait", "--json", "bad"]);
    check_status(&output, 1);
    let [first, last] = &objects(&output)[..] else {
        panic!("{output:?}")
    };
    assert_eq!((&last["event"], &last["status"]), (&json!("job"), &json!("failed")));
    assert_eq!(first, &json!({"jobId": last["id"]}));
}

#[test]
fn waiting_for_a_job_that_is_canceled_is_told_by_the_status() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    for flags in [
        &["--wait"][..],
        &["--follow"],
        &["--wait", "--json"],
        &["--follow", "--json"],
    ] {
        let arguments = [&["schedule", "long"], flags].concat();
        let output = std::thread::scope(|scope| {
            let running = scope.spawn(|| run(&space, &server, &arguments));
            space.first_line("up");
            std::fs::remove_file(space.path.join("up")).unwrap();
            let jobs = server.get("/pipelines/jobs?status=running").json();
            check_status(
                &run(&space, &server, &["cancel", jobs["jobs"][0]["id"].as_str().unwrap()]),
                0,
            );
            running.join().unwrap()
        });
        check_status(&output, 4);
    }
}

#[test]
fn following_shows_the_output() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    for flags in [&["--follow"][..], &["--follow", "--wait"]] {
        let output = run(&space, &server, &[&["schedule", "bad"], flags].concat());
        check_status(&output, 1);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(stdout.contains("fail") && stdout.ends_with("out\n"), "{stdout}");
        assert_eq!(stdout.matches('\n').count(), 1, "{stdout}");
        assert!(stderr.contains("wrong\n") && !stderr.contains("| out\n"), "{stderr}");
        let jobs = server.get("/pipelines/jobs?limit=1").json();
        let id = jobs["jobs"][0]["id"].as_str().unwrap();
        assert!(stderr.lines().next().unwrap().contains(id), "{stderr}");
    }
}

#[test]
fn following_as_json_is_a_line_for_each_event() {
    let space = TestSpace::new(
        r#"pipelines:
  two:
    tasks:
      a: {script: ["echo 1; echo e >&2; printf '\\377x'"]}
      b: {script: ["exit 7"], depends_on: [a]}
      c: {script: ["true"], depends_on: [b]}
    on_error: {script: ["echo sorry"]}
"#,
    );
    let server = space.serve();
    let output = run(&space, &server, &["schedule", "two", "--follow", "--json"]);
    check_status(&output, 1);
    assert_eq!(text(&output.stderr), "");
    let objects = objects(&output);
    let id = objects[0]["jobId"].as_str().unwrap();
    let found: Vec<String> = objects[1..]
        .iter()
        .map(|object| {
            let [event, task, stream, line] =
                ["event", "task", "stream", "line"].map(|key| object[key].as_str().unwrap_or_default());
            format!("{event} {task} {stream} {line}").trim_end().to_owned()
        })
        .collect();
    let mut first: Vec<&str> = found[..5].iter().map(String::as_str).collect();
    // Nobody knows which stream comes first.
    first[1..4].sort_unstable();
    assert_eq!(
        first,
        [
            "started a",
            "output a stderr e",
            "output a stdout 1",
            "output a stdout \u{fffd}x",
            "ended a"
        ]
    );
    assert_eq!(
        found[5..],
        [
            "started b",
            "ended b",
            "started on_error",
            "output on_error stdout sorry",
            "ended on_error",
            "ended c",
            "job"
        ]
    );
    let job = server.job(id);
    let mut last = objects.last().unwrap().clone();
    assert_eq!(last.as_object_mut().unwrap().remove("event"), Some(json!("job")));
    assert_eq!(last, job);
    let ended = objects
        .iter()
        .find(|object| object["event"] == "ended" && object["task"] == "b")
        .unwrap();
    let task = &job["tasks"][1];
    for (key, value) in task.as_object().unwrap() {
        assert_eq!(&ended[key], value, "{ended}");
    }
}

#[test]
fn quiet_shows_the_output_of_failed_tasks_alone() {
    let space = TestSpace::new(
        r#"pipelines:
  two:
    tasks:
      a: {script: ["echo fine"]}
      b: {script: ["echo broken; exit 7"], depends_on: [a]}
  good: {tasks: {a: {script: ["echo fine"]}}}
"#,
    );
    let server = space.serve();
    let output = run(&space, &server, &["schedule", "two", "--follow", "--quiet"]);
    check_status(&output, 1);
    let all = text(&output.stdout) + &text(&output.stderr);
    assert!(all.contains("broken\n") && !all.contains("fine"), "{all}");
    let output = run(&space, &server, &["schedule", "good", "--follow", "--quiet"]);
    check_status(&output, 0);
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn variables_and_partition_reach_the_job() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    space.write("vars.json", r#"{"what": "file", "n": 1.5, "kept": null}"#);
    let arguments = ["schedule", "needs", "--partition", "eu", "--vars", "vars.json"];
    let given = ["--var", "what=given", "--var", "list:=[1, {\"a\": true}]"];
    let output = run(&space, &server, &[&arguments[..], &given].concat());
    check_status(&output, 0);
    let id = only_line(&output);
    let job = server.ended(&id);
    let expected = json!({"what": "given", "n": 1.5, "kept": null, "list": [1, {"a": true}]});
    assert_eq!(job["variables"], expected);
    assert_eq!(job["queuePartition"], "eu");
    let logs = server.get(&format!("/job/logs?id={id}&task=say")).json();
    assert_eq!(logs["stdout"], "given\n");

    let output = run_with_input(
        &space,
        &server,
        &["schedule", "needs", "--vars", "-"],
        r#"{"what": "in"}"#,
    );
    assert_eq!(server.ended(&only_line(&output))["variables"], json!({"what": "in"}));

    let refused = run(&space, &server, &["schedule", "needs"]);
    check_failure(&refused, 3, "failed to schedule pipeline `needs`: ");
    assert!(text(&refused.stderr).ends_with("; give variables with `--var name=value`\n"));
    for (arguments, error) in [
        (&["--var", "what"][..], "`--var` is `what`, expected `name=value`"),
        (&["--var", "what:=x"], "`--var` gives `what` no JSON: "),
        (
            &["--vars", "gone.json"],
            "failed to read `gone.json`: no such file or directory",
        ),
    ] {
        check_failure(
            &run(&space, &server, &[&["schedule", "needs"], arguments].concat()),
            2,
            error,
        );
    }
}

#[test]
fn a_timeout_leaves_the_job_running() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    for flag in ["--wait", "--follow"] {
        let output = run(
            &space,
            &server,
            &["schedule", "gate", flag, "--timeout", "200ms", "--json"],
        );
        check_status(&output, 124);
        let id = objects(&output)[0]["jobId"].as_str().unwrap().to_owned();
        let said = text(&output.stderr);
        let expected = format!("prunner: error: job {id} has not ended within 200ms, it goes on; `prunner wait {id}`");
        assert!(said.starts_with(&expected), "{said}");
        assert_eq!(server.job(&id)["completed"], false);
    }
    space.write("go", "");
    check_status(
        &run(&space, &server, &["schedule", "gate", "--wait", "--timeout", "1m"]),
        0,
    );
}

#[test]
fn flags_that_need_a_wait_are_wrong_without() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    for (flags, error) in [
        (
            &["--timeout", "1s"][..],
            "`--timeout` means something with `--wait` or `--follow` alone",
        ),
        (
            &["--cancel-on-interrupt"],
            "`--cancel-on-interrupt` means something with `--wait` or `--follow` alone",
        ),
        (&["--wait", "--timeout", "5"], "`--timeout` is `5`, which has no unit"),
        (&["--wait", "--timeout", "0"], "`--timeout` is `0`, expected"),
    ] {
        check_failure(
            &run(&space, &server, &[&["schedule", "good"], flags].concat()),
            2,
            error,
        );
    }
    assert_eq!(server.get("/pipelines/jobs").json()["jobs"], json!([]));
}

#[test]
fn refusals_say_why() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    for (name, error) in [
        ("goood", "pipeline `goood` is not defined; did you mean `good`?"),
        (
            "unheard-of",
            "pipeline `unheard-of` is not defined; `prunner pipelines` lists those that are",
        ),
    ] {
        for flags in [&[][..], &["--wait"], &["--follow"]] {
            check_failure(&run(&space, &server, &[&["schedule", name], flags].concat()), 3, error);
        }
    }
    server.schedule("never_queued");
    check_failure(
        &run(&space, &server, &["schedule", "never_queued"]),
        3,
        "failed to schedule pipeline `never_queued`: concurrency exceeded and queueing disabled for pipeline; try again \
         when one of its jobs has ended",
    );
}

/// A job runs, another waits, and the wait list has one place.
const FULL: &str = r#"pipelines:
  full: {queue_limit: 1, tasks: {sleep: {script: ["echo up > up", "exec sleep 100"]}}}
  newest: {queue_limit: 1, queue_strategy: replace, tasks: {sleep: {script: ["echo up > up", "exec sleep 100"]}}}
"#;

#[test]
fn a_full_wait_list_is_told_by_the_status() {
    let space = TestSpace::new(FULL);
    let server = space.serve();
    server.schedule("full");
    server.schedule("full");
    for flags in [&[][..], &["--wait"], &["--follow"]] {
        check_failure(
            &run(&space, &server, &[&["schedule", "full"], flags].concat()),
            3,
            "failed to schedule pipeline `full`: ",
        );
    }
}

#[test]
fn waiting_for_a_job_that_is_replaced_is_told_by_the_status() {
    let space = TestSpace::new(FULL);
    let server = space.serve();
    server.schedule("newest");
    space.first_line("up");
    for flag in ["--wait", "--follow"] {
        let mut watching = space
            .command(&["schedule", "newest", flag, "--json"])
            .env("PRUNNER_ADDRESS", &server.address)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let first = crate::space::read_until(watching.stdout.as_mut().unwrap(), "}\n");
        let newer = server.schedule("newest");
        let output = watching.wait_with_output().unwrap();
        check_status(&output, 4);
        let job = objects(&output).pop().unwrap();
        assert!(first.contains(job["id"].as_str().unwrap()), "{first}");
        assert_eq!(
            (&job["status"], &job["reason"]),
            (&json!("replaced"), &json!(format!("replaced by job {newer}")))
        );
        check_status(&run(&space, &server, &["wait", job["id"].as_str().unwrap()]), 4);
    }
}
