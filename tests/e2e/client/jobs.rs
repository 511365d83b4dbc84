//! Commands that show or change what a server has.

use std::process::Stdio;

use serde_json::{Value, json};

use super::terminal::Terminal;
use super::{PIPELINES, check_failure, check_status, objects, run, text};
use crate::space::{Server, TestSpace, eventually};

const UNKNOWN: &str = "11111111-1111-4111-8111-111111111111";

#[track_caller]
fn rows(space: &TestSpace, server: &Server, arguments: &[&str]) -> Vec<Vec<String>> {
    let output = run(space, server, arguments);
    check_status(&output, 0);
    assert_eq!(text(&output.stderr), "");
    let rows = text(&output.stdout);
    rows.lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

#[test]
fn jobs_are_listed_newest_first() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let bad = server.schedule("bad");
    server.ended(&bad);
    let good = server.schedule("good");
    server.ended(&good);
    let ids = |arguments: &[&str]| -> Vec<String> {
        let rows = rows(&space, &server, arguments);
        assert_eq!(rows[0], ["ID", "PIPELINE", "STATUS", "AGE", "DURATION", "USER"]);
        rows[1..].iter().map(|row| row[0].clone()).collect()
    };
    let all = rows(&space, &server, &["jobs"]);
    assert_eq!(all[1][..3], [&*good, "good", "succeeded"]);
    assert_eq!((all[1].len(), &*all[1][5]), (6, "anna"), "{all:?}");
    assert_eq!(ids(&["jobs"]), [&*good, &*bad]);
    assert_eq!(ids(&["jobs", "--limit", "1"]), [&*good]);
    assert_eq!(ids(&["jobs", "--pipeline", "bad"]), [&*bad]);
    assert_eq!(
        ids(&["jobs", "--pipeline", "bad", "--pipeline", "good"]),
        [&*good, &*bad]
    );
    assert_eq!(ids(&["jobs", "--status", "failed", "--status", "waiting"]), [&*bad]);
    assert!(ids(&["jobs", "--status", "running"]).is_empty());

    let output = run(&space, &server, &["jobs", "--json", "--status", "failed"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer, server.get("/pipelines/jobs?status=failed").json());
    check_failure(
        &run(&space, &server, &["jobs", "--status", "done"]),
        2,
        "`--status <STATUS>` is `done`, expected one of waiting, running, succeeded, ",
    );
    check_failure(
        &run(&space, &server, &["jobs", "--limit", "0"]),
        2,
        "invalid value `0` for `--limit <NUMBER>`",
    );
}

#[test]
fn pipelines_are_listed_with_what_they_do() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    server.schedule("long");
    server.schedule("long");
    server.schedule("never_queued");
    let rows = rows(&space, &server, &["pipelines"]);
    assert_eq!(rows[0], ["NAME", "RUNNING", "WAITING", "SCHEDULABLE"]);
    let expected = [
        ["bad", "0", "0", "yes"],
        ["gate", "0", "0", "yes"],
        ["good", "0", "0", "yes"],
        ["long", "1", "1", "yes"],
        ["needs", "0", "0", "yes"],
        ["never_queued", "1", "0", "no"],
    ];
    assert_eq!(rows[1..], expected);
    let output = run(&space, &server, &["pipelines", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer, server.get("/pipelines/").json());
}

#[test]
fn a_job_is_shown_with_its_tasks() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let id = server.schedule("bad");
    let job = server.ended(&id);
    let output = run(&space, &server, &["job", &id]);
    check_status(&output, 0);
    let shown = text(&output.stdout);
    for part in [
        &*id,
        "status     failed\n",
        "user       anna\n",
        "error      exit status 7\n",
        "fail  error   7 ",
    ] {
        assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
    }
    let output = run(&space, &server, &["job", "--json", &id]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), job);
    check_failure(
        &run(&space, &server, &["job", UNKNOWN]),
        3,
        &format!("job `{UNKNOWN}` is not known; "),
    );
    check_failure(&run(&space, &server, &["job", "x"]), 3, "`x` is no id of a job; ");
}

