//! The flags of `run`, each by what it changes.

use std::io::Write;
use std::process::Stdio;

use rustix::process::Signal;

use super::{Running, check, stdout};
use crate::space::{TestSpace, is_alive};

#[test]
fn what_holds_for_a_server_alone_does_not_hold() {
    let space = TestSpace::new(
        "pipelines: {p: {start_delay: 1h, queue_limit: 1, tasks: {a: {script: ['echo \"${PRUNNER_ADDRESS-none}\"']}}}}",
    );
    let output = space.run_with(
        &["run", "p"],
        &[("PRUNNER_ADDRESS", "127.0.0.1:1"), ("PRUNNER_DATA", "elsewhere")],
    );
    assert_eq!(
        (output.status.code(), stdout(&output)),
        (Some(0), "a | none\n"),
        "{output:?}"
    );
    // Neither the data directory nor the file with the secret.
    assert_eq!(super::names(&space, "."), ["pipelines.yml"]);
}

#[test]
fn variables_are_strings_or_json_from_flags_files_and_standard_input() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: ['echo << .x >> << .y.z >> $PRUNNER_VAR_x']}}}}");
    check(&space, &["--var", "x=1", "--var", r#"y:={"z": 2}"#], 0, "a | 1 2 1\n");
    space.write("vars.json", r#"{"x": "of the file", "y": {"z": 3}}"#);
    check(&space, &["--vars", "vars.json"], 0, "a | of the file 3 of the file\n");
    check(&space, &["--vars", "vars.json", "--var", "x=4"], 0, "a | 4 3 4\n");
    let mut child = space
        .command(&["run", "p", "--vars", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(br#"{"x": 5, "y": {"z": 6}}"#)
        .unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"a | 5 6 5\n");
}

#[test]
fn files_shell_and_environment_are_those_of_the_flags() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: [echo wrong]}}}}");
    space.write(
        "other/my.yml",
        "pipelines: {p: {tasks: {a: {script: ['echo $X $USER $PRUNNER_PIPELINE']}}}}",
    );
    space.write("my.env", "X=of-the-file");
    space.write_script("shell", "echo shell; exec sh \"$@\"");
    let shell = space.path.join("shell");
    let arguments = [
        "--path",
        "other",
        "--pattern",
        "*.yml",
        "--env-files",
        "my.env",
        "--shell",
        shell.to_str().unwrap(),
    ];
    check(&space, &arguments, 0, "a | shell\na | of-the-file anna p\n");
}

#[test]
fn tasks_run_one_after_the_other_where_one_may_run() {
    let tasks: String = (0..4)
        .map(|number| format!("t{number}: {{script: [mkdir only, sleep 0.02, rmdir only]}}, "))
        .collect();
    let space = TestSpace::new(&format!("pipelines: {{p: {{tasks: {{{tasks}}}}}}}"));
    check(&space, &["--max-tasks", "1", "--quiet"], 0, "");
}

#[test]
fn what_does_not_stop_is_killed_after_the_grace() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [\"trap '' INT; echo $$ > pid; while :; do sleep 0.1; done\"]}}}}",
    );
    let mut run = Running::start(&space, &["p", "--kill-grace", "100ms"]);
    let pid = space.first_line("pid");
    run.signal(Signal::TERM);
    assert_eq!(run.end(), Some(143));
    assert!(!is_alive(&pid));
}

#[test]
fn a_repeated_flag_and_those_before_the_command_count_too() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: [echo x]}}}}");
    let output = space.run(&["--json", "run", "p"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = space.run(&["--max-tasks", "1", "run", "p", "-q", "--max-tasks", "2"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), ""), "{output:?}");
}
