//! What is told of a job that is followed comes in the order in which it happened.

use std::collections::HashSet;

use super::{check_status, objects, run};
use crate::space::TestSpace;

/// A chain of tasks and markers, each of which is over at once, so that several ends and starts are seen with one look.
fn chain(length: usize) -> String {
    let mut tasks = "first: {script: ['echo 0']}".to_owned();
    let mut before = "first".to_owned();
    for number in 1..length {
        let script = if number % 3 == 0 {
            String::new()
        } else {
            format!("script: ['echo {number}'], ")
        };
        tasks.push_str(&format!(", t{number}: {{{script}depends_on: [{before}]}}"));
        before = format!("t{number}");
    }
    format!("pipelines: {{p: {{tasks: {{{tasks}}}}}}}")
}

#[test]
fn a_task_starts_behind_the_ends_of_those_it_depends_on() {
    let space = TestSpace::new(&chain(30));
    let server = space.serve();
    let output = run(&space, &server, &["schedule", "p", "--follow", "--json"]);
    check_status(&output, 0);
    let mut begun = HashSet::new();
    let mut ended = HashSet::new();
    let mut lines = 0;
    for event in &objects(&output)[1..] {
        let task = event["task"].as_str().unwrap_or_default().to_owned();
        match event["event"].as_str().unwrap() {
            "started" => {
                for other in event["dependsOn"].as_array().into_iter().flatten() {
                    assert!(
                        ended.contains(other.as_str().unwrap()),
                        "{task} started before the end of {other}"
                    );
                }
                assert!(begun.insert(task));
            }
            "output" => {
                lines += 1;
                assert!(begun.contains(&task) && !ended.contains(&task), "{event}");
            }
            "ended" => assert!(begun.contains(&task) && ended.insert(task), "{event}"),
            _ => {}
        }
    }
    assert_eq!((begun.len(), ended.len(), lines), (30, 30, 21));
}

#[test]
fn a_start_is_told_while_nothing_else_happens() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: ['exec cat a']}, b: {script: ['exec cat b'], depends_on: [a]}}}}",
    );
    for name in ["a", "b"] {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            space.path.join(name),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
    }
    let server = space.serve();
    let mut follower = space
        .command(&["schedule", "p", "--follow"])
        .env("PRUNNER_ADDRESS", &server.address)
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut told = follower.stderr.take().unwrap();
    crate::space::read_until(&mut told, "a started");
    // Each task goes on only when what it waits for has been read, so nothing but the change itself can have been told.
    std::fs::write(space.path.join("a"), "x").unwrap();
    crate::space::read_until(&mut told, "b started");
    std::fs::write(space.path.join("b"), "x").unwrap();
    assert!(follower.wait().unwrap().success());
}
