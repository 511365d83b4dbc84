//! `make install` and `make uninstall`, into a directory of the test.

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
