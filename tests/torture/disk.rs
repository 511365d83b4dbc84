//! Disks that are full, limited, read-only or gone.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::in_shell;
use crate::space::{Server, TestSpace, eventually};

const PIPELINES: &str = r#"
pipelines:
  quick: {concurrency: 5, tasks: {a: {script: ["echo $PRUNNER_JOB_ID >> ran"]}}}
  long: {concurrency: 5, tasks: {a: {script: [": > up", exec sleep 1000]}}}
  filler: {tasks: {a: {script: [exec cat /dev/zero]}}}
  talk: {tasks: {a: {script: ["echo first", "until test -e go; do sleep 0.02; done", "echo second"]}}}
"#;

/// Schedules jobs with large variables until the disk takes no more; the ids of those that were taken.
#[track_caller]
fn fill(server: &Server) -> Vec<String> {
    let body = json!({"pipeline": "quick", "variables": {"text": "x".repeat(60_000)}}).to_string();
    let mut ids = Vec::new();
    for _ in 0..1000 {
        let answer = server.post("/pipelines/schedule", &body);
        if answer.status == 202 {
            ids.push(answer.json()["jobId"].as_str().unwrap().to_owned());
            continue;
        }
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert_eq!(answer.json()["code"], "storage", "{}", answer.body);
        let health = server.request("GET", "/health", "", "");
        assert_eq!(health.status, 503);
        assert_eq!(health.json()["status"], "storage", "{}", health.body);
        return ids;
    }
    panic!("the disk is never full: {}", server.log());
}

#[track_caller]
fn wait_until_well(server: &Server) {
    eventually("it is well again", || {
        (server.request("GET", "/health", "", "").status == 200).then_some(())
    });
}

fn wait_for_file(space: &TestSpace, name: &str) {
    eventually(name, || space.path.join(name).exists().then_some(()));
}

/// Each of these jobs has run, and just once.
#[track_caller]
fn check_ran(server: &Server, space: &TestSpace, ids: &[String]) {
    for id in ids {
        assert_eq!(server.ended(id)["status"], "succeeded");
    }
    let ran = space.read("ran");
    for id in ids {
        assert_eq!(ran.matches(id.as_str()).count(), 1, "{id} in {ran}");
    }
}

#[test]
fn a_file_size_limit_is_survived_and_its_end_noticed() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let long = server.schedule("long");
    wait_for_file(&space, "up");
    let limit = |limit: &str| {
        let status = Command::new("prlimit")
            .args([
                "--pid",
                &server.pid().to_string(),
                &format!("--fsize={limit}:unlimited"),
            ])
            .status();
        assert!(status.expect("`prlimit` is there").success());
    };
    limit("300000");
    let mut ids = fill(&server);
    assert!(ids.len() < 10, "{}", ids.len());
    // The task is stopped at once, though nobody may say so before it is on disk.
    let canceled = std::thread::scope(|scope| {
        let cancel = scope.spawn(|| server.post(&format!("/job/cancel?id={long}"), ""));
        eventually("its process is gone", || {
            crate::census::of_tasks(&space.path.join(".prunner"))
                .iter()
                .all(|process| process.job != long)
                .then_some(())
        });
        assert_eq!(server.job(&long)["status"], "running");
        limit("unlimited");
        cancel.join().unwrap()
    });
    assert_eq!(canceled.status, 200, "{}", canceled.body);
    wait_until_well(&server);
    assert_eq!(server.ended(&long)["reason"], "canceled by anna");
    ids.push(server.schedule("quick"));
    check_ran(&server, &space, &ids);
    server.kill();
    let server = space.serve();
    assert_eq!(server.ended(&long)["reason"], "canceled by anna");
    check_ran(&server, &space, &ids);
    assert_eq!(server.stop(), Some(0));
}

/// A server whose data directory is a file system of its own, of this size; `None` where that is not allowed, which is
/// said.
fn serve_on_tmpfs(space: &TestSpace, options: &str) -> Option<Server> {
    let allowed = Command::new("unshare")
        .args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"])
        .output();
    if !allowed.as_ref().is_ok_and(|output| output.status.success()) {
        // Not by `eprintln`: that is shown for tests that fail alone.
        let text = format!("NOT TESTED, a tmpfs can't be mounted here: {allowed:?}\n");
        std::io::stderr().write_all(text.as_bytes()).unwrap();
        return None;
    }
    fs::create_dir_all(space.path.join(".prunner")).unwrap();
    let script = format!("mount -t tmpfs -o {options} none .prunner && exec \"$@\"");
    let mut command = in_shell(space, &script);
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    command = space.command_by(Command::new("unshare"), &[]);
    command.args(["-m", "sh"]).args(arguments);
    Some(space.serve_by(command, &[], &[]))
}

