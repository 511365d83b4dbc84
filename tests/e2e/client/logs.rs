//! `logs`: which parts of which outputs are shown, and where.

use std::io::Read;
use std::process::Stdio;

use serde_json::json;

use super::terminal::Terminal;
use super::{check_failure, check_status, objects, run, text};
use crate::space::{Server, TestSpace, eventually, read_until};

const PIPELINES: &str = r#"pipelines:
  talk:
    tasks:
      first: {script: ["seq 3; echo warned >&2; printf 'no end'"]}
      second: {script: ["seq 101 103; echo bad >&2; exit 7"], depends_on: [first]}
      never: {script: ["true"], depends_on: [second]}
  gate:
    tasks:
      early: {script: ["echo early"]}
      late: {script: ["echo begun; until test -e go; do sleep 0.02; done; echo over; echo also >&2"], depends_on: [early]}
"#;

/// The lines of both outputs, each without what stands before it.
fn lines(bytes: &[u8]) -> Vec<String> {
    let last_word = |line: &str| line.rsplit([' ', '|', '│']).next().unwrap().to_owned();
    text(bytes).lines().map(last_word).collect()
}

fn talk() -> (TestSpace, Server, String) {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let id = server.schedule("talk");
    server.ended(&id);
    (space, server, id)
}

#[test]
fn all_tasks_are_shown_each_line_behind_its_task() {
    let (space, server, id) = talk();
    let output = run(&space, &server, &["logs", &id]);
    check_status(&output, 0);
    let stdout = text(&output.stdout);
    assert_eq!(lines(&output.stdout), ["1", "2", "3", "end", "101", "102", "103"]);
    let (first, second) = (stdout.lines().next().unwrap(), stdout.lines().last().unwrap());
    assert!(
        first.trim_start().starts_with("first") && second.trim_start().starts_with("second"),
        "{stdout}"
    );
    assert_eq!(
        first.chars().count(),
        second.chars().count() - 2,
        "names have the same width: {stdout}"
    );
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("warned\n") && stderr.contains("bad\n") && !stderr.contains("101"),
        "{stderr}"
    );
}

#[test]
fn one_task_is_shown_as_it_is() {
    let (space, server, id) = talk();
    for (arguments, stdout, stderr) in [
        (&["first"][..], "1\n2\n3\nno end", "warned\n"),
        (&["second"], "101\n102\n103\n", "bad\n"),
        (&["never"], "", ""),
        (&["second", "--stdout"], "101\n102\n103\n", ""),
        (&["second", "--stderr"], "", "bad\n"),
        (&["second", "--stderr", "--stdout"], "101\n102\n103\n", "bad\n"),
        (&["second", "--tail", "2"], "102\n103\n", "bad\n"),
        (&["second", "--tail", "0"], "", ""),
        (&["first", "--tail", "2", "--stdout"], "3\nno end", ""),
        (&["second", "--tail", "99"], "101\n102\n103\n", "bad\n"),
        (&["second", "--follow"], "101\n102\n103\n", "bad\n"),
        (&["second", "-f", "--tail", "1"], "103\n", "bad\n"),
    ] {
        let output = run(&space, &server, &[&["logs", &id], arguments].concat());
        check_status(&output, 0);
        let found = (text(&output.stdout), text(&output.stderr));
        assert_eq!(found, (stdout.to_owned(), stderr.to_owned()), "{arguments:?}");
    }
    let unknown = run(&space, &server, &["logs", &id, "secnd"]);
    check_failure(
        &unknown,
        3,
        &format!("job `{id}` has no task `secnd`; did you mean `second`?"),
    );
    let unknown = run(&space, &server, &["logs", "11111111-1111-4111-8111-111111111111", "x"]);
    check_failure(&unknown, 3, "job `11111111-1111-4111-8111-111111111111` is not known");
}

