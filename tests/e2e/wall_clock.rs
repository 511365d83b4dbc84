//! A wall clock that is set by a day, while prunner runs and between two runs. libfaketime sets it, for prunner alone.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::space::{Server, TestSpace};
use crate::tools::say_skipped;

const PIPELINES: &str = "
pipelines:
  quick: {retention_period: 1h, tasks: {a: {script: ['true']}}}
  soon: {start_delay: 1s, tasks: {a: {script: ['true']}}}
  # Long enough to be waiting still when prunner is killed.
  shortly: {start_delay: 8s, tasks: {a: {script: ['true']}}}
  later: {start_delay: 10m, tasks: {a: {script: ['true']}}}
";

/// Servers whose wall clock is ours to set.
struct Times {
    space: TestSpace,
    library: String,
    /// Made long before all that the clock ever shows here.
    token: String,
}

impl Times {
    /// `None` where there is no such library, which is told.
    fn new(what: &str) -> Option<Times> {
        let Some(library) = library() else {
            say_skipped("libfaketime", what);
            return None;
        };
        let space = TestSpace::new(PIPELINES);
        let variables = [("LD_PRELOAD", &*library), ("FAKETIME", "-9d")];
        let token = space.run_with(&["token"], &variables);
        let token = format!("Bearer {}", String::from_utf8(token.stdout).unwrap().trim());
        let times = Times { space, library, token };
        times.set("+0");
        Some(times)
    }

    /// So far from the true time.
    fn set(&self, offset: &str) {
        self.space.write("clock", offset);
    }

    fn serve(&self) -> Server {
        let clock = self.space.path.join("clock");
        let variables = [
            ("LD_PRELOAD", &*self.library),
            ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DISABLE_SHM", "1"),
            // Nobody can set the other clock.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        let mut server = self.space.serve_with(&["--address", "127.0.0.1:0"], &variables);
        server.token.clone_from(&self.token);
        server
    }
}

fn library() -> Option<String> {
    let folders = fs::read_dir("/usr/lib").ok()?;
    let libraries = folders.filter_map(|folder| Some(folder.ok()?.path().join("faketime/libfaketimeMT.so.1")));
    let mut libraries = libraries.filter(|path: &PathBuf| path.exists());
    Some(libraries.next()?.to_str()?.to_owned())
}

#[track_caller]
fn check_status(server: &Server, id: &str, status: &str) -> Value {
    let job = server.get(&format!("/job/detail?id={id}")).json();
    assert_eq!(job["status"], json!(status), "{job}");
    job
}

#[test]
fn a_clock_that_is_set_makes_no_delay_longer_and_nothing_too_old() {
    let Some(times) = Times::new("a clock that is set while prunner runs") else {
        return;
    };
    let server = times.serve();
    let old = server.run_job("quick")["id"].as_str().unwrap().to_owned();
    let later = server.schedule("later");
    let created = check_status(&server, &later, "waiting")["created"].clone();
    for offset in ["+1d", "-1d", "+0", "-2d", "+2d"] {
        let soon = server.schedule("soon");
        times.set(offset);
        let job = server.ended(&soon);
        assert_eq!(job["status"], "succeeded", "{job}");
        assert!(job["durationMs"].as_i64().unwrap() >= 0, "{job}");
        // The end of another one is when such jobs are looked at.
        let job = server.run_job("quick");
        assert_eq!(job["status"], "succeeded", "{job}");
        check_status(&server, &old, "succeeded");
        check_status(&server, &later, "waiting");
    }
    // The clock was another one each time.
    let newest = server.run_job("quick")["created"].clone();
    assert_ne!(newest.as_str().unwrap()[..10], created.as_str().unwrap()[..10]);
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_clock_that_was_set_back_between_two_runs_makes_no_delay_longer() {
    let Some(times) = Times::new("a clock that is set between two runs") else {
        return;
    };
    let server = times.serve();
    let shortly = server.schedule("shortly");
    let later = server.schedule("later");
    server.kill();
    times.set("-1d");
    let server = times.serve();
    assert_eq!(server.ended(&shortly)["status"], "succeeded");
    check_status(&server, &later, "waiting");
    server.kill();
    // By then its time has come.
    times.set("+1d");
    let server = times.serve();
    assert_eq!(server.ended(&later)["status"], "succeeded");
    assert_eq!(server.stop(), Some(0));
}
