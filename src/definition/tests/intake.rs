//! The keys about requests for jobs, and the variables that these bring.

use serde_json::{Value, json};

use super::{check_pipeline, only, pipeline_text, with_keys};
use crate::definition::Pipeline;
use crate::definition::intake::{Deduplicate, Intake, Merging};
use crate::definition::variables::VariableKind;

/// As clients are shown them.
fn shown(pipeline: &Pipeline) -> Value {
    serde_json::to_value(&pipeline.intake.declared).unwrap()
}

/// What is said about the variable `x` with these keys, in flow style.
#[track_caller]
fn check_variable(keys: &str, expected: &[&str]) {
    check_pipeline(&format!("variables: {{x: {{{keys}}}}}"), expected);
}

#[test]
fn without_them_nothing_is_expected() {
    for keys in ["tasks: {}", "variables:", "variables: {}\nstrict_variables: false"] {
        assert_eq!(with_keys(keys).intake, Intake::default(), "{keys}");
    }
}

#[test]
fn variables() {
    let pipeline = with_keys(
        "variables:\n  release: {required: true, pattern: '[0-9]{8}', description: which release}\n  \
         target: {one_of: [staging, production], default: staging}\n  validate: {type: boolean, default: true}\n  \
         some:\nstrict_variables: true",
    );
    assert!(pipeline.intake.declared.is_strict);
    assert_eq!(
        pipeline.intake.declared.find("validate").unwrap().kind,
        VariableKind::Boolean
    );
    assert_eq!(
        shown(&pipeline).to_string(),
        json!({
            "release": {"type": "string", "required": true, "pattern": "[0-9]{8}", "description": "which release"},
            "target": {"type": "string", "required": false, "default": "staging", "oneOf": ["staging", "production"]},
            "validate": {"type": "boolean", "required": false, "default": true},
            "some": {"type": "string", "required": false},
        })
        .to_string()
    );
}

#[test]
fn defaults_of_each_type() {
    for (kind, default, expected) in [
        ("string", "'1'", json!("1")),
        ("string", "''", json!("")),
        ("integer", "-7", json!(-7)),
        ("number", "1.5", json!(1.5)),
        ("boolean", "false", json!(false)),
        ("boolean", "True", json!(true)),
        ("integer", "0x1F", json!(31)),
        (
            "list",
            "[a, 1, true, ~, {b: c}]",
            json!(["a", 1, true, null, {"b": "c"}]),
        ),
        ("list", "{'0': a}", json!({"0": "a"})),
        ("object", "{a: [1.5]}", json!({"a": [1.5]})),
    ] {
        let pipeline = with_keys(&format!("variables: {{x: {{type: {kind}, default: {default}}}}}"));
        assert_eq!(pipeline.intake.declared.variables[0].default, Some(expected));
    }
    assert_eq!(
        only(&pipeline_text("variables: {x: {default: ~}}"))
            .intake
            .declared
            .variables[0]
            .default,
        None
    );
}

#[test]
fn mistakes_in_variables() {
    check_pipeline(
        "variables: [a]",
        &[
            "E has a list as `variables`; expected a mapping of names to what is expected of each, such as `release: \
           {required: true}`",
        ],
    );
    check_pipeline(
        "variables: {'': , __jobID: , failedTaskName: {}, x: string}",
        &[
            "E has a variable with a name that can't be used; expected one that is not empty and holds no NUL",
            "E has the variable `__jobID`, but that name is reserved for prunner; rename it",
            "E has the variable `failedTaskName`, but that name is reserved for prunner; rename it",
            "E has the text `string` as the variable `x`; expected a mapping such as `{required: true}`",
        ],
    );
    check_variable(
        "type: bool",
        &[
            "E has the text `bool` as `type`; expected one of `string`, `integer`, `number`, `boolean`, `list`, `object`",
        ],
    );
    check_variable(
        "requird: true, description: [a]",
        &[
            "E has a list as `description` of the variable `x`; expected a text",
            "W has the unknown key `requird`, which is ignored; did you mean `required`?",
        ],
    );
    check_variable(
        "required: true, default: a",
        &[
            "W has both `required` and a `default` for the variable `x`, which is never missing then; remove one of them",
        ],
    );
    check_pipeline(
        "strict_variables: 1",
        &["E has the number `1` as `strict_variables`; expected `true` or `false`"],
    );
}

