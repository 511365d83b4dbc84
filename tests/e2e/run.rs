//! `prunner run`: one job without a server, by what it shows, leaves and ends with.

mod display;
mod ends;
mod flags;
mod interrupts;
mod kept;
mod pipes;
pub(crate) mod terminal;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::space::{TestSpace, eventually};

const PATIENCE: Duration = Duration::from_secs(30);

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Runs the pipeline `p` and compares exit status and standard output.
#[track_caller]
fn check(space: &TestSpace, arguments: &[&str], status: i32, expected: &str) -> String {
    let output = space.run(&[&["run", "p"], arguments].concat());
    assert_eq!(
        (output.status.code(), stdout(&output)),
        (Some(status), expected),
        "{}",
        stderr(&output)
    );
    stderr(&output).to_owned()
}

/// A `prunner run` that goes on, with its outputs line by line; killed at the end.
struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Running {
    fn start(space: &TestSpace, arguments: &[&str]) -> Running {
        let mut child = space
            .command(&[&["run"], arguments].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = lines(BufReader::new(child.stdout.take().unwrap()));
        let stderr = lines(BufReader::new(child.stderr.take().unwrap()));
        Running { child, stdout, stderr }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    #[track_caller]
    fn end(&mut self) -> Option<i32> {
        eventually("it ends", || self.child.try_wait().unwrap()).code()
    }

    /// The next line of standard error that holds this.
    #[track_caller]
    fn says(&self, text: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(PATIENCE).expect(text);
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(source: impl BufRead + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in source.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Names in the directory, sorted.
fn names(space: &TestSpace, directory: &str) -> Vec<String> {
    let entries = fs::read_dir(space.path.join(directory)).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
