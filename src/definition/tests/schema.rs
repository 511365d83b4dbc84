//! The schema for editors says what the parser says.

use std::fs;
use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value as Json;

use super::{pipeline_text, read};
use crate::definition::keys::{KEYS, Key, Place, Value};
use crate::definition::schema::schema;

struct Validator {
    schemas: Schemas,
    file: SchemaIndex,
}

impl Validator {
    fn new() -> Validator {
        let schema = serde_json::from_str(&schema()).unwrap();
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        compiler.add_resource("file:///pipelines.schema.json", schema).unwrap();
        let file = compiler.compile("file:///pipelines.schema.json", &mut schemas);
        Validator {
            schemas,
            file: file.unwrap_or_else(|error| panic!("{error:#}")),
        }
    }

    /// What is wrong with a file; empty: nothing.
    fn complaint(&self, yaml: &str) -> String {
        let mut value: serde_yaml::Value = serde_yaml::from_str(yaml).unwrap();
        value.apply_merge().unwrap();
        let json: Json = serde_json::to_value(value).unwrap();
        match self.schemas.validate(&json, self.file) {
            Ok(()) => String::new(),
            Err(error) => format!("{error:#}"),
        }
    }
}

#[test]
fn the_file_in_the_repository_is_what_the_command_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines.schema.json");
    let file = fs::read_to_string(path).unwrap_or_default();
    assert!(
        file == schema(),
        "run `cargo run -- schema > pipelines.schema.json` and look at what changed"
    );
}

/// The text of a file with this value for a key of that place, and all that must stand beside it.
fn file_with(place: Place, key: &str, value: &str) -> String {
    let beside = match key {
        "merge_variables" | "interrupt_running" => "queue_strategy: replace, queue_limit: 1, ",
        "queue_partition_limit" => "queue_strategy: partitioned_replace, ",
        _ if place == Place::Retry && key != "max" => "max: 1, ",
        _ if place == Place::Schedule && !matches!(key, "cron" | "every") => "every: 1h, ",
        _ => "",
    };
    let keys = format!("{beside}{key}: {value}");
    match place {
        Place::File => format!("{{{keys}}}"),
        Place::Pipeline => pipeline_text(&format!("{{{keys}}}")),
        Place::Task => pipeline_text(&format!("tasks: {{t: {{{keys}}}}}")),
        Place::OnError => pipeline_text(&format!("on_error: {{{keys}}}")),
        Place::Variable => pipeline_text(&format!("variables: {{v: {{{keys}}}}}")),
        Place::Deduplicate => pipeline_text(&format!("deduplicate: {{{keys}}}")),
        Place::Schedule => pipeline_text(&format!("schedules: [{{{keys}}}]")),
        Place::Retry => pipeline_text(&format!("tasks: {{t: {{retry: {{{keys}}}}}}}")),
    }
}

/// Of each kind some, good for one key or another.
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "1",
    "2",
    "-1",
    "255",
    "256",
    "1.5",
    "0.5",
    "1000001",
    "''",
    "' '",
    "text",
    "'0'",
    "'1'",
    "'true'",
    "\"a\\0b\"",
    "'a\\'",
    "\"a\\\\\\n\"",
    "\"a\\\\\\nb\"",
    "10s",
    "0s",
    "1h30m",
    "1.5s",
    ".5ms",
    "1.s",
    "2d",
    "10",
    "10x",
    "1h30",
    "-5s",
    "' 5s '",
    "none",
    "50MB",
    "64 KiB",
    "1.5KiB",
    "50mb",
    "active",
    "refuse",
    "append",
    "{a: append, b: keep, c: merge}",
    "{__jobID: keep}",
    "{'': keep}",
    "{a: join}",
    "replace",
    "partitioned_replace",
    "string",
    "SIGTERM",
    "TERM",
    "[]",
    "['']",
    "[text]",
    "[text, 'a\\']",
    "[\"a\\0b\"]",
    "[1]",
    "[75, 193]",
    "[0]",
    "[null]",
    "[true]",
    "[[]]",
    "[{}]",
    "[{every: 5s}]",
    "[{every: 5s, cron: }, {cron: 30 3 * * 1-5}]",
    "'@daily'",
    "['<<', '>>']",
    "['{{', '}}']",
    "['<<', '}}']",
    "['<<', '>>', '>>']",
    "{}",
    "{a: }",
    "{a: 1}",
    "{a: text}",
    "{a: [1]}",
    "{a: {}}",
    "{a: {script: text}}",
    "{'': {}}",
    "{'a/b': {}}",
    "{__jobID: {}}",
    "{failedTask: {}}",
    "{'..': {}}",
    "{'a=b': text}",
    "{\"a\\0b\": {}}",
    "{a: \"a\\0b\"}",
    "{script: text}",
    "{script: 1}",
    "{env: {a: 1}}",
    "{max: 1}",
    "{max: -1}",
    "{max: }",
    "{max: 1, delay: 5s}",
    "{max: 1, more: 5s}",
];

fn needs_a_look_at_the_whole(complaint: &str) -> bool {
    ["depends on `", "has a mistake in ", "which can't be used"]
        .iter()
        .any(|part| complaint.contains(part))
}

