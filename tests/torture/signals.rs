//! Signals to the server, one and several, at every stage of its life, and parents of every kind.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::census;
use crate::client::Client;
use crate::random::Random;
use crate::space::{Server, TestSpace, eventually, is_alive};
use crate::{in_shell, rounds, seed, signal_process};

const PIPELINES: &str = r#"
pipelines:
  long: {tasks: {a: {script: ["trap : TERM", ": > up", "until test -e go; do sleep 0.02; done"]}}}
  slow: {tasks: {a: {script: ["trap '' INT TERM", ": > up", "until test -e go; do sleep 0.02; done"]}}}
  status: {tasks: {a: {script: ["grep -E 'Sig(Ign|Blk|Cgt)' /proc/self/status > status"]}}}
  seven: {tasks: {a: {script: [exit 7]}}}
  orphans:
    tasks: {a: {script: ["for i in 1 2 3 4 5 6 7 8; do (setsid sh -c 'echo $$ >> orphans' &) > /dev/null 2>&1; done"]}}
"#;

fn wait_for_file(space: &TestSpace, name: &str) {
    eventually(name, || space.path.join(name).exists().then_some(()));
}

#[track_caller]
fn check_nothing_left(space: &TestSpace) {
    let left = census::of_tasks(&space.path.join(".prunner"));
    assert!(left.is_empty(), "{left:?}");
}

