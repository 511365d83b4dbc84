//! `variables` and `strict_variables`: what a request must bring, and what comes of it.

use serde_json::{Value, json};

use super::pipeline;
use crate::space::{Answer, Server, TestSpace, eventually};
use crate::tools::text;

const TELL: &str = "echo << .release >> << .target >> << .validate >>";

/// The example of the documents.
fn declared() -> Value {
    json!({
        "release": {"required": true, "pattern": "[0-9]{8}", "description": "which release"},
        "target": {"one_of": ["staging", "production"], "default": "staging"},
        "validate": {"type": "boolean", "default": true},
    })
}

fn strict() -> Value {
    json!({"variables": declared(), "strict_variables": true, "tasks": {"a": {"script": [TELL]}}})
}

fn ask(server: &Server, variables: &Value) -> Answer {
    let request = json!({"pipeline": "p", "variables": variables});
    server.post("/pipelines/schedule", &request.to_string())
}

#[track_caller]
fn check_refused(server: &Server, variables: &Value, complaints: &str) {
    let answer = ask(server, variables);
    assert_eq!(answer.status, 400, "{}", answer.body);
    let error = format!("Error scheduling pipeline: {complaints}");
    assert_eq!(answer.json(), json!({"error": error, "code": "bad_variables"}));
}

#[test]
fn defaults_take_the_place_of_what_is_not_given() {
    let (_space, server) = TestSpace::serving(&pipeline(&strict()));
    for (given, expected) in [
        (json!({"release": "20261124"}), "20261124 staging true\n"),
        (
            json!({"release": "20261124", "target": null, "validate": false}),
            "20261124 staging false\n",
        ),
        (
            json!({"release": "20261124", "target": "production"}),
            "20261124 production true\n",
        ),
    ] {
        let job = server.ended(&server.schedule_with("p", &given));
        assert_eq!(server.stdout_of(&job, "a"), expected);
        assert_eq!(job["variables"]["release"], "20261124");
        assert!(job["variables"]["validate"].is_boolean(), "{job}");
    }
}

#[test]
fn a_request_is_refused_with_every_complaint() {
    let (_space, server) = TestSpace::serving(&pipeline(&strict()));
    check_refused(&server, &json!({}), "variable `release` is required: which release");
    check_refused(
        &server,
        &json!({"release": null}),
        "variable `release` is required: which release",
    );
    check_refused(
        &server,
        &json!({"release": 20_261_124, "target": "stagign", "validate": "true", "valdate": 1}),
        "variable `release` is a number; expected a string; variable `target` is none of `staging`, `production`; did you \
         mean `staging`?; variable `validate` is a string; expected a boolean; variable `valdate` is none of this \
         pipeline's; did you mean `validate`?",
    );
    // A pattern matches the whole value.
    for release in ["2026112", "202611240", "x20261124", "20261124\n"] {
        check_refused(
            &server,
            &json!({"release": release}),
            "variable `release` does not match the pattern `[0-9]{8}`",
        );
    }
}

#[test]
fn types() {
    for (kind, good, bad) in [
        (
            "string",
            vec![json!(""), json!("1")],
            vec![json!(1), json!(true), json!(["a"])],
        ),
        ("integer", vec![json!(1), json!(-1)], vec![json!(1.5), json!("1")]),
        ("number", vec![json!(1), json!(1.5)], vec![json!("1"), json!(true)]),
        (
            "boolean",
            vec![json!(true), json!(false)],
            vec![json!(0), json!("true")],
        ),
        (
            "list",
            vec![json!([]), json!(["a"]), json!({"0": "a", "1": 2})],
            vec![json!("a"), json!({"a": 1})],
        ),
        ("object", vec![json!({}), json!({"a": 1})], vec![json!([]), json!("{}")]),
    ] {
        let keys = json!({"variables": {"x": {"type": kind}}, "concurrency": 9});
        let (_space, server) = TestSpace::serving(&pipeline(&keys));
        for value in good {
            assert_eq!(
                ask(&server, &json!({"x": value, "others": "may come"})).status,
                202,
                "{kind}: {value}"
            );
        }
        for value in bad {
            let answer = ask(&server, &json!({"x": value}));
            assert_eq!(
                (answer.status, &answer.json()["code"]),
                (400, &json!("bad_variables")),
                "{kind}: {value}"
            );
        }
    }
}

