//! prunner in a root that holds nothing but itself and a static shell: no `/etc`, `/dev`, `/proc` or `/tmp`.
//!
//! The binary of the tests has its libraries beside it there; the one in `dist`, where it is new, needs none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use serde_json::json;

use crate::space::{Server, TestSpace, eventually};
use crate::tools::{say_skipped, text};

const PIPELINES: &str = r#"
pipelines:
  greet:
    tasks:
      hello: {script: ['echo "hello, $PRUNNER_VAR_name"', 'echo in << .name | quote >> >&2']}
      after: {script: ['echo after'], depends_on: [hello]}
  hang:
    kill_grace: 200ms
    tasks:
      it: {script: ['trap "" INT TERM', 'echo up > /up', 'read line < /never']}
"#;

const NOTICE: &str = "there is no `/proc`: ";

/// A root of its own, with the binary as `/prunner`.
struct EmptyRoot {
    space: TestSpace,
}

impl EmptyRoot {
    /// `None`: it can't be had here, which was said.
    fn new(binary: &Path) -> Option<EmptyRoot> {
        if !rustix::process::geteuid().is_root() {
            say_skipped("root", "prunner was not run in an empty root");
            return None;
        }
        let Some(busybox) = static_busybox() else {
            say_skipped("a static busybox", "prunner was not run in an empty root");
            return None;
        };
        let space = TestSpace::new(PIPELINES);
        fs::create_dir(space.path.join("bin")).unwrap();
        fs::copy(busybox, space.path.join("bin/sh")).unwrap();
        fs::copy(binary, space.path.join("prunner")).unwrap();
        for library in libraries(binary) {
            let copy = space.path.join(library.strip_prefix("/").unwrap());
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(&library, copy).unwrap();
        }
        for pipe in ["up", "never"] {
            let made = Command::new("mkfifo").arg(space.path.join(pipe)).status().unwrap();
            assert!(made.success());
        }
        Some(EmptyRoot { space })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut chroot = Command::new("timeout");
        chroot.args(["60", "chroot"]).arg(&self.space.path).arg("/prunner");
        self.space.command_by(chroot, arguments)
    }

    #[track_caller]
    fn run(&self, arguments: &[&str], status: i32) -> Output {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
        output
    }

    /// What a command prints that ends well.
    #[track_caller]
    fn printed(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.run(arguments, 0).stdout).unwrap()
    }

    /// Without a `timeout` around it, so that a signal reaches prunner itself.
    #[track_caller]
    fn serve(&self) -> Server {
        let arguments = ["--address", "localhost:0"];
        let mut chroot = Command::new("chroot");
        chroot.arg(&self.space.path).arg("/prunner");
        self.space
            .serve_by(self.space.command_by(chroot, &arguments), &arguments, &[])
    }
}

/// Programs without libraries name no interpreter.
fn static_busybox() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap();
    let mut found = std::env::split_paths(&path).map(|directory| directory.join("busybox"));
    found.find(|busybox| busybox.is_file() && libraries(busybox).is_empty())
}

/// The interpreter and the libraries that a program names; none: it is static.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let paths = text
        .split_ascii_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'));
    paths.map(PathBuf::from).collect()
}

/// The newest change of a file below a directory.
fn newest(directory: &Path) -> SystemTime {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let times = entries.map(|entry| {
        if entry.file_type().unwrap().is_dir() {
            newest(&entry.path())
        } else {
            entry.metadata().unwrap().modified().unwrap()
        }
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

#[track_caller]
fn check(binary: &Path) {
    let Some(root) = EmptyRoot::new(binary) else {
        return;
    };
    for missing in ["etc", "dev", "proc", "tmp", "usr/bin"] {
        assert!(!root.space.path.join(missing).exists(), "{missing}");
    }
    assert!(root.printed(&["validate"]).contains("2 pipelines"));
    assert_eq!(
        root.printed(&["run", "greet", "--var", "name=run"]),
        "hello | hello, run\nafter | after\n"
    );

    let server = root.serve();
    let port = server.address.rsplit_once(':').unwrap().1;
    let address = format!("localhost:{port}");
    let printed = |arguments: &[&str]| root.printed(&[arguments, &["--address", &address]].concat());
    let job = printed(&["schedule", "greet", "--var", "name=it's", "--wait"]);
    let job = job.trim_end();
    assert_eq!(printed(&["logs", job, "hello"]), "hello, it's\n");
    assert!(printed(&["jobs"]).contains("succeeded"));
    assert!(printed(&["debug"]).contains(&format!("localhost:{port}")));
    assert!(printed(&["reload"]).contains("2 pipelines"));

    // One that ignores what asks it to end.
    let job = server.schedule("hang");
    eventually("the task is up", || fs::read(root.space.path.join("up")).ok());
    let answer = server.post(&format!("/job/cancel?id={job}"), "");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(text(&server.ended(&job)["status"]), "canceled");

    // One that is left by a crash is left alone, and its job has ended.
    let job = server.schedule("hang");
    eventually("the task is up", || fs::read(root.space.path.join("up")).ok());
    let log = server.log();
    assert_eq!(log.matches(NOTICE).count(), 1, "{log}");
    server.kill();
    let server = root.serve();
    assert_eq!(text(&server.job(&job)["status"]), "interrupted");
    let request = json!({"pipeline": "greet", "variables": {"name": "again"}});
    assert_eq!(text(&server.ended(&server.accepted(&request))["status"]), "succeeded");
    let log = server.log();
    assert_eq!(log.matches(NOTICE).count(), 1, "{log}");
    assert_eq!(server.stop(), Some(0));
    // Lets what was left go.
    fs::write(root.space.path.join("never"), "now\n").unwrap();
}

#[test]
fn all_works_in_an_empty_root() {
    check(Path::new(env!("CARGO_BIN_EXE_prunner")));
}

#[test]
fn the_release_works_in_an_empty_root() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let release = project.join("dist/prunner");
    let built = fs::metadata(&release).and_then(|metadata| metadata.modified());
    if !built.is_ok_and(|built| built > newest(&project.join("src"))) {
        return say_skipped("a new dist/prunner", "the release was not run in an empty root");
    }
    assert_eq!(libraries(&release), Vec::<PathBuf>::new());
    check(&release);
}

#[test]
fn where_there_is_proc_nothing_is_said() {
    if Path::new("/proc/self/stat").exists() {
        let (_space, server) = TestSpace::serving(PIPELINES);
        assert!(!server.log().contains(NOTICE), "{}", server.log());
    }
}
