//! `retry`: which failures are tried again, when, and what is seen of it.

use serde_json::{Value, json};

use super::{FLAGS, TELL, WAIT_FOR_GO, pipeline};
use crate::space::{TestSpace, eventually, read_until};
use crate::tools::{ends_of, task, text};

/// Counts its attempts by the lines of a file, and prints to both streams.
const COUNT: &str = "echo x >> count; number=$(wc -l < count); echo out $number; echo err $number >&2";

/// Runs one job whose task `a` has these keys.
#[track_caller]
fn run(keys: &Value) -> (TestSpace, Value, (String, String)) {
    let (space, server) = TestSpace::serving(&pipeline(&json!({"tasks": {"a": keys}})));
    let job = server.run_job("p");
    let output = server.output_of(&job, "a");
    (space, job, output)
}

#[test]
fn a_task_is_tried_again_until_it_is_done() {
    let (_space, job, (stdout, stderr)) =
        run(&json!({"script": [COUNT, "exit $((number < 3 ? 190 + number : 0))"], "retry": 5}));
    assert_eq!(
        (ends_of(&job), text(&job["status"])),
        ("a done".to_owned(), "succeeded".to_owned())
    );
    assert_eq!(
        (&task(&job, "a")["attempt"], &job["errored"]),
        (&json!(3), &json!(false))
    );
    assert_eq!(stdout, "out 1\nout 2\nout 3\n");
    assert_eq!(
        stderr,
        "err 1\nprunner: attempt 1 ended with exit status 191; attempt 2 starts now\n\
         err 2\nprunner: attempt 2 ended with exit status 192; attempt 3 starts now\nerr 3\n"
    );
}

#[test]
fn it_has_so_many_attempts_behind_the_first() {
    for (retry, attempts) in [(json!(2), 3), (json!({"max": 1}), 2), (json!(0), 1)] {
        let (space, job, (stdout, _)) = run(&json!({"script": [COUNT, "exit $number"], "retry": retry}));
        assert_eq!(ends_of(&job), format!("a error {attempts}"));
        assert_eq!(space.read("count").lines().count(), attempts);
        assert_eq!(stdout.lines().count(), attempts);
        let expected = if attempts == 1 { Value::Null } else { json!(attempts) };
        assert_eq!(task(&job, "a")["attempt"], expected);
        assert_eq!(
            (&job["status"], &job["lastError"]),
            (&json!("failed"), &json!(format!("exit status {attempts}")))
        );
    }
}

#[test]
fn the_delays_grow_and_are_told() {
    let retry = json!({"max": 4, "delay": "50ms", "backoff": 3, "max_delay": "200ms"});
    let (_space, _job, (_, stderr)) = run(&json!({"script": "kill -9 $$", "retry": retry}));
    let expected: String = [(1, "50ms"), (2, "150ms"), (3, "200ms"), (4, "200ms")]
        .map(|(number, delay)| {
            format!(
                "prunner: attempt {number} ended with signal: killed; attempt {} starts in {delay}\n",
                number + 1
            )
        })
        .concat();
    assert_eq!(stderr, expected);
}

#[test]
fn with_exit_codes_only_these_are_tried_again() {
    let retry = json!({"max": 9, "exit_codes": [75, 193]});
    let script = json!([COUNT, "case $number in 1) exit 75 ;; 2) exit 193 ;; *) exit 1 ;; esac"]);
    let (space, job, _) = run(&json!({"script": script, "retry": retry}));
    assert_eq!(ends_of(&job), "a error 1");
    assert_eq!(space.read("count").lines().count(), 3);
}

#[test]
fn what_can_not_be_started_and_what_takes_too_long_has_failed_too() {
    let (_space, job, (_, stderr)) = run(&json!({"script": "true", "shell": "/nowhere", "retry": 1}));
    assert_eq!(ends_of(&job), "a error -1");
    let error = text(&task(&job, "a")["error"]);
    assert_eq!(
        stderr,
        format!("prunner: attempt 1 ended with {error}; attempt 2 starts now\n")
    );

    // The time is one of each attempt: both together take longer than one may.
    let script = json!([COUNT, "case $number in 1) exec sleep 60 ;; *) sleep 0.8 ;; esac"]);
    let (_space, job, (_, stderr)) = run(&json!({"script": script, "timeout": "1500ms", "retry": 1}));
    assert_eq!(ends_of(&job), "a done", "{job}");
    assert!(task(&job, "a")["durationMs"].as_i64().unwrap() >= 2_300, "{job}");
    assert_eq!(
        stderr,
        "err 1\nprunner: attempt 1 ended with timed out after 1500ms; attempt 2 starts now\nerr 2\n"
    );
}

#[test]
fn the_line_between_stands_by_itself() {
    let (_space, _job, (_, stderr)) = run(&json!({"script": "printf open >&2; exit 1", "retry": 1}));
    assert_eq!(
        stderr,
        "open\nprunner: attempt 1 ended with exit status 1; attempt 2 starts now\nopen"
    );
}

#[test]
fn with_allow_failure_there_is_no_retry() {
    let (space, job, (_, stderr)) = run(&json!({"script": [COUNT, "exit 3"], "allow_failure": true, "retry": 5}));
    assert_eq!((ends_of(&job), stderr), ("a done 3".to_owned(), "err 1\n".to_owned()));
    assert_eq!(space.read("count").lines().count(), 1);
}

