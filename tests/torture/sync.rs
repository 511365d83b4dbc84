//! A kill can't show whether what was written was also synced, for the system's memory survives it. The system calls do.

use std::io::Write;
use std::process::Command;

use crate::space::{TestSpace, eventually};
use crate::{in_shell, signal_process};

/// The place of the first line from `from` on that holds all of these.
#[track_caller]
fn find(lines: &[&str], from: usize, parts: &[&str]) -> usize {
    let found = lines[from..]
        .iter()
        .position(|line| parts.iter().all(|part| line.contains(part)));
    from + found.unwrap_or_else(|| panic!("no {parts:?} behind line {from}:\n{}", lines.join("\n")))
}

#[test]
fn answers_ends_and_starts_come_after_the_sync() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: [exec true]}}}}");
    let traced = "pwrite64,write,writev,sendto,fdatasync,execve";
    let works = space
        .command_by(Command::new("strace"), &[])
        .args(["-f", "-e", traced, "true"])
        .output();
    if !works.as_ref().is_ok_and(|output| output.status.success()) {
        // Not by `eprintln`: that is shown for tests that fail alone.
        let text = format!("NOT TESTED, `strace` does not work here: {works:?}\n");
        std::io::stderr().write_all(text.as_bytes()).unwrap();
        return;
    }
    let script = format!("exec strace -f -y -s 1000 -e trace={traced} -e signal=none -o trace \"$@\"");
    let mut server = space.serve_by(in_shell(&space, &script), &[], &[]);
    let id = server.schedule("p");
    let detail = format!("/job/detail?id={id}&wait=20s");
    assert_eq!(server.get(&detail).json()["status"], "succeeded");
    assert_eq!(server.post(&format!("/job/cancel?id={id}"), "").status, 409);
    let pid = space.first_line(".prunner/lock");
    assert!(signal_process(&space, "TERM", &pid));
    assert_eq!(server.end(), Some(0));
    let trace = eventually("the trace is written", || {
        let trace = space.read("trace");
        trace.contains("+++ exited with 0 +++").then_some(trace)
    });
    // A call that another thread cut in two counts from its end.
    let lines: Vec<&str> = trace.lines().collect();
    let synced = |from: usize| {
        let began = find(&lines, from, &["fdatasync(", "journal.jsonl"]);
        if lines[began].contains("unfinished") {
            let thread = lines[began].split(' ').next().unwrap();
            find(&lines, began, &[thread, "<... fdatasync resumed>", "= 0"])
        } else {
            began
        }
    };
    let accepted = find(&lines, 0, &["pwrite64(", "journal.jsonl", &id]);
    let is_on_disk = synced(accepted);
    let answer = find(&lines, accepted, &["HTTP/1.1 202"]);
    assert!(is_on_disk < answer, "answered before the sync:\n{trace}");
    let start = find(&lines, accepted, &["execve(", "sh\"", "-c"]);
    assert!(is_on_disk < start, "started before the sync:\n{trace}");
    let ended = find(&lines, start, &["pwrite64(", "journal.jsonl", "{\\\"end\\\":"]);
    let shown = find(&lines, accepted, &["\\\"status\\\":\\\"succeeded\\\"", "HTTP/1.1 200"]);
    assert!(synced(ended) < shown, "shown before the sync:\n{trace}");
}
