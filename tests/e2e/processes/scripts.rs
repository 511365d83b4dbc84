//! One shell runs all lines of a script, each by itself; in every shell of this machine alike.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::space::TestSpace;
use crate::tools::{ends_of, shells, task};

struct Case {
    lines: &'static [&'static str],
    allow_failure: bool,
    /// `done`, or `done 3`, or `error 3`.
    end: &'static str,
    stdout: &'static str,
}

const fn case(lines: &'static [&'static str], end: &'static str, stdout: &'static str) -> Case {
    Case {
        lines,
        allow_failure: false,
        end,
        stdout,
    }
}

const fn allowed(lines: &'static [&'static str], end: &'static str, stdout: &'static str) -> Case {
    Case {
        lines,
        allow_failure: true,
        end,
        stdout,
    }
}

const CASES: [Case; 30] = [
    case(&["echo a", "echo b"], "done", "a\nb\n"),
    case(&["echo a", "false", "echo b"], "error 1", "a\n"),
    case(&["echo a", "exit 7", "echo b"], "error 7", "a\n"),
    case(&["echo a", "exit 0", "echo b"], "done", "a\n"),
    case(&["false; echo a", "echo b"], "done", "a\nb\n"),
    case(&["x=1", "f() { echo \"f $1\"; }", "f $x; f 2"], "done", "f 1\nf 2\n"),
    case(&["mkdir d && cd d", "basename \"$PWD\""], "done", "d\n"),
    case(&["set -e", "false; echo a"], "error 1", ""),
    case(&["set -u", "echo $nothing; echo a"], "error", ""),
    case(&["IFS=e", "echo one", "x=aeb; echo $x"], "done", "one\na b\n"),
    case(
        &["echo \"$# $0 [$1]\"", "set -- p q", "echo \"$# $2\""],
        "done",
        "0 sh []\n2 q\n",
    ),
    case(&["for x in 1 2 3; do", "echo a"], "error 2", ""),
    case(&["while :; do break; done; echo a"], "done", "a\n"),
    case(&["echo 'a", "echo b"], "error 2", ""),
    case(&["false | true"], "done", ""),
    case(&["true | false"], "error 1", ""),
    case(&["(echo a; exit 5)", "echo b"], "error 5", "a\n"),
    case(&["cat <<END\na $((1 + 1))\nEND", "echo b"], "done", "a 2\nb\n"),
    case(&["cat; echo end"], "done", "end\n"),
    case(&["exec echo a", "echo b"], "done", "a\n"),
    case(&["  echo a  # comment", "# comment", ""], "done", "a\n"),
    case(&["--help", "echo a"], "error 127", ""),
    case(&["nothing-of-that-name"], "error 127", ""),
    case(&["kill -9 $$"], "error 137", ""),
    case(&["kill -TERM $$"], "error 143", ""),
    case(&["trap 'echo bye' EXIT", "echo a"], "done", "a\nbye\n"),
    allowed(&["(exit 3)", "echo a", "(exit 5)", "echo b"], "done 5", "a\nb\n"),
    allowed(&["echo a", "exit 6", "echo b"], "done 6", "a\n"),
    allowed(&["set -e", "echo a", "false", "echo b"], "done 1", "a\n"),
    allowed(&["(exit 4)", "exit 0"], "done", ""),
];

#[test]
fn every_shell_runs_the_lines_alike() {
    for shell in shells() {
        // Each in a directory and a job of its own, for some fail.
        let pipelines: serde_json::Map<String, Value> = (0..)
            .zip(&CASES)
            .map(|(number, case)| {
                let task = json!({"script": case.lines, "allow_failure": case.allow_failure});
                (format!("p{number}"), json!({"shell": shell, "tasks": {"a": task}}))
            })
            .collect();
        let (_space, server) = TestSpace::serving(&json!({"pipelines": pipelines}).to_string());
        let jobs: Vec<(usize, String)> = (0..CASES.len())
            .map(|number| (number, server.schedule(&format!("p{number}"))))
            .collect();
        for (number, id) in jobs {
            let Case { lines, end, stdout, .. } = &CASES[number];
            let job = server.ended(&id);
            let found = ends_of(&job);
            // Where the shell itself ends, each has a number of its own.
            let same = if *end == "error" {
                found.starts_with("a error ")
            } else {
                found == format!("a {end}")
            };
            assert!(same, "{shell:?} {lines:?}: {found}, not {end}");
            assert_eq!(server.stdout_of(&job, "a"), *stdout, "{shell:?} {lines:?}");
        }
    }
}

