//! `merge_variables`: what a job takes over from the waiting one that it replaces.

use serde_json::{Value, json};

use super::pipeline;
use crate::space::{Answer, Server, TestSpace};
use crate::tools::text;

/// Waits for an hour; meanwhile jobs replace it.
fn serving(more: &Value) -> (TestSpace, Server) {
    let mut keys = json!({
        "queue_strategy": "replace", "queue_limit": 1, "start_delay": "1h",
        "merge_variables": {"pages": "append", "flags": "merge", "since": "keep"},
    });
    keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    TestSpace::serving(&pipeline(&keys))
}

fn ask(server: &Server, variables: &Value) -> Answer {
    server.post(
        "/pipelines/schedule",
        &json!({"pipeline": "p", "variables": variables}).to_string(),
    )
}

/// Schedules these one after the other; the variables of the last.
#[track_caller]
fn check(requests: &[Value], expected: &Value) {
    let (_space, server) = serving(&json!({}));
    let mut last = String::new();
    for variables in requests {
        let answer = ask(&server, variables);
        assert_eq!(answer.status, 202, "{}", answer.body);
        if !last.is_empty() {
            assert_eq!(server.status_of(&last), "replaced");
        }
        last = text(&answer.json()["jobId"]);
    }
    let variables = server.job(&last)["variables"].clone();
    assert_eq!(variables.to_string(), expected.to_string());
}

#[track_caller]
fn check_refused(server: &Server, variables: &Value, complaint: &str) {
    let answer = ask(server, variables);
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert_eq!(answer.json()["code"], "bad_variables");
    let error = text(&answer.json()["error"]);
    assert!(error.contains(complaint), "{error}");
}

#[test]
fn a_job_has_its_own_variables_only_but_for_these() {
    check(
        &[
            json!({"pages": ["a", "b"], "flags": {"x": 1, "y": 1}, "since": "monday", "other": 1}),
            json!({"pages": ["b", "c"], "flags": {"y": 2, "z": 2}, "since": "friday"}),
        ],
        &json!({"pages": ["a", "b", "c"], "flags": {"x": 1, "y": 2, "z": 2}, "since": "monday"}),
    );
    // What one of both has alone.
    check(
        &[json!({"pages": ["a"], "flags": {"x": 1}}), json!({"since": "friday"})],
        &json!({"since": "friday", "pages": ["a"], "flags": {"x": 1}}),
    );
    // Again and again.
    check(
        &[
            json!({"pages": ["a"]}),
            json!({"pages": ["b"]}),
            json!({"pages": ["a", "c"]}),
        ],
        &json!({"pages": ["a", "b", "c"]}),
    );
}

#[test]
fn objects_as_php_sends_them_are_lists() {
    check(
        &[
            json!({"pages": {"0": "a", "1": "b"}}),
            json!({"pages": {"0": "b", "1": "c"}}),
        ],
        &json!({"pages": {"0": "a", "1": "b", "2": "c"}}),
    );
    check(
        &[json!({"pages": {"0": "a"}}), json!({"pages": ["c"]})],
        &json!({"pages": ["a", "c"]}),
    );
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    let (_space, server) = serving(&json!({}));
    check_refused(
        &server,
        &json!({"pages": "a"}),
        "variable `pages` is a string; expected a list to `append`",
    );
    check_refused(
        &server,
        &json!({"pages": {"a": 1}}),
        "variable `pages` is an object; expected a list",
    );
    check_refused(
        &server,
        &json!({"flags": ["a"]}),
        "variable `flags` is a list; expected an object to `merge`",
    );
    assert_eq!(server.get("/pipelines/jobs").json()["jobs"], json!([]));
}