#[test]
fn streams_and_tails_hold_for_all_tasks() {
    let (space, server, id) = talk();
    let stdout_of = |arguments: &[&str]| {
        let output = run(&space, &server, &[&["logs", &id], arguments].concat());
        check_status(&output, 0);
        lines(&output.stdout)
    };
    assert_eq!(stdout_of(&["--tail", "1"]), ["end", "103"]);
    assert_eq!(stdout_of(&["--stderr"]), [""; 0]);
    assert_eq!(
        stdout_of(&["--stdout", "-f"]),
        ["1", "2", "3", "end", "101", "102", "103"]
    );
}

#[test]
fn a_long_output_comes_whole_and_its_tail_too() {
    let space = TestSpace::new("pipelines: {long: {tasks: {count: {script: ['seq 200000']}}}}");
    let server = space.serve();
    let id = server.schedule("long");
    server.ended(&id);
    let all: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    let output = run(&space, &server, &["logs", &id, "count"]);
    assert!(text(&output.stdout) == all, "the output is not what was printed");
    // More than is looked at first.
    let tail: String = (100_001..=200_000).map(|number| format!("{number}\n")).collect();
    let output = run(&space, &server, &["logs", &id, "count", "--tail", "100000"]);
    assert!(text(&output.stdout) == tail, "the tail is not what was printed");
}

#[test]
fn a_tail_of_few_line_ends_begins_within_a_line() {
    let space = TestSpace::new(
        r#"pipelines: {long: {tasks: {zeros: {script: ["head -c 6000000 /dev/zero | tr '\\0' 0; echo; echo end"]}}}}"#,
    );
    let server = space.serve();
    let id = server.schedule("long");
    server.ended(&id);
    let end = "\nend\n";
    let zeros = |bytes: usize| "0".repeat(bytes - end.len()) + end;
    for (lines, expected) in [
        ("1", "end\n".to_owned()),
        ("2", zeros(4 << 20)),
        ("10", zeros(4 << 20)),
        ("5000", zeros(5_000 << 10)),
        ("10000", zeros(6_000_000 + end.len())),
    ] {
        let output = run(&space, &server, &["logs", &id, "zeros", "--tail", lines]);
        check_status(&output, 0);
        let length = output.stdout.len();
        assert!(text(&output.stdout) == expected, "{lines} lines: {length} bytes");
    }
}

#[test]
fn logs_as_json_are_a_line_for_each_event() {
    let (space, server, id) = talk();
    let output = run(&space, &server, &["logs", &id, "--json", "--tail", "1"]);
    check_status(&output, 0);
    assert_eq!(text(&output.stderr), "");
    let found: Vec<String> = objects(&output)
        .iter()
        .map(|object| {
            let [event, task, stream, line] =
                ["event", "task", "stream", "line"].map(|key| object[key].as_str().unwrap_or_default());
            format!("{event} {task} {stream} {line}").trim_end().to_owned()
        })
        .collect();
    let expected = [
        "started first",
        // Only when all has been read is a line without an end known to be one.
        "output first stderr warned",
        "output first stdout no end",
        "ended first",
        "started second",
        "output second stdout 103",
        "output second stderr bad",
        "ended second",
        "ended never",
        "job",
    ];
    assert_eq!(found, expected);
    assert_eq!(objects(&output).last().unwrap()["id"], json!(id));
}

#[test]
fn following_goes_on_to_the_end() {
    for (task, before, behind, stderr) in [
        (None, &["early", "begun"][..], &["over"][..], "also\n"),
        (Some("late"), &["begun"], &["over"], "also\n"),
    ] {
        let space = TestSpace::new(PIPELINES);
        let server = space.serve();
        let id = server.schedule("gate");
        let mut child = space
            .command(&["logs", "-f", &id])
            .args(task)
            .env("PRUNNER_ADDRESS", &server.address)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let seen = read_until(&mut stdout, "begun\n");
        assert_eq!(lines(seen.as_bytes()), before);
        space.write("go", "");
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(lines(rest.as_bytes()), behind);
        let output = child.wait_with_output().unwrap();
        check_status(&output, 0);
        assert!(text(&output.stderr).contains(stderr), "{output:?}");
    }
}