#[test]
fn a_script_of_any_size_runs() {
    for shell in shells() {
        let filler = format!("# {}\n", "x".repeat(80_000));
        let lines = [
            format!("{filler}echo \"$# $0\"; x=1; cat; trap 'echo bye' EXIT"),
            format!("{filler}echo $x"),
            "exit 3".to_owned(),
            "echo never".to_owned(),
        ];
        let pipeline = json!({"pipelines": {"p": {"shell": shell, "tasks": {"a": {"script": lines}}}}});
        let (_space, server) = TestSpace::serving(&pipeline.to_string());
        let job = server.run_job("p");
        assert_eq!(ends_of(&job), "a error 3", "{shell:?} {}", task(&job, "a"));
        assert_eq!(
            server.output_of(&job, "a"),
            ("0 sh\n1\nbye\n".to_owned(), String::new())
        );
    }
}

#[test]
fn a_shell_that_cannot_be_started_is_a_failed_task() {
    let (_space, server) = TestSpace::serving(
        "pipelines:
  missing: {shell: nothing-of-that-name, tasks: {a: {script: 'true'}}, on_error: {shell: sh, script: 'echo << .failedTaskError | quote >>'}}
  no_file: {shell: ./missing, tasks: {a: {script: 'true'}}, on_error: {shell: sh, script: 'echo << .failedTaskError | quote >>'}}
  not_executable: {shell: [./pipelines.yml, -x], tasks: {a: {script: 'true', allow_failure: true}}}
",
    );
    for (pipeline, error) in [
        (
            "missing",
            "failed to start the shell `nothing-of-that-name`: not found in PATH",
        ),
        (
            "no_file",
            "failed to start the shell `./missing`: no such file or directory",
        ),
    ] {
        let job = server.run_job(pipeline);
        assert_eq!(ends_of(&job), "a error -1, on_error done");
        assert_eq!(
            (&job["lastError"], &task(&job, "a")["error"]),
            (&json!(error), &json!(error))
        );
        assert_eq!(server.stdout_of(&job, "on_error"), format!("{error}\n"));
    }
    let job = server.run_job("not_executable");
    assert_eq!(ends_of(&job), "a done -1");
    assert_eq!(
        task(&job, "a")["note"],
        "failed to start the shell `./pipelines.yml`: permission denied"
    );
}

#[test]
fn a_task_has_no_input_and_starts_with_nothing_of_prunners() {
    let (_space, server) = TestSpace::serving(
        r#"pipelines:
  p:
    tasks:
      input: {script: "readlink /proc/self/fd/0; cat; echo end"}
      group: {script: "test $$ = $(cut -d' ' -f5 /proc/$$/stat) && echo leads"}
      files: {script: "exec ls /proc/self/fd"}
      signals: {script: "exec grep -E 'Sig(Blk|Ign)' /proc/self/status"}
"#,
    );
    let job = server.run_job("p");
    assert_eq!(server.stdout_of(&job, "input"), "/dev/null\nend\n");
    assert_eq!(server.stdout_of(&job, "group"), "leads\n");
    // What prunner itself has inherited is not its own to close.
    let inherited = Command::new("ls")
        .arg("/proc/self/fd")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(
        server.stdout_of(&job, "files"),
        String::from_utf8(inherited.stdout).unwrap()
    );
    for line in server.stdout_of(&job, "signals").lines() {
        let mask = u64::from_str_radix(line.split_once('\t').unwrap().1, 16).unwrap();
        // Those that the C library keeps to itself are at its mercy.
        assert_eq!(mask & 0x7fff_ffff, 0, "{line}");
    }
}
