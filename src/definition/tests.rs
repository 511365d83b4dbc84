//! Definitions in, pipelines or complaints out: every key, every check, and YAML as real files use it.

use std::path::{Path, PathBuf};

use super::check;
use super::fields::Findings;
use super::parse::parse;
use super::{Pipeline, Queue, Task};
use crate::template::{Delimiters, Template};

/// The complaints as they are printed, errors marked `E`, warnings `W`, and the pipelines without errors.
fn read(yaml: &str) -> (Vec<String>, Vec<Pipeline>) {
    let mut findings = Findings::new();
    let mut complaints = Vec::new();
    let mut pipelines = Vec::new();
    match parse(yaml.as_bytes()) {
        Ok(root) => {
            let checked = check::check(Path::new("p.yml"), &root, &mut findings);
            pipelines.extend(checked.into_iter().filter_map(|checked| checked.pipeline));
        }
        Err(message) => complaints.push(format!("E p.yml: {message}")),
    }
    complaints.extend(findings.errors.iter().map(|complaint| format!("E {complaint}")));
    complaints.extend(findings.warnings.iter().map(|complaint| format!("W {complaint}")));
    (complaints, pipelines)
}

/// The only pipeline of a file without complaints.
#[track_caller]
fn only(yaml: &str) -> Pipeline {
    let (complaints, mut pipelines) = read(yaml);
    assert_eq!(complaints, Vec::<String>::new(), "{yaml}");
    assert_eq!(pipelines.len(), 1, "{yaml}");
    pipelines.remove(0)
}

/// A pipeline `p` with these keys, in flow or block style.
#[track_caller]
fn with_keys(keys: &str) -> Pipeline {
    only(&pipeline_text(keys))
}

fn pipeline_text(keys: &str) -> String {
    let indented: String = keys.lines().map(|line| format!("    {line}\n")).collect();
    format!("pipelines:\n  p:\n{indented}")
}

/// The only task `t` of a pipeline, with these keys in flow style.
#[track_caller]
fn with_task(keys: &str) -> Task {
    with_keys(&format!("tasks: {{t: {{{keys}}}}}")).tasks.remove(0)
}

#[track_caller]
fn check_file(yaml: &str, expected: &[&str]) {
    assert_eq!(read(yaml).0, expected, "{yaml}");
}

/// What is said about pipeline `p` with these keys.
#[track_caller]
fn check_pipeline(keys: &str, expected: &[&str]) {
    let expected: Vec<String> = expected
        .iter()
        .map(|expected| {
            let (mark, message) = expected.split_at(2);
            if message.starts_with("task ") {
                format!("{mark}p.yml: {message}")
            } else {
                format!("{mark}p.yml: pipeline `p` {message}")
            }
        })
        .collect();
    assert_eq!(read(&pipeline_text(keys)).0, expected, "{keys}");
}

/// What is said about task `t` of pipeline `p` with these keys, in flow style.
#[track_caller]
fn check_task(keys: &str, expected: &[&str]) {
    let expected: Vec<String> = expected
        .iter()
        .map(|expected| {
            let (mark, message) = expected.split_at(2);
            format!("{mark}p.yml: task `t` of pipeline `p` {message}")
        })
        .collect();
    let keys = format!("tasks: {{t: {{{keys}}}}}");
    assert_eq!(read(&pipeline_text(&keys)).0, expected, "{keys}");
}

fn script(lines: &[&str]) -> Vec<Template> {
    lines
        .iter()
        .map(|line| Template::parse(line, Delimiters::Both).unwrap())
        .collect()
}

fn names(pipeline: &Pipeline) -> Vec<&str> {
    pipeline.tasks.iter().map(|task| task.name.as_ref()).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

// Pipelines without a mistake.

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
        assert_eq!(pipeline.file, PathBuf::from("p.yml"));
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
        r##"script: ["\n  # a\n\t# b\n", " "]"##,
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
        yaml += &format!("  t{task}: {{{depends_on}}}\n");
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
        complaints[0].ends_with("t1 -> t0 -> t9999`"),
        "{}",
        &complaints[0][complaints[0].len() - 100..]
    );
}

