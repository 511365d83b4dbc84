//! How tasks are run: how many, in which shell, and how long a stop may take.

use std::process::Command;

use super::{FREE, check_refused, with};
use crate::space::{TestSpace, eventually};
use crate::tools::ends_of;

#[test]
fn max_tasks_by_flag_and_by_variable() {
    let stay = "script: [echo $TASK_NAME >> started, 'until test -e go; do sleep 0.02; done']";
    for (arguments, variables, most) in [
        (&["--max-tasks", "1"][..], &[][..], 1),
        (&[], &[("PRUNNER_MAX_TASKS", "2")], 2),
        (&["--max-tasks", "3"], &[("PRUNNER_MAX_TASKS", "1")], 3),
    ] {
        let space = TestSpace::new(&format!(
            "pipelines: {{p: {{tasks: {{a: {{{stay}}}, b: {{{stay}}}, c: {{{stay}}}}}}}}}"
        ));
        let server = space.serve_with(&with(arguments), variables);
        let id = server.schedule("p");
        eventually("they run", || {
            (space.read("started").lines().count() == most).then_some(())
        });
        let job = server.job(&id);
        let tasks = job["tasks"].as_array().unwrap();
        assert_eq!(
            tasks.iter().filter(|task| task["status"] == "running").count(),
            most,
            "{job}"
        );
        space.write("go", "");
        assert_eq!(ends_of(&server.ended(&id)), "a done, b done, c done");
    }
    let space = TestSpace::new("");
    for number in ["0", "-1", "many", "1.5"] {
        let argument = format!("--max-tasks={number}");
        let complaint = format!("`--max-tasks` is `{number}`, expected a whole number, at least 1");
        check_refused(&space, &with(&[&argument]), &[], &complaint);
    }
}

#[test]
fn a_limit_of_open_files_that_is_too_low_is_told() {
    let space = TestSpace::new("pipelines: {}");
    // The first two by the default.
    for (limit, flag, tasks, told) in [
        (831, false, 64, true),
        (832, false, 64, false),
        (832, true, 65, true),
        (400, true, 4, false),
    ] {
        let prunner = env!("CARGO_BIN_EXE_prunner");
        let mut starter = Command::new("sh");
        starter.args([
            "-c",
            "ulimit -S -n \"$1\"; shift; exec \"$@\"",
            "sh",
            &limit.to_string(),
            prunner,
        ]);
        let tasks = tasks.to_string();
        let given = ["--max-tasks", &*tasks];
        let arguments = with(if flag { &given } else { &[] });
        starter.args(&arguments).current_dir(&space.path);
        let server = space.serve_by(starter, &arguments, &[]);
        // It is said before it serves.
        let log = server.log();
        let line = log.lines().find(|line| line.contains("the limit of open files"));
        assert_eq!(line.is_some(), told, "{limit} {tasks}: {log}");
        let text = format!("the limit of open files is {limit}, too low for {tasks} tasks at once");
        assert!(
            line.is_none_or(|line| line.contains("level=warn") && line.contains(&text)),
            "{log}"
        );
        // It is not raised.
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
        let open_files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        assert_eq!(open_files.split_whitespace().nth(3), Some(limit.to_string().as_str()));
    }
}

#[test]
fn the_shell_by_flag_and_by_variable() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: echo a}, b: {shell: sh, script: echo b}}}}");
    for shell in ["one", "two"] {
        space.write_script(shell, &format!("echo {shell}; exec sh \"$@\""));
    }
    for (arguments, variables, expected) in [
        (&["--shell", "./one"][..], &[][..], "one\na\n"),
        (&[], &[("PRUNNER_SHELL", "./two")], "two\na\n"),
        (&["--shell", "./one"], &[("PRUNNER_SHELL", "./two")], "one\na\n"),
    ] {
        let server = space.serve_with(&with(arguments), variables);
        let job = server.run_job("p");
        assert_eq!(
            (
                server.stdout_of(&job, "a").as_str(),
                server.stdout_of(&job, "b").as_str()
            ),
            (expected, "b\n")
        );
    }
}

#[test]
fn the_grace_by_variable() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [\"trap '' INT TERM; echo a > ready; while :; do sleep 0.02; done\"]}}}}",
    );
    let server = space.serve_with(&FREE, &[("PRUNNER_KILL_GRACE", "10ms")]);
    let id = server.schedule("p");
    space.first_line("ready");
    let begun = std::time::Instant::now();
    server.cancel_job(&id);
    assert_eq!(ends_of(&server.ended(&id)), "a canceled -1");
    assert!(begun.elapsed().as_millis() < 1900, "{:?}", begun.elapsed());
    let complaint = "`PRUNNER_KILL_GRACE` is `soon`; expected numbers with units, such as `10s`, `1h30m` or `2d`";
    check_refused(&space, &FREE, &[("PRUNNER_KILL_GRACE", "soon")], complaint);
}