#[test]
fn schema_and_parser_agree_about_each_key_with_each_value() {
    let validator = Validator::new();
    let mut found = Vec::new();
    for place in Place::ALL {
        for key in place.keys() {
            let mut good = 0;
            for value in VALUES {
                let file = file_with(place, key.name, value);
                let (mut complaints, _) = read(&file);
                complaints.retain(|complaint| !needs_a_look_at_the_whole(complaint));
                let complaint = validator.complaint(&file);
                if complaints.is_empty() != complaint.is_empty() {
                    found.push(format!("{file}\n  parser: {complaints:?}\n  schema: {complaint}"));
                }
                good += usize::from(complaint.is_empty());
            }
            // Null, and something that is meant for it.
            assert!(good >= 2, "nothing is good for `{}`", key.name);
        }
    }
    assert!(found.is_empty(), "{} times:\n{}", found.len(), found.join("\n"));
}

#[test]
fn both_know_the_same_keys() {
    let validator = Validator::new();
    for place in Place::ALL {
        for Key { name, .. } in KEYS {
            let file = file_with(place, name, "null");
            let is_known = place.keys().any(|key| key.name == *name);
            let is_refused = validator.complaint(&file).contains("additionalProperties");
            assert_eq!(is_refused, !is_known, "{file}");
            // `on_error` has its own words for the keys that a task alone has, and for none of them null, which is none.
            let complaints = read(&file).0.join("\n");
            assert_eq!(complaints.contains("the unknown key"), !place.knows(name), "{file}");
        }
    }
}

#[test]
fn each_place_is_reached() {
    fn reached(value: &Value, places: &mut Vec<Place>) {
        match value {
            Value::Mapping(place) | Value::Named(_, place) | Value::List(place) => places.push(*place),
            Value::Either(values) => values.iter().for_each(|value| reached(value, places)),
            Value::Boolean | Value::Integer { .. } | Value::Word(_) | Value::Shape(_) | Value::Schema(_) => {}
        }
    }
    let mut places = vec![Place::File];
    KEYS.iter().for_each(|key| reached(&key.value, &mut places));
    for place in Place::ALL {
        assert!(places.contains(&place), "no key leads to {place:?}");
    }
}

#[test]
fn defaults_are_as_if_the_key_were_missing() {
    let mut count = 0;
    for place in Place::ALL {
        for key in place.keys().filter(|key| !key.default.is_empty()) {
            let show = |value: &str| {
                let (complaints, pipelines) = read(&file_with(place, key.name, value));
                assert_eq!(complaints, Vec::<String>::new(), "`{}`", key.name);
                format!("{pipelines:?}")
            };
            // An empty script is as it is written, and no attempt is as none at all.
            if !matches!(key.name, "script" | "retry") {
                assert_eq!(show(key.default), show("null"), "`{}`", key.name);
            }
            count += 1;
        }
    }
    assert!(count > 10);
}

#[test]
fn keys_that_do_not_belong_together_are_refused_by_both() {
    let validator = Validator::new();
    for keys in [
        "{queue_strategy: partitioned_replace}",
        "{queue_strategy: partitioned_replace, queue_partition_limit: }",
        "{queue_strategy: partitioned_replace, queue_partition_limit: 1, queue_limit: 1}",
        "{queue_partition_limit: 1}",
        "{queue_strategy: append, queue_partition_limit: 1}",
        "{queue_strategy: replace}",
        "{queue_limit: 0, start_delay: 1s}",
        "{on_error: {depends_on: a}}",
        "{on_error: {allow_failure: true}}",
        "{on_error: {script: a}, tasks: {on_error: {script: a}}}",
        "{tasks: {a: {allow_failure: true, retry: 1}}}",
        "{schedules: [{}]}",
        "{schedules: [{timezone: UTC}]}",
        "{schedules: [{every: 1h, cron: '@daily'}]}",
        "{schedules: [{every: 1h}, ~]}",
        "{variables: {a: {required: true, default: b}}}",
        "{variables: {a: {type: integer, default: b}}}",
        "{variables: {a: {type: integer, one_of: [1, b]}}}",
        "{variables: {a: {type: boolean, pattern: b}}}",
        "{variables: {a: {type: object, default: []}}}",
    ] {
        let file = pipeline_text(keys);
        assert!(!read(&file).0.is_empty(), "the parser takes {keys}");
        assert!(!validator.complaint(&file).is_empty(), "the schema takes {keys}");
    }
    for keys in [
        "{queue_strategy: partitioned_replace, queue_partition_limit: 1}",
        "{queue_strategy: append}",
        "{schedules: [{every: 1h, cron: , catch_up: one, partition: 1, timezone: UTC}, {cron: '@daily', variables: {a: [1]}}]}",
        "{queue_strategy: , queue_partition_limit: }",
        "{queue_strategy: replace, queue_limit: 0}",
        "{queue_limit: 0, start_delay: 0s}",
        "{queue_limit: 1, start_delay: 1s}",
        "{on_error: , tasks: {on_error: {script: a}}}",
        "{tasks: {a: {allow_failure: false, retry: 1}, b: {allow_failure: true}}}",
        "{variables: {a: {type: integer, default: 1, one_of: [1, 2]}, b: {type: list, default: {'0': c}}}}",
        "{variables: {a: {type: boolean, default: false}, b: {pattern: c, default: c}}}",
        "{tasks: {a: &a {retry: 1}, b: {<<: *a, script: b}}}",
    ] {
        let file = pipeline_text(keys);
        assert_eq!(read(&file).0, Vec::<String>::new(), "{keys}");
        assert_eq!(validator.complaint(&file), "", "{keys}");
    }
}