/// The data directory as the server sees it.
fn inside(server: &Server, space: &TestSpace) -> PathBuf {
    let root = format!("/proc/{}/root", server.pid());
    PathBuf::from(root)
        .join(space.path.strip_prefix("/").unwrap())
        .join(".prunner")
}

#[test]
fn on_a_full_disk_jobs_go_on_and_the_one_that_fills_it_can_be_canceled() {
    let space = TestSpace::new(PIPELINES);
    let Some(server) = serve_on_tmpfs(&space, "size=12m") else {
        return;
    };
    let data = inside(&server, &space);
    let talk = server.schedule("talk");
    let filler = server.schedule("filler");
    let log = data.join(format!("logs/{filler}/a-stdout.log"));
    eventually("the disk is full", || {
        let before = fs::metadata(&log).ok()?.len();
        (before > 0 && !has_room(&server, &space)).then_some(())
    });
    // What runs goes on to its end, which is recorded, though its output has no room.
    space.write("go", "");
    let job = server.ended(&talk);
    assert_eq!(job["status"], "succeeded", "{job}");
    let ids = fill(&server);
    assert!(!ids.is_empty(), "there was room for some");
    let answer = server.post(&format!("/job/cancel?id={filler}"), "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let job = server.ended(&filler);
    assert_eq!(job["status"], "canceled", "{job}");
    assert!(job["tasks"][0]["note"].as_str().unwrap().contains("output"), "{job}");
    check_ran(&server, &space, &ids);
    assert_eq!(server.request("GET", "/health", "", "").status, 503);

    fs::remove_file(&log).unwrap();
    wait_until_well(&server);
    let next = server.schedule("quick");
    check_ran(&server, &space, &[next]);
    assert_eq!(server.stop(), Some(0));
}

fn has_room(server: &Server, space: &TestSpace) -> bool {
    let path = inside(server, space).join("room");
    let has_room = fs::write(&path, [0; 16 * 1024]).is_ok();
    let _ = fs::remove_file(path);
    has_room
}

#[test]
fn a_start_on_a_full_disk_serves_what_is_there() {
    let space = TestSpace::new(PIPELINES);
    let Some(server) = serve_on_tmpfs(&space, "size=64k") else {
        return;
    };
    let answer = server.try_schedule("quick");
    assert_eq!((answer.status, answer.json()["code"].clone()), (503, json!("storage")));
    assert_eq!(server.get("/pipelines/jobs").status, 200);
    let data = inside(&server, &space);
    let status = Command::new("nsenter")
        .args(["-t", &server.pid().to_string(), "-m", "mount", "-o", "remount,size=32m"])
        .arg(space.path.canonicalize().unwrap().join(".prunner"))
        .status();
    assert!(status.unwrap().success());
    wait_until_well(&server);
    let id = server.schedule("quick");
    check_ran(&server, &space, &[id]);
    assert!(data.join("journal.jsonl").exists());
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named_at_the_start() {
    let space = TestSpace::new(PIPELINES);
    assert_eq!(space.serve().stop(), Some(0));
    let script = "mount --bind .prunner .prunner && mount -o remount,ro,bind .prunner && exec \"$@\"";
    let inner = in_shell(&space, script);
    let output = space
        .command_by(Command::new("unshare"), &[])
        .args(["-m", "sh"])
        .args(inner.get_args())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    if !text.contains("prunner:") {
        let text = format!("NOT TESTED, a directory can't be mounted read-only here: {text}\n");
        std::io::stderr().write_all(text.as_bytes()).unwrap();
        return;
    }
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("/.prunner/lock`: read-only file system"), "{text}");
}

#[test]
fn a_data_directory_that_vanishes_is_made_and_filled_again() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let first = server.schedule("quick");
    let long = server.schedule("long");
    wait_for_file(&space, "up");
    server.ended(&first);
    fs::remove_dir_all(space.path.join(".prunner")).unwrap();
    let next = server.schedule("quick");
    server.ended(&next);
    assert_eq!(server.job(&long)["status"], "running");
    let mut second = space.start(in_shell(&space, "exec \"$@\""), &[], &[]);
    assert_eq!(second.end(), Some(3), "{}", second.log());
    server.kill();
    let server = space.serve();
    assert_eq!(server.job(&first)["status"], "succeeded");
    assert_eq!(server.job(&long)["status"], "interrupted");
    assert_eq!(server.job(&next)["status"], "succeeded");
    assert_eq!(server.stop(), Some(0));
}