#[test]
fn after_a_cancel_there_is_none() {
    let worker = "sh -c 'trap \"exit 75\" INT; echo $$ > ready; while :; do sleep 0.02; done'";
    let (space, server) = TestSpace::serving(&pipeline(
        &json!({"tasks": {"a": {"script": [COUNT, worker], "retry": 5}}}),
    ));
    let id = server.schedule("p");
    space.first_line("ready");
    server.cancel_job(&id);
    let job = server.ended(&id);
    assert_eq!(
        (ends_of(&job), text(&job["status"])),
        ("a error 75".to_owned(), "canceled".to_owned())
    );
    assert_eq!(space.read("count").lines().count(), 1);
}

/// A server with one place for tasks, on which a task waits for its second attempt; and its job.
fn between_attempts() -> (TestSpace, crate::space::Server, String) {
    let space = TestSpace::new(
        &json!({"pipelines": {
            "p": {"tasks": {
                "a": {"script": [COUNT, "exit 7"], "retry": {"max": 1, "delay": "1h"}},
                "b": {"script": "true", "depends_on": "a"},
            }},
            "other": {"tasks": {"c": {"script": "echo other"}}},
        }})
        .to_string(),
    );
    let server = space.serve_with(&[FLAGS[0], FLAGS[1], "--max-tasks", "1"], &[]);
    let id = server.schedule("p");
    let mut log = server.send(
        "GET",
        &format!("/job/log?id={id}&task=a&stream=stderr&follow=true"),
        &server.authorization(),
        "",
    );
    read_until(
        &mut log,
        "prunner: attempt 1 ended with exit status 7; attempt 2 starts in 1h\n",
    );
    (space, server, id)
}

#[test]
fn in_between_a_task_runs_and_holds_no_place() {
    let (_space, server, id) = between_attempts();
    assert_eq!(server.run_job("other")["status"], "succeeded");
    let job = server.job(&id);
    assert_eq!(ends_of(&job), "a running, b waiting");
    let between = task(&job, "a");
    assert_eq!((between["start"].is_string(), &between["end"]), (true, &Value::Null));
    assert_eq!(between.get("attempt"), None);
}

#[test]
fn stopped_in_between_it_is_canceled() {
    let (space, server, id) = between_attempts();
    server.cancel_job(&id);
    let job = server.ended(&id);
    assert_eq!(
        (ends_of(&job), text(&job["status"])),
        ("a canceled -1, b canceled".to_owned(), "canceled".to_owned())
    );
    let stopped = task(&job, "a");
    assert!(stopped["start"].is_string() && stopped["end"].is_string(), "{stopped}");
    assert_eq!(space.read("count").lines().count(), 1);
}

#[test]
fn in_between_a_shutdown_and_a_crash_end_it() {
    let (space, server, id) = between_attempts();
    server.kill();
    let server = space.serve();
    let job = server.job(&id);
    assert_eq!(
        (ends_of(&job), text(&job["status"])),
        ("a canceled -1, b canceled".to_owned(), "interrupted".to_owned())
    );

    let (space, server, id) = between_attempts();
    assert_eq!(server.stop(), Some(0));
    let job = space.serve().job(&id);
    assert_eq!(
        (ends_of(&job), text(&job["status"])),
        ("a canceled -1, b canceled".to_owned(), "canceled".to_owned())
    );
    assert_eq!(space.read("count").lines().count(), 1);
}

#[test]
fn an_attempt_that_runs_is_counted() {
    let (space, server) = TestSpace::serving(&pipeline(&json!({
        "tasks": {"a": {"script": [COUNT, format!("case $number in 1) exit 7 ;; esac; {WAIT_FOR_GO}")], "retry": 1}},
    })));
    let id = server.schedule("p");
    let job = eventually("the second attempt runs", || {
        let job = server.job(&id);
        (task(&job, "a")["attempt"] == 2).then_some(job)
    });
    assert_eq!(ends_of(&job), "a running");
    space.write("go", "");
    let job = server.ended(&id);
    assert_eq!(
        (ends_of(&job), &task(&job, "a")["attempt"]),
        ("a done".to_owned(), &json!(2))
    );
    // Also from disk.
    server.stop();
    assert_eq!(task(&space.serve().job(&id), "a")["attempt"], 2);
}

#[test]
fn on_error_can_be_tried_again_and_knows_the_last_failure() {
    let (_space, server) = TestSpace::serving(&pipeline(&json!({
        "tasks": {"a": {"script": [COUNT, "exit $((10 + number))"], "retry": 1}},
        "on_error": {"script": [TELL, "test -e second || { touch second; exit 9; }"], "retry": {"max": 3, "delay": "10ms"}},
    })));
    let job = server.run_job("p");
    assert_eq!(ends_of(&job), "a error 12, on_error done", "{job}");
    assert_eq!(task(&job, "on_error")["attempt"], 2);
    let told = "[a] 12: exit status 12\n";
    assert_eq!(
        server.output_of(&job, "on_error"),
        (
            format!("{told}{told}"),
            "prunner: attempt 1 ended with exit status 9; attempt 2 starts in 10ms\n".to_owned()
        )
    );
}
