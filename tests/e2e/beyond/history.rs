//! Bounds on history: the defaults of retention, and jobs that are forgotten because somebody asks.

use serde_json::{Value, json};

use super::{FLAGS, WAIT_FOR_GO, pipeline};
use crate::checks::check_error;
use crate::space::{Server, TestSpace, eventually};
use crate::tools::text;

const TWO: &str = "pipelines:
  plain: {tasks: {a: {script: 'echo out'}}}
  own: {retention_count: 2, retention_period: 1h, tasks: {a: {script: 'echo out'}}}
";

/// The ids of the jobs of a pipeline, newest first.
fn jobs_of(server: &Server, pipeline: &str) -> Vec<String> {
    let list = server.get(&format!("/pipelines/jobs?pipeline={pipeline}")).json();
    list["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| text(&job["id"]))
        .collect()
}

fn id_of_run(server: &Server, pipeline: &str) -> String {
    text(&server.run_job(pipeline)["id"])
}

fn forget(server: &Server, id: &str) -> crate::space::Answer {
    server.post(&format!("/job/forget?id={id}"), "")
}

fn logs(space: &TestSpace, id: &str) -> bool {
    space.path.join(".prunner/logs").join(id).exists()
}

fn gone(space: &TestSpace, id: &str) {
    eventually("its logs are gone", || (!logs(space, id)).then_some(()));
}

#[test]
fn the_default_count_holds_for_pipelines_that_say_nothing() {
    for (flags, variables) in [
        (&["--retention-count", "1"][..], &[][..]),
        (&[], &[("PRUNNER_RETENTION_COUNT", "1")]),
        (&["--retention-count=1"], &[("PRUNNER_RETENTION_COUNT", "7")]),
    ] {
        let space = TestSpace::new(TWO);
        let server = space.serve_with(&[&FLAGS, flags].concat(), variables);
        let first = id_of_run(&server, "plain");
        let second = id_of_run(&server, "plain");
        eventually("the older one is forgotten", || {
            (jobs_of(&server, "plain") == [second.clone()]).then_some(())
        });
        assert_eq!(server.get(&format!("/job/detail?id={first}")).status, 404);
        gone(&space, &first);
        assert!(logs(&space, &second));
        let own: Vec<String> = (0..3).map(|_| id_of_run(&server, "own")).collect();
        eventually("two of its own are kept", || {
            (jobs_of(&server, "own") == [own[2].clone(), own[1].clone()]).then_some(())
        });
    }
}

#[test]
fn the_default_period_holds_after_a_reload_and_a_restart_too() {
    for (flags, variables) in [
        (&["--retention-period", "10ms"][..], &[][..]),
        (&[], &[("PRUNNER_RETENTION_PERIOD", "10ms")]),
        (&["--retention-period=10ms"], &[("PRUNNER_RETENTION_PERIOD", "1h")]),
    ] {
        let space = TestSpace::new(TWO);
        let server = space.serve();
        let (plain, own) = (id_of_run(&server, "plain"), id_of_run(&server, "own"));
        server.stop();
        // The history of what is defined is held to the default at once, and what a reload brings is too.
        let server = space.serve_with(&[&FLAGS, flags].concat(), variables);
        eventually("it is forgotten", || jobs_of(&server, "plain").is_empty().then_some(()));
        gone(&space, &plain);
        assert_eq!(jobs_of(&server, "own"), [own]);
        space.write("pipelines.yml", "pipelines: {new: {tasks: {a: {script: 'true'}}}}");
        assert_eq!(server.post("/pipelines/reload", "").status, 200);
        server.schedule("new");
        eventually("it is forgotten", || {
            let jobs = server.get("/pipelines/jobs?pipeline=new").json();
            (jobs["jobs"] == json!([])).then_some(())
        });
    }
}

#[test]
fn the_history_of_a_pipeline_that_no_file_defines_is_kept() {
    let space = TestSpace::new(TWO);
    let server = space.serve();
    let ids = [id_of_run(&server, "plain"), id_of_run(&server, "plain")];
    server.stop();
    space.write("pipelines.yml", "pipelines: {other: {tasks: {}}}");
    let flags = [FLAGS[0], FLAGS[1], "--retention-count=1", "--retention-period=1ms"];
    let server = space.serve_with(&flags, &[]);
    server.schedule("other");
    eventually("what is defined is forgotten", || {
        let jobs = server.get("/pipelines/jobs?pipeline=other").json();
        (jobs["jobs"] == json!([])).then_some(())
    });
    assert_eq!(jobs_of(&server, "plain"), [ids[1].clone(), ids[0].clone()]);
}

#[test]
fn what_is_no_retention_is_refused() {
    let space = TestSpace::new(TWO);
    for (flag, complaint) in [
        (
            "--retention-count=0",
            "`--retention-count` is `0`, expected a whole number, at least 1",
        ),
        (
            "--retention-period=0",
            "`--retention-period` is `0`, expected at least 1ms",
        ),
        (
            "--retention-period=30",
            "`--retention-period` is `30`, which has no unit behind `30`",
        ),
    ] {
        let output = space.run(&[flag]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(2) && stderr.contains(complaint),
            "{stderr}"
        );
    }
}

#[test]
fn a_job_that_ended_is_forgotten_with_its_logs_before_the_answer() {
    let (space, server) = TestSpace::serving(TWO);
    let (first, second) = (id_of_run(&server, "plain"), id_of_run(&server, "plain"));
    let answer = forget(&server, &first);
    assert_eq!((answer.status, answer.body.trim_end()), (200, "true"));
    assert_eq!(jobs_of(&server, "plain"), std::slice::from_ref(&second));
    gone(&space, &first);
    check_error(
        &server.get(&format!("/job/detail?id={first}")),
        404,
        "job_not_found",
        "Job not found",
    );
    check_error(&forget(&server, &first), 404, "job_not_found", "Job not found");
    // It is on disk when it is answered.
    assert_eq!(forget(&server, &second).status, 200);
    server.kill();
    let server = space.serve();
    assert_eq!(jobs_of(&server, "plain"), Vec::<String>::new());
    gone(&space, &second);
}

#[test]
fn a_job_that_waits_or_runs_is_not_forgotten() {
    let (space, server) = TestSpace::serving(&pipeline(&json!({"tasks": {"a": {"script": WAIT_FOR_GO}}})));
    let (running, waiting) = (server.schedule("p"), server.schedule("p"));
    for id in [&running, &waiting] {
        check_error(&forget(&server, id), 409, "not_ended", "job has not ended");
    }
    space.write("go", "");
    for id in [&running, &waiting] {
        server.ended(id);
        assert_eq!(forget(&server, id).status, 200);
    }
}

#[test]
fn what_names_no_job_is_refused() {
    let (_space, server) = TestSpace::serving(TWO);
    check_error(&server.post("/job/forget", ""), 400, "invalid_job_id", "Invalid job id");
    check_error(&forget(&server, "x"), 400, "invalid_job_id", "Invalid job id");
    let unknown = "01a20e16-cdd6-7e74-8cf3-f98b1547e626";
    check_error(&forget(&server, unknown), 404, "job_not_found", "Job not found");
    assert_eq!(server.get(&format!("/job/forget?id={unknown}")).status, 405);
    assert_eq!(
        server
            .request("POST", &format!("/job/forget?id={unknown}"), "", "")
            .status,
        401
    );
}

/// What the command prints and says, and its exit status.
fn command(space: &TestSpace, server: &Server, arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments = [&["forget"], arguments].concat();
    let output = space.run_with(&arguments, &[("PRUNNER_ADDRESS", &server.address)]);
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn the_command_forgets_ids() {
    let (space, server) = TestSpace::serving(TWO);
    let ids = [id_of_run(&server, "plain"), id_of_run(&server, "plain")];
    let quiet = (Some(0), String::new(), String::new());
    assert_eq!(command(&space, &server, &[&ids[0]]), quiet);
    let (status, stdout, stderr) = command(&space, &server, &["--json", &ids[0], &ids[1]]);
    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, json), (Some(3), json!({"forgotten": [ids[1]]})));
    assert_eq!(
        stderr,
        format!(
            "prunner: error: job `{}` is not known; `prunner jobs` lists those that are\n",
            ids[0]
        )
    );
}