#[test]
fn defaults_must_fit() {
    check_variable(
        "default: 42",
        &["E has the number `42` as `default` of the variable `x`; expected a string: put it in quotes"],
    );
    check_variable(
        "type: integer, default: 1.5",
        &["E has the number `1.5` as `default` of the variable `x`; expected an integer"],
    );
    check_variable(
        "type: number, default: .inf",
        &["E has the number `.inf` as `default` of the variable `x`; expected a number"],
    );
    check_variable(
        "default: .inf",
        &["E has the number `.inf` as `default` of the variable `x`; expected a string: put it in quotes"],
    );
    check_variable(
        "type: boolean, default: 'true'",
        &["E has the text `true` as `default` of the variable `x`; expected a boolean"],
    );
    check_variable(
        "type: list, default: {a: b}",
        &["E has a mapping as `default` of the variable `x`; expected a list"],
    );
    check_variable(
        "one_of: [staging, production], default: stagign",
        &["E has a `default` of the variable `x` that is none of `staging`, `production`; did you mean `staging`?"],
    );
    check_variable(
        "pattern: '[0-9]+', default: a1",
        &["E has a `default` of the variable `x` that does not match the pattern `[0-9]+`"],
    );
}

#[test]
fn mistakes_in_what_is_allowed() {
    check_variable(
        "one_of: a",
        &["E has the text `a` as `one_of` of the variable `x`; expected a list of the values that are allowed"],
    );
    check_variable(
        "one_of: []",
        &["E has an empty list as `one_of` of the variable `x`, which no value fits; expected some"],
    );
    check_variable(
        "type: integer, one_of: [1, two]",
        &["E has the text `two` as `one_of` of the variable `x`; expected an integer"],
    );
    check_variable(
        "pattern: 1",
        &["E has the number `1` as `pattern` of the variable `x`; expected a regular expression in quotes"],
    );
    check_variable(
        "type: integer, pattern: '1'",
        &["E has a `pattern` of the variable `x`, whose type is `integer`; only strings have one, remove it"],
    );
    check_variable(
        "pattern: '('",
        &["E has `(` as `pattern` of the variable `x`, which can't be used: found open group without closing ')'"],
    );
    check_variable(
        &format!("pattern: '{}'", "a".repeat(1_001)),
        &[&format!(
            "E has `{}…` as `pattern` of the variable `x`, which can't be used: it is longer than 1000 bytes",
            "a".repeat(200)
        )],
    );
}

#[test]
fn requests_that_equal_a_job() {
    let rule = |keys: &str| with_keys(&format!("deduplicate: {keys}")).intake.deduplicate.unwrap();
    assert_eq!(rule("{}"), Deduplicate::default());
    assert_eq!(rule("{among: active, then: join, by: ~}"), Deduplicate::default());
    let by = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect());
    assert_eq!(
        rule("{among: waiting, by: [release, 1], then: refuse}"),
        Deduplicate {
            among_waiting: true,
            by: by(&["release", "1"]),
            refuses: true,
        }
    );
    assert_eq!(rule("{by: release}").by, by(&["release"]));
    assert_eq!(rule("{by: []}").by, by(&[]));
}

