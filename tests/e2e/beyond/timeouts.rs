//! `timeout` of tasks and pipelines.

use serde_json::json;

use super::{FLAGS, TELL, WAIT_FOR_GO, pipeline};
use crate::space::{TestSpace, eventually, is_alive};
use crate::tools::{ends_of, task, text};

#[test]
fn a_task_has_its_time_for_all_its_lines() {
    let (space, server) = TestSpace::serving(&pipeline(&json!({
        "tasks": {
            "slow": {"script": ["sleep 0.3", "sleep 0.3", "sleep 0.3", "touch end"], "timeout": "500ms"},
            "next": {"script": "touch next", "depends_on": "slow"},
        },
        "on_error": {"script": TELL},
    })));
    let job = server.run_job("p");
    assert_eq!(ends_of(&job), "slow error 124, next canceled, on_error done", "{job}");
    assert_eq!(task(&job, "slow")["error"], "timed out after 500ms");
    assert_eq!(
        (&job["status"], &job["errored"], &job["canceled"], &job["lastError"]),
        (
            &json!("failed"),
            &json!(true),
            &json!(false),
            &json!("timed out after 500ms")
        )
    );
    assert_eq!(
        server.stdout_of(&job, "on_error"),
        "[slow] 124: timed out after 500ms\n"
    );
    assert!(!space.path.join("end").exists() && !space.path.join("next").exists());
}

#[test]
fn a_task_within_its_time_is_left_alone() {
    let (_space, server) = TestSpace::serving(&pipeline(&json!({
        "timeout": "1h",
        "tasks": {"a": {"script": "echo a", "timeout": "30m"}},
    })));
    let job = server.run_job("p");
    assert_eq!(
        (ends_of(&job), text(&job["status"])),
        ("a done".to_owned(), "succeeded".to_owned())
    );
}

#[test]
fn it_is_stopped_as_by_a_cancel_and_ends_so_whatever_it_makes_of_that() {
    let worker = "sh -c 'trap \"echo bye; exit 0\" INT; while :; do sleep 0.02; done'";
    let (space, server) = TestSpace::serving(&pipeline(&json!({
        "continue_running_tasks_after_failure": true,
        "tasks": {
            "polite": {"script": format!("exec {worker}"), "timeout": "1500ms"},
            "deaf": {
                "script": "trap '' INT TERM; sleep 60 & echo $$ $! > deaf; while :; do wait; done",
                "timeout": "1500ms",
                "kill_grace": "100ms",
            },
        },
    })));
    let job = server.run_job("p");
    assert_eq!(ends_of(&job), "polite error 124, deaf error 124", "{job}");
    assert_eq!(server.stdout_of(&job, "polite"), "bye\n");
    for pid in space.first_line("deaf").split(' ') {
        assert!(!is_alive(pid), "{pid}");
    }
}

#[test]
fn with_allow_failure_it_is_done_and_later_lines_do_not_run() {
    let (space, server) = TestSpace::serving(&pipeline(&json!({
        "tasks": {
            "slow": {"script": ["exit_with() { return $1; }; exit_with 3", "sleep 60", "touch later"], "timeout": "500ms", "allow_failure": true},
            "next": {"script": "touch next", "depends_on": "slow"},
        },
    })));
    let job = server.run_job("p");
    assert_eq!(ends_of(&job), "slow done 124, next done", "{job}");
    assert_eq!((&job["status"], &job["errored"]), (&json!("succeeded"), &json!(false)));
    let slow = task(&job, "slow");
    assert_eq!(
        (slow.get("error"), &slow["note"]),
        (None, &json!("timed out after 500ms"))
    );
    assert!(!space.path.join("later").exists() && space.path.join("next").exists());
}

