//! What outlives prunner, however it ends.

use std::io::{BufRead, BufReader, Read, Write};

use serde_json::json;

use crate::checks::check_task;
use crate::space::{Server, TestSpace, eventually, is_alive};

#[test]
fn jobs_that_wait_outlive_a_kill_and_run_once_in_order() {
    let space = TestSpace::new(
        r#"pipelines:
  list:
    tasks:
      a:
        script:
          - if test -e gate; then echo $$ > pid; exec sleep 60; fi
          - echo "$PRUNNER_JOB_ID" >> ran
"#,
    );
    space.write("gate", "");
    let server = space.serve();
    let first = server.schedule("list");
    let pid = space.first_line("pid");
    let waiting: Vec<String> = (0..50).map(|_| server.schedule("list")).collect();
    server.kill();
    assert!(is_alive(&pid), "it is for the next start to end it");
    std::fs::remove_file(space.path.join("gate")).unwrap();

    let server = space.serve();
    assert!(!is_alive(&pid));
    let job = server.job(&first);
    assert_eq!(
        [&job["status"], &job["reason"]],
        ["interrupted", "prunner ended while the job ran"]
    );
    check_task(&job, "a", "canceled", -1, true);
    for id in &waiting {
        assert_eq!(server.ended(id)["status"], "succeeded");
    }
    assert_eq!(space.read("ran").lines().collect::<Vec<_>>(), waiting);
    let jobs = server.get("/pipelines/jobs").json();
    let mut listed: Vec<_> = jobs["jobs"].as_array().unwrap().iter().map(|job| &job["id"]).collect();
    listed.reverse();
    let mut all = vec![first];
    all.extend(waiting);
    assert_eq!(listed, all.iter().collect::<Vec<_>>());
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_stop_ends_what_runs_and_keeps_what_waits() {
    let space = TestSpace::new("pipelines: {long: {tasks: {a: {script: ['echo $$ > pid', exec sleep 60]}}}}");
    let server = space.serve();
    let (runs, waits) = (server.schedule("long"), server.schedule("long"));
    let pid = space.first_line("pid");
    assert_eq!(server.stop(), Some(0));
    assert!(!is_alive(&pid));
    let server = space.serve();
    let job = server.job(&runs);
    assert_eq!(
        [&job["status"], &job["reason"]],
        ["canceled", "prunner was stopped"],
        "{job}"
    );
    eventually("the one that waited runs", || {
        (server.job(&waits)["status"] == "running").then_some(())
    });
}

/// Schedules jobs of these pipelines in turn, on one connection, and returns their ids as soon as the last is accepted.
#[track_caller]
fn schedule_many(server: &Server, pipelines: &[&str], count: usize) -> Vec<String> {
    let stream = std::net::TcpStream::connect(&server.address).unwrap();
    let mut reader = BufReader::new(stream);
    let ask = |pipeline: &str| {
        let body = json!({"pipeline": pipeline}).to_string();
        let (authorization, length) = (server.authorization(), body.len());
        format!(
            "POST /pipelines/schedule HTTP/1.1\r\nHost: e2e\r\nContent-Length: {length}\r\n{authorization}\r\n{body}"
        )
    };
    let mut ids = Vec::new();
    for pipeline in pipelines.iter().cycle().take(count) {
        reader.get_mut().write_all(ask(pipeline).as_bytes()).unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).unwrap();
        }
        assert!(head.starts_with("HTTP/1.1 202 "), "{head}");
        let length = head.split("Content-Length: ").nth(1).unwrap().lines().next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let scheduled: serde_json::Value = serde_json::from_slice(&body).unwrap();
        ids.push(scheduled["jobId"].as_str().unwrap().to_owned());
    }
    ids
}

#[test]
fn two_hundred_jobs_outlive_a_kill_right_after_their_answers() {
    // Some wait from the beginning, some run when it is killed, some have ended by then.
    let space = TestSpace::new(
        r#"pipelines:
  list: {tasks: {a: {script: ["echo $PRUNNER_JOB_ID >> ran-list", "until test -e go; do sleep 0.01; done"]}}}
  quick: {concurrency: 2, tasks: {a: {script: ["echo $PRUNNER_JOB_ID >> ran-quick"]}}}
"#,
    );
    let server = space.serve();
    let ids = schedule_many(&server, &["list", "quick"], 200);
    server.kill();
    space.write("go", "");

    let server = space.serve();
    let of_both = ids.iter().zip(["list", "quick"].into_iter().cycle());
    let listed = server.get("/pipelines/jobs").json();
    let listed = listed["jobs"].as_array().unwrap().iter().rev();
    let listed: Vec<_> = listed.map(|job| [&job["id"], &job["pipeline"]]).collect();
    assert_eq!(listed, of_both.map(|(id, pipeline)| [id, pipeline]).collect::<Vec<_>>());

    let ran_and_interrupted = |pipeline: &str, ids: &[&str]| {
        let mut interrupted = Vec::new();
        for id in ids {
            let job = server.ended(id);
            match job["status"].as_str().unwrap() {
                "succeeded" => {}
                "interrupted" => interrupted.push((*id).to_owned()),
                _ => panic!("{job}"),
            }
        }
        let ran = space.read(&format!("ran-{pipeline}"));
        let ran: Vec<String> = ran.lines().map(str::to_owned).collect();
        for id in ids {
            let times = ran.iter().filter(|line| line == id).count();
            // One that was interrupted may not have come to its first line.
            let fewest = usize::from(!interrupted.iter().any(|other| other == id));
            assert!((fewest..=1).contains(&times), "{id} of {pipeline} ran {times} times");
        }
        (ran, interrupted)
    };
    let of = |first: usize| ids.iter().skip(first).step_by(2).map(String::as_str);
    let (list, quick): (Vec<_>, Vec<_>) = (of(0).collect(), of(1).collect());
    let (ran, interrupted) = ran_and_interrupted("list", &list);
    assert_eq!(interrupted, [list[0]], "it could not end before the kill");
    assert_eq!(ran[ran.len() - 99..], list[1..], "one after the other");
    let (_, interrupted) = ran_and_interrupted("quick", &quick);
    assert!(interrupted.len() <= 2, "{interrupted:?}");
    assert_eq!(server.stop(), Some(0));
}
