//! What is shown where there is no terminal: lines, at once, and nothing else.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use super::{PATIENCE, Running, check, stderr, stdout};
use crate::space::{TestSpace, is_alive};

#[test]
fn each_line_is_visible_at_once() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [echo one, printf two, 'until test -e go; do sleep 0.02; done', echo .]}}}}",
    );
    let mut run = Running::start(&space, &["p"]);
    assert_eq!(run.stdout.recv_timeout(PATIENCE).unwrap(), "a | one");
    run.says("a started");
    space.write("go", "");
    assert_eq!(run.stdout.recv_timeout(PATIENCE).unwrap(), "a | two.");
    assert_eq!(run.end(), Some(0));
}

#[test]
fn no_escape_codes_come_from_prunner_and_those_of_tasks_are_kept() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {ok: {script: [\"printf '\\\\033[31mred\\\\033[2J\\\\n'\"]}, bad: {script: [exit 1], depends_on: [ok]}}}}",
    );
    let said = check(&space, &[], 1, "ok  | \x1b[31mred\x1b[2J\n");
    assert!(!said.contains('\x1b') && !said.contains('\r'), "{said:?}");
}

#[test]
fn lines_of_many_tasks_never_mix() {
    let tasks: String = (0..20)
        .map(|number| format!("task{number}: {{script: ['yes {number}-{number} | head -n 5000']}}, "))
        .collect();
    let space = TestSpace::new(&format!("pipelines: {{p: {{tasks: {{{tasks}}}}}}}"));
    let output = space.run(&["run", "p"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mut counts = [0; 20];
    for line in stdout(&output).lines() {
        let (name, text) = line.split_once(" | ").unwrap();
        let number: usize = name.trim_end().strip_prefix("task").unwrap().parse().unwrap();
        assert_eq!((name.len(), text), (6, &*format!("{number}-{number}")));
        counts[number] += 1;
    }
    assert_eq!(counts, [5000; 20]);
}

#[test]
fn a_line_without_end_comes_in_pieces() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: ['head -c 1000000 /dev/zero | tr \"\\0\" x']}}}}");
    let output = space.run(&["run", "p", "--json"]);
    let mut length = 0;
    for line in stdout(&output).lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["event"] == "output" {
            let text = event["line"].as_str().unwrap();
            assert!(text.len() <= 65_536 && text.bytes().all(|byte| byte == b'x'));
            length += text.len();
        }
    }
    assert_eq!(length, 1_000_000);
}

#[test]
fn json_lines_have_their_exact_forms() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [\"printf '\\\\377x\\\\n'\", echo e >&2, exit 3], allow_failure: true}, m: {depends_on: [a]}}}}",
    );
    let output = space.run(&["run", "p", "--json", "--var", "v:=1.50"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
    let events: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), 7, "{events:?}");
    let task = &events[6]["tasks"][0];
    let start = &task["start"];
    assert_eq!(
        events[0],
        json!({"event": "started", "task": "a", "name": "a", "status": "running", "start": start, "end": null,
            "skipped": false, "exitCode": 0, "errored": false})
    );
    let mut outputs = [events[1].to_string(), events[2].to_string()];
    outputs.sort();
    assert_eq!(
        outputs,
        [
            r#"{"event":"output","task":"a","stream":"stderr","line":"e"}"#,
            "{\"event\":\"output\",\"task\":\"a\",\"stream\":\"stdout\",\"line\":\"\u{fffd}x\"}",
        ]
    );
    // A marker is over as soon as it starts.
    for (place, event, name, index) in [(3, "ended", "a", 0), (4, "started", "m", 1), (5, "ended", "m", 1)] {
        let mut event = json!({"event": event, "task": name});
        let fields = events[6]["tasks"][index].as_object().unwrap().clone();
        event.as_object_mut().unwrap().extend(fields);
        assert_eq!(events[place], event);
    }
    assert_eq!((&task["exitCode"], &task["status"]), (&json!(3), &json!("done")));
    assert_eq!(
        (&events[6]["event"], &events[6]["status"]),
        (&json!("job"), &json!("succeeded"))
    );
    assert!(
        stdout(&output)
            .lines()
            .last()
            .unwrap()
            .contains(r#""variables":{"v":1.50}"#)
    );
}

#[test]
fn quiet_shows_the_output_of_failed_tasks_alone() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [echo fine]}, b: {script: [yes | head -n 200000, exit 1], depends_on: [a]}}}}",
    );
    let output = space.run(&["run", "p", "-q"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "b | y\n".repeat(200_000));
    assert!(stderr(&output).starts_with("x p failed after "), "{}", stderr(&output));

    let output = space.run(&["run", "p", "-q", "--json"]);
    let of = |task: &str| {
        let text = format!(r#"{{"event":"output","task":"{task}""#);
        stdout(&output).lines().filter(|line| line.starts_with(&text)).count()
    };
    assert_eq!((of("a"), of("b")), (0, 200_000));
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_reader_that_goes_away_ends_the_job_quietly() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: ['echo $$ > pid', 'while :; do echo x; sleep 0.02; done']}}}}",
    );
    let mut child = space
        .command(&["run", "p"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert_eq!(first, "a | x\n");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let said = stderr(&output);
    assert!(!said.contains("error") && !said.contains("canceled"), "{said}");
    assert!(!is_alive(&space.first_line("pid")));
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: [echo x, exec sleep 60]}}}}");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = space.command(&["run", "p"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = stderr(&output);
    assert!(
        said.ends_with("prunner: error: failed to write to standard output: no space left on device\n"),
        "{said}"
    );
}

#[test]
fn each_attempt_begins_a_line_of_its_own() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: ['printf out; printf err >&2', 'test -d second && exit; mkdir second; exit 3'], retry: 1}}}}",
    );
    for flags in [&[][..], &["--data", "data"]] {
        let errors = check(&space, flags, 0, "a | out\na | out\n");
        let lines: Vec<&str> = errors.lines().filter(|line| line.starts_with("a | ")).collect();
        let retry = "a | prunner: attempt 1 ended with exit status 3; attempt 2 starts now";
        assert_eq!(lines[..3], ["a | err", retry, "a | err"], "{errors}");
        std::fs::remove_dir(space.path.join("second")).unwrap();
    }
}
