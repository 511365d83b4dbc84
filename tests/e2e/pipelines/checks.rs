//! What is said about what is wrong: by `validate`, at the start and at a reload.

use serde_json::json;

use crate::space::{TestSpace, eventually};
use crate::tools::send_signal;

/// The complaints of `validate` about a file, without its name, and its status with and without `--lenient`.
#[track_caller]
fn check(space: &TestSpace, text: &str, statuses: [i32; 2], expected: &[&str]) {
    space.write("p.yml", text);
    let strict = space.run(&["validate", "p.yml"]);
    let lenient = space.run(&["validate", "--lenient", "p.yml"]);
    let found = [&strict, &lenient].map(|output| output.status.code().unwrap());
    let stdout = String::from_utf8(strict.stdout).unwrap();
    assert_eq!(found, statuses, "{text}: {stdout}");
    let lines: Vec<String> = stdout
        .lines()
        .filter(|line| line.starts_with("error: ") || line.starts_with("warning: "))
        .map(|line| line.replacen("p.yml: ", "", 1))
        .collect();
    assert_eq!(lines.len(), expected.len(), "{text}: {stdout}");
    for (line, expected) in lines.iter().zip(expected) {
        let matches = match expected.split_once('…') {
            None => line == expected,
            Some((start, end)) => line.starts_with(start) && line.ends_with(end),
        };
        assert!(matches, "{text}:\n{line}\n{expected}");
    }
}

/// One error in a pipeline `p` with these keys.
#[track_caller]
fn check_pipeline(space: &TestSpace, keys: &str, expected: &str) {
    let text = format!("pipelines:\n  p: {keys}\n");
    check(space, &text, [1, 1], &[&format!("error: {expected}")]);
}

/// One error in a task `t` with these keys.
#[track_caller]
fn check_task(space: &TestSpace, keys: &str, expected: &str) {
    let text = format!("pipelines:\n  p:\n    tasks:\n      t: {{{keys}}}\n");
    check(
        space,
        &text,
        [1, 1],
        &[&format!("error: task `t` of pipeline `p` {expected}")],
    );
}

#[test]
fn errors_in_files() {
    let space = TestSpace::new("");
    check(&space, "", [0, 0], &[]);
    check(&space, "pipelines: {}", [0, 0], &[]);
    let documents = "error: not valid YAML: the file holds several documents, separated by `---`; expected one";
    check(&space, "pipelines: {}\n---\npipelines: {}\n", [1, 1], &[documents]);
    check(&space, "pipelines: [", [1, 1], &["error: not valid YAML: …"]);
    check(
        &space,
        "pipelines: {a: {}, a: {}}",
        [1, 1],
        &["error: has the key `a` twice;…"],
    );
    check_pipeline(&space, "{tasks: {t: , t: }}", "pipeline `p` has the key `t` twice;…");
}

