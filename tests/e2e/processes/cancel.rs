//! How a user's cancel stops tasks: interrupt, then terminate, then kill, and what they end as.

use serde_json::json;

use crate::space::{Server, TestSpace, eventually, is_alive};
use crate::tools::{ends_of, send_signal, shells, task, text};

const FLAGS: [&str; 2] = ["--address", "127.0.0.1:0"];

/// A job whose one task has told that it is ready, with what it told.
fn ready(script: &[&str], grace: &str) -> (TestSpace, Server, String, Vec<String>) {
    ready_in(&["sh"], script, grace)
}

fn ready_in(shell: &[&str], script: &[&str], grace: &str) -> (TestSpace, Server, String, Vec<String>) {
    let pipelines = json!({"pipelines": {"p": {"shell": shell, "tasks": {"a": {"script": script}}, "on_error": {"script": "touch told"}}}});
    let space = TestSpace::new(&pipelines.to_string());
    let server = space.serve_with(&[FLAGS[0], FLAGS[1], "--kill-grace", grace], &[]);
    let id = server.schedule("p");
    let line = space.first_line("ready");
    let pids = line.split(' ').map(str::to_owned).collect();
    (space, server, id, pids)
}

/// Cancels a task with this script; how it ends, and that it leaves nothing behind.
#[track_caller]
fn check(script: &[&str], grace: &str, end: &str, stdout: &str) {
    check_in(&["sh"], script, grace, end, stdout);
}

#[track_caller]
fn check_in(shell: &[&str], script: &[&str], grace: &str, end: &str, stdout: &str) {
    let (space, server, id, pids) = ready_in(shell, script, grace);
    server.cancel_job(&id);
    let job = server.ended(&id);
    assert_eq!(ends_of(&job), format!("a {end}"), "{script:?}");
    assert_eq!(
        (&job["status"], &job["reason"], &job["canceled"], &job["errored"]),
        (
            &json!("canceled"),
            &json!("canceled by anna"),
            &json!(true),
            &json!(false)
        ),
        "{job}"
    );
    assert_eq!(server.stdout_of(&job, "a"), stdout, "{script:?}");
    for pid in pids {
        assert!(!is_alive(&pid), "{script:?}");
    }
    assert!(!space.path.join("told").exists() && !space.path.join("next").exists());
}

#[test]
fn an_interrupt_ends_the_script_after_the_command_that_runs() {
    check(&["echo $$ > ready; exec sleep 60"], "1h", "canceled -1", "");
    check(
        &[
            "echo a; sh -c 'echo $PPID $$ > ready; exec sleep 60'; touch next",
            "touch next",
        ],
        "1h",
        "canceled -1",
        "a\n",
    );
    check(
        &["while :; do echo $$ > ready; sleep 0.02; done; touch next"],
        "1h",
        "canceled -1",
        "",
    );
}

#[test]
fn a_task_that_handles_the_interrupt_ends_as_it_says() {
    let worker = |status: u8| {
        format!("sh -c 'trap \"echo bye; exit {status}\" INT; echo $$ > ready; while :; do sleep 0.02; done'")
    };
    check(&[&worker(143), "touch next"], "1h", "error 143", "bye\n");
    check(&[&format!("exec {}", worker(0))], "1h", "done", "bye\n");
    // The script itself was interrupted.
    check(&[&worker(0), "touch next"], "1h", "canceled -1", "bye\n");
    check(&[&worker(3)], "1h", "error 3", "bye\n");
    check(&[&worker(130)], "1h", "canceled -1", "bye\n");
    check(&[&worker(137)], "1h", "canceled -1", "bye\n");
}

#[test]
fn every_shell_ends_an_interrupted_script_alike() {
    const WORKER: &str = "sh -c 'trap \"echo bye; exit 143\" INT; echo $$ > ready; while :; do sleep 0.02; done'";
    for shell in shells() {
        let worker = format!("{WORKER}; touch next");
        check_in(shell, &[&worker, "touch next"], "1h", "error 143", "bye\n");
        check_in(
            shell,
            &["sh -c 'echo $PPID $$ > ready; exec sleep 60'", "touch next"],
            "1h",
            "canceled -1",
            "",
        );
        check_in(
            shell,
            &["sleep 60 & echo $$ $! > ready; wait", "touch next"],
            "1h",
            "canceled -1",
            "",
        );
        let own = "trap 'echo own; exit 9' INT; sh -c 'echo $PPID $$ > ready; exec sleep 60'";
        check_in(shell, &[own, "touch next"], "1h", "error 9", "own\n");
        let long = format!("# {}\n{WORKER}", "x".repeat(140 * 1024));
        check_in(shell, &[&long, "touch next"], "1h", "error 143", "bye\n");
    }
}

#[test]
fn children_in_the_background_get_the_terminate_and_then_the_kill() {
    // A shell's `&` children ignore the interrupt.
    check(&["sleep 60 & echo $$ $! > ready; wait"], "1h", "canceled -1", "");
    let polite =
        "sh -c 'trap \"echo terminated; exit\" TERM; echo $PPID $$ > ready; while :; do sleep 0.02; done' & wait";
    check(&[polite], "1h", "canceled -1", "terminated\n");
    let deaf = "sh -c 'trap \"\" INT TERM; echo $PPID $$ > ready; exec sleep 60' & wait";
    check(&[deaf], "100ms", "canceled -1", "");
}