#[test]
fn a_pipeline_limits_its_jobs_but_not_their_on_error() {
    let (_space, server) = TestSpace::serving(&pipeline(&json!({
        "timeout": "700ms",
        "tasks": {
            "slow": {"script": "exec sleep 60"},
            "spared": {"script": "exec sleep 60", "interruptible": false},
            "forgiven": {"script": ["sleep 60", "echo later"], "allow_failure": true},
            "next": {"script": "true", "depends_on": "slow"},
        },
        "on_error": {"script": ["sleep 1", TELL]},
    })));
    let job = server.run_job("p");
    assert_eq!(
        ends_of(&job),
        "slow error 124, spared error 124, forgiven done 124, next canceled, on_error done",
        "{job}"
    );
    assert_eq!(task(&job, "slow")["error"], "timed out after 700ms");
    assert_eq!(
        (&job["status"], &job["errored"], &job["canceled"], &job["lastError"]),
        (
            &json!("failed"),
            &json!(true),
            &json!(false),
            &json!("job timed out after 700ms")
        )
    );
    let told = server.stdout_of(&job, "on_error");
    assert!(
        [
            "[slow] 124: timed out after 700ms\n",
            "[spared] 124: timed out after 700ms\n"
        ]
        .contains(&told.as_str()),
        "{told}"
    );
}

#[test]
fn where_nothing_runs_no_task_is_named() {
    let space = TestSpace::new(
        &json!({"pipelines": {
            "busy": {"tasks": {"a": {"script": ["touch up", WAIT_FOR_GO]}}},
            "p": {"timeout": "300ms", "tasks": {"a": {"script": "touch ran"}}, "on_error": {"script": TELL}},
        }})
        .to_string(),
    );
    let server = space.serve_with(&[FLAGS[0], FLAGS[1], "--max-tasks", "1"], &[]);
    let busy = server.schedule("busy");
    eventually("the only place is taken", || {
        space.path.join("up").exists().then_some(())
    });
    let id = server.schedule("p");
    let job = eventually("its time is over", || {
        let job = server.job(&id);
        (job["errored"] == true).then_some(job)
    });
    assert_eq!(
        (&job["status"], &job["lastError"]),
        (&json!("running"), &json!("job timed out after 300ms"))
    );
    assert_eq!(ends_of(&job), "a canceled");
    space.write("go", "");
    let job = server.ended(&id);
    assert_eq!(
        (ends_of(&job), text(&job["status"])),
        ("a canceled, on_error done".to_owned(), "failed".to_owned())
    );
    assert_eq!(
        server.stdout_of(&job, "on_error"),
        "[] 124: job timed out after 300ms\n"
    );
    assert!(!space.path.join("ran").exists());
    assert_eq!(server.ended(&busy)["status"], "succeeded");
}

#[test]
fn the_time_of_a_job_begins_with_its_start() {
    let (_space, server) = TestSpace::serving(&pipeline(&json!({
        "start_delay": "1s",
        "timeout": "900ms",
        "tasks": {"a": {"script": "true"}},
    })));
    assert_eq!(server.run_job("p")["status"], "succeeded");
}

#[test]
fn a_job_that_failed_before_keeps_its_first_error() {
    let (_space, server) = TestSpace::serving(&pipeline(&json!({
        "timeout": "1s",
        "continue_running_tasks_after_failure": true,
        "tasks": {"a": {"script": "exit 7"}, "b": {"script": "exec sleep 60"}},
        "on_error": {"script": TELL},
    })));
    let job = server.run_job("p");
    assert_eq!(ends_of(&job), "a error 7, b error 124, on_error done", "{job}");
    assert_eq!(job["lastError"], "exit status 7");
    assert_eq!(server.stdout_of(&job, "on_error"), "[a] 7: exit status 7\n");
}

#[test]
fn a_limit_that_is_none_is_a_mistake() {
    let space = TestSpace::new(&pipeline(&json!({"timeout": 0, "tasks": {"a": {"timeout": 10}}})));
    let output = space.run(&["validate"]);
    let found = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{found}");
    for part in [
        "pipeline `p` has the `timeout` `0`; expected a duration longer than 0, or no `timeout` for none",
        "task `a` of pipeline `p` has the `timeout` `10`, which has no unit behind `10`",
    ] {
        assert!(found.contains(part), "{found}");
    }
}
