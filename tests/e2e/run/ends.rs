//! Exit statuses, and what is said with them.

use super::{check, names, stderr, stdout};
use crate::space::TestSpace;

#[test]
fn a_job_that_succeeds_ends_with_0_and_leaves_nothing() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: [echo out, echo err >&2]}}}}");
    let said = check(&space, &[], 0, "a | out\n");
    assert!(said.contains("a | err\n"), "{said}");
    assert!(said.contains("a started\n"), "{said}");
    assert!(said.contains("+ a done after "), "{said}");
    assert!(said.contains("+ p succeeded after "), "{said}");
    assert_eq!(names(&space, "."), ["pipelines.yml"]);
}

#[test]
fn a_job_that_fails_ends_with_1_and_shows_why() {
    let space = TestSpace::new(
        "pipelines:
  p:
    tasks:
      build: {script: [echo first, echo last >&2, exit 7]}
      watch: {script: [exec sleep 60]}
      ship: {script: ['true'], depends_on: [build]}
",
    );
    let said = check(&space, &[], 1, "build | first\n");
    let (_, summary) = said.split_once("\n\n").unwrap();
    let lines: Vec<String> = summary
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert!(
        lines[0].starts_with("x build ") && lines[0].ends_with(" exit status 7"),
        "{said}"
    );
    // Two streams have no order among them.
    let mut last = [&*lines[1], &*lines[2]];
    last.sort_unstable();
    assert_eq!(last, ["first", "last"], "{said}");
    assert!(lines[3].starts_with("- watch "), "{said}");
    assert_eq!(lines[4], "- ship did not run", "{said}");
    assert!(lines[5].starts_with("x p failed after "), "{said}");
    assert!(lines[5].ends_with(": task `build`: exit status 7"), "{said}");
    assert!(lines[6].contains("keeps the outputs"), "{said}");
}

#[track_caller]
fn check_refused(space: &TestSpace, arguments: &[&str], status: i32, expected: &str) {
    let output = space.run(arguments);
    assert_eq!(
        (output.status.code(), stdout(&output)),
        (Some(status), ""),
        "{output:?}"
    );
    assert_eq!(stderr(&output), format!("prunner: error: {expected}\n"));
}

#[test]
fn what_can_not_begin_says_why_in_one_line() {
    let space = TestSpace::new("pipelines: {build: {tasks: {a: {script: ['echo << .x >>']}}}}");
    let unknown = "pipeline `biuld` is not defined; did you mean `build`?";
    check_refused(&space, &["run", "biuld"], 3, unknown);
    let undefined = "variable `x` is not defined, used in task `a`, line 1";
    check_refused(&space, &["run", "build"], 3, undefined);
    let variable = "`--var` is `x`, expected `name=value`, or `name:=json` for other values than strings";
    check_refused(&space, &["run", "build", "--var", "x"], 2, variable);
    let missing = "failed to read `a.json`: no such file or directory";
    check_refused(&space, &["run", "build", "--vars", "a.json"], 2, missing);
    let flag = "flag `--follow` is not known; try `prunner run --help`";
    check_refused(&space, &["run", "build", "--follow"], 2, flag);
    let output = space.run(&["run"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");

    space.write(
        "pipelines.yml",
        "pipelines: {build: {tasks: {a: {script: [x], depends_on: [b, c]}}}}",
    );
    let output = space.run(&["run", "build"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""), "{output:?}");
    let said = stderr(&output);
    assert!(said.lines().all(|line| line.starts_with("prunner: error: ")), "{said}");
    assert!(said.contains("depends on `b`, which is not defined"), "{said}");
    assert!(said.contains("depends on `c`, which is not defined"), "{said}");
    assert_eq!(names(&space, "."), ["pipelines.yml"]);
}

#[test]
fn warnings_are_those_that_concern_the_pipeline() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [echo x]}}, retention: 1}, q: {tasks: {a: {script: [x]}}, retentions: 1}}",
    );
    let said = check(&space, &[], 0, "a | x\n");
    assert!(said.contains("prunner: warning: "), "{said}");
    assert!(said.contains("`retention`"), "{said}");
    assert!(!said.contains("`retentions`"), "{said}");
    assert_eq!(check(&space, &["--quiet"], 0, ""), "");
}

#[test]
fn on_error_has_the_outputs_and_they_do_not_outlive_it() {
    let space = TestSpace::new(
        r#"pipelines:
  p:
    tasks: {a: {script: [echo broken, exit 7]}}
    on_error: {script: ['echo "$PRUNNER_VAR_failedTaskStdout$(ls "$TMPDIR" | wc -l)"']}
"#,
    );
    space.write("tmp/.keep", "");
    let tmp = space.path.join("tmp");
    let output = space.run_with(&["run", "p"], &[("TMPDIR", tmp.to_str().unwrap())]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    // Only the name of what failed stands before the first line: the text has a line of its own.
    assert_eq!(stdout(&output), "a        | broken\non_error | broken\non_error | 1\n");
    assert_eq!(names(&space, "tmp"), [".keep"]);

    let output = space.run_with(&["run", "p"], &[("TMPDIR", "/nonexistent")]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("for outputs that are needed later: no such file or directory"));
}

#[test]
fn a_further_attempt_is_told_once_and_is_no_other_start() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [echo try, 'if mkdir again 2>&-; then exit 1; fi'], retry: 1}}}}",
    );
    let said = check(&space, &[], 0, "a | try\na | try\n");
    assert_eq!(said.matches(" a started\n").count(), 1, "{said}");
    assert_eq!(said.matches("attempt 1 ended with exit status 1").count(), 1, "{said}");
}

#[test]
fn of_a_failed_task_the_last_lines_are_shown_again() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: [seq 101 150, exit 1]}, b: {script: [seq 3]}}}}");
    let output = space.run(&["run", "p", "--max-tasks", "1"]);
    let said = stderr(&output);
    let (_, summary) = said.split_once("\n\n").unwrap();
    let again: Vec<&str> = summary.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let expected: Vec<String> = (141..=150).map(|number| number.to_string()).collect();
    assert_eq!(again, expected, "{said}");
}
