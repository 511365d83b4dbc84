//! `stop_signal`, `kill_grace` and `interruptible`.

use serde_json::{Value, json};

use super::{FLAGS, TELL, WAIT_FOR_GO, pipeline};
use crate::space::{Server, TestSpace, eventually, is_alive};
use crate::tools::{ends_of, shells, text};

/// Cancels the job of a pipeline whose task `a` has told that it is ready: how that ends, and what it prints.
#[track_caller]
fn check(keys: &Value, flags: &[&str], end: &str, stdout: &str) {
    let space = TestSpace::new(&pipeline(keys));
    let server = space.serve_with(&[&FLAGS, flags].concat(), &[]);
    let id = server.schedule("p");
    let line = space.first_line("ready");
    server.cancel_job(&id);
    let job = server.ended(&id);
    assert_eq!(ends_of(&job), format!("a {end}"), "{keys}");
    assert_eq!(
        (&job["status"], &job["errored"]),
        (&json!("canceled"), &json!(false)),
        "{keys}"
    );
    assert_eq!(server.stdout_of(&job, "a"), stdout, "{keys}");
    for pid in line.split(' ') {
        assert!(!is_alive(pid), "{keys}");
    }
    assert!(!space.path.join("next").exists(), "{keys}");
}

/// Tells which signal it got, and ends with this status.
fn worker(status: u8) -> String {
    let traps = ["HUP", "INT", "TERM"].map(|name| format!("trap \"echo {name}; exit {status}\" {name}"));
    format!(
        "sh -c '{}; echo $$ > ready; while :; do sleep 0.02; done'",
        traps.join("; ")
    )
}

#[test]
fn a_task_is_stopped_by_its_signal_or_its_pipelines() {
    let script = format!("exec {}", worker(9));
    for (keys, name) in [
        (json!({"tasks": {"a": {"script": script}}}), "INT"),
        (
            json!({"tasks": {"a": {"script": script, "stop_signal": "SIGTERM"}}}),
            "TERM",
        ),
        (
            json!({"stop_signal": "SIGTERM", "tasks": {"a": {"script": script}}}),
            "TERM",
        ),
        (
            json!({"stop_signal": "SIGTERM", "tasks": {"a": {"script": script, "stop_signal": "SIGHUP"}}}),
            "HUP",
        ),
    ] {
        check(&keys, &["--kill-grace", "1h"], "error 9", &format!("{name}\n"));
    }
}

#[test]
fn a_stopped_task_is_canceled_where_it_ended_in_the_way_of_its_signal() {
    for (status, end) in [
        (143, "canceled -1"),
        (137, "canceled -1"),
        (130, "error 130"),
        (0, "done"),
    ] {
        let keys = json!({"tasks": {"a": {"script": format!("exec {}", worker(status)), "stop_signal": "SIGTERM"}}});
        check(&keys, &["--kill-grace", "1h"], end, "TERM\n");
    }
    let keys = json!({"tasks": {"a": {"script": "echo $$ > ready; exec sleep 60", "stop_signal": "SIGHUP"}}});
    check(&keys, &["--kill-grace", "1h"], "canceled -1", "");
}

#[test]
fn the_trap_of_a_script_names_the_signal() {
    for shell in shells() {
        for signal in ["SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGWINCH"] {
            // The shell itself waits: only its trap can end it in the way of the signal.
            let keys = json!({
                "shell": shell,
                "tasks": {"a": {"script": ["sleep 60 & echo $$ > ready; wait", "touch next"], "stop_signal": signal}},
            });
            check(&keys, &["--kill-grace", "1h"], "canceled -1", "");
        }
        // A worker's own status is the task's, and nothing runs behind it.
        let script = json!([format!("{}; touch next", worker(9)), "touch next"]);
        let keys = json!({"shell": shell, "stop_signal": "SIGTERM", "tasks": {"a": {"script": script}}});
        check(&keys, &["--kill-grace", "1h"], "error 9", "TERM\n");
    }
}

#[test]
fn a_task_has_its_own_grace_or_its_pipelines() {
    let deaf = "trap '' INT TERM; echo $$ > ready; while :; do sleep 0.02; done";
    let slow = "sh -c 'trap \"sleep 0.5; echo tidied; exit 9\" INT; echo $$ > ready; while :; do sleep 0.02; done'";
    for keys in [
        json!({"tasks": {"a": {"script": deaf, "kill_grace": "100ms"}}}),
        json!({"kill_grace": "100ms", "tasks": {"a": {"script": deaf}}}),
        json!({"kill_grace": "1h", "tasks": {"a": {"script": deaf, "kill_grace": "100ms"}}}),
        json!({"tasks": {"a": {"script": deaf, "kill_grace": 0}}}),
    ] {
        check(&keys, &["--kill-grace", "1h"], "canceled -1", "");
    }
    let keys = json!({"kill_grace": "1h", "tasks": {"a": {"script": slow}}});
    check(&keys, &["--kill-grace", "10ms"], "error 9", "tidied\n");
}

/// A job of which one task fails while `spared` and `other` run.
fn failing() -> (TestSpace, Server, String) {
    let (space, server) = TestSpace::serving(&pipeline(&json!({
        "tasks": {
            "fails": {"script": ["until test -e spared && test -e other; do sleep 0.01; done", "exit 7"]},
            "spared": {"script": ["touch spared", WAIT_FOR_GO, "echo whole"], "interruptible": false},
            "other": {"script": ["touch other", WAIT_FOR_GO], "interruptible": true},
            "next": {"script": "true", "depends_on": "spared"},
        },
        "on_error": {"script": ["echo after; touch after", TELL]},
    })));
    let id = server.schedule("p");
    eventually("fail-fast is over", || {
        let job = server.job(&id);
        (ends_of(&job) == "fails error 7, spared running, other canceled -1, next canceled").then_some(())
    });
    (space, server, id)
}

#[test]
fn fail_fast_lets_a_task_end_that_is_not_interruptible() {
    let (space, server, id) = failing();
    assert!(!space.path.join("after").exists());
    space.write("go", "");
    let job = server.ended(&id);
    assert_eq!(
        ends_of(&job),
        "fails error 7, spared done, other canceled -1, next canceled, on_error done"
    );
    assert_eq!(server.stdout_of(&job, "spared"), "whole\n");
    assert_eq!(server.stdout_of(&job, "on_error"), "after\n[fails] 7: exit status 7\n");
    assert_eq!(text(&job["status"]), "failed");
}

#[test]
fn a_users_cancel_does_not() {
    let (space, server, id) = failing();
    server.cancel_job(&id);
    let job = server.ended(&id);
    assert_eq!(
        ends_of(&job),
        "fails error 7, spared canceled -1, other canceled -1, next canceled"
    );
    assert_eq!((&job["status"], &job["errored"]), (&json!("canceled"), &json!(true)));
    assert!(!space.path.join("after").exists());
}

#[test]
fn a_shutdown_does_not() {
    let (space, server, id) = failing();
    assert_eq!(server.stop(), Some(0));
    let job = space.serve().job(&id);
    assert_eq!(
        ends_of(&job),
        "fails error 7, spared canceled -1, other canceled -1, next canceled"
    );
    assert_eq!(
        (&job["status"], &job["reason"]),
        (&json!("canceled"), &json!("prunner was stopped"))
    );
}
