//! Completion in a real bash, and what the scripts ask.

use std::process::Command;

use super::terminal::Terminal;
use super::{check_failure, check_status, run, text};
use crate::space::{Server, TestSpace};
use crate::tools::{is_there, say_skipped};

const PIPELINES: &str =
    "pipelines: {deploy: {tasks: {build: {script: ['true']}}}, test: {}, 'two words': {}, 'a:b': {}}";

/// A bash that finds `prunner` in its path.
fn bash(space: &TestSpace, server: Option<&Server>) -> Command {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_prunner"));
    let path = format!(
        "{}:{}",
        binary.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = Command::new("bash");
    command
        .current_dir(&space.path)
        .env("PATH", path)
        .env("USER", "anna")
        .env("TERM", "dumb")
        .env("PS1", "ready> ")
        .env(
            "PRUNNER_ADDRESS",
            server.map_or("127.0.0.1:1", |server| &server.address),
        );
    command
}

/// What bash offers for a line with the cursor at its end.
fn offered(space: &TestSpace, server: Option<&Server>, line: &str) -> Vec<String> {
    let script = r#"
        source <(prunner completions bash) || exit 9
        COMP_LINE=$1 COMP_POINT=${#1}
        _prunner
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = bash(space, server)
        .args(["--norc", "-c", script, "bash", line])
        .output()
        .unwrap();
    check_status(&output, 0);
    assert_eq!(text(&output.stderr), "");
    let lines = text(&output.stdout);
    lines
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn bash_offers_what_may_follow() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let id = server.schedule("deploy");
    server.ended(&id);
    for (line, expected) in [
        ("prunner schedu", &["schedule", "schedules"][..]),
        ("prunner schedule --fo", &["--follow"]),
        ("prunner graph --format ", &["text", "dot", "mermaid"]),
        ("prunner graph --format=m", &["mermaid"]),
        ("prunner schedule de", &["deploy"]),
        ("prunner schedule a:", &["b"]),
        ("prunner graph tw", &["two\\ words"]),
        ("prunner job ", &[&id]),
        (&format!("prunner logs {id} "), &["build"]),
        ("prunner wait ", &[]),
        ("prunner completions ", &["bash", "zsh", "fish"]),
    ] {
        assert_eq!(offered(&space, Some(&server), line), expected, "{line}");
    }
    // The server is not asked for what is in the files, nor needed for it.
    assert_eq!(offered(&space, None, "prunner schedule t"), ["test", "two\\ words"]);
    assert_eq!(offered(&space, None, "prunner job "), [""; 0]);
}

/// How each shell is started without the files of whoever runs this, and how it loads the script.
const SHELLS: [(&str, &[&str], &str); 3] = [
    (
        "bash",
        &["--norc", "--noprofile", "-i"],
        "source <(prunner completions bash)",
    ),
    (
        "zsh",
        &["-f", "-i"],
        "PS1='ready> '; autoload -Uz compinit; compinit -u -D; source <(prunner completions zsh)",
    ),
    (
        "fish",
        &["--no-config", "-i"],
        "function fish_prompt; echo -n 'ready> '; end; prunner completions fish | source",
    ),
];

/// What a shell shows after a line whose tabulators complete it.
#[track_caller]
fn typed(space: &TestSpace, server: &Server, (shell, flags, load): (&str, &[&str], &str), line: &str) -> String {
    let mut command = bash(space, Some(server));
    let mut started = Command::new(shell);
    for (name, value) in command.args(flags).get_envs() {
        started.env(name, value.unwrap());
    }
    started
        .args(flags)
        .current_dir(&space.path)
        .env("HOME", &space.path)
        .env("TERM", "xterm");
    let mut terminal = Terminal::start(&started);
    terminal.press(&format!("{load}; echo sour''ced\n"));
    terminal.read_until("sourced");
    let prefix = terminal.read_until("sourced").len();
    for part in line.split_inclusive('\t') {
        terminal.press(part);
    }
    terminal.press("; echo com''pleted\n");
    terminal.read_until("completed")[prefix..].to_owned()
}

#[test]
fn the_tabulator_completes_in_each_shell() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let id = server.schedule("deploy");
    server.ended(&id);
    let cut = &id[..id.len() - 3];
    for shell in SHELLS {
        if !is_there(shell.0) {
            say_skipped(shell.0, "nobody has completed a line in it");
            continue;
        }
        for (line, expected) in [
            ("prunner gra\tdep\t", "│ build │"),
            ("prunner graph tw\t", "two words\r\n"),
            ("prunner graph a\t", "a:b\r\n"),
            ("prunner graph --format=mer\tdeploy", "flowchart LR"),
            ("prunner graph --form\tdo\tdeploy", "rankdir=LR"),
            ("prunner schedule --fo\tdep\t", "succeeded"),
            (&format!("prunner job {cut}\t"), "user       anna"),
            (&format!("prunner logs {id} bu\t--json"), r#""event":"ended""#),
        ] {
            let seen = typed(&space, &server, shell, line);
            assert!(seen.contains(expected), "`{line}` in {} shows {seen}", shell.0);
        }
    }
}

#[test]
fn each_shell_has_a_script() {
    let space = TestSpace::new(PIPELINES);
    for (shell, part) in [
        ("bash", "complete -o default -o nosort -F _prunner prunner\n"),
        ("zsh", "compdef _prunner prunner\n"),
        ("fish", "complete -c prunner "),
    ] {
        let output = space.run(&["completions", shell]);
        check_status(&output, 0);
        assert!(text(&output.stdout).contains(part), "{output:?}");
        assert!(text(&output.stdout).contains(" __complete -- "), "{output:?}");
    }
    check_failure(
        &space.run(&["completions", "tcsh"]),
        2,
        "`<SHELL>` is `tcsh`, expected one of bash, zsh, fish",
    );
    check_failure(
        &space.run(&["completions"]),
        2,
        "`prunner completions` needs `<SHELL>`; try ",
    );
}

#[test]
fn jobs_are_offered_with_what_they_are() {
    let space = TestSpace::new("pipelines: {long: {tasks: {sleep: {script: ['exec sleep 100']}}}}");
    let server = space.serve();
    let id = server.schedule("long");
    for command in ["wait", "cancel", "job", "logs"] {
        let output = run(&space, &server, &["__complete", "--", command, &id[..3]]);
        assert_eq!(text(&output.stdout), format!("{id}\tlong running\n"));
    }
    let output = run(&space, &server, &["__complete", "--", "wait", &id, ""]);
    assert_eq!(text(&output.stdout), "");
    // The address that is on the line counts.
    let output = space.run(&["__complete", "--", "--address", &server.address, "job", ""]);
    assert_eq!(text(&output.stdout), format!("{id}\tlong running\n"));
}