#[test]
fn more_than_a_mebibyte_together_is_refused() {
    let (_space, server) = serving(&json!({}));
    let page = |letter: &str| json!({"pages": [letter.repeat(600_000)]});
    let first = text(&ask(&server, &page("a")).json()["jobId"]);
    check_refused(
        &server,
        &page("b"),
        &format!("merged with those of job {first}: the variables have 1200017 bytes, expected at most 1 MiB"),
    );
    // Nothing has become of it.
    assert_eq!(server.status_of(&first), "waiting");
    assert_eq!(ask(&server, &page("a")).status, 202);
}

#[test]
fn the_merged_set_is_checked_and_rendered_again() {
    // The job that waits was scheduled when anything would do.
    let (space, server) = serving(&json!({"merge_variables": {"since": "keep"}}));
    let waiting = text(&ask(&server, &json!({"since": "monday"})).json()["jobId"]);
    let keys = |more: &Value| {
        let mut keys = json!({"queue_strategy": "replace", "queue_limit": 1, "merge_variables": {"since": "keep"}});
        keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        pipeline(&keys)
    };
    space.write(
        "pipelines.yml",
        &keys(&json!({"start_delay": "1h", "variables": {"since": {"pattern": "[0-9]+"}}})),
    );
    assert_eq!(server.post("/pipelines/reload", "").status, 200);
    check_refused(
        &server,
        &json!({"since": "7"}),
        &format!("merged with those of job {waiting}: variable `since` does not match the pattern `[0-9]+`"),
    );
    space.write(
        "pipelines.yml",
        &keys(&json!({"start_delay": "1h", "tasks": {"a": {"script": "echo << .since.day >>"}}})),
    );
    assert_eq!(server.post("/pipelines/reload", "").status, 200);
    check_refused(
        &server,
        &json!({"since": {"day": 1}}),
        "variable `since.day` is not defined, used in task `a`, line 1",
    );
    // What runs has the merged set.
    let script = "echo << .since >> << .x >>";
    space.write(
        "pipelines.yml",
        &keys(&json!({"start_delay": "10ms", "tasks": {"a": {"script": script}}})),
    );
    assert_eq!(server.post("/pipelines/reload", "").status, 200);
    let job = text(&ask(&server, &json!({"since": "friday", "x": 1})).json()["jobId"]);
    assert_eq!(server.stdout_of(&server.ended(&job), "a"), "monday 1\n");
}

#[test]
fn the_merged_set_outlives_a_crash() {
    let (space, server) = serving(&json!({}));
    ask(&server, &json!({"pages": ["a"]}));
    let id = text(&ask(&server, &json!({"pages": ["b"]})).json()["jobId"]);
    server.kill();
    let server = space.serve();
    assert_eq!(server.job(&id)["variables"], json!({"pages": ["a", "b"]}));
}

#[test]
fn a_default_is_not_given() {
    let (space, server) = serving(&json!({"variables": {
        "pages": {"type": "list", "default": ["home"]},
        "flags": {"type": "object", "default": {"debug": false}},
        "since": {"default": ""},
    }}));
    let next = |server: &Server, variables: &Value, expected: &Value| {
        let answer = ask(server, variables);
        assert_eq!(answer.status, 202, "{}", answer.body);
        let variables = server.job(&text(&answer.json()["jobId"]))["variables"].clone();
        assert_eq!(variables, *expected);
    };
    let defaults = json!({"pages": ["home"], "flags": {"debug": false}, "since": ""});
    next(&server, &json!({}), &defaults);
    next(&server, &json!({"since": null}), &defaults);
    // Nobody gave the old ones, which is known after a crash too.
    server.kill();
    let server = space.serve();
    let given = json!({"pages": ["news"], "flags": {"debug": true}, "since": "monday"});
    next(&server, &given, &given);
    next(&server, &json!({}), &given);
    // The values that are the defaults may be given as well.
    next(
        &server,
        &json!({"pages": ["home"], "flags": {"debug": false}, "since": ""}),
        &json!({"pages": ["news", "home"], "flags": {"debug": false}, "since": "monday"}),
    );
}