#[test]
fn of_several_ids_the_first_status_that_is_not_0_counts() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let good = server.schedule("good");
    let bad = server.schedule("bad");
    let long = server.schedule("long");
    space.first_line("up");
    check_status(&run(&space, &server, &["cancel", &long]), 0);
    for (ids, status) in [
        (&[&*good][..], 0),
        (&[&*good, &*bad], 1),
        (&[&*bad, &*good], 1),
        (&[&*good, &*long, &*bad], 4),
        (&[UNKNOWN, &*bad], 3),
        (&[&*bad, UNKNOWN], 1),
        (&["x", &*good], 3),
    ] {
        let output = run(&space, &server, &[&["wait"], ids].concat());
        check_status(&output, status);
        assert_eq!(text(&output.stdout), "");
        assert_eq!(text(&output.stderr).lines().count(), ids.len(), "{output:?}");
    }
    let output = run(&space, &server, &["wait", "--quiet", &bad]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), String::new()));
    let output = run(&space, &server, &["wait", "--json", &good, &bad]);
    let found: Vec<Value> = objects(&output).iter().map(|job| job["id"].clone()).collect();
    assert_eq!(found, [json!(good), json!(bad)]);
    check_failure(
        &run(&space, &server, &["wait"]),
        2,
        "`prunner wait` needs `<ID>...`; try `prunner wait --help`",
    );

    // A job that was canceled may be canceled again, one that ended by itself not.
    for (ids, status) in [(&[&*long][..], 0), (&[&*good], 3), (&[&*long, UNKNOWN, &*good], 3)] {
        check_status(&run(&space, &server, &[&["cancel"], ids].concat()), status);
    }
    let error = format!("job `{good}` has already ended");
    check_failure(&run(&space, &server, &["cancel", &good]), 3, &error);
}

#[test]
fn canceling_goes_on_behind_an_id_that_is_not_known() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let id = server.schedule("long");
    let output = run(&space, &server, &["cancel", UNKNOWN, &id]);
    check_failure(&output, 3, &format!("job `{UNKNOWN}` is not known"));
    let job = server.ended(&id);
    assert_eq!(
        (&job["status"], &job["reason"]),
        (&json!("canceled"), &json!("canceled by anna"))
    );
}

#[test]
fn waiting_ends_when_the_time_is_over() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let id = server.schedule("long");
    let output = run(&space, &server, &["wait", "--timeout", "100ms", &id]);
    check_failure(
        &output,
        124,
        &format!("job {id} has not ended within 100ms, it goes on"),
    );
    assert_eq!(server.job(&id)["completed"], false);
}

#[test]
fn a_reload_says_what_it_found() {
    let space = TestSpace::new("pipelines: {a: {}}");
    let server = space.serve();
    space.write("pipelines.yml", "pipelines: {b: {prio: 1}, c: {}}");
    let output = run(&space, &server, &["reload"]);
    check_status(&output, 0);
    let said = text(&output.stdout);
    assert!(said.starts_with("warning: ") && said.contains("`prio`"), "{said}");
    assert!(said.ends_with("\n2 pipelines, 1 warning\n"), "{said}");
    let output = run(&space, &server, &["reload", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["pipelines"], 2);

    space.write("pipelines.yml", "pipelines: {d: {concurrency: 0}}");
    let output = run(&space, &server, &["reload"]);
    check_failure(
        &output,
        2,
        "the pipeline files are wrong, the pipelines stay as they were: ",
    );
    assert!(text(&output.stderr).contains("`concurrency`"), "{output:?}");
    assert_eq!(server.get("/pipelines/").json()["pipelines"][0]["pipeline"], "b");
}

#[test]
fn a_token_opens_the_api_while_it_is_valid() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let token = |arguments: &[&str]| {
        let output = space.run(&[&["token"], arguments].concat());
        check_status(&output, 0);
        text(&output.stdout).trim_end().to_owned()
    };
    let with = |token: &str, arguments: &[&str]| {
        let mut command = space.command(arguments);
        command
            .env("PRUNNER_ADDRESS", &server.address)
            .env("PRUNNER_TOKEN", token);
        // There is no other way in.
        command.env("PRUNNER_CONFIG", "nowhere.yml").output().unwrap()
    };
    for (arguments, user) in [
        (&[][..], "anna"),
        (&["--sub", "ben"], "ben"),
        (&["--sub", ""], ""),
        (&["--sub", "ben", "--expires", "1h"], "ben"),
    ] {
        for token in [token(arguments), format!("Bearer {}", token(arguments))] {
            let output = with(&token, &["schedule", "good"]);
            check_status(&output, 0);
            assert_eq!(server.job(text(&output.stdout).trim_end())["user"], user);
        }
    }
    let short = token(&["--expires", "1ms"]);
    let output = eventually("the token expires", || {
        let output = with(&short, &["jobs"]);
        (output.status.code() != Some(0)).then_some(output)
    });
    check_failure(&output, 3, "the server refuses the token: token is expired; ");
    check_failure(
        &with("a.b.c", &["jobs"]),
        3,
        "the server refuses the token: token is unauthorized; ",
    );
    check_failure(&with("a\nb", &["jobs"]), 2, "`PRUNNER_TOKEN` is no token");
    check_failure(
        &space.run(&["token", "--expires", "1"]),
        2,
        "`--expires` is `1`, which has no unit",
    );
}

