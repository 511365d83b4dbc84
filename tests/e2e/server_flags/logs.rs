//! What the server says of itself, in which form.

use std::process::Stdio;

use super::{FREE, PIPELINES, check_refused, with};
use crate::space::TestSpace;

#[test]
fn a_log_that_is_no_terminal_is_logfmt() {
    let (_space, server) = TestSpace::serving(PIPELINES);
    server.run_job("p");
    // It is written by a thread of its own.
    server.logged("job ended");
    let log = server.log();
    assert!(!log.contains('\x1b'), "{log}");
    for line in log.lines() {
        let mut fields = line.split(' ');
        let time = fields.next().unwrap().strip_prefix("time=").unwrap();
        assert!(time.len() == 20 && time.ends_with('Z'), "{line}");
        assert!(fields.next().unwrap().starts_with("level="), "{line}");
        assert!(fields.next().unwrap().starts_with("msg=\""), "{line}");
    }
    for message in ["serving", "job accepted", "job ended"] {
        assert_eq!(log.matches(&format!("msg=\"{message}\"")).count(), 1, "{log}");
    }
    assert!(!log.contains(server.token.split_once(' ').unwrap().1));
}

/// What a server with wrong files says on a terminal.
fn on_terminal(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let space = TestSpace::new("pipelines: {p: {concurrency: 0}}");
    let prunner = format!("exec '{}' {}", env!("CARGO_BIN_EXE_prunner"), with(arguments).join(" "));
    let mut script = std::process::Command::new("script");
    script
        .args(["-qefc", &prunner, "/dev/null"])
        .current_dir(&space.path)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    String::from_utf8(script.output().unwrap().stdout).unwrap()
}

#[test]
fn on_a_terminal_it_is_colored_unless_that_is_turned_off() {
    for (arguments, variables, colored) in [
        (&[][..], &[][..], true),
        (&["--disable-ansi"], &[], false),
        (&[], &[("PRUNNER_DISABLE_ANSI", "true")], false),
        (&["--disable-ansi=false"], &[("PRUNNER_DISABLE_ANSI", "true")], true),
        (&[], &[("NO_COLOR", "1")], false),
        (&[], &[("NO_COLOR", "")], true),
    ] {
        let text = on_terminal(arguments, variables);
        assert!(text.contains("as `concurrency`"), "{text}");
        assert_eq!(
            text.contains("\x1b[31merror"),
            colored,
            "{arguments:?} {variables:?}: {text}"
        );
        assert_eq!(
            text.contains("level=error"),
            !colored,
            "{arguments:?} {variables:?}: {text}"
        );
    }
}

#[test]
fn verbose_says_more() {
    let pipelines = "pipelines: {p: {retention_count: 1, tasks: {a: {script: echo ran}}}}";
    for (arguments, variables, verbose) in [
        (&["--verbose"][..], &[][..], true),
        (&["-v"], &[], true),
        (&[], &[("PRUNNER_VERBOSE", "1")], true),
        (&[], &[], false),
        (&["--verbose=false"], &[("PRUNNER_VERBOSE", "1")], false),
    ] {
        let space = TestSpace::new(pipelines);
        let server = space.serve_with(&with(arguments), variables);
        server.run_job("p");
        let last = server.run_job("p");
        server.logged(&format!("msg=\"job ended\" job={}", last["id"].as_str().unwrap()));
        // The line comes in the same turn as that of the end.
        server.post("/pipelines/reload", "");
        server.logged("pipelines loaded");
        let log = server.log();
        assert_eq!(
            log.contains("level=debug"),
            verbose,
            "{arguments:?} {variables:?}: {log}"
        );
    }
    let space = TestSpace::new(pipelines);
    let complaint = "`PRUNNER_VERBOSE` is `2`, expected `true`, `false`, `1` or `0`";
    check_refused(&space, &FREE, &[("PRUNNER_VERBOSE", "2")], complaint);
}

#[test]
fn nothing_stands_on_standard_output() {
    let space = TestSpace::new("pipelines: {p: {prio: 1, tasks: {a: {script: [echo out, echo err >&2]}}}}");
    let mut starter = std::process::Command::new("sh");
    // A server has its standard output from whoever starts it.
    starter.args(["-c", "exec \"$0\" \"$@\" > stdout", env!("CARGO_BIN_EXE_prunner")]);
    let server = space.serve_by(space.command_by(starter, &with(&["--verbose"])), &[], &[]);
    server.run_job("p");
    server.post("/pipelines/reload", "");
    assert_eq!(server.stop(), Some(0));
    assert!(space.path.join("stdout").exists());
    assert_eq!(space.read("stdout"), "");
}