/// Sends these one after the other while a job of `pipeline` runs and another waits, and lets the one that runs come to
/// its end where `lets_end`; what becomes of it.
#[track_caller]
fn check_shutdown(signals: &[&str], pipeline: &str, lets_end: bool, expected: &str) {
    let space = TestSpace::new(PIPELINES);
    let mut command = space.command(&[]);
    command.args(["--address", "127.0.0.1:0", "--kill-grace", "200ms"]);
    let mut server = space.serve_by(command, &[], &[]);
    let (runs, waits) = (server.schedule(pipeline), server.schedule(pipeline));
    wait_for_file(&space, "up");
    for (number, signal) in signals.iter().enumerate() {
        server.signal(signal);
        if number == 0 {
            // Two of the same kind that come at once are one.
            eventually("it stops", || server.log().contains("shutting down").then_some(()));
        }
    }
    if lets_end {
        space.write("go", "");
    }
    assert_eq!(server.end(), Some(0), "{signals:?}: {}", server.log());
    check_nothing_left(&space);
    space.write("go", "");
    let server = space.serve();
    let job = server.job(&runs);
    assert_eq!(job["status"], expected, "{signals:?}: {job}");
    if expected == "canceled" {
        assert_eq!(job["reason"], "prunner was stopped", "{signals:?}");
    }
    assert_eq!(server.ended(&waits)["status"], "succeeded", "{signals:?}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn signals_in_every_order_shut_it_down_and_keep_what_waits() {
    check_shutdown(&["INT"], "long", true, "succeeded");
    for signals in [
        &["TERM"][..],
        &["HUP"],
        &["INT", "INT"],
        &["TERM", "TERM"],
        &["HUP", "HUP"],
        &["INT", "TERM"],
        &["TERM", "INT"],
        &["INT", "HUP"],
        &["HUP", "INT"],
        &["TERM", "HUP", "INT", "USR1", "TERM"],
    ] {
        check_shutdown(signals, "slow", false, "canceled");
    }
}

#[test]
fn a_signal_at_any_moment_of_the_start_does_no_harm() {
    let seed = seed();
    let mut random = Random::new(seed);
    let space = TestSpace::new(PIPELINES);
    space.write("go", "");
    let waits = {
        let server = space.serve();
        server.ended(&server.schedule("long"));
        std::fs::remove_file(space.path.join("go")).unwrap();
        let ids = [server.schedule("long"), server.schedule("long")];
        server.kill();
        ids
    };
    for round in 0..rounds().unwrap_or(12) {
        let mut server = space.start(in_shell(&space, "exec \"$@\""), &[], &[]);
        let moment = Instant::now() + Duration::from_micros(random.between(0, 40_000).unsigned_abs());
        while let Some(left) = moment
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            thread::park_timeout(left);
        }
        let signals = [random.pick(&["INT", "TERM", "HUP"]), "TERM"];
        signals.iter().for_each(|signal| server.signal(signal));
        // `None`: it came before the server listened to signals, and ended it.
        let status = server.end();
        assert!(
            matches!(status, Some(0) | None),
            "SEED={seed} round {round}: {status:?} {}",
            server.log()
        );
        assert!(!server.log().contains("panicked"), "SEED={seed} {}", server.log());
    }
    check_nothing_left(&space);
    space.write("go", "");
    let server = space.serve();
    server.ended(&waits[1]);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_signal_to_all_processes_at_once_stops_jobs_and_fails_none() {
    for signal in ["TERM", "INT"] {
        for _ in 0..rounds().map_or(3, |_| 50) {
            let space = TestSpace::new("pipelines: {long: {tasks: {a: {script: [': > up', exec sleep 1000]}}}}");
            let mut server = space.serve();
            let job = server.schedule("long");
            wait_for_file(&space, "up");
            eventually("it is the sleep", || {
                let found = census::of_tasks(&space.path.join(".prunner"));
                let name = std::fs::read_to_string(format!("/proc/{}/comm", found.first()?.pid)).ok()?;
                (name == "sleep\n").then_some(())
            });
            let tasks = census::of_tasks(&space.path.join(".prunner"));
            let mut kill = space.command_by(Command::new("kill"), &[]);
            kill.args([format!("-{signal}"), server.pid().to_string()])
                .args(tasks.iter().map(|process| &process.pid));
            assert!(kill.status().unwrap().success());
            assert_eq!(server.end(), Some(0));
            let job = space.serve().job(&job);
            assert_eq!(
                (&job["errored"], &job["status"]),
                (&false.into(), &"canceled".into()),
                "{signal}: {job}"
            );
        }
    }
}

/// All signals but the real-time ones, of which the C library takes two for itself.
const ORDINARY: u64 = 0x7fff_ffff;

fn mask(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

/// What tasks have of these signals when the server is started like this: ignored, blocked.
#[track_caller]
fn check_start(script: &str, ignored: u64) {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve_by(in_shell(&space, script), &[], &[]);
    assert_eq!(
        server.ended(&server.schedule("status"))["status"],
        "succeeded",
        "{script}"
    );
    let status = space.read("status");
    assert_eq!(mask(&status, "SigIgn:") & ORDINARY, ignored, "{script}: {status}");
    assert_eq!(mask(&status, "SigBlk:"), 0, "{script}: {status}");
    let job = server.ended(&server.schedule("seven"));
    assert_eq!(job["tasks"][0]["exitCode"], 7, "{script}: {job}");
    let long = server.schedule("long");
    wait_for_file(&space, "up");
    assert_eq!(server.post(&format!("/job/cancel?id={long}"), "").status, 200);
    assert_eq!(server.ended(&long)["status"], "canceled", "{script}");
    if ignored != 0 {
        server.signal("HUP");
        assert_eq!(server.request("GET", "/health", "", "").json()["status"], "ok");
    }
    assert_eq!(server.stop(), Some(0), "{script}");
}

#[test]
fn however_it_is_started_tasks_start_clean() {
    check_start("exec \"$@\"", 0);
    check_start("exec nohup \"$@\"", 1);
    check_start("trap '' CHLD QUIT INT PIPE XFSZ; exec \"$@\"", 0);
    let strange =
        "exec env --ignore-signal=CHLD,QUIT,INT,TERM,PIPE,USR1 --block-signal=TERM,INT,HUP,CHLD,USR1,QUIT \"$@\"";
    check_start(strange, 0);
    check_start("exec setsid \"$@\"", 0);
    check_start("exec \"$@\" <&- >&-", 0);
}

#[test]
fn in_the_background_of_a_shell_it_works_and_ends() {
    let space = TestSpace::new(PIPELINES);
    // The shell ends at once: the server has another parent then, and ignores SIGINT and SIGQUIT at first.
    let mut server = space.start(in_shell(&space, "\"$@\" & echo $! > server; wait"), &[], &[]);
    server.wait_until_it_serves();
    assert_eq!(server.ended(&server.schedule("status"))["status"], "succeeded");
    let status = space.read("status");
    assert_eq!(mask(&status, "SigIgn:") & ORDINARY, 0, "{status}");
    let pid = space.first_line("server");
    // One is enough where nothing runs, and a second one would find nobody.
    assert!(signal_process(&space, "INT", &pid));
    assert_eq!(server.end(), Some(0));
    assert!(!is_alive(&pid));
}

/// The new one is refused as long as the old one has not died of its signal.
#[test]
fn a_task_can_replace_the_server_that_runs_it() {
    let space = TestSpace::new(
        "pipelines:
  upgrade: {tasks: {a: {script: ['kill -KILL $PPID', 'until prunner --address 127.0.0.1:0 2> log; do sleep 0.02; done']}}}
",
    );
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_prunner"));
    let path = format!(
        "{}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = in_shell(&space, "exec \"$@\"");
    command.env("PATH", path);
    let mut server = space.serve_by(command, &[], &[]);
    // The answer may be on its way when the server dies.
    let _ = Client::new(&server).schedule("upgrade", &json!({}));
    server.end();
    let address = eventually("the new one serves", || {
        let log = space.read("log");
        let line = log.lines().find(|line| line.contains("msg=\"serving\""))?;
        line.split(' ')
            .find_map(|field| field.strip_prefix("address="))
            .map(str::to_owned)
    });
    server.address = address;
    let jobs = server.get("/pipelines/jobs").json();
    assert_eq!(jobs["jobs"][0]["status"], "interrupted", "{jobs}");
    let pid = space.first_line(".prunner/lock");
    assert!(signal_process(&space, "TERM", &pid));
    eventually("it ends", || (!is_alive(&pid)).then_some(()));
}

#[test]
fn as_process_one_it_reaps_orphans_and_forwards_signals() {
    let space = TestSpace::new(PIPELINES);
    let can = space
        .command_by(Command::new("unshare"), &[])
        .args(["--fork", "--pid", "--mount-proc", "true"])
        .stderr(Stdio::piped())
        .output();
    if !can.as_ref().is_ok_and(|output| output.status.success()) {
        // Not by `eprintln`: that is shown for tests that fail alone.
        let text = format!("NOT TESTED, there are no process namespaces here: {can:?}\n");
        std::io::stderr().write_all(text.as_bytes()).unwrap();
        return;
    }
    for signal in ["TERM", "INT", "HUP"] {
        let mut command = space.command_by(Command::new("unshare"), &[]);
        command
            .args(["--fork", "--pid", "--mount-proc", env!("CARGO_BIN_EXE_prunner")])
            .args(["--address", "127.0.0.1:0"]);
        let mut server: Server = space.serve_by(command, &[], &[]);
        let [first] = census::children(server.pid())[..] else {
            panic!("`unshare` has one child");
        };
        assert_eq!(server.ended(&server.schedule("orphans"))["status"], "succeeded");
        eventually("all orphans have run and are reaped", || {
            let all = space.read("orphans").lines().count() == 8;
            (all && census::children(first).len() == 1).then_some(())
        });
        std::fs::remove_file(space.path.join("orphans")).unwrap();
        assert_eq!(server.ended(&server.schedule("seven"))["tasks"][0]["exitCode"], 7);
        let long = server.schedule("long");
        wait_for_file(&space, "up");
        if signal == "INT" {
            space.write("go", "");
            server.ended(&long);
        }
        let kill = Command::new("kill")
            .args([format!("-{signal}"), first.to_string()])
            .status();
        assert!(kill.unwrap().success());
        assert_eq!(server.end(), Some(0), "{signal}");
        check_nothing_left(&space);
        let _ = std::fs::remove_file(space.path.join("up"));
        let _ = std::fs::remove_file(space.path.join("go"));
    }
}