#[test]
fn errors_in_pipelines() {
    let space = TestSpace::new("");
    for (keys, expected) in [
        (
            "{concurrency: 0}",
            "has the number `0` as `concurrency`; expected an integer of at least 1",
        ),
        (
            "{concurrency: x}",
            "has the text `x` as `concurrency`; expected an integer of at least 1",
        ),
        (
            "{queue_limit: -1}",
            "has the number `-1` as `queue_limit`; expected an integer of at least 0",
        ),
        (
            "{retention_count: 0}",
            "has the number `0` as `retention_count`; expected an integer of at least 1",
        ),
        (
            "{queue_strategy: partitioned_replace, queue_partition_limit: 0}",
            "has the number `0` as `queue_partition_limit`; expected an integer of at least 1",
        ),
        (
            "{queue_strategy: repalce}",
            "has the text `repalce` as `queue_strategy`; expected one of…; did you mean `replace`?",
        ),
        (
            "{queue_strategy: partitioned_replace, queue_partition_limit: 1, queue_limit: 1}",
            "has a `queue_limit` with `queue_strategy: partitioned_replace`…",
        ),
        (
            "{queue_partition_limit: 1}",
            "has a `queue_partition_limit` without `queue_strategy: partitioned_replace`…",
        ),
        (
            "{queue_strategy: partitioned_replace}",
            "has `queue_strategy: partitioned_replace` without `queue_partition_limit`…",
        ),
        (
            "{queue_limit: 0, start_delay: 1s}",
            "has both a `start_delay` and `queue_limit: 0`…",
        ),
        (
            "{start_delay: 10}",
            "has the `start_delay` `10`, which has no unit behind `10`; expected `ms`, `s`, `m`, `h` or `d`, as in `10s`",
        ),
        (
            "{retention_period: 2w}",
            "has the `retention_period` `2w`, whose unit `w` is not known…",
        ),
        (
            "{continue_running_tasks_after_failure: yes}",
            "has the text `yes` as `continue_running_tasks_after_failure`; expected `true` or `false`",
        ),
        ("{shell: []}", "names no program in `shell`…"),
        ("{shell: ''}", "names no program in `shell`…"),
        (
            "{delimiters: ['<<', '}}']}",
            "has `[\"<<\", \"}}\"]` as `delimiters`; expected…",
        ),
        ("{env: {'': a}}", "has the name `` in `env`…"),
        ("{env: {'A=': a}}", "has the name `A=` in `env`…"),
        ("{env: {A: [b]}}", "has a list as `A` in `env`…"),
        ("{env: {A: {b: c}}}", "has a mapping as `A` in `env`…"),
        ("{env: {A: \"\\0\"}}", "has a NUL in the value of `A` in `env`…"),
        ("{env: [A]}", "has a list as `env`…"),
        ("{tasks: [a]}", "has a list as `tasks`…"),
        (
            "{tasks: {a: {depends_on: b}, b: {depends_on: a}}}",
            "has tasks that depend on each other in a circle…`a -> b -> a`",
        ),
    ] {
        check_pipeline(&space, keys, &format!("pipeline `p` {expected}"));
    }
    for (keys, expected) in [
        (
            "{on_error: {depends_on: [a]}}",
            "task `on_error` of pipeline `p` has the key `depends_on`…",
        ),
        (
            "{on_error: {allow_failure: false}}",
            "task `on_error` of pipeline `p` has the key `allow_failure`…",
        ),
        (
            "{tasks: {on_error: }, on_error: {script: a}}",
            "task `on_error` of pipeline `p` has the name of the task that runs after a failure…",
        ),
        (
            "{tasks: {lint: , a: {depends_on: lnt}}}",
            "task `a` of pipeline `p` depends on `lnt`, which is not defined; did you mean `lint`?",
        ),
        ("{tasks: {'': }}", "task `` of pipeline `p` has a name that is empty…"),
        ("{tasks: {'.': }}", "task `.` of pipeline `p` has a name that is `.`…"),
        (
            "{tasks: {'..': }}",
            "task `..` of pipeline `p` has a name that is `..`…",
        ),
        (
            "{tasks: {'a/b': }}",
            "task `a/b` of pipeline `p` has a name that holds a `/`…",
        ),
        (
            "{tasks: {\"a\\tb\": }}",
            "task `a\\tb` of pipeline `p` has a name that holds a control character…",
        ),
    ] {
        check_pipeline(&space, keys, expected);
    }
    let long = "x".repeat(201);
    let text = format!("pipelines: {{p: {{tasks: {{{long}: }}}}}}");
    check(
        &space,
        &text,
        [1, 1],
        &["error: task `xxx…expected a file name of at most 200 bytes without `/` and control characters"],
    );
}

#[test]
fn errors_in_tasks() {
    let space = TestSpace::new("");
    for (keys, expected) in [
        ("depends_on: t", "depends on itself;…"),
        ("depends_on: u", "depends on `u`, which is not defined"),
        (
            "allow_failure: 1",
            "has the number `1` as `allow_failure`; expected `true` or `false`",
        ),
        ("script: 5", "has the number `5` as `script`…"),
        (
            "script: [a, ~]",
            "has null as item 2 of `script`; expected a string: quote the line",
        ),
        (
            "script: [{{ .x }}]",
            "has a mapping as item 1 of `script`; expected a string: quote the line",
        ),
        (
            "script: ['echo << .x >>': y]",
            "has a mapping as item 1 of `script`; expected a string: quote the line",
        ),
        (
            "script: ['make \\', all]",
            "has a backslash at the end of line 1 of its script…",
        ),
        ("shell: []", "names no program in `shell`…"),
        ("env: {A: \"\\0\"}", "has a NUL in the value of `A` in `env`…"),
        (
            "script: '{{ if .x }}'",
            "has a mistake in its script: `{{ if .x }}` has no `{{ end }}`",
        ),
        (
            "script: '<< if .x >>'",
            "has a mistake in its script: `<< if .x >>` has no `<< end >>`",
        ),
        (
            "script: [a, '{{ range .x }}{{ end }}']",
            "has a mistake in line 2 of its script: `range` in `{{ range .x }}` is not supported…",
        ),
        (
            "script: '{{ with .x }}'",
            "has a mistake in its script: `with` in `{{ with .x }}` is not supported…",
        ),
        (
            "script: '{{ printf .x }}'",
            "has a mistake in its script: `printf` in `{{ printf .x }}` is not supported…",
        ),
        (
            "script: '{{ .a-b }}'",
            "has a mistake in its script: `-b` in `{{ .a-b }}` is not supported…",
        ),
        (
            "script: '{{ .x | upper }}'",
            "has a mistake in its script: `upper` in `{{ .x | upper }}` is not supported…",
        ),
        (
            "script: '{{ if .x | quote }}{{ end }}'",
            "has a mistake in its script: …",
        ),
    ] {
        check_task(&space, keys, expected);
    }
}