#[test]
fn a_reader_that_went_away_ends_a_command_quietly() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let id = server.schedule("good");
    server.ended(&id);
    for arguments in [
        &["jobs"][..],
        &["jobs", "--json"],
        &["pipelines"],
        &["job", &id],
        &["logs", &id],
        &["logs", &id, "say"],
        &["logs", "--json", &id],
        &["graph", "good"],
        &["token"],
        &["reload"],
        &["completions", "bash"],
        &["debug"],
        &["schedules"],
        &["validate"],
        &["schema"],
        &["version"],
        &["--help"],
        &["schedule", "good"],
        &["schedule", "--wait", "--quiet", "good"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = space
            .command(arguments)
            .env("PRUNNER_ADDRESS", &server.address)
            .stdout(Stdio::from(writer))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        assert_eq!(
            (output.status.code(), text(&output.stderr)),
            (Some(0), String::new()),
            "{arguments:?}"
        );
    }
    // The result of the job counts, even where nobody reads the id.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = space
        .command(&["schedule", "--wait", "--quiet", "bad"])
        .env("PRUNNER_ADDRESS", &server.address)
        .stdout(Stdio::from(writer))
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn on_a_narrow_terminal_names_give_way() {
    let name = "release-the-website-and-everything-that-belongs-to-it";
    let tasks = "{build-the-frontend-with-all-of-its-assets: {script: ['true']}, lint: {script: ['true']}}";
    let space = TestSpace::new(&format!("pipelines: {{{name}: {{tasks: {tasks}}}}}"));
    let server = space.serve();
    let id = server.schedule(name);
    server.ended(&id);
    for (command, columns, shown) in [
        ("jobs", 90, "  relea"),
        ("pipelines", 60, "release-the-w"),
        (&format!("job {id}"), 60, "build-the-fron"),
        (&format!("graph {name}"), 30, "│ build-the-frontend-with-al │"),
    ] {
        let script = format!(
            "stty cols {columns} rows 50; exec '{}' {command}",
            env!("CARGO_BIN_EXE_prunner")
        );
        let mut shell = space.command_by(std::process::Command::new("sh"), &["-c", &script]);
        let (seen, status) = Terminal::start(shell.env("PRUNNER_ADDRESS", &server.address)).end();
        assert_eq!(status, Some(0), "{seen}");
        let table = seen.rsplit("\r\n\r\n").next().unwrap();
        for line in table.lines() {
            assert!(line.chars().count() <= columns, "{line}\n{seen}");
        }
        assert!(seen.contains(shown), "{seen}");
        assert!(seen.contains('…') || command.starts_with("graph"), "{seen}");
        // A pipe gets them whole.
        let output = run(&space, &server, &command.split(' ').collect::<Vec<_>>());
        assert!(!text(&output.stdout).contains('…'), "{output:?}");
    }
}
