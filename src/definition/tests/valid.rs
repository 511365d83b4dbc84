//! Pipelines without a mistake: every key, and YAML as real files use it.

use std::fmt::Write;

use super::{names, only, pairs, pipeline_text, read, script, with_keys, with_task};
use crate::definition::Queue;
use crate::template::{Delimiters, Template};

#[test]
fn a_pipeline_has_defaults() {
    for yaml in [
        "pipelines: {p: {}}",
        "pipelines: {p: }",
        "pipelines: {p: {tasks: {}}}",
        "pipelines:\n  p:\n    tasks:\n",
        "pipelines: {p: {tasks: ~, concurrency: ~, queue_limit: null, queue_strategy: ~, queue_partition_limit: ~, \
         start_delay: ~, continue_running_tasks_after_failure: ~, retention_period: ~, retention_count: ~, env: ~, \
         on_error: ~, shell: ~, delimiters: ~}}",
    ] {
        let pipeline = only(yaml);
        assert_eq!(pipeline.name.as_ref(), "p");
        assert_eq!(pipeline.concurrency, 1);
        assert_eq!(pipeline.queue, Queue::Append { limit: None });
        assert_eq!(pipeline.start_delay_ms, 0);
        assert!(!pipeline.continue_running_tasks_after_failure);
        assert_eq!(pipeline.retention_period_ms, None);
        assert_eq!(pipeline.retention_count, None);
        assert_eq!(pipeline.env, []);
        assert!(pipeline.tasks.is_empty());
        assert!(pipeline.file_order.is_empty());
        assert!(pipeline.on_error.is_none());
    }
}

#[test]
fn the_keys_of_a_pipeline() {
    let pipeline = with_keys(
        "concurrency: 3\nqueue_limit: 2\nqueue_strategy: append\nstart_delay: 1m30s\n\
         continue_running_tasks_after_failure: true\nretention_period: 2d\nretention_count: 10\n\
         env: {A: b}\ntasks: {t: {}}\non_error: {script: notify, env: {C: d}, shell: bash}",
    );
    assert_eq!(pipeline.concurrency, 3);
    assert_eq!(pipeline.queue, Queue::Append { limit: Some(2) });
    assert_eq!(pipeline.start_delay_ms, 90_000);
    assert!(pipeline.continue_running_tasks_after_failure);
    assert_eq!(pipeline.retention_period_ms, Some(172_800_000));
    assert_eq!(pipeline.retention_count, Some(10));
    assert_eq!(pipeline.env, pairs(&[("A", "b")]));
    let on_error = pipeline.on_error.as_ref().unwrap();
    assert_eq!(on_error.name.as_ref(), "on_error");
    assert_eq!(on_error.script, script(&["notify"]));
    assert_eq!(on_error.env, pairs(&[("C", "d")]));
    assert_eq!(on_error.shell, Some(vec!["bash".to_owned()]));
    assert_eq!(pipeline.task(1).name.as_ref(), "on_error");
}

#[test]
fn the_keys_of_a_task() {
    let pipeline = with_keys(
        "tasks: {a: {}, t: {script: [make, make test], depends_on: [a], allow_failure: true, env: {A: b}, shell: [bash, -e]}}",
    );
    let task = &pipeline.tasks[1];
    assert_eq!(task.name.as_ref(), "t");
    assert_eq!(task.script, script(&["make", "make test"]));
    assert_eq!(task.depends_on, [0]);
    assert!(task.allow_failure);
    assert_eq!(task.env, pairs(&[("A", "b")]));
    assert_eq!(task.shell, Some(vec!["bash".to_owned(), "-e".to_owned()]));
}

