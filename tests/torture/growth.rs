//! What is left of thousands of jobs: their records, as far as they are kept, and nothing else.

use crate::census;
use crate::client::Client;
use crate::rounds;
use crate::space::{Server, TestSpace, eventually};

/// Schedules so many, every tenth with processes, and waits for the last of them.
#[track_caller]
fn run(server: &Server, count: usize) {
    let client = Client::new(server);
    let body = |pipeline: &str| client.schedule(pipeline, &serde_json::json!({"n": "x".repeat(500)}));
    let mut last = ["marker", "process"].map(|pipeline| body(pipeline).unwrap().unwrap());
    for number in 0..count {
        let place = usize::from(number % 10 == 0);
        last[place] = body(["marker", "process"][place]).unwrap().unwrap();
    }
    for id in last {
        assert_eq!(server.ended(&id)["status"], "succeeded");
    }
}

#[test]
fn thousands_of_jobs_leave_no_more_than_their_records() {
    let (warm, count, most_kib) = if rounds().is_some() {
        (1000, 9000, 1024)
    } else {
        (300, 700, 500)
    };
    let space = TestSpace::new(
        "pipelines:
  marker: {retention_count: 100, tasks: {a: {}, b: {depends_on: a}}}
  process: {retention_count: 100, concurrency: 4, tasks: {a: {script: [echo done]}}}
",
    );
    let server = space.serve();
    run(&server, warm);
    let idle = || {
        let mut last = (0, 0);
        eventually("it is idle", || {
            let counts = census::threads_and_descriptors(server.pid());
            (std::mem::replace(&mut last, counts) == counts).then_some(counts)
        })
    };
    let memory = census::memory_kib(server.pid(), "VmRSS:");
    let before = {
        run(&server, 1);
        idle()
    };
    run(&server, count);
    let grown = census::memory_kib(server.pid(), "VmRSS:").saturating_sub(memory);
    assert!(grown <= most_kib, "{grown} KiB more after {count} jobs");
    eventually("as many threads and descriptors as before", || {
        let counts = census::threads_and_descriptors(server.pid());
        (counts.0 <= before.0 && counts.1 <= before.1).then_some(())
    });
    let jobs = server.get("/pipelines/jobs").json();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 200);
    let logs = || std::fs::read_dir(space.path.join(".prunner/logs")).unwrap().count();
    eventually("the logs of forgotten jobs are gone", || (logs() == 100).then_some(()));
    let journal = std::fs::metadata(space.path.join(".prunner/journal.jsonl"))
        .unwrap()
        .len();
    assert!(journal < 2_500_000, "{journal} bytes");
    assert_eq!(server.stop(), Some(0));
}
