//! `make install` and `make uninstall`, into a directory of the test; what `make release` would build.

use std::fs;
use std::process::{Command, Output};

use crate::space::TestSpace;

fn make(space: &TestSpace, target: &str) -> Output {
    let mut make = Command::new("make");
    make.args(["-C", env!("CARGO_MANIFEST_DIR"), target, "PREFIX=/usr"]);
    let output = space
        .command_by(make, &[&format!("DESTDIR={}", space.path.join("root").display())])
        .env("BINARY", env!("CARGO_BIN_EXE_prunner"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

#[test]
fn what_is_installed_can_be_removed() {
    let space = TestSpace::new("pipelines: {}");
    let files = [
        ("bin/prunner", ""),
        ("share/man/man1/prunner.1", ".TH PRUNNER 1 "),
        ("share/bash-completion/completions/prunner", "complete -o default"),
        ("share/zsh/site-functions/_prunner", "#compdef prunner"),
        ("share/fish/vendor_completions.d/prunner.fish", "complete -c prunner"),
        ("lib/systemd/system/prunner.service", "ExecStart=/usr/bin/prunner\n"),
    ];
    make(&space, "install");
    for (name, expected) in files {
        let path = space.path.join("root/usr").join(name);
        let text = fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            expected.is_empty() || String::from_utf8(text).unwrap().contains(expected),
            "{name}"
        );
    }
    make(&space, "uninstall");
    for (name, _) in files {
        assert!(
            !space.path.join("root/usr").join(name).exists(),
            "{name} is still there"
        );
    }
}

/// Of `make release` on a machine that is one of these, with these arguments: the target and the file.
#[track_caller]
fn check_release(machine: &str, arguments: &[&str], target: &str, file: &str) {
    let space = TestSpace::new("pipelines: {}");
    space.write_script("bin/uname", &format!("echo {machine}"));
    let mut make = Command::new("make");
    make.args(["-n", "-C", env!("CARGO_MANIFEST_DIR"), "release"]);
    let path = std::env::var("PATH").unwrap();
    let output = space
        .command_by(make, arguments)
        .env("PATH", format!("{}:{path}", space.path.join("bin").display()))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains(&format!("cargo build --release --locked --target {target}\n")),
        "{text}"
    );
    assert!(
        text.contains(&format!("cp target/{target}/release/prunner {file}\n")),
        "{text}"
    );
    // The system's linker knows its own kind of machine alone.
    let linker = "_UNKNOWN_LINUX_MUSL_LINKER=rust-lld";
    assert_eq!(text.contains(linker), !target.starts_with(machine), "{text}");
}

#[test]
fn a_release_is_for_the_machine_that_builds_it_or_another() {
    let [intel, arm] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"];
    check_release("x86_64", &[], intel, "dist/prunner");
    check_release("aarch64", &[], arm, "dist/prunner");
    let for_arm = format!("TARGET={arm}");
    check_release("x86_64", &[&for_arm], arm, "dist/prunner-aarch64");
    check_release("aarch64", &[&for_arm], arm, "dist/prunner");
}