#[test]
fn null_keys_are_as_if_missing() {
    let space = TestSpace::new("");
    let text = "pipelines:\n  p: {concurrency: , queue_limit: , queue_strategy: , queue_partition_limit: , start_delay: , \
                continue_running_tasks_after_failure: , retention_period: , retention_count: , env: , on_error: , shell: , \
                delimiters: , tasks: {t: {script: , depends_on: , allow_failure: , env: , shell: }}}\n";
    check(&space, text, [0, 0], &[]);
}

#[test]
fn warnings_count_as_errors_unless_it_is_lenient() {
    let space = TestSpace::new("");
    let text = "pipelines: {p: {queue_strategy: replace, retention_period_hours: 72, tasks: {t: {scripts: [make]}, \
                u: {script: ': ''<< .x | qoute >>'''}}}}";
    let expected = [
        "warning: pipeline `p` has the unknown key `retention_period_hours`, which is ignored; did you mean `retention_period`?",
        "warning: pipeline `p` has `queue_strategy: replace` without `queue_limit`, which means 1; write `queue_limit: 1`",
        "warning: task `t` of pipeline `p` has the unknown key `scripts`, which is ignored; did you mean `script`?",
        "warning: task `u` of pipeline `p` has something doubtful in its script: `qoute` in `<< .x | qoute >>` is not supported…",
    ];
    check(&space, text, [1, 0], &expected);
    // The server starts, and says the same.
    space.write("pipelines.yml", text);
    let server = space.serve();
    for complaint in [
        "retention_period_hours",
        "without `queue_limit`",
        "`scripts`",
        "`qoute`",
    ] {
        let line = server.logged(complaint);
        assert!(line.contains("level=warn") && line.contains("pipelines.yml"), "{line}");
    }
    assert_eq!(server.run_job("p")["status"], "succeeded");
}

#[test]
fn all_errors_of_all_files_keep_the_server_from_starting() {
    let space = TestSpace::new("pipelines: {p: {concurrency: 0, tasks: {t: {depends_on: u}}}}");
    space.write("b/pipelines.yml", "pipelines: {q: {shell: []}}");
    let output = space.run(&["--address", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("level=error")).collect();
    assert_eq!(errors.len(), 3, "{text}");
    assert!(errors[0].contains("b/pipelines.yml: pipeline `q`"), "{text}");
    assert!(errors[1].contains("pipelines.yml: pipeline `p`"), "{text}");
    assert!(errors[2].contains("pipelines.yml: task `t` of pipeline `p`"), "{text}");
    assert!(
        text.ends_with("prunner: error: the pipeline files are wrong: 3 errors, named above\n"),
        "{text}"
    );
    assert!(!space.path.join(".prunner/journal").exists());
}

#[test]
fn a_reload_with_errors_keeps_the_old_set() {
    let (space, server) = TestSpace::serving("pipelines: {p: {tasks: {t: {script: echo old}}}}");
    space.write("pipelines.yml", "pipelines: {p: {concurrency: 0, shell: []}, q: {}}");
    let answer = server.post("/pipelines/reload", "");
    assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("bad_definition")));
    for complaint in ["`0` as `concurrency`", "names no program in `shell`"] {
        assert!(answer.body.contains(complaint), "{answer:?}");
        let line = server.logged(complaint);
        assert!(line.contains("level=error") && line.contains("pipeline `p`"), "{line}");
    }
    let stays = |server: &crate::space::Server| {
        assert_eq!(server.try_schedule("q").status, 400);
        let job = server.run_job("p");
        assert_eq!(server.stdout_of(&job, "t"), "old\n");
    };
    stays(&server);
    // The same by signal.
    send_signal("USR1", &server.pid().to_string());
    server.logged("the pipelines stay as they were");
    stays(&server);
    space.write(
        "pipelines.yml",
        "pipelines: {p: {prio: 1, tasks: {t: {script: echo new}}}, q: {}}",
    );
    let answer = server.post("/pipelines/reload", "").json();
    assert_eq!(answer["pipelines"], 2);
    let warnings = answer["warnings"].as_array().unwrap();
    assert!(
        warnings.len() == 1 && warnings[0].as_str().unwrap().contains("`prio`"),
        "{answer}"
    );
    eventually("the new set is there", || {
        (server.run_job("q")["status"] == "succeeded").then_some(())
    });
    let job = server.run_job("p");
    assert_eq!(server.stdout_of(&job, "t"), "new\n");
}
