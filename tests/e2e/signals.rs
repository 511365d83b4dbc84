//! What signals do to a server.

use std::fs;

use serde_json::json;

use crate::checks::check_task;
use crate::space::{Server, TestSpace, eventually, is_alive};

/// A pipeline whose jobs run until there is a file `go`, unless they are interrupted.
const LONG: &str =
    "pipelines: {long: {tasks: {a: {script: ['echo $$ > pid', 'until test -e go; do sleep 0.01; done']}}}}";

#[track_caller]
fn wait_until_it_stops(server: &Server) {
    eventually("it is stopping", || (server.get("/health").status == 503).then_some(()));
}

/// Two jobs as a later server finds them: one that ran has this status, and one that waited runs.
#[track_caller]
fn check_after(space: &TestSpace, [ran, waited]: [&str; 2], status: &str) -> Server {
    let server = space.serve();
    assert_eq!(server.job(ran)["status"], status);
    eventually("the one that waited runs", || {
        (server.job(waited)["status"] == "running").then_some(())
    });
    server
}

#[test]
fn sigint_lets_running_jobs_end_and_waiting_ones_wait() {
    let space = TestSpace::new(LONG);
    let mut server = space.serve();
    let (runs, waits) = (server.schedule("long"), server.schedule("long"));
    let pid = space.first_line("pid");
    server.signal("INT");
    wait_until_it_stops(&server);
    assert_eq!(server.try_schedule("long").status, 503);
    assert!(is_alive(&pid));
    assert_eq!(
        [&runs, &waits].map(|id| server.job(id)["status"].clone()),
        ["running", "waiting"]
    );
    space.write("go", "");
    assert_eq!(server.end(), Some(0));
    fs::remove_file(space.path.join("go")).unwrap();
    check_after(&space, [&runs, &waits], "succeeded");
}

#[test]
fn sigint_ends_an_idle_server() {
    let space = TestSpace::new(LONG);
    let mut server = space.serve();
    server.signal("INT");
    assert_eq!(server.end(), Some(0));
}

#[test]
fn a_second_sigint_acts_like_sigterm() {
    let space = TestSpace::new(LONG);
    let mut server = space.serve();
    let (runs, waits) = (server.schedule("long"), server.schedule("long"));
    let pid = space.first_line("pid");
    server.signal("INT");
    wait_until_it_stops(&server);
    assert!(is_alive(&pid));
    server.signal("INT");
    assert_eq!(server.end(), Some(0));
    assert!(!is_alive(&pid));
    let server = check_after(&space, [&runs, &waits], "canceled");
    assert_eq!(server.job(&runs)["reason"], "prunner was stopped");
}

#[test]
fn sigterm_and_sighup_stop_running_jobs_and_keep_waiting_ones() {
    for signal in ["TERM", "HUP"] {
        let space = TestSpace::new(LONG);
        let mut server = space.serve();
        let (runs, waits) = (server.schedule("long"), server.schedule("long"));
        let pid = space.first_line("pid");
        server.signal(signal);
        assert_eq!(server.end(), Some(0), "{signal}");
        assert!(!is_alive(&pid), "{signal}");
        let server = check_after(&space, [&runs, &waits], "canceled");
        let job = server.job(&runs);
        assert_eq!([&job["reason"], &job["lastError"]], ["prunner was stopped"; 2]);
        assert_eq!([&job["canceled"], &job["errored"]], [true, false]);
        check_task(&job, "a", "canceled", -1, true);
    }
}

#[test]
fn sigterm_after_sigint_stops() {
    let space = TestSpace::new(LONG);
    let mut server = space.serve();
    let (runs, waits) = (server.schedule("long"), server.schedule("long"));
    space.first_line("pid");
    server.signal("INT");
    wait_until_it_stops(&server);
    server.signal("TERM");
    assert_eq!(server.end(), Some(0));
    check_after(&space, [&runs, &waits], "canceled");
}

#[test]
fn a_further_sigterm_or_sighup_changes_nothing() {
    let space = TestSpace::new(
        r#"pipelines:
  p: {tasks: {a: {script: ["trap 'echo told >> told' INT; echo up > up; until test -e go; do sleep 0.01; done; echo end > end"]}}}
"#,
    );
    let mut server = space.serve();
    let id = server.schedule("p");
    space.first_line("up");
    server.signal("TERM");
    space.first_line("told");
    for signal in ["TERM", "HUP", "TERM"] {
        server.signal(signal);
        // It has been seen by the time that something which came later is answered.
        assert_eq!(server.get("/health").status, 503, "{signal}");
    }
    assert_eq!(server.job(&id)["status"], "running");
    space.write("go", "");
    assert_eq!(server.end(), Some(0));
    assert_eq!(space.read("end"), "end\n", "it was not killed");
    assert_eq!(space.read("told"), "told\n", "it was told once");
}

#[test]
fn sigusr1_reloads_the_files() {
    let space = TestSpace::new("pipelines: {a: {}}");
    let server = space.serve();
    space.write("pipelines.yml", "pipelines: {b: {}}");
    server.signal("USR1");
    let found = |pipeline: &str| {
        let expected = json!({"pipelines": [{"pipeline": pipeline, "schedulable": true, "running": false}]});
        (server.get("/pipelines/").json() == expected).then_some(())
    };
    eventually("it is reloaded", || found("b"));
    // Wrong files leave what there is.
    space.write("pipelines.yml", "pipelines: {c: {concurrency: 0}}");
    server.signal("USR1");
    eventually("it is said", || server.log().contains("concurrency").then_some(()));
    assert!(found("b").is_some());
    space.write("pipelines.yml", "pipelines: {d: {}}");
    server.signal("USR1");
    eventually("it is reloaded again", || found("d"));
}

#[test]
fn sigpipe_is_ignored_and_tasks_get_the_default_back() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: ['grep -E \"^Sig(Ign|Blk)\" /proc/self/status', 'kill -PIPE $$']}}}}",
    );
    let server = space.serve();
    server.signal("PIPE");
    let id = server.schedule("p");
    let job = server.ended(&id);
    check_task(&job, "a", "error", 141, true);
    assert_eq!(job["lastError"], "signal: broken pipe");
    let logs = server.get(&format!("/job/logs?id={id}&task=a")).json();
    for line in logs["stdout"].as_str().unwrap().lines() {
        let mask = line.split('\t').nth(1).unwrap();
        // Of the two behind the first 31 the C library makes what it needs.
        let signals = u64::from_str_radix(mask, 16).unwrap() & 0x7FFF_FFFF;
        assert_eq!(signals, 0, "{line}");
    }
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.stop(), Some(0));
}
