//! `log_limit`: what is kept of an output, who sees what when, and what says so.

use std::fs;

use serde_json::{Value, json};

use super::{FLAGS, WAIT_FOR_GO, pipeline};
use crate::space::{Server, TestSpace, read_until};
use crate::tools::{ends_of, task, text};

/// What is kept of the end.
const TAIL: usize = 65_536;

const LIMIT: usize = 1_000;

/// Prints so many bytes of lines of ten.
fn print(bytes: usize) -> String {
    format!("seq -f '%09.0f' 1 {} | head -c {bytes}", bytes / 10 + 1)
}

fn printed(bytes: usize) -> String {
    let lines: String = (1..=bytes / 10 + 1).map(|number| format!("{number:09}\n")).collect();
    lines[..bytes].to_owned()
}

fn marker(left_out: usize) -> String {
    format!("prunner: {left_out} bytes are left out here, by the log limit\n")
}

/// What is kept of so many bytes, more than the limit and its end; of a head that ends within a line.
fn cut(bytes: usize, limit: usize) -> String {
    let all = printed(bytes);
    let line_end = if limit.is_multiple_of(10) { "" } else { "\n" };
    let left_out = marker(bytes - limit - TAIL);
    format!("{}{line_end}{left_out}{}", &all[..limit], &all[bytes - TAIL..])
}

fn log(space: &TestSpace, id: &str, stream: &str) -> String {
    space.read(&format!(".prunner/logs/{id}/a-{stream}.log"))
}

/// Runs a job whose task `a` has these keys: the job and its two logs.
#[track_caller]
fn run(server: &Server, space: &TestSpace) -> (Value, String, String) {
    let job = server.run_job("p");
    let id = text(&job["id"]);
    (job, log(space, &id, "stdout"), log(space, &id, "stderr"))
}

#[test]
fn the_beginning_and_the_end_of_each_stream_are_kept_and_the_task_goes_on() {
    for limit in ["1kB", "1000", "1000B"] {
        let (space, server) = TestSpace::serving(&pipeline(&json!({"tasks": {"a": {
            "script": [print(300_000), format!("{} >&2", print(200_000)), "touch later"], "log_limit": limit,
        }}})));
        let (job, stdout, stderr) = run(&server, &space);
        assert_eq!(
            (ends_of(&job), task(&job, "a").get("note")),
            ("a done".to_owned(), None)
        );
        assert!(space.path.join("later").exists());
        assert!(stdout == cut(300_000, LIMIT), "{}", stdout.len());
        assert!(stderr == cut(200_000, LIMIT), "{}", stderr.len());
        assert_eq!(server.output_of(&job, "a"), (stdout, stderr));
    }
}

#[test]
fn nothing_is_said_where_nothing_is_left_out() {
    for (bytes, left_out) in [
        (LIMIT, None),
        (LIMIT + 1, None),
        (LIMIT + TAIL, None),
        (LIMIT + TAIL + 2, Some(2)),
    ] {
        let (space, server) = TestSpace::serving(&pipeline(
            &json!({"tasks": {"a": {"script": print(bytes), "log_limit": "1kB"}}}),
        ));
        let (_, stdout, _) = run(&server, &space);
        let expected = match left_out {
            None => printed(bytes),
            Some(_) => cut(bytes, LIMIT),
        };
        assert!(stdout == expected, "{bytes}: {}", stdout.len());
    }
}

#[test]
fn the_line_stands_by_itself() {
    let (space, server) = TestSpace::serving(&pipeline(
        &json!({"tasks": {"a": {"script": print(100_000), "log_limit": "1003"}}}),
    ));
    let (_, stdout, _) = run(&server, &space);
    assert!(stdout == cut(100_000, 1_003));
}

#[test]
fn a_task_wins_over_its_pipeline_and_that_over_the_servers_default() {
    let check = |flags: &[&str], variables: &[(&str, &str)], keys: Value, expected: Option<usize>| {
        let space = TestSpace::new(&pipeline(&keys));
        let server = space.serve_with(&[&FLAGS, flags].concat(), variables);
        let (_, stdout, _) = run(&server, &space);
        let expected = expected.map_or_else(|| printed(100_000), |limit| cut(100_000, limit));
        assert!(stdout == expected, "{flags:?} {keys}: {}", stdout.len());
    };
    let tasks = json!({"a": {"script": print(100_000)}});
    let own = json!({"a": {"script": print(100_000), "log_limit": "3KiB"}});
    let free = json!({"a": {"script": print(100_000), "log_limit": "none"}});
    check(&[], &[], json!({"tasks": tasks}), None);
    check(&["--log-limit", "1kB"], &[], json!({"tasks": tasks}), Some(1_000));
    check(
        &[],
        &[("PRUNNER_LOG_LIMIT", "1KiB")],
        json!({"tasks": tasks}),
        Some(1_024),
    );
    check(
        &["--log-limit=1kB"],
        &[],
        json!({"log_limit": "2kB", "tasks": tasks}),
        Some(2_000),
    );
    check(
        &["--log-limit=1kB"],
        &[],
        json!({"log_limit": "2kB", "tasks": own}),
        Some(3_072),
    );
    check(
        &["--log-limit=1kB"],
        &[],
        json!({"log_limit": "2kB", "tasks": free}),
        None,
    );
    check(
        &["--log-limit=1kB"],
        &[],
        json!({"log_limit": "none", "tasks": tasks}),
        None,
    );
}