#[test]
fn the_list_of_pipelines_shows_them() {
    let (_space, server) = TestSpace::serving(&pipeline(&strict()));
    let list = server.get("/pipelines/").json();
    assert_eq!(
        list["pipelines"][0],
        json!({
            "pipeline": "p", "schedulable": true, "running": false, "strictVariables": true,
            "variables": {
                "release": {
                    "type": "string", "required": true, "pattern": "[0-9]{8}", "description": "which release",
                },
                "target": {
                    "type": "string", "required": false, "default": "staging", "oneOf": ["staging", "production"],
                },
                "validate": {"type": "boolean", "required": false, "default": true},
            },
        })
    );
}

#[test]
fn the_command_line_reads_texts_as_the_types_say() {
    let variables = json!({
        "number": {"type": "integer"}, "deep": {"type": "object"}, "flag": {"type": "boolean"}, "plain": {},
        "raw": {"type": "integer"},
    });
    let script = "echo \"$PRUNNER_VAR_number $PRUNNER_VAR_deep $PRUNNER_VAR_flag $PRUNNER_VAR_plain $PRUNNER_VAR_raw\"";
    let (space, server) = TestSpace::serving(&pipeline(
        &json!({"variables": variables, "tasks": {"a": {"script": script}}}),
    ));
    let given = [
        "--var",
        "number=7",
        "--var",
        r#"deep={"a": 1}"#,
        "--var",
        "flag=true",
        "--var",
        "plain=5",
        "--var",
        "raw:=8",
        "--var",
        "other=9",
    ];
    let run = space.run(&[&["run", "p", "--json"][..], &given].concat());
    assert!(run.status.success(), "{run:?}");
    let stdout = String::from_utf8(run.stdout).unwrap();
    let job: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    let expected = json!({"number": 7, "deep": {"a": 1}, "flag": true, "plain": "5", "raw": 8, "other": "9"});
    assert_eq!(job["variables"], expected);

    let address = ["--address", &server.address];
    let scheduled = space.run(&[&["schedule", "p"][..], &given, &address].concat());
    assert!(scheduled.status.success(), "{scheduled:?}");
    let id = String::from_utf8(scheduled.stdout).unwrap();
    assert_eq!(server.ended(id.trim())["variables"], expected);

    // What is none is refused, by both with the same words.
    for command in ["run", "schedule"] {
        let refused = space.run(
            &[
                &[command, "p", "--var", "number=seven", "--var", "flag=yes"][..],
                &address,
            ]
            .concat(),
        );
        assert_eq!(refused.status.code(), Some(3), "{refused:?}");
        let error = String::from_utf8(refused.stderr).unwrap();
        let complaints =
            "variable `number` is a string; expected an integer; variable `flag` is a string; expected a boolean";
        assert!(error.contains(complaints), "{error}");
    }
}

#[test]
fn jobs_that_wait_over_a_restart_are_held_against_what_is_declared_then() {
    let keys = |variables: Value| pipeline(&json!({"start_delay": "1h", "variables": variables}));
    let (space, server) = TestSpace::serving(&keys(json!({})));
    let fitting = server.schedule_with("p", &json!({"x": "1"}));
    let unfit = server.schedule_with("p", &json!({"x": 2}));
    server.kill();
    space.write("pipelines.yml", &keys(json!({"x": {}, "y": {"default": "new"}})));
    let server = space.serve();
    let job = eventually("it is told", || {
        Some(server.job(&unfit)).filter(|job| job["completed"] == true)
    });
    assert_eq!(
        text(&job["reason"]),
        "its variables no longer fit: variable `x` is a number; expected a string"
    );
    assert_eq!(
        (server.status_of(&fitting).as_str(), &server.job(&fitting)["variables"]),
        ("waiting", &json!({"x": "1", "y": "new"}))
    );
}

#[test]
fn mistakes_are_told_at_load() {
    let space = TestSpace::new(&pipeline(
        &json!({"variables": {"x": {"type": "integer", "default": "a"}}}),
    ));
    let validated = space.run(&["validate"]);
    assert_eq!(validated.status.code(), Some(1));
    let text = String::from_utf8(validated.stdout).unwrap();
    assert!(
        text.contains("pipeline `p` has the text `a` as `default` of the variable `x`; expected an integer\n"),
        "{text}"
    );
}
