//! Every check: what is said about what is wrong.

use std::fmt::Write;

use super::{check_file, check_pipeline, check_task, names, only, pipeline_text, read, with_keys};

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
fn ended_jobs_can_be_seen() {
    check_pipeline(
        "{retention_period: 0, tasks: {}}",
        &["E has `retention_period: 0`; expected some time, so that the end of a job can be seen"],
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
             `retention_period`, `retention_count`, `env`, `on_error`, `shell`, `delimiters`, `timeout`, `stop_signal`, \
             `kill_grace`, `log_limit`, `variables`, `strict_variables`, `deduplicate`, `merge_variables`, `interrupt_running`, `schedules`",
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
    let tasks: Vec<String> = (0..23)
        .map(|number| format!("t{number}: {{depends_on: t{}}}", (number + 1) % 23))
        .collect();
    let names: Vec<String> = (0..20).map(|number| format!("t{number}")).collect();
    check_pipeline(
        &format!("tasks: {{{}}}", tasks.join(", ")),
        &[&format!("{CIRCLE} `{} -> … 3 more … -> t0`", names.join(" -> "))],
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
            "E task `on_error` of pipeline `p` has the key `depends_on`, but it runs after all others, and its own failure \
             changes nothing; remove it",
            "E task `on_error` of pipeline `p` has the key `allow_failure`, but it runs after all others, and its own \
             failure changes nothing; remove it",
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
        writeln!(
            yaml,
            "  some_longer_task_name_{task}: {{depends_on: some_longer_name_of_a_task_{task}}}"
        )
        .unwrap();
    }
    assert_eq!(read(&pipeline_text(&yaml)).0.len(), 10_000);
}