#[test]
fn queues() {
    #[track_caller]
    fn check(keys: &str, expected: Queue) {
        assert_eq!(with_keys(keys).queue, expected, "{keys}");
    }
    check("concurrency: 1", Queue::Append { limit: None });
    check("queue_limit: 0", Queue::Append { limit: Some(0) });
    check(
        "{queue_limit: 7, queue_strategy: append}",
        Queue::Append { limit: Some(7) },
    );
    check("{queue_limit: 2, queue_strategy: replace}", Queue::Replace { limit: 2 });
    check("{queue_limit: 0, queue_strategy: replace}", Queue::Replace { limit: 0 });
    check("{queue_limit: 0, start_delay: 0}", Queue::Append { limit: Some(0) });
    check(
        "{queue_partition_limit: 3, queue_strategy: partitioned_replace}",
        Queue::PartitionedReplace { limit: 3 },
    );
    let (complaints, pipelines) = read("pipelines: {p: {queue_strategy: replace}}");
    assert_eq!(
        complaints,
        [
            "W p.yml: pipeline `p` has `queue_strategy: replace` without `queue_limit`, which means 1; write `queue_limit: 1`"
        ]
    );
    assert_eq!(pipelines[0].queue, Queue::Replace { limit: 1 });
}

#[test]
fn scripts() {
    #[track_caller]
    fn check(keys: &str, expected: &[&str]) {
        let task = with_task(keys);
        assert_eq!(task.script, script(expected), "{keys}");
        assert_eq!(task.is_marker(), expected.is_empty(), "{keys}");
    }
    check("script: make", &["make"]);
    check("script: [make]", &["make"]);
    check(r##"script: [make, "", "# test"]"##, &["make", "", "# test"]);
    check(r#"script: "set -e\nmake\n""#, &["set -e\nmake\n"]);
    check(r##"script: "# build\nmake""##, &["# build\nmake"]);
    check(r#"script: "echo \\\necho""#, &["echo \\\necho"]);
    check(r#"script: ["true", "5", "~"]"#, &["true", "5", "~"]);
}

#[test]
fn markers() {
    for keys in [
        "",
        "script: ",
        "script: []",
        r#"script: """#,
        r#"script: [""]"#,
        r#"script: ["", "  "]"#,
        r##"script: "# only a comment""##,
        r#"script: ["\n  # a\n\t# b\n", " "]"#,
    ] {
        assert!(with_task(keys).is_marker(), "{keys}");
    }
    assert!(with_keys("tasks: {t: }").tasks[0].is_marker());
    assert!(with_keys("{tasks: {}, on_error: {}}").on_error.unwrap().is_marker());
}

#[test]
fn a_line_is_parsed_with_the_delimiters_of_the_pipeline() {
    let pipeline = with_keys(r#"{delimiters: ["<<", ">>"], tasks: {t: {script: "docker --format '{{ .Names }}'"}}}"#);
    let expected = Template::parse("docker --format '{{ .Names }}'", Delimiters::Angle).unwrap();
    assert_eq!(pipeline.tasks[0].script, [expected]);
    let pipeline = with_keys(
        r#"{delimiters: ["{{", "}}"], tasks: {t: {script: "cat << .x >>"}}, on_error: {script: "<< if .x >>"}}"#,
    );
    let expected = Template::parse("cat << .x >>", Delimiters::Curly).unwrap();
    assert_eq!(pipeline.tasks[0].script, [expected]);
}

#[test]
fn shells() {
    #[track_caller]
    fn check(keys: &str, expected: Option<&[&str]>) {
        let expected = expected.map(|words| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(with_keys(keys).tasks[0].shell, expected, "{keys}");
    }
    check("tasks: {t: }", None);
    check("{shell: bash, tasks: {t: }}", Some(&["bash"]));
    check("{shell: bash, tasks: {t: {shell: dash}}}", Some(&["dash"]));
    check("{shell: bash, tasks: {t: {shell: ~}}}", Some(&["bash"]));
    check("{shell: /my shells/sh, tasks: {t: }}", Some(&["/my shells/sh"]));
    check(
        r#"{shell: [nice, -n, "10", ""], tasks: {t: }}"#,
        Some(&["nice", "-n", "10", ""]),
    );
    let pipeline = with_keys("{shell: bash, on_error: {script: x}}");
    assert_eq!(pipeline.on_error.unwrap().shell, Some(vec!["bash".to_owned()]));
}

#[test]
fn environments_keep_what_is_written() {
    let task = with_task(
        "env: {A: 1, B: 1.10, C: 0x1F, D: 1e3, E: true, F: , G: null, H: ~, I: 'it''s', J: \"a\\nb\", K: $HOME << .x >>, \
         L: 123456789012345678901234567890, M: True, N: -.inf, O: 0010, P: '', Q: !!str 5, R: 2024-01-01, S: yes, \
         T: 99999999999999999999999999999999999999999999999999, lower.case: x, 1: one, true: x}",
    );
    let expected = pairs(&[
        ("A", "1"),
        ("B", "1.10"),
        ("C", "0x1F"),
        ("D", "1e3"),
        ("E", "true"),
        ("F", ""),
        ("G", ""),
        ("H", ""),
        ("I", "it's"),
        ("J", "a\nb"),
        ("K", "$HOME << .x >>"),
        ("L", "123456789012345678901234567890"),
        ("M", "True"),
        ("N", "-.inf"),
        ("O", "0010"),
        ("P", ""),
        ("Q", "5"),
        ("R", "2024-01-01"),
        ("S", "yes"),
        ("T", "99999999999999999999999999999999999999999999999999"),
        ("lower.case", "x"),
        ("1", "one"),
        ("true", "x"),
    ]);
    assert_eq!(task.env, expected);
    assert_eq!(with_keys("env: {A: 0x1F}").env, pairs(&[("A", "0x1F")]));
}

#[test]
fn tasks_stand_in_listing_order() {
    #[track_caller]
    fn check(tasks: &str, expected: &[&str], file_order: &[usize], depends_on: &[&[usize]]) {
        let pipeline = with_keys(&format!("tasks: {tasks}"));
        assert_eq!(names(&pipeline), expected, "{tasks}");
        assert_eq!(pipeline.file_order, file_order, "{tasks}");
        let found: Vec<&[usize]> = pipeline.tasks.iter().map(|task| task.depends_on.as_slice()).collect();
        assert_eq!(found, depends_on, "{tasks}");
    }
    check("{b: , a: , c: }", &["b", "a", "c"], &[0, 1, 2], &[&[], &[], &[]]);
    check(
        "{deploy: {depends_on: [test, lint, test]}, test: {depends_on: build}, build: , lint: }",
        &["build", "test", "lint", "deploy"],
        &[3, 1, 0, 2],
        &[&[], &[0], &[], &[1, 2]],
    );
    check(
        "{b: {depends_on: a}, x: , a: }",
        &["x", "a", "b"],
        &[2, 0, 1],
        &[&[], &[], &[1]],
    );
    check(
        "{a: {depends_on: []}, b: {depends_on: }}",
        &["a", "b"],
        &[0, 1],
        &[&[], &[]],
    );
    // Names need no quotes, whatever YAML takes them for.
    check(
        "{1: , true: {depends_on: [1]}, c: {depends_on: true}}",
        &["1", "true", "c"],
        &[0, 1, 2],
        &[&[], &[0], &[1]],
    );
    check("{'1': , b: {depends_on: 1}}", &["1", "b"], &[0, 1], &[&[], &[0]]);
}

#[test]
fn a_long_chain_in_reverse_order() {
    const TASKS: usize = 10_000;
    let mut yaml = "tasks:\n".to_owned();
    for task in (0..TASKS).rev() {
        let depends_on = task
            .checked_sub(1)
            .map_or_else(String::new, |needed| format!("depends_on: t{needed}"));
        writeln!(yaml, "  t{task}: {{{depends_on}}}").unwrap();
    }
    let pipeline = with_keys(&yaml);
    assert_eq!(pipeline.file_order, (0..TASKS).rev().collect::<Vec<_>>());
    assert!(
        pipeline
            .tasks
            .iter()
            .enumerate()
            .all(|(index, task)| *task.name == *format!("t{index}"))
    );

    let closed = yaml.replace("  t0: {}", "  t0: {depends_on: t9999}");
    let (complaints, _) = read(&pipeline_text(&closed));
    assert_eq!(complaints.len(), 1);
    assert!(
        complaints[0].ends_with("t9980 -> … 9980 more … -> t9999`"),
        "{}",
        &complaints[0][complaints[0].len() - 100..]
    );
}

#[test]
fn a_marker_that_waits_for_thousands() {
    let mut yaml = "tasks:\n  all:\n    depends_on:\n".to_owned();
    for task in 0..10_000 {
        writeln!(yaml, "    - t{task}").unwrap();
    }
    for task in 0..10_000 {
        writeln!(yaml, "  t{task}:").unwrap();
    }
    let pipeline = with_keys(&yaml);
    assert_eq!(names(&pipeline).last(), Some(&"all"));
    assert_eq!(pipeline.tasks[10_000].depends_on.len(), 10_000);
}

// YAML as real files use it.

#[test]
fn files_without_pipelines() {
    for yaml in [
        "",
        "\n",
        "# nothing\n",
        "---\n",
        "--- ~\n...\n",
        "{}",
        "pipelines:",
        "pipelines: {}",
        "\u{feff}",
    ] {
        let (complaints, pipelines) = read(yaml);
        assert_eq!(complaints, Vec::<String>::new(), "{yaml}");
        assert!(pipelines.is_empty(), "{yaml}");
    }
}

#[test]
fn aliases_and_merge_keys() {
    let pipeline = with_keys(
        "tasks:\n  a: &a\n    script: [make a]\n    env: &env {X: 1, Y: 2}\n  b: *a\n  c: {<<: *a, depends_on: [a]}\n  \
         d:\n    script: make d\n    <<: *a\n    env: {<<: *env, Y: 3, Z: 4}\n  e: {<<: [{script: make e}, *a]}\n  f: {<<: }\n",
    );
    assert_eq!(names(&pipeline), ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(pipeline.tasks[1].script, script(&["make a"]));
    assert_eq!(pipeline.tasks[2].script, script(&["make a"]));
    assert_eq!(pipeline.tasks[2].depends_on, [0]);
    assert_eq!(pipeline.tasks[3].script, script(&["make d"]));
    assert_eq!(pipeline.tasks[3].env, pairs(&[("X", "1"), ("Y", "3"), ("Z", "4")]));
    assert_eq!(pipeline.tasks[4].script, script(&["make e"]));
    assert_eq!(pipeline.tasks[4].env, pairs(&[("X", "1"), ("Y", "2")]));
    assert!(pipeline.tasks[5].is_marker());
}

#[test]
fn merged_tasks_stand_where_the_merge_key_stands() {
    let (complaints, pipelines) = read(
        "pipelines:\n  one: {tasks: &tasks {a: , b: {script: x}, c: }}\n  two: {tasks: {first: , <<: *tasks, b: {script: y}}}\n",
    );
    assert_eq!(complaints, Vec::<String>::new());
    assert_eq!(names(&pipelines[1]), ["first", "a", "c", "b"]);
    assert_eq!(pipelines[1].tasks[3].script, script(&["y"]));
}

#[test]
fn block_scalars_byte_order_mark_and_crlf() {
    let yaml = "# c\npipelines:\n  p:\n    tasks:\n      t: # comment\n        script:\n          - |\n            if x; then\n              \
                y\n            fi\n          - >\n            one\n            two\n          - |-\n            last\n";
    let expected = script(&["if x; then\n  y\nfi\n", "one two\n", "last"]);
    assert_eq!(only(yaml).tasks[0].script, expected);
    assert_eq!(only(&format!("\u{feff}{yaml}")).tasks[0].script, expected);
    assert_eq!(only(&yaml.replace('\n', "\r\n")).tasks[0].script, expected);
    assert_eq!(
        only(&format!("\u{feff}{}", yaml.replace('\n', "\r\n"))).tasks[0].script,
        expected
    );
    assert_eq!(only(&format!("---\n{yaml}...\n")).tasks[0].script, expected);
}
