//! A server that goes away while it is watched: it is looked for, and found again.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{PIPELINES, check_status, text};
use crate::space::{Server, TestSpace, read_until};

fn start(space: &TestSpace, address: &str, arguments: &[&str]) -> Child {
    space
        .command(arguments)
        .env("PRUNNER_ADDRESS", address)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn restart(space: &TestSpace, server: Server) -> Server {
    let address = server.address.clone();
    server.kill();
    space.serve_with(&["--address", &address], &[])
}

/// Starts a command that schedules `long`, and kills the server and starts it anew while the job runs.
fn interrupted(arguments: &[&str]) -> Output {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let child = start(&space, &server.address, arguments);
    space.first_line("up");
    let _server = restart(&space, server);
    child.wait_with_output().unwrap()
}

#[test]
fn a_job_that_was_interrupted_is_4() {
    for flags in [&["--wait"][..], &["--follow"], &["--follow", "--json"]] {
        let output = interrupted(&[&["schedule", "long"], flags].concat());
        check_status(&output, 4);
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(all.contains("interrupted"), "{all}");
    }
}

#[test]
fn a_job_that_waits_survives() {
    let space = TestSpace::new(
        r#"pipelines:
  talk: {tasks: {say: {script: ["if test -e up; then echo said; exit; fi", "echo up > up", "exec sleep 100"]}}}
"#,
    );
    let server = space.serve();
    server.schedule("talk");
    space.first_line("up");
    // They wait for the place that the first one holds.
    let mut waiting = start(&space, &server.address, &["schedule", "talk", "--wait"]);
    let mut following = start(&space, &server.address, &["schedule", "talk", "--follow", "--json"]);
    read_until(waiting.stdout.as_mut().unwrap(), "\n");
    read_until(following.stdout.as_mut().unwrap(), "jobId");
    let _server = restart(&space, server);
    let output = following.wait_with_output().unwrap();
    check_status(&output, 0);
    assert_eq!(
        text(&output.stdout).matches(r#""line":"said""#).count(),
        1,
        "{output:?}"
    );
    check_status(&waiting.wait_with_output().unwrap(), 0);
}

#[test]
fn logs_go_on_where_they_stood() {
    let space =
        TestSpace::new("pipelines: {talk: {tasks: {say: {script: ['seq 1000; echo up > up; exec sleep 100']}}}}");
    let server = space.serve();
    let id = server.schedule("talk");
    space.first_line("up");
    let mut child = start(&space, &server.address, &["logs", "-f", &id, "say"]);
    let mut seen = read_until(child.stdout.as_mut().unwrap(), "\n1000\n");
    let server = restart(&space, server);
    child.stdout.as_mut().unwrap().read_to_string(&mut seen).unwrap();
    let all: String = (1..=1000).map(|number| format!("{number}\n")).collect();
    assert_eq!(seen, all);
    check_status(&child.wait_with_output().unwrap(), 0);
    assert_eq!(server.job(&id)["status"], "interrupted");
}

/// Stands between client and server, and breaks each answer off after so many bytes.
fn break_off(server: &str, bytes: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = server.to_owned();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let server = TcpStream::connect(&server).unwrap();
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            thread::spawn(move || {
                let mut client = client;
                let mut left = bytes;
                let mut buffer = [0; 512];
                let mut server = server;
                while let Ok(length @ 1..) = server.read(&mut buffer) {
                    if left < length as u64 || client.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                    left -= length as u64;
                }
                let _ = client.shutdown(Shutdown::Both);
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

#[test]
fn no_line_is_lost_or_doubled_by_broken_connections() {
    let space = TestSpace::new("pipelines: {talk: {tasks: {say: {script: ['seq 3000', 'seq 3000 >&2']}}}}");
    let server = space.serve();
    let address = break_off(&server.address, 4000);
    let all: String = (1..=3000).map(|number| format!("{number}\n")).collect();
    let id = server.schedule("talk");
    for flags in [&["-f"][..], &[]] {
        let child = start(&space, &address, &[&["logs", &id, "say"], flags].concat());
        let output = child.wait_with_output().unwrap();
        check_status(&output, 0);
        assert!(text(&output.stdout) == all, "the lines are others: {output:?}");
        assert!(text(&output.stderr) == all, "the lines are others: {output:?}");
    }
}

#[test]
fn a_server_that_stays_away_is_5() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let id = server.schedule("long");
    let mut children = vec![
        start(&space, &server.address, &["schedule", "gate", "--wait"]),
        start(&space, &server.address, &["logs", "-f", &id, "--json"]),
    ];
    let mut schedules = start(&space, &server.address, &["schedule", "gate", "--follow", "--json"]);
    read_until(schedules.stdout.as_mut().unwrap(), "waiting");
    children.push(schedules);
    read_until(children[0].stdout.as_mut().unwrap(), "\n");
    read_until(children[1].stdout.as_mut().unwrap(), "started");
    server.kill();
    let away = Instant::now();
    for child in children {
        let output = child.wait_with_output().unwrap();
        check_status(&output, 5);
        let said = text(&output.stderr);
        assert!(
            said.lines()
                .last()
                .unwrap()
                .starts_with("prunner: error: no server listens at `"),
            "{said}"
        );
    }
    assert!(away.elapsed() > Duration::from_secs(29), "it gave up too soon");
}