#[test]
fn the_command_tells_a_job_that_has_not_ended() {
    let (space, server) = TestSpace::serving(&pipeline(&json!({"tasks": {"a": {"script": WAIT_FOR_GO}}})));
    let id = server.schedule("p");
    let (status, _, stderr) = command(&space, &server, &[&id]);
    assert_eq!(
        (status, stderr),
        (
            Some(3),
            format!(
                "prunner: error: job `{id}` has not ended, so it can't be forgotten; `prunner cancel {id}` ends it\n"
            )
        )
    );
    space.write("go", "");
}

#[test]
fn the_command_forgets_the_old_jobs_of_a_pipeline() {
    let (space, server) = TestSpace::serving(TWO);
    let plain = [id_of_run(&server, "plain"), id_of_run(&server, "plain")];
    let own = id_of_run(&server, "own");
    let done = |text: &str| (Some(0), text.to_owned(), String::new());
    let older = |pipeline, age| command(&space, &server, &["--pipeline", pipeline, "--older-than", age]);
    assert_eq!(older("plain", "30d"), done("0 jobs forgotten\n"));
    assert_eq!(older("plain", "0"), done("2 jobs forgotten\n"));
    assert_eq!(jobs_of(&server, "plain"), Vec::<String>::new());
    assert_eq!(jobs_of(&server, "own"), std::slice::from_ref(&own));
    plain.iter().for_each(|id| gone(&space, id));
    // What ended before then, and nothing that came later.
    eventually("it is a second old", || {
        let (_, stdout, _) = older("own", "1s");
        (stdout == "1 job forgotten\n").then_some(())
    });
    gone(&space, &own);
    // Files need not define it any more.
    let id = id_of_run(&server, "plain");
    space.write("pipelines.yml", "pipelines: {}");
    assert_eq!(server.post("/pipelines/reload", "").status, 200);
    let expected = format!("{{\"forgotten\":[\"{id}\"]}}\n");
    let arguments = [
        "--pipeline",
        "plain",
        "--pipeline",
        "own",
        "--older-than",
        "0",
        "--json",
    ];
    assert_eq!(command(&space, &server, &arguments), done(&expected));
}

