//! The Makefile and the script of `examples`, with the real binary: a deploy that works, and each that must not.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::space::TestSpace;
use crate::tools::{is_there, say_skipped};

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    fs::read_to_string(path).unwrap()
}

/// A project with the examples, and a site to deploy.
fn project() -> TestSpace {
    let space = TestSpace::new(&example("pipelines.yml"));
    space.write("Makefile", &example("Makefile"));
    space.write("deploy.sh", &example("deploy.sh"));
    space.write("site/index.html", "hello\n");
    space
}

fn deploy(space: &TestSpace, command: &str, address: &str) -> Output {
    let mut shell = Command::new("timeout");
    shell.args(["60", "sh", "-c", command]);
    space
        .command_by(shell, &[])
        .env("PRUNNER", env!("CARGO_BIN_EXE_prunner"))
        .env("PRUNNER_ADDRESS", address)
        .output()
        .unwrap()
}

#[track_caller]
fn check(output: &Output, status: i32, expected: &str) {
    let text = [&*output.stdout, &*output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert!(text.contains(expected), "`{expected}` is missing: {text}");
}

fn live(space: &TestSpace) -> String {
    fs::read_link(space.path.join("live/current"))
        .map(|path| path.to_str().unwrap().to_owned())
        .unwrap_or_default()
}

const NOBODY: &str = "127.0.0.1:1";

#[test]
fn a_release_goes_live_by_the_script_and_by_make() {
    let space = project();
    let server = space.serve();
    check(
        &deploy(&space, "sh deploy.sh 42", &server.address),
        0,
        "release 42 is live",
    );
    assert_eq!(live(&space), "releases/42");
    // Text for the scripts, whatever it holds.
    let output = deploy(&space, "make deploy RELEASE='4 3;false' && make logs", &server.address);
    check(&output, 0, "switch | release 4 3;false is live");
    check(
        &deploy(&space, "make deploy RELEASE=44 && make logs", &server.address),
        0,
        "switch | release 44 is live",
    );
    assert_eq!(live(&space), "releases/44");
    check(
        &deploy(&space, "make local RELEASE=45", NOBODY),
        0,
        "release 45 is live",
    );
    assert_eq!(space.read("live/current/index.html"), "hello\n");
}

#[test]
fn what_is_wrong_here_asks_no_server() {
    let space = project();
    space.write("site/index.html", "");
    for (command, status) in [("sh deploy.sh 42", 1), ("make deploy RELEASE=42", 2)] {
        check(
            &deploy(&space, command, NOBODY),
            status,
            "site/index.html is missing or empty",
        );
    }
    check(&deploy(&space, "sh deploy.sh", NOBODY), 2, "usage: deploy.sh RELEASE");
    check(&deploy(&space, "make local", NOBODY), 2, "RELEASE is missing");
}

#[test]
fn a_failure_on_the_server_is_told_with_its_output() {
    let space = project();
    let server = space.serve();
    // No directory can be made there.
    space.write("live", "");
    let output = deploy(&space, "sh deploy.sh 42", &server.address);
    check(&output, 1, "release 42 failed");
    check(&output, 1, "upload   | mkdir: ");
    check(
        &deploy(&space, "make deploy RELEASE=43", &server.address),
        2,
        "upload   | mkdir: ",
    );
}

#[test]
fn a_deploy_that_does_not_happen_says_why() {
    let space = project();
    check(
        &deploy(&space, "PRUNNER_TOKEN=x sh deploy.sh 42", NOBODY),
        5,
        "the server can't be reached",
    );
    let server = space.serve();
    check(
        &deploy(&space, "PRUNNER_TOKEN=x sh deploy.sh 42", &server.address),
        3,
        "release 42 was refused",
    );
    // The tar of the release waits for a reader, so that its time is over first.
    let output = deploy(
        &space,
        "mkdir build && mkfifo build/43.tar && TIMEOUT=200ms sh deploy.sh 43",
        &server.address,
    );
    check(&output, 124, "release 43 takes too long; it is canceled");
    assert_eq!(live(&space), "");
}

#[test]
fn shellcheck_finds_nothing() {
    if !is_there("shellcheck") {
        return say_skipped("shellcheck", "nothing has checked the scripts");
    }
    let space = project();
    let completions = space.run(&["completions", "bash"]);
    fs::write(space.path.join("completions.bash"), completions.stdout).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("shellcheck")
        .args([root.join("examples/deploy.sh"), root.join(".ci/run")])
        .args(["--shell=bash".into(), space.path.join("completions.bash")])
        .output()
        .unwrap();
    check(&output, 0, "");
}