#[test]
fn a_reader_that_went_away_ends_the_watch_of_a_silent_job() {
    let space = TestSpace::new(
        r#"pipelines:
  talk:
    concurrency: 3
    tasks:
      say: {script: ["echo begun; until test -e go; do sleep 0.02; done; echo over; exec sleep 100"]}
"#,
    );
    let server = space.serve();
    for arguments in [
        &["logs", "-f"][..],
        &["logs", "-f", "--stdout"],
        &["logs", "-f", "--json"],
    ] {
        let _ = std::fs::remove_file(space.path.join("go"));
        let id = server.schedule("talk");
        let mut child = space
            .command(arguments)
            .arg(&id)
            .env("PRUNNER_ADDRESS", &server.address)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        read_until(child.stdout.as_mut().unwrap(), "begun");
        drop(child.stdout.take());
        space.write("go", "");
        let status = eventually("it ends", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
    }
}

#[test]
fn what_runs_is_shown_as_far_as_it_is() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let id = server.schedule("gate");
    let follow = format!("/job/log?id={id}&task=late&follow=true");
    read_until(&mut server.send("GET", &follow, &server.authorization(), ""), "begun\n");
    let output = run(&space, &server, &["logs", &id]);
    check_status(&output, 0);
    assert_eq!(lines(&output.stdout), ["early", "begun"]);
    let objects = objects(&run(&space, &server, &["logs", &id, "--json"]));
    assert_eq!(objects.last().unwrap()["status"], "running");
    assert!(
        objects
            .iter()
            .all(|object| object["event"] != "ended" || object["task"] == "early")
    );
}

#[test]
fn quiet_prints_the_output_of_failed_tasks_alone() {
    let (space, server, id) = talk();
    for flags in [&["--quiet"][..], &["-q", "-f"]] {
        let output = run(&space, &server, &[&["logs", &id], flags].concat());
        check_status(&output, 0);
        assert_eq!(lines(&output.stdout), ["101", "102", "103"]);
        let said = text(&output.stderr);
        assert!(said.starts_with("second | bad\n") && !said.contains("warned"), "{said}");
    }
}

#[test]
fn a_terminal_has_colored_names_for_who_wants_them() {
    let (space, server, id) = talk();
    for (flags, variables, colored) in [
        (&[][..], &[("TERM", "xterm")][..], true),
        (&["--disable-ansi"], &[("TERM", "xterm")], false),
        (&[], &[("TERM", "xterm"), ("NO_COLOR", "1")], false),
        (&[], &[("TERM", "xterm"), ("PRUNNER_DISABLE_ANSI", "1")], false),
        (&[], &[], false),
    ] {
        let mut command = space.command(&[&["logs", &id], flags].concat());
        command
            .env("PRUNNER_ADDRESS", &server.address)
            .envs(variables.iter().copied());
        let (seen, status) = Terminal::start(&command).end();
        assert_eq!(status, Some(0), "{seen}");
        assert_eq!(seen.contains("\x1b[36mfirst\x1b[0m  | 1\r\n"), colored, "{seen:?}");
        assert_eq!(seen.contains('\x1b'), colored, "{seen:?}");
        assert!(colored || seen.contains("first  | 1\r\n"), "{seen:?}");
    }
}

#[test]
fn a_job_that_is_not_known_has_no_logs() {
    let (space, server, _) = talk();
    let unknown = "11111111-1111-4111-8111-111111111111";
    for flags in [&[][..], &["-f"], &["--json"]] {
        let output = run(&space, &server, &[&["logs", unknown], flags].concat());
        check_failure(&output, 3, &format!("job `{unknown}` is not known"));
    }
}
