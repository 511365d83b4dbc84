//! What a task prints is kept byte for byte, can be read while it grows, and is missed where it can't be kept.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::json;

use crate::space::{Server, TestSpace, eventually};
use crate::tools::{ends_of, send_signal, task};

fn log(space: &TestSpace, id: &str, name: &str) -> PathBuf {
    space.path.join(".prunner/logs").join(id).join(name)
}

/// The body of the raw log.
fn raw(server: &Server, id: &str, stream: &str) -> Vec<u8> {
    let target = format!("/job/log?id={id}&task=a&stream={stream}");
    let mut answer = Vec::new();
    server
        .send("GET", &target, &server.authorization(), "")
        .read_to_end(&mut answer)
        .unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    answer.split_off(end + 4)
}

#[test]
fn both_streams_are_kept_byte_for_byte() {
    let (space, server) =
        TestSpace::serving("pipelines: {p: {tasks: {a: {script: ['cat all-bytes', 'printf \"no line end\" >&2']}}}}");
    let bytes: Vec<u8> = (0..=255).cycle().take(1000).chain(*b"\r\n\n\n \xff").collect();
    fs::write(space.path.join("all-bytes"), &bytes).unwrap();
    let id = server.schedule("p");
    let job = server.ended(&id);
    assert_eq!(fs::read(log(&space, &id, "a-stdout.log")).unwrap(), bytes);
    assert_eq!(fs::read(log(&space, &id, "a-stderr.log")).unwrap(), b"no line end");
    assert_eq!(
        (raw(&server, &id, "stdout"), raw(&server, &id, "stderr")),
        (bytes.clone(), b"no line end".to_vec())
    );
    let expected = (String::from_utf8_lossy(&bytes).into_owned(), "no line end".to_owned());
    assert_eq!(server.output_of(&job, "a"), expected);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(log(&space, &id, "a-stdout.log")), mode(log(&space, &id, ""))),
        (0o600, 0o700)
    );
}

#[test]
fn no_file_means_no_output() {
    let (space, server) = TestSpace::serving(
        "pipelines: {p: {tasks: {quiet: {script: 'true'}, err: {script: 'echo a >&2'}, marker: {script: ''}}}, quiet: {tasks: {a: {script: 'true'}}}}",
    );
    let id = server.schedule("p");
    let job = server.ended(&id);
    let names: Vec<_> = fs::read_dir(log(&space, &id, ""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["err-stderr.log"]);
    for (task, stderr) in [("quiet", ""), ("err", "a\n"), ("marker", "")] {
        assert_eq!(
            server.output_of(&job, task),
            (String::new(), stderr.to_owned()),
            "{task}"
        );
    }
    let id = server.schedule("quiet");
    server.ended(&id);
    assert!(!log(&space, &id, "").exists());
}

#[test]
fn output_is_read_while_it_grows() {
    let (space, server) = TestSpace::serving(
        "pipelines: {p: {tasks: {a: {script: ['echo one', 'until test -e go1; do sleep 0.02; done', 'printf tw', 'until test -e go2; do sleep 0.02; done', 'echo o']}}}}",
    );
    let id = server.schedule("p");
    let seen = |expected: &str| {
        eventually("the output has come", || {
            (server.stdout_of(&server.job(&id), "a") == expected).then_some(())
        });
        assert_eq!(server.status_of(&id), "running");
        assert_eq!(raw(&server, &id, "stdout"), expected.as_bytes());
    };
    seen("one\n");
    space.write("go1", "");
    // Also what is no whole line yet.
    seen("one\ntw");
    space.write("go2", "");
    let job = server.ended(&id);
    assert_eq!(server.stdout_of(&job, "a"), "one\ntwo\n");
}

#[test]
fn large_output_is_not_held_in_memory() {
    let (space, server) = TestSpace::serving(
        "pipelines: {p: {tasks: {a: {script: 'head -c 60000000 /dev/zero'}, b: {script: 'head -c 60000000 /dev/zero >&2'}}}}",
    );
    let id = server.schedule("p");
    assert_eq!(server.ended(&id)["status"], "succeeded");
    for name in ["a-stdout.log", "b-stderr.log"] {
        assert_eq!(fs::metadata(log(&space, &id, name)).unwrap().len(), 60_000_000);
    }
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 40_000, "{kilobytes}");
}

#[test]
fn output_that_cannot_be_written_is_counted_and_the_task_goes_on() {
    let (space, server) = TestSpace::serving(
        r"pipelines:
  p:
    tasks:
      a:
        script:
          - until test -e go; do sleep 0.02; done
          - echo lost; echo kept >&2
          - sleep 60 & echo $! > pid
          - echo ran >> ran
",
    );
    let id = server.schedule("p");
    let path = log(&space, &id, "a-stdout.log");
    fs::create_dir_all(&path).unwrap();
    space.write("go", "");
    let job = server.ended(&id);
    send_signal("KILL", &space.first_line("pid"));
    assert_eq!(
        (ends_of(&job), space.read("ran")),
        ("a done".to_owned(), "ran\n".to_owned())
    );
    let shown = PathBuf::from(".prunner/logs").join(&id).join("a-stdout.log");
    // Several notes are joined.
    let note = format!(
        "5 bytes were dropped of standard output: failed to write `{}`: is a directory; output was cut off: a process in \
         the background still held it 200 ms after the task ended",
        space.path.canonicalize().unwrap().join(shown).display()
    );
    assert_eq!(task(&job, "a")["note"], json!(note));
    assert_eq!(raw(&server, &id, "stderr"), b"kept\n");
    let line = server.logged("task ended with a note");
    assert!(
        line.contains("level=warn") && line.contains(" task=a ") && line.contains("5 bytes were dropped"),
        "{line}"
    );
}