#[test]
fn the_command_needs_ids_or_a_pipeline_with_an_age() {
    let (space, server) = TestSpace::serving(TWO);
    for arguments in [
        &[][..],
        &["--pipeline", "plain"],
        &["--older-than", "30d"],
        &[
            "--pipeline",
            "plain",
            "--older-than",
            "30d",
            "01a20e16-cdd6-7e74-8cf3-f98b1547e626",
        ],
        &["--pipeline", "plain", "--older-than", "30"],
    ] {
        let (status, stdout, stderr) = command(&space, &server, arguments);
        assert_eq!((status, stdout), (Some(2), String::new()), "{arguments:?}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn the_command_completes_jobs_that_have_ended() {
    let (space, server) = TestSpace::serving(&pipeline(
        &json!({"concurrency": 2, "tasks": {"a": {"script": format!("test -e first || {{ touch first; exit; }}; {WAIT_FOR_GO}")}}}),
    ));
    let ended = id_of_run(&server, "p");
    let running = server.schedule("p");
    let offered = |words: &[&str]| {
        let arguments = [&["__complete", "--", "forget"], words].concat();
        let output = space.run_with(&arguments, &[("PRUNNER_ADDRESS", &server.address)]);
        String::from_utf8(output.stdout).unwrap()
    };
    let jobs = offered(&[""]);
    assert!(jobs.contains(&ended) && !jobs.contains(&running), "{jobs}");
    assert!(offered(&["--older"]).starts_with("--older-than"));
    assert!(offered(&["--pipeline", ""]).starts_with('p'));
    space.write("go", "");
}
