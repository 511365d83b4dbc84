//! The schema for editors: it takes what people write, and refuses what `validate` refuses.

use std::fs;
use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

use crate::space::TestSpace;

/// Each with one mistake.
const BROKEN: [&str; 32] = [
    "pipeline: {a: {}}",
    "[a]",
    "pipelines: [a]",
    "pipelines: {a: text}",
    "pipelines: {'': {}}",
    "pipelines: {a: {concurrency: 0}}",
    "pipelines: {a: {concurrency: many}}",
    "pipelines: {a: {concurrency: '1'}}",
    "pipelines: {a: {queue_limit: -1}}",
    "pipelines: {a: {queue_strategy: drop}}",
    "pipelines: {a: {queue_strategy: replace}}",
    "pipelines: {a: {queue_strategy: partitioned_replace}}",
    "pipelines: {a: {queue_partition_limit: 2}}",
    "pipelines: {a: {queue_strategy: partitioned_replace, queue_partition_limit: 2, queue_limit: 2}}",
    "pipelines: {a: {queue_limit: 0, start_delay: 10s}}",
    "pipelines: {a: {start_delay: 10}}",
    "pipelines: {a: {retention_period: 0s}}",
    "pipelines: {a: {retention_period_hours: 72}}",
    "pipelines: {a: {continue_running_tasks_after_failure: yes}}",
    "pipelines: {a: {delimiters: ['<<', '}}']}}",
    "pipelines: {a: {stop_signal: KILL}}",
    "pipelines: {a: {env: {A=B: text}}}",
    "pipelines: {a: {env: {A: [text]}}}",
    "pipelines: {a: {on_error: {script: make, depends_on: b}}}",
    "pipelines: {a: {tasks: {b: {scripts: make}}}}",
    "pipelines: {a: {tasks: {b: {script: [make: test]}}}}",
    "pipelines: {a: {tasks: {b: {script: ['make \\']}}}}",
    "pipelines: {a: {tasks: {../b: {script: make}}}}",
    "pipelines: {a: {tasks: {b: {shell: []}}}}",
    "pipelines: {a: {tasks: {b: {timeout: soon}}}}",
    "pipelines: {a: {tasks: {b: {retry: {delay: 5s}}}}}",
    "pipelines: {a: {tasks: {b: {retry: {max: 1, exit_codes: [0]}}}}}",
];

struct Schema {
    schemas: Schemas,
    file: SchemaIndex,
}

impl Schema {
    /// As the command prints it, where no file is and no configuration is sound.
    fn printed() -> Schema {
        let space = TestSpace::new("");
        let output = space.run_with(&["schema"], &[("PRUNNER_WATCH", "perhaps")]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, read("pipelines.schema.json"));
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        let schema = serde_json::from_str(&text).unwrap();
        compiler.add_resource("file:///schema.json", schema).unwrap();
        let file = compiler.compile("file:///schema.json", &mut schemas).unwrap();
        Schema { schemas, file }
    }

    fn complaint(&self, yaml: &str) -> Option<String> {
        let mut value: serde_yaml::Value = serde_yaml::from_str(yaml).unwrap();
        value.apply_merge().unwrap();
        let value: Value = serde_json::to_value(value).unwrap();
        let result = self.schemas.validate(&value, self.file);
        result.err().map(|error| format!("{error:#}"))
    }
}

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn files_as_people_write_them_are_taken() {
    let schema = Schema::printed();
    for name in [
        "pipelines.example.yml",
        "examples/pipelines.yml",
        "tests/samples/deploy.yml",
        "tests/samples/content-release.yml",
    ] {
        assert_eq!(schema.complaint(&read(name)), None, "{name}");
    }
    let broken = schema.complaint(&read("tests/samples/broken.yml")).unwrap();
    assert!(broken.contains("retention_period_hours"), "{broken}");
}

#[test]
fn broken_files_are_refused_by_the_schema_and_by_validate() {
    let schema = Schema::printed();
    for text in BROKEN {
        let space = TestSpace::new(text);
        let output = space.run(&["validate"]);
        assert_eq!(output.status.code(), Some(1), "{text}: {output:?}");
        assert!(schema.complaint(text).is_some(), "the schema takes {text}");
    }
}