#[test]
fn mistakes_in_deduplicate() {
    check_pipeline(
        "deduplicate: true",
        &[
            "E has the boolean `true` as `deduplicate`; expected a mapping such as `{among: active, by: [release], then: \
           join}`; `{}` is with all defaults",
        ],
    );
    check_pipeline(
        "deduplicate: {amongst: waiting, by: {a: b}, then: wait, among: running}",
        &[
            "E has a mapping as `by`; expected a string or a list of strings",
            "E has the text `running` as `among`; expected one of `active`, `waiting`",
            "E has the text `wait` as `then`; expected one of `join`, `refuse`",
            "W has the unknown key `amongst`, which is ignored; did you mean `among`?",
        ],
    );
    check_pipeline(
        "{strict_variables: true, variables: {release: }, deduplicate: {by: [release, relaese]}}",
        &[
            "E names `relaese` in `by` of `deduplicate`, which is none of its `variables`, and `strict_variables` refuses \
           others; did you mean `release`?",
        ],
    );
}

#[test]
fn what_replaces_waiting_jobs_may_merge_and_interrupt() {
    let pipeline = with_keys(
        "queue_strategy: replace\nqueue_limit: 1\ninterrupt_running: true\n\
         merge_variables: {pages: append, flags: merge, since: keep, nothing: }",
    );
    assert!(pipeline.intake.interrupt_running);
    let merges = [
        ("pages", Merging::Append),
        ("flags", Merging::Merge),
        ("since", Merging::Keep),
    ];
    assert_eq!(
        pipeline.intake.merge,
        merges.map(|(name, merge)| (name.to_owned(), merge))
    );
    let keys = "queue_strategy: partitioned_replace\nqueue_partition_limit: 1\ninterrupt_running: true";
    assert!(with_keys(keys).intake.interrupt_running);
    assert!(!with_keys("interrupt_running: false").intake.interrupt_running);
}

#[test]
fn mistakes_in_what_is_merged() {
    check_pipeline(
        "merge_variables: {pages: append}",
        &[
            "E has `merge_variables` without `queue_strategy: replace` or `partitioned_replace`, which alone replace jobs; set \
           one of them or remove the key",
        ],
    );
    let keys = |keys: &str| format!("{{queue_strategy: replace, queue_limit: 1, {keys}}}");
    check_pipeline(
        &keys("merge_variables: append"),
        &[
            "E has the text `append` as `merge_variables`; expected a mapping of variables to `append`, `merge` or `keep`, such \
           as `{pages: append}`",
        ],
    );
    check_pipeline(
        &keys("merge_variables: {pages: apend, __jobID: keep}"),
        &[
            "E has the text `apend` as `pages` of `merge_variables`; expected one of `append`, `merge`, `keep`; did you mean `append`?",
            "E names `__jobID` in `merge_variables`, which no job can be given; remove it",
        ],
    );
    check_pipeline(
        &keys(
            "variables: {pages: {}, flags: {type: list}, since: {}}, strict_variables: true, merge_variables: {pages: \
               append, flags: merge, since: keep, page: append}",
        ),
        &[
            "E has `append` for the variable `pages` in `merge_variables`, whose type is `string`; expected the type `list`",
            "E has `merge` for the variable `flags` in `merge_variables`, whose type is `list`; expected the type `object`",
            "E names `page` in `merge_variables`, which is none of its `variables`, and `strict_variables` refuses others; did \
             you mean `pages`?",
        ],
    );
}

#[test]
fn mistakes_in_what_is_interrupted() {
    check_pipeline(
        "{queue_strategy: append, interrupt_running: true}",
        &[
            "E has `interrupt_running` without `queue_strategy: replace` or `partitioned_replace`, which alone replace jobs; \
           set one of them or remove the key",
        ],
    );
    check_pipeline(
        "{queue_strategy: replace, queue_limit: 0, interrupt_running: true}",
        &[
            "E has both `interrupt_running` and `queue_limit: 0`, but a job has to wait until the one that it stops has ended; \
           remove one or raise the limit",
        ],
    );
    check_pipeline(
        "interrupt_running: 1",
        &["E has the number `1` as `interrupt_running`; expected `true` or `false`"],
    );
}