#[test]
fn a_marker_that_waits_for_thousands() {
    let mut yaml = "tasks:\n  all:\n    depends_on:\n".to_owned();
    for task in 0..10_000 {
        yaml += &format!("    - t{task}\n");
    }
    for task in 0..10_000 {
        yaml += &format!("  t{task}:\n");
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

// Mistakes.

#[test]
fn mistakes_in_the_file() {
    check_file(
        "pipelines: {}\n---\npipelines: {}\n",
        &["E p.yml: not valid YAML: the file holds several documents, separated by `---`; expected one"],
    );
    check_file(
        "pipelines:\n  a: b\n   c: d\n",
        &["E p.yml: not valid YAML: mapping values are not allowed in this context at line 3 column 5"],
    );
    check_file(
        "pipelines: *nothing",
        &["E p.yml: not valid YAML: unknown anchor at line 1 column 12"],
    );
    check_file(
        "[a]",
        &["E p.yml: has a list as the file; expected a mapping with the key `pipelines`"],
    );
    check_file(
        "pipelines: [a]",
        &["E p.yml: has a list as `pipelines`; expected a mapping of names to pipelines"],
    );
    check_file(
        "pipeline: {a: {}}",
        &["W p.yml: has the unknown key `pipeline`, which is ignored; did you mean `pipelines`?"],
    );
    check_file(
        "{defaults: {a: 1, b: [{a: 1, a: 2}]}, pipelines: {}}",
        &[
            "E p.yml: has the key `a` twice; remove or rename one of them",
            "W p.yml: has the unknown key `defaults`, which is ignored; expected one of `pipelines`",
        ],
    );
}

#[test]
fn duplicate_keys() {
    check_file(
        "pipelines: {a: {}, b: {}, a: {}}",
        &["E p.yml: has the key `a` twice; remove or rename one of them"],
    );
    check_pipeline(
        "{concurrency: 1, concurrency: 2, tasks: {t: , t: , t: }}",
        &[
            "E has the key `concurrency` twice; remove or rename one of them",
            "E has the key `t` twice; remove or rename one of them",
        ],
    );
    check_pipeline(
        "tasks: {1: , '1': }",
        &["E has the key `1` twice; remove or rename one of them"],
    );
    check_task(
        "env: {A: 1, A: 1}",
        &["E has the key `A` twice; remove or rename one of them"],
    );
    check_pipeline(
        "tasks: {t: &t {script: a}, u: {<<: *t, <<: *t}}",
        &["E task `u` of pipeline `p` has the key `<<` twice; merge several mappings as `<<: [*a, *b]`"],
    );
}

#[test]
fn bad_merges_and_keys() {
    check_task(
        "<<: a",
        &["E merges `a` with `<<`; expected a mapping or a list of mappings"],
    );
    check_task(
        "<<: [[a]]",
        &["E merges a list inside a list with `<<`; expected a mapping or a list of mappings"],
    );
    check_pipeline(
        "tasks: {{{ .x }}: {script: a}}",
        &["E has a mapping as a key; expected a name: quote the text if it begins with `{`"],
    );
    check_task(
        "? [a]\n: b",
        &["E has a list as a key; expected a name: quote it if it is one"],
    );
    check_file(
        "pipelines: {p: !secret {tasks: }}",
        &[
            "E p.yml: not valid YAML: pipelines.p: the tag `!secret` is not known; where a text begins with `!`, quote it at line 1 column 16",
        ],
    );
}

#[test]
fn unknown_keys() {
    check_pipeline(
        "{retention_period_hours: 72, tasks: {t: {scripts: [make]}}, on_error: {shel: sh}, prio: }",
        &[
            "W has the unknown key `retention_period_hours`, which is ignored; did you mean `retention_period`?",
            "W has the unknown key `prio`, which is ignored; expected one of `tasks`, `concurrency`, `queue_limit`, \
             `queue_strategy`, `queue_partition_limit`, `start_delay`, `continue_running_tasks_after_failure`, \
             `retention_period`, `retention_count`, `env`, `on_error`, `shell`, `delimiters`",
            "W task `on_error` of pipeline `p` has the unknown key `shel`, which is ignored; did you mean `shell`?",
            "W task `t` of pipeline `p` has the unknown key `scripts`, which is ignored; did you mean `script`?",
        ],
    );
    check_task(
        "dependsOn: a",
        &["W has the unknown key `dependsOn`, which is ignored; did you mean `depends_on`?"],
    );
}

#[test]
fn wrong_integers() {
    const MOST: &str =
        "E has the number `9223372036854775808` as `queue_limit`; expected an integer of at most 9223372036854775807";
    check_pipeline(
        "concurrency: many",
        &["E has the text `many` as `concurrency`; expected an integer of at least 1"],
    );
    check_pipeline(
        "concurrency: 0",
        &["E has the number `0` as `concurrency`; expected an integer of at least 1"],
    );
    check_pipeline(
        "concurrency: '2'",
        &["E has the text `2` as `concurrency`; expected an integer of at least 1, without quotes"],
    );
    check_pipeline(
        "concurrency: [2]",
        &["E has a list as `concurrency`; expected an integer of at least 1"],
    );
    check_pipeline(
        "queue_limit: -1",
        &["E has the number `-1` as `queue_limit`; expected an integer of at least 0"],
    );
    check_pipeline(
        "queue_limit: 1.5",
        &["E has the number `1.5` as `queue_limit`; expected an integer of at least 0"],
    );
    check_pipeline(
        "queue_limit: true",
        &["E has the boolean `true` as `queue_limit`; expected an integer of at least 0"],
    );
    check_pipeline("queue_limit: 9223372036854775808", &[MOST]);
    check_pipeline(
        "retention_count: 0",
        &["E has the number `0` as `retention_count`; expected an integer of at least 1"],
    );
    check_pipeline(
        "{queue_partition_limit: 0, queue_strategy: partitioned_replace}",
        &["E has the number `0` as `queue_partition_limit`; expected an integer of at least 1"],
    );
    assert_eq!(with_keys("concurrency: 0x10").concurrency, 16);
    assert_eq!(with_keys("concurrency: +3").concurrency, 3);
}

#[test]
fn wrong_booleans() {
    const KEY: &str = "continue_running_tasks_after_failure";
    check_pipeline(
        &format!("{KEY}: True"),
        &[&format!(
            "E has the boolean `True` as `{KEY}`; expected `true` or `false`"
        )],
    );
    check_task(
        "allow_failure: yes",
        &["E has the text `yes` as `allow_failure`; expected `true` or `false`"],
    );
    check_task(
        "allow_failure: 1",
        &["E has the number `1` as `allow_failure`; expected `true` or `false`"],
    );
    check_task(
        "allow_failure: 'true'",
        &["E has the text `true` as `allow_failure`; expected `true` or `false`"],
    );
}

#[test]
fn wrong_durations() {
    check_pipeline(
        "start_delay: 10",
        &[
            "E has the `start_delay` `10`, which has no unit behind `10`; expected `ms`, `s`, `m`, `h` or `d`, as in `10s`",
        ],
    );
    check_pipeline(
        "retention_period: '72'",
        &[
            "E has the `retention_period` `72`, which has no unit behind `72`; expected `ms`, `s`, `m`, `h` or `d`, as in `72s`",
        ],
    );
    check_pipeline(
        "retention_period: 2w",
        &["E has the `retention_period` `2w`, whose unit `w` is not known; expected `ms`, `s`, `m`, `h` or `d`"],
    );
    check_pipeline(
        "start_delay: [1s]",
        &["E has a list as `start_delay`; expected a duration such as `10s`, `1h30m` or `2d`"],
    );
    check_pipeline(
        "start_delay: 300000d",
        &["E has the `start_delay` `300000d`, which is too long; expected at most `106751d`"],
    );
    assert_eq!(with_keys("start_delay: 0").start_delay_ms, 0);
}

#[test]
fn queue_keys_that_do_not_go_together() {
    check_pipeline(
        "queue_strategy: repalce",
        &[
            "E has the text `repalce` as `queue_strategy`; expected one of `append`, `replace`, `partitioned_replace`; did you mean `replace`?",
        ],
    );
    check_pipeline(
        "queue_strategy: [append]",
        &["E has a list as `queue_strategy`; expected one of `append`, `replace`, `partitioned_replace`"],
    );
    check_pipeline(
        "{queue_strategy: partitioned_replace, queue_limit: 1, queue_partition_limit: 1}",
        &[
            "E has a `queue_limit` with `queue_strategy: partitioned_replace`, which counts by partition; use \
           `queue_partition_limit` alone",
        ],
    );
    check_pipeline(
        "queue_strategy: partitioned_replace",
        &[
            "E has `queue_strategy: partitioned_replace` without `queue_partition_limit`; expected an integer of at least 1, \
           the places of a partition",
        ],
    );
    for keys in [
        "queue_partition_limit: 2",
        "{queue_partition_limit: 2, queue_strategy: replace, queue_limit: 1}",
    ] {
        check_pipeline(
            keys,
            &[
                "E has a `queue_partition_limit` without `queue_strategy: partitioned_replace`, and only that knows \
               partitions; set it or remove the limit",
            ],
        );
    }
    for keys in [
        "{start_delay: 1s, queue_limit: 0}",
        "{start_delay: 1s, queue_limit: 0, queue_strategy: replace}",
    ] {
        check_pipeline(
            keys,
            &[
                "E has both a `start_delay` and `queue_limit: 0`, but a job that is delayed has to wait; remove one or raise \
               the limit",
            ],
        );
    }
}

#[test]
fn wrong_environments() {
    check_pipeline(
        "env: [A=b]",
        &["E has a list as `env`; expected a mapping of names to values"],
    );
    check_task(
        "env: {A: [b], B: {c: d}}",
        &[
            "E has a list as `A` in `env`; expected a string, a number or a boolean: quote it if it is a text",
            "E has a mapping as `B` in `env`; expected a string, a number or a boolean: quote it if it is a text",
        ],
    );
    check_task(
        r#"env: {"": a, "A=": b, "A\0": c}"#,
        &[
            "E has the name `` in `env`; expected one that is not empty and holds neither `=` nor NUL",
            "E has the name `A=` in `env`; expected one that is not empty and holds neither `=` nor NUL",
            "E has the name `A\\u{0}` in `env`; expected one that is not empty and holds neither `=` nor NUL",
        ],
    );
    check_task(
        r#"env: {A: "\0"}"#,
        &["E has a NUL in the value of `A` in `env`; expected a text without, for no process can be given one"],
    );
    check_pipeline(
        "on_error: {env: a}",
        &["E task `on_error` of pipeline `p` has the text `a` as `env`; expected a mapping of names to values"],
    );
}

#[test]
fn wrong_shells() {
    const NO_PROGRAM: &str = "E names no program in `shell`; expected one such as `bash` or `[bash, -o, pipefail]`";
    check_pipeline("shell: []", &[NO_PROGRAM]);
    check_pipeline("shell: ''", &[NO_PROGRAM]);
    check_task("shell: ['', a]", &[NO_PROGRAM]);
    check_task(
        "shell: [bash, ~]",
        &["E has null as item 2 of `shell`; expected a string: quote the line"],
    );
    check_task(
        "shell: {a: b}",
        &["E has a mapping as `shell`; expected a string or a list of strings: quote the line"],
    );
    check_task(
        "shell: 5",
        &["E has the number `5` as `shell`; expected a string or a list of strings: quote the line"],
    );
    check_task(r#"shell: "a\0""#, &["E has a NUL in `shell`; expected a text without"]);
}

#[test]
fn wrong_delimiters() {
    const EXPECTED: &str = r#"expected `["<<", ">>"]` or `["{{", "}}"]`"#;
    for (found, described) in [
        (r#"["<<", "}}"]"#, r#"`["<<", "}}"]`"#),
        (r#"["[[", "]]"]"#, r#"`["[[", "]]"]`"#),
        (r#"["<<"]"#, "a list"),
        (r#""<<""#, "the text `<<`"),
    ] {
        check_pipeline(
            &format!("delimiters: {found}"),
            &[&format!("E has {described} as `delimiters`; {EXPECTED}")],
        );
    }
}

#[test]
fn wrong_scripts() {
    check_task(
        "script: [make, ~, , 5, {{ .x }}, echo << .x >>: y, [a]]"
            .replace(", ,", ", '',")
            .as_str(),
        &[
            "E has null as item 2 of `script`; expected a string: quote the line",
            "E has the number `5` as item 4 of `script`; expected a string: quote the line",
            "E has a mapping as item 5 of `script`; expected a string: quote the line",
            "E has a mapping as item 6 of `script`; expected a string: quote the line",
            "E has a list as item 7 of `script`; expected a string: quote the line",
        ],
    );
    check_pipeline(
        "tasks:\n  t:\n    script:\n    - {{ .x }}\n    - echo << .x >>: y\n    - << .x >>: y\n    -\n",
        &[
            "E task `t` of pipeline `p` has a mapping as item 1 of `script`; expected a string: quote the line",
            "E task `t` of pipeline `p` has a mapping as item 2 of `script`; expected a string: quote the line",
            "E task `t` of pipeline `p` has a mapping as item 3 of `script`; expected a string: quote the line",
            "E task `t` of pipeline `p` has null as item 4 of `script`; expected a string: quote the line",
        ],
    );
    check_task(
        "script: {x: y}",
        &["E has a mapping as `script`; expected a string or a list of strings: quote the line"],
    );
    check_task(
        "script: true",
        &["E has the boolean `true` as `script`; expected a string or a list of strings: quote the line"],
    );
    check_task(
        r#"script: ["a\0", b]"#,
        &["E has a NUL in line 1 of its script; expected a text without"],
    );
}

#[test]
fn backslashes_at_the_end() {
    const WHY: &str = "but each line runs by itself; to go on in the next, write both as one with `|` or `>`";
    check_task(
        r"script: ['make \', all]",
        &[&format!("E has a backslash at the end of line 1 of its script, {WHY}")],
    );
    check_task(
        r#"script: "make \\\n""#,
        &[&format!("E has a backslash at the end of its script, {WHY}")],
    );
    check_pipeline(
        r"on_error: {script: 'make \'}",
        &[&format!(
            "E task `on_error` of pipeline `p` has a backslash at the end of its script, {WHY}"
        )],
    );
}

#[test]
fn mistakes_in_templates() {
    for (keys, place) in [
        (r#"script: "{{ if .x }}echo""#, "its script"),
        (
            r#"script: [make, "{{ range .x }}{{ . }}{{ end }}"]"#,
            "line 2 of its script",
        ),
        (r#"script: ["<< if .x >>"]"#, "line 1 of its script"),
    ] {
        let (complaints, pipelines) = read(&pipeline_text(&format!("tasks: {{t: {{{keys}}}}}")));
        assert_eq!(complaints.len(), 1, "{keys}: {complaints:?}");
        let expected = format!("E p.yml: task `t` of pipeline `p` has a mistake in {place}: ");
        assert!(complaints[0].starts_with(&expected), "{complaints:?}");
        assert!(pipelines.is_empty());
    }
}

#[test]
fn doubts_about_templates() {
    let (complaints, pipelines) = read(&pipeline_text("tasks: {t: {script: [make, 'echo << .x | qoute >>']}}"));
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    let expected = "W p.yml: task `t` of pipeline `p` has something doubtful in line 2 of its script: ";
    assert!(complaints[0].starts_with(expected), "{complaints:?}");
    assert_eq!(pipelines.len(), 1);
}

#[test]
fn wrong_definitions() {
    check_file(
        "pipelines: {p: make}",
        &["E p.yml: pipeline `p` has the text `make` as its definition; expected a mapping with the key `tasks`"],
    );
    check_pipeline(
        "tasks: [a]",
        &["E has a list as `tasks`; expected a mapping of names to tasks"],
    );
    check_pipeline(
        "{tasks: {t: make}, on_error: notify}",
        &[
            "E task `on_error` of pipeline `p` has the text `notify` as its definition; expected a mapping with the key `script`",
            "E task `t` of pipeline `p` has the text `make` as its definition; expected a mapping with the key `script`",
        ],
    );
}

#[test]
fn wrong_dependencies() {
    check_pipeline(
        "tasks: {lint: , build: {depends_on: [lnt, lint, deploy, lnt]}}",
        &[
            "E task `build` of pipeline `p` depends on `lnt`, which is not defined; did you mean `lint`?",
            "E task `build` of pipeline `p` depends on `deploy`, which is not defined",
        ],
    );
    check_task("depends_on: t", &["E depends on itself; remove that from `depends_on`"]);
    check_task("depends_on: T", &["E depends on `T`, which is not defined"]);
    check_task(
        "depends_on: [~]",
        &["E has null as item 1 of `depends_on`; expected a string"],
    );
    check_task(
        "depends_on: {a: b}",
        &["E has a mapping as `depends_on`; expected a string or a list of strings"],
    );
    // What else is wrong with a task keeps nobody from seeing its dependencies.
    check_pipeline(
        "tasks: {a: {script: 5, depends_on: x}, b: {depends_on: a}}",
        &[
            "E task `a` of pipeline `p` has the number `5` as `script`; expected a string or a list of strings: quote the line",
            "E task `a` of pipeline `p` depends on `x`, which is not defined",
        ],
    );
}

#[test]
fn circles() {
    const CIRCLE: &str = "E has tasks that depend on each other in a circle, so that none can start first:";
    check_pipeline(
        "tasks: {a: {depends_on: b}, b: {depends_on: a}}",
        &[&format!("{CIRCLE} `a -> b -> a`")],
    );
    check_pipeline(
        "tasks: {x: {depends_on: b}, a: {depends_on: c}, b: {depends_on: a}, c: {depends_on: b}, d: {depends_on: e}, e: {depends_on: d}}",
        &[
            &format!("{CIRCLE} `a -> c -> b -> a`"),
            &format!("{CIRCLE} `d -> e -> d`"),
        ],
    );
}

#[test]
fn names_of_tasks() {
    #[track_caller]
    fn check(name: &str, found: Option<&str>) {
        let expected: Vec<String> = found
            .map(|found| {
                format!(
                    "has a name that {found}, but its logs are named after it; expected a file name of at most 200 bytes \
                     without `/` and control characters"
                )
            })
            .into_iter()
            .collect();
        let (complaints, _) = read(&pipeline_text(&format!("tasks: {{\"{name}\": }}")));
        let messages: Vec<&str> = complaints
            .iter()
            .map(|complaint| complaint.split_once(" of pipeline `p` ").unwrap().1)
            .collect();
        assert_eq!(messages, expected, "{name}");
    }
    check("", Some("is empty"));
    check(".", Some("is `.`"));
    check("..", Some("is `..`"));
    check("../up", Some("holds a `/`"));
    check("a\\nb", Some("holds a control character"));
    check("a\\0", Some("holds a control character"));
    check(&"x".repeat(201), Some("has 201 bytes"));
    check(&"ä".repeat(101), Some("has 202 bytes"));
    check(&"x".repeat(200), None);
    check("... a b:ü", None);
}

#[test]
fn names_of_pipelines() {
    const UNUSABLE: &str =
        "has a name that can't be used; expected one that is not empty and has no control characters";
    check_file("pipelines: {'': {}}", &[&format!("E p.yml: pipeline `` {UNUSABLE}")]);
    check_file(
        r#"pipelines: {"a\tb": {}}"#,
        &[&format!("E p.yml: pipeline `a\\tb` {UNUSABLE}")],
    );
    assert_eq!(only("pipelines: {'a/b c ü': {}}").name.as_ref(), "a/b c ü");
    assert_eq!(only("pipelines: {1.10: {}}").name.as_ref(), "1.10");
}

#[test]
fn what_on_error_may_not_have() {
    check_pipeline(
        "{tasks: {t: }, on_error: {depends_on: [t], allow_failure: false}}",
        &[
            "E task `on_error` of pipeline `p` has the key `depends_on`, but it runs once, after all others; expected \
             `script`, `env` and `shell` alone",
            "E task `on_error` of pipeline `p` has the key `allow_failure`, but it runs once, after all others; expected \
             `script`, `env` and `shell` alone",
        ],
    );
    check_pipeline(
        "{tasks: {on_error: }, on_error: {}}",
        &[
            "E task `on_error` of pipeline `p` has the name of the task that runs after a failure, which the pipeline has too; \
           rename it",
        ],
    );
    assert_eq!(names(&with_keys("{tasks: {on_error: }, on_error: }")), ["on_error"]);
}

#[test]
fn many_unknown_names_are_told_quickly() {
    let mut yaml = "tasks:\n".to_owned();
    for task in 0..10_000 {
        yaml += &format!("  some_longer_task_name_{task}: {{depends_on: some_longer_name_of_a_task_{task}}}\n");
    }
    assert_eq!(read(&pipeline_text(&yaml)).0.len(), 10_000);
}

// Files as users have them.

#[test]
fn sample_deployment() {
    let (complaints, pipelines) = read(include_str!("../../tests/samples/deploy.yml"));
    assert_eq!(complaints, Vec::<String>::new());
    assert_eq!(pipelines.len(), 2);
    let deploy = &pipelines[0];
    assert_eq!(names(deploy), ["lint", "test", "build", "upload", "smoke"]);
    assert_eq!(deploy.queue, Queue::Append { limit: Some(0) });
    assert_eq!(deploy.env, pairs(&[("TARGET", "/srv/app"), ("RELEASES", "5")]));
    assert_eq!(deploy.tasks[2].depends_on, [0, 1]);
    assert_eq!(deploy.tasks[2].script.len(), 1);
    assert_eq!(deploy.tasks[3].depends_on, [2]);
    assert!(deploy.tasks[4].allow_failure);
    assert_eq!(deploy.on_error.as_ref().unwrap().script.len(), 1);
    let import = &pipelines[1];
    assert_eq!(import.queue, Queue::PartitionedReplace { limit: 2 });
    assert_eq!(import.start_delay_ms, 2_000);
    assert_eq!(import.retention_period_ms, Some(48 * 3_600_000));
    assert!(import.continue_running_tasks_after_failure);
}

#[test]
fn sample_content_release() {
    let (complaints, pipelines) = read(include_str!("../../tests/samples/content-release.yml"));
    assert_eq!(complaints, Vec::<String>::new());
    assert_eq!(pipelines.len(), 2);
    assert_eq!(pipelines[0].tasks.len(), 13);
    assert_eq!(pipelines[0].queue, Queue::Replace { limit: 1 });
    assert_eq!(
        pipelines[0].tasks[3].script,
        script(&["./site render:orchestrate {{ .releaseId }}"])
    );
    assert_eq!(
        names(&pipelines[1]),
        [
            "prepare_finished",
            "enumerate_finished",
            "render_orchestrator",
            "render_1",
            "render_2",
            "render_finished",
            "validate_content",
            "validate_finished",
            "transfer"
        ]
    );
    assert_eq!(pipelines[1].tasks[2].script, pipelines[0].tasks[3].script);
    assert!(pipelines[1].tasks[5].is_marker());
}

#[test]
fn sample_with_one_mistake_each() {
    let (complaints, pipelines) = read(include_str!("../../tests/samples/broken.yml"));
    let expected = [
        "E p.yml: task `test` of pipeline `dangling` depends on `render_finishd`, which is not defined; did you mean \
         `render_finished`?",
        "E p.yml: pipeline `cycle` has tasks that depend on each other in a circle, so that none can start first: \
         `a -> c -> b -> a`",
        "E p.yml: task `a` of pipeline `self` depends on itself",
        "E p.yml: pipeline `no_unit` has the `start_delay` `10`, which has no unit",
        "E p.yml: pipeline `wrong_type` has the text `many` as `concurrency`; expected an integer",
        "E p.yml: task `a` of pipeline `wrong_type` has a mapping as `script`; expected a string or a list of strings",
        "E p.yml: pipeline `zero` has the number `0` as `concurrency`; expected an integer of at least 1",
        "E p.yml: pipeline `partition_without_strategy` has a `queue_partition_limit` without",
        "E p.yml: pipeline `delay_without_queue` has both a `start_delay` and `queue_limit: 0`",
        "E p.yml: task `a` of pipeline `open_if` has a mistake in line 1 of its script: ",
        "E p.yml: task `a` of pipeline `range` has a mistake in line 1 of its script: ",
        "E p.yml: task `../up` of pipeline `escape` has a name that holds a `/`",
        "W p.yml: pipeline `typo` has the unknown key `retention_period_hours`, which is ignored; did you mean \
         `retention_period`?",
        "W p.yml: task `a` of pipeline `typo` has the unknown key `scripts`, which is ignored; did you mean `script`?",
    ];
    for (complaint, expected) in complaints.iter().zip(expected) {
        assert!(
            complaint.starts_with(expected),
            "expected {expected}\nin {complaints:#?}"
        );
    }
    assert_eq!(complaints.len(), expected.len(), "{complaints:#?}");
    assert_eq!(pipelines.len(), 1, "the one with warnings alone");
}
