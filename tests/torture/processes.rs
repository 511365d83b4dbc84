//! Tasks that do not behave, canceled at every stage.
//!
//! What is left over is looked for by the mark in a process's environment, not by the server's own word.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::census;
use crate::client::Client;
use crate::random::Random;
use crate::space::{Server, TestSpace, eventually};
use crate::{rounds, seed, signal_process};

/// Each says that it is up by a file of its name.
const HOSTILE: &str = r#"
pipelines:
  deaf: {tasks: {a: {script: ["trap '' INT TERM HUP QUIT", ": > deaf", sleep 1000 & sleep 1000, sleep 1000]}}}
  stubborn: {tasks: {a: {script: ["trap : INT TERM", ": > stubborn", "while :; do sleep 0.01; done"]}}}
  forks: {tasks: {a: {script: ["(sleep 1000 & sleep 1000 & sleep 1000 &)", ": > forks", exec sleep 1000]}}}
  tree:
    tasks:
      a:
        script:
          - 'grow() { if test $1 -gt 0; then grow $(($1-1)) & grow $(($1-1)) & fi; : > tree; sleep 1000; }; grow 5'
  many:
    tasks: {a: {script: ["i=0; while test $i -lt 200; do sleep 1000 & i=$((i+1)); done; : > many; wait"]}}
  hops:
    tasks:
      a: {script: ["trap '' INT TERM; hop() { sleep 0.005; : > hops; hop & exit 0; }; hop & sleep 1000"]}
  paused: {tasks: {a: {script: [": > paused; kill -STOP $$"]}}}
  pauses: {tasks: {a: {script: ["sleep 1000 & kill -STOP $!; : > pauses; wait"]}}}
  closes: {tasks: {a: {script: ["exec >&- 2>&- <&-; : > closes; exec sleep 1000"]}}}
  chatty: {tasks: {a: {script: [": > chatty; exec yes"]}}}
  binary: {tasks: {a: {script: [": > binary; exec cat /dev/urandom"]}}}
  both: {tasks: {a: {script: [": > both; yes & yes >&2 & yes"]}}}
"#;
const NAMES: [&str; 12] = [
    "deaf", "stubborn", "forks", "tree", "many", "hops", "paused", "pauses", "closes", "chatty", "binary", "both",
];

fn serve(space: &TestSpace, grace: &str) -> Server {
    let mut command = space.command(&[]);
    command.args(["--address", "127.0.0.1:0", "--kill-grace", grace]);
    space.serve_by(command, &[], &[])
}

/// Its threads and descriptors when nothing happens: one worker stays once there was one.
#[track_caller]
fn idle(server: &Server, warm: &str) -> (usize, usize) {
    server.ended(&server.schedule(warm));
    let mut last = (0, 0);
    eventually("it is idle", || {
        let counts = census::threads_and_descriptors(server.pid());
        (std::mem::replace(&mut last, counts) == counts && counts.0 > 0).then_some(counts)
    })
}

#[track_caller]
fn check_idle_again(server: &Server, before: (usize, usize)) {
    let mut last = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(20);
    while last == (0, 0) || last.0 > before.0 || last.1 > before.1 {
        assert!(
            Instant::now() < deadline,
            "threads, descriptors: {before:?} became {last:?}"
        );
        thread::park_timeout(Duration::from_millis(20));
        last = census::threads_and_descriptors(server.pid());
    }
}