#[test]
fn what_minds_no_signal_is_killed_when_the_grace_is_over() {
    let deaf = "trap '' INT TERM; sh -c 'echo $PPID $$ > ready; exec sleep 60'";
    check(&[deaf], "100ms", "canceled -1", "");
    check(&[deaf], "0", "canceled -1", "");
}

#[test]
fn a_task_has_a_whole_grace() {
    let (space, server, id, _) = ready(
        &[
            "trap 'echo a > asked; until test -e go; do sleep 0.02; done; exit 143' INT; echo $$ > ready; while :; do sleep 0.02; done",
        ],
        "1h",
    );
    server.cancel_job(&id);
    assert_eq!(space.first_line("asked"), "a");
    // What the job ends as is decided; the task still runs.
    let job = server.job(&id);
    assert_eq!(
        (&job["completed"], &task(&job, "a")["status"]),
        (&json!(false), &json!("running")),
        "{job}"
    );
    space.write("go", "");
    assert_eq!(ends_of(&server.ended(&id)), "a error 143");
}

#[test]
fn the_grace_is_2_seconds_unless_it_is_set() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [\"trap '' INT TERM; echo $$ > ready; while :; do sleep 0.02; done\"]}}}}",
    );
    let server = space.serve();
    let id = server.schedule("p");
    space.first_line("ready");
    let begun = std::time::Instant::now();
    server.cancel_job(&id);
    assert_eq!(ends_of(&server.ended(&id)), "a canceled -1");
    let seconds = begun.elapsed().as_secs_f32();
    assert!((1.9..10.0).contains(&seconds), "{seconds}");
}

#[test]
fn a_task_that_pauses_takes_notice_too() {
    // One with a handler: who has none dies of the interrupt even while it pauses.
    let (_space, server, id, pids) = ready(&["echo $$ > ready; while :; do sleep 0.02; done"], "1h");
    send_signal("STOP", &pids[0]);
    server.cancel_job(&id);
    assert_eq!(ends_of(&server.ended(&id)), "a canceled -1");
}

#[test]
fn a_task_that_may_fail_does_not_outlive_a_cancel() {
    for (command, end) in [
        ("exec sleep 60", "a canceled -1"),
        ("trap 'exit 143' INT; while :; do sleep 0.02; done", "a error 143"),
    ] {
        let command = format!("echo $PPID $$ > ready; {command}");
        let script = ["sh ./worker", "touch next"];
        let task = json!({"allow_failure": true, "script": script});
        let next = json!({"script": "touch next", "depends_on": "a"});
        let space = TestSpace::new(&json!({"pipelines": {"p": {"tasks": {"a": task, "b": next}}}}).to_string());
        space.write_script("worker", &command);
        let server = space.serve();
        let id = server.schedule("p");
        space.first_line("ready");
        server.cancel_job(&id);
        let job = server.ended(&id);
        assert_eq!(
            (text(&job["status"]), ends_of(&job)),
            ("canceled".to_owned(), format!("{end}, b canceled"))
        );
        assert!(!space.path.join("next").exists());
    }
}

#[test]
fn a_cancel_during_fail_fast_or_on_error_is_canceled_and_errored() {
    let (space, server) = TestSpace::serving(
        r#"pipelines:
  fail_fast:
    tasks:
      bad: {script: ["until test -s ready; do sleep 0.02; done", exit 2]}
      slow: {script: ["trap 'until test -e go; do sleep 0.02; done; exit 143' INT; echo a > ready; while :; do sleep 0.02; done"]}
    on_error: {script: touch told}
  on_error:
    tasks: {bad: {script: exit 2}}
    on_error: {script: ["echo $$ > pid", exec sleep 60]}
"#,
    );
    let id = server.schedule("fail_fast");
    eventually("it failed", || {
        (task(&server.job(&id), "bad")["status"] == "error").then_some(())
    });
    server.cancel_job(&id);
    space.write("go", "");
    let job = server.ended(&id);
    assert_eq!(ends_of(&job), "bad error 2, slow error 143");
    assert_eq!(
        (&job["status"], &job["canceled"], &job["errored"], &job["lastError"]),
        (&json!("canceled"), &json!(true), &json!(true), &json!("exit status 2"))
    );
    assert!(!space.path.join("told").exists());

    let id = server.schedule("on_error");
    let pid = space.first_line("pid");
    server.cancel_job(&id);
    let job = server.ended(&id);
    assert!(!is_alive(&pid));
    assert_eq!(ends_of(&job), "bad error 2, on_error canceled -1");
    assert_eq!(
        (&job["status"], &job["canceled"], &job["errored"], &job["reason"]),
        (
            &json!("canceled"),
            &json!(true),
            &json!(true),
            &json!("canceled by anna")
        )
    );
}

#[test]
fn what_cannot_be_killed_is_named_only_where_it_lives() {
    // Nothing of the group is left, so there is no note.
    let (_space, server, id, _) = ready(
        &["sh -c 'trap \"\" INT TERM; echo $PPID $$ > ready; exec sleep 60' & wait"],
        "50ms",
    );
    server.cancel_job(&id);
    let job = server.ended(&id);
    assert!(task(&job, "a").get("note").is_none(), "{job}");
}