#[test]
fn what_is_no_size_is_refused() {
    let space = TestSpace::new(&pipeline(&json!({"tasks": {}})));
    let output = space.run(&["--log-limit", "1M"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("`--log-limit` is `1M`, whose unit `M` is not known; expected a number of bytes"),
        "{stderr}"
    );
}

#[test]
fn who_follows_sees_the_beginning_at_once_and_the_rest_at_the_end() {
    let (space, server) = TestSpace::serving(&pipeline(&json!({"tasks": {"a": {
        "script": [print(100_000), "touch printed", WAIT_FOR_GO, "printf last"], "log_limit": "1kB",
    }}})));
    let id = server.schedule("p");
    let target = format!("/job/log?id={id}&task=a&follow=true");
    let mut follower = server.send("GET", &target, &server.authorization(), "");
    let first = read_until(&mut follower, &printed(LIMIT)[990..]);
    crate::space::eventually("all is printed", || space.path.join("printed").exists().then_some(()));
    // While it is cut, a log is as long as its limit; parts of it stay what they are.
    let length = || {
        server
            .get(&format!("/job/log?id={id}&task=a"))
            .header("Content-Length")
            .to_owned()
    };
    assert_eq!(length(), "1000");
    let range = |range: &str| {
        let headers = format!("{}Range: bytes={range}\r\n", server.authorization());
        server.request("GET", &format!("/job/log?id={id}&task=a"), &headers, "")
    };
    let answer = range("990-");
    assert_eq!((answer.status, answer.body.as_str()), (206, &printed(LIMIT)[990..]));
    assert_eq!(range("1000-").status, 416);
    space.write("go", "");
    let rest = read_until(&mut follower, "last\r\n0\r\n");
    assert!(rest.contains(&marker(100_000 + 4 - LIMIT - TAIL)), "{first}");
    server.ended(&id);
    let whole = log(&space, &id, "stdout");
    assert_eq!(length(), whole.len().to_string());
    let answer = range("1000-");
    assert_eq!((answer.status, answer.body.as_str()), (206, &whole[1_000..]));
    assert_eq!(range("990-999").body, printed(LIMIT)[990..]);
}

#[test]
fn commands_show_what_the_log_keeps() {
    let (space, server) = TestSpace::serving(&pipeline(
        &json!({"tasks": {"a": {"script": print(100_000), "log_limit": "1kB"}}}),
    ));
    let (job, stdout, _) = run(&server, &space);
    let shown = |arguments: &[&str], variables: &[(&str, &str)]| {
        let output = space.run_with(arguments, variables);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let address = [("PRUNNER_ADDRESS", server.address.as_str())];
    assert!(shown(&["logs", "-f", &text(&job["id"]), "a"], &address) == stdout);
    let lines = |text: &str| text.lines().map(|line| format!("a | {line}\n")).collect::<String>();
    assert!(shown(&["schedule", "p", "--follow"], &address) == lines(&stdout));
    assert!(shown(&["run", "p"], &[]) == lines(&stdout));
    assert!(shown(&["--log-limit=5kB", "run", "p"], &[]) == lines(&stdout));
}

#[test]
fn all_attempts_share_the_limit_and_each_has_its_end() {
    let keys = json!({"tasks": {"a": {
        "script": ["echo x >> count", print(90_000), "test $(wc -l < count) = 3"], "retry": 2, "log_limit": "100kB",
    }}});
    let (space, server) = TestSpace::serving(&pipeline(&keys));
    let (job, stdout, stderr) = run(&server, &space);
    assert_eq!(ends_of(&job), "a done");
    let all = printed(90_000);
    let end = &all[90_000 - TAIL..];
    let second = format!("{}{}{end}", &all[..10_000], marker(80_000 - TAIL));
    let third = format!("{}{end}", marker(90_000 - TAIL));
    let expected = format!("{all}{second}{third}");
    assert!(stdout == expected, "{}", stdout.len());
    assert_eq!(stderr.lines().count(), 2, "{stderr}");

    // Also where nothing else keeps the output.
    fs::remove_file(space.path.join("count")).unwrap();
    let output = space.run(&["run", "p"]);
    let lines: String = expected.lines().map(|line| format!("a | {line}\n")).collect();
    assert!(String::from_utf8(output.stdout).unwrap() == lines);
}

#[test]
fn on_error_is_told_the_end() {
    let (_space, server) = TestSpace::serving(&pipeline(&json!({
        "tasks": {"a": {"script": [print(300_000), "echo; echo the reason", "exit 1"], "log_limit": "1kB"}},
        "on_error": {"script": "printf %s \"$PRUNNER_VAR_failedTaskStdout\" | tail -n 1"},
    })));
    let job = server.run_job("p");
    assert_eq!(server.stdout_of(&job, "on_error"), "the reason\n");
}

#[test]
fn memory_does_not_grow_with_what_is_left_out() {
    let (_space, server) = TestSpace::serving(&pipeline(&json!({"tasks": {"a": {
        "script": "head -c 500000000 /dev/zero", "log_limit": "1kB",
    }}})));
    let job = server.run_job("p");
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 60_000, "{peak} kB");
    let length = server.get(&format!("/job/log?id={}&task=a", text(&job["id"])));
    let expected = LIMIT + 1 + marker(500_000_000 - LIMIT - TAIL).len() + TAIL;
    assert_eq!(length.header("Content-Length"), expected.to_string());
}