#[track_caller]
fn check_nothing_left(space: &TestSpace) {
    let left = census::of_tasks(&space.path.join(".prunner"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn whatever_a_task_does_a_cancel_ends_all_of_it() {
    let space = TestSpace::new(&format!("{HOSTILE}  warm: {{tasks: {{a: {{script: ['true']}}}}}}\n"));
    let server = serve(&space, "300ms");
    let before = idle(&server, "warm");
    let jobs: Vec<(&str, String)> = NAMES.iter().map(|&name| (name, server.schedule(name))).collect();
    for name in NAMES {
        eventually(name, || space.path.join(name).exists().then_some(()));
    }
    // By two clients at once, each twice.
    let client = Arc::new(Client::new(&server));
    let cancels: Vec<_> = [0, 1]
        .map(|_| {
            let (client, jobs) = (Arc::clone(&client), jobs.clone());
            thread::spawn(move || {
                for (_, job) in jobs.iter().chain(&jobs) {
                    let status = client.cancel(job).unwrap();
                    assert_eq!(status, 200);
                }
            })
        })
        .into();
    cancels.into_iter().for_each(|thread| thread.join().unwrap());
    for (name, job) in &jobs {
        let ended = server.ended(job);
        assert_eq!(ended["status"], "canceled", "{name}: {ended}");
        assert!(ended["tasks"][0].get("note").is_none(), "{name}: {ended}");
        let left = census::of_tasks(&space.path.join(".prunner"));
        let left: Vec<_> = left.iter().filter(|process| process.job == *job).collect();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
    check_nothing_left(&space);
    check_idle_again(&server, before);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_stop_ends_all_of_it_too() {
    let space = TestSpace::new(HOSTILE);
    let server = serve(&space, "100ms");
    NAMES.iter().for_each(|&name| drop(server.schedule(name)));
    for name in NAMES {
        eventually(name, || space.path.join(name).exists().then_some(()));
    }
    assert_eq!(server.stop(), Some(0));
    check_nothing_left(&space);
}

#[test]
fn what_a_killed_server_left_is_gone_however_it_hides() {
    let space = TestSpace::new(&format!(
        "{HOSTILE}  hides:
    tasks:
      a:
        script:
          - setsid sh -c \"trap '' INT TERM HUP; sleep 1000 & sleep 1000\" &
          - setsid -f setsid -f sleep 1000 >/dev/null 2>&1 </dev/null
          - (setsid sleep 1000 >&- 2>&- &)
          - kill -STOP $!; nohup sleep 1000 >/dev/null 2>&1 &
          - ': > hides; exec sleep 1000'
"
    ));
    let server = serve(&space, "100ms");
    let all = [&NAMES[..], &["hides"]].concat();
    let jobs: Vec<String> = all.iter().map(|&name| server.schedule(name)).collect();
    for name in &all {
        eventually(name, || space.path.join(name).exists().then_some(()));
    }
    assert!(census::of_tasks(&space.path.join(".prunner")).len() > 250);
    server.kill();
    let server = serve(&space, "100ms");
    check_nothing_left(&space);
    for job in jobs {
        assert_eq!(server.job(&job)["status"], "interrupted");
    }
    assert!(!server.log().contains("can't be ended"), "{}", server.log());
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_cancel_at_any_moment_leaves_nothing() {
    let seed = seed();
    let mut random = Random::new(seed);
    let space = TestSpace::new(
        "pipelines:
  two: {concurrency: 8, tasks: {a: {script: ['true']}, b: {script: [sleep 1000 & wait], depends_on: a}}}
  warm: {tasks: {a: {script: ['true']}}}
",
    );
    let server = serve(&space, "50ms");
    let before = idle(&server, "warm");
    let mut jobs = Vec::new();
    for _ in 0..rounds().map_or(40, |rounds| rounds * 2) {
        let job = server.schedule("two");
        let moment = Instant::now() + Duration::from_micros(random.between(0, 12_000).unsigned_abs());
        while let Some(left) = moment
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            thread::park_timeout(left);
        }
        assert_eq!(server.post(&format!("/job/cancel?id={job}"), "").status, 200);
        jobs.push(job);
    }
    for job in &jobs {
        let ended = server.ended(job);
        assert_eq!(ended["status"], "canceled", "SEED={seed} {ended}");
        assert_eq!(ended["errored"], false, "SEED={seed} {ended}");
    }
    check_nothing_left(&space);
    check_idle_again(&server, before);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn output_is_neither_held_nor_lost_nor_waited_for() {
    let megabytes = if rounds().is_some() { 1000 } else { 40 };
    let line = if rounds().is_some() { 100 } else { 20 };
    let space = TestSpace::new(&format!(
        "pipelines:
  large: {{tasks: {{a: {{script: [head -c {megabytes}000000 /dev/zero]}}}}}}
  line: {{tasks: {{a: {{script: ['head -c {line}000000 /dev/zero | tr \"\\\\0\" x >&2']}}}}}}
  goes_on: {{tasks: {{a: {{script: ['(yes & echo $! > pid); echo done']}}}}}}
  holds: {{tasks: {{a: {{script: ['sleep 1000 & echo $! > pid']}}}}}}
  warm: {{tasks: {{a: {{script: ['true']}}}}}}
"
    ));
    let server = serve(&space, "2s");
    let before = idle(&server, "warm");
    let memory = census::memory_kib(server.pid(), "VmHWM:");
    for (name, stream, size) in [("large", "stdout", megabytes), ("line", "stderr", line)] {
        let id = server.schedule(name);
        assert_eq!(server.ended(&id)["status"], "succeeded");
        let log = space.path.join(format!(".prunner/logs/{id}/a-{stream}.log"));
        assert_eq!(fs::metadata(log).unwrap().len(), size * 1_000_000, "{name}");
    }
    let grown = census::memory_kib(server.pid(), "VmHWM:") - memory;
    assert!(grown < 2048, "{grown} KiB more");
    for name in ["goes_on", "holds"] {
        let _ = fs::remove_file(space.path.join("pid"));
        let begin = Instant::now();
        let job = server.ended(&server.schedule(name));
        assert_eq!(job["status"], "succeeded", "{name}: {job}");
        assert!(
            job["tasks"][0]["note"].as_str().unwrap().contains("cut off"),
            "{name}: {job}"
        );
        assert!(begin.elapsed() < Duration::from_secs(5), "{name}");
        let pid = space.first_line("pid");
        signal_process(&space, "KILL", &pid);
    }
    check_idle_again(&server, before);
    assert_eq!(server.stop(), Some(0));
}
