//! A good client among many hostile ones: all its requests are answered, and soon; afterwards the server holds no more
//! than before.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::hostile::{Hostile, KINDS, Stop, Target};
use crate::random::Random;
use crate::space::{Server, TestSpace, eventually};
use crate::{census, in_shell, rounds, seed};

const PIPELINES: &str = "
pipelines:
  quick: {retention_count: 500, queue_limit: 50, tasks: {a: {script: [echo done]}}}
  talkative: {tasks: {a: {script: [head -c 20000000 /dev/zero | tr '\\0' x]}}}
  endless: {tasks: {a: {script: [exec sleep 1000]}}}
";

/// Longer than this a good client never waits, however slow the machine is.
const DEADLINE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// With so many hostile clients at once, whatever they send.
const MOST_KIB: u64 = 128 << 10;
/// What the memory allocator keeps for each of its arenas when all clients are gone.
const MOST_KIB_KEPT: u64 = 24 << 10;

/// In the long form, which is run alone and with a release build.
const P99: Duration = Duration::from_millis(50);

/// What a client measures that does as it should.
#[derive(Default)]
struct Measured {
    times: Vec<Duration>,
    /// Requests on a connection that was closed while it was idle: such a request is sent again, on a new one.
    repeated: usize,
    /// Answers that there is no place, after which a client tries again.
    refused: usize,
}

/// Keeps its connection, as long as the server does.
struct Good<'a> {
    target: &'a Target,
    connection: Option<TcpStream>,
    keeps_connection: bool,
    measured: Measured,
}

impl Good<'_> {
    /// Until the end: schedules, looks, reads.
    fn run(mut self, stop: &Stop) -> Measured {
        while !stop.wait(PAUSE) {
            let (_, answer) = self.expect(202, "POST", "/pipelines/schedule", r#"{"pipeline": "quick"}"#);
            let id = answer["jobId"].as_str().unwrap().to_owned();
            self.expect(200, "GET", &format!("/job/detail?id={id}"), "");
            self.expect(200, "GET", "/pipelines/jobs?limit=5", "");
            self.expect(200, "GET", "/health", "");
            let waited = Instant::now();
            loop {
                let (status, job) = self.ask("GET", &format!("/job/detail?id={id}&wait=10s"), "");
                assert_eq!(status, 200, "the job {id} after {:?}: {job}", waited.elapsed());
                if job["completed"] == true {
                    break;
                }
                assert!(waited.elapsed() < DEADLINE * 3, "the job does not end: {job}");
            }
            self.expect(200, "GET", &format!("/job/logs?id={id}&task=a"), "");
        }
        self.measured
    }

    #[track_caller]
    fn expect(&mut self, status: u16, method: &str, path: &str, body: &str) -> (u16, Value) {
        let begin = Instant::now();
        let answer = self.ask(method, path, body);
        // With all that it took to get a place.
        let time = begin.elapsed();
        assert_eq!(answer.0, status, "{method} {path} after {time:?}: {}", answer.1);
        assert!(time < DEADLINE, "{method} {path} took {time:?}");
        self.measured.times.push(time);
        answer
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let begin = Instant::now();
        loop {
            let answer = self.ask_once(method, path, body);
            if let Some(answer) = &answer
                && answer.1["error"] != "too many connections; try again"
            {
                return answer.clone();
            }
            assert!(begin.elapsed() < DEADLINE, "no place for {method} {path}: {answer:?}");
            self.measured.refused += 1;
            thread::park_timeout(PAUSE);
        }
    }

    /// `None` where it was closed before anything came: a refusal may be overtaken by the end of its connection.
    fn ask_once(&mut self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        if let Some(stream) = self.connection.take() {
            if let Some(answer) = self.try_ask(stream, method, path, body) {
                return Some(answer);
            }
            self.measured.repeated += 1;
        }
        let stream = TcpStream::connect_timeout(&self.target.address, DEADLINE).unwrap();
        stream.set_read_timeout(Some(DEADLINE * 3)).unwrap();
        stream.set_nodelay(true).unwrap();
        self.try_ask(stream, method, path, body)
    }

    /// `None` where the connection ended before anything came.
    fn try_ask(&mut self, mut stream: TcpStream, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: torture\r\nAuthorization: {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.target.token,
            body.len()
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) if answer.is_empty() => return None,
                Ok(0) => panic!("half an answer to {method} {path}"),
                Ok(length) => answer.extend_from_slice(&buffer[..length]),
                Err(error) => panic!("half an answer to {method} {path}: {error}"),
            }
            let Some((head, body)) = std::str::from_utf8(&answer).unwrap().split_once("\r\n\r\n") else {
                continue;
            };
            let length: usize = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
                .unwrap();
            if body.len() == length {
                let answer = (
                    head.split(' ').nth(1).unwrap().parse().unwrap(),
                    serde_json::from_str(body).unwrap_or_else(|_| json!(body)),
                );
                let closes = head.to_ascii_lowercase().contains("connection: close");
                self.connection = (self.keeps_connection && !closes).then_some(stream);
                return Some(answer);
            }
        }
    }
}

struct Latency {
    count: usize,
    p50: Duration,
    p99: Duration,
    worst: Duration,
}

impl Latency {
    fn of(mut times: Vec<Duration>) -> Latency {
        times.sort();
        Latency {
            count: times.len(),
            p50: times[times.len() / 2],
            p99: times[times.len() * 99 / 100],
            worst: *times.last().unwrap(),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { count, p50, p99, worst } = self;
        write!(formatter, "{count}, p50 {p50:.1?}, p99 {p99:.1?}, worst {worst:.1?}")
    }
}

/// Threads, descriptors and resident memory in KiB.
type Counts = (usize, usize, u64);

fn counts(server: &Server) -> Counts {
    let (threads, descriptors) = census::threads_and_descriptors(server.pid());
    (threads, descriptors, census::memory_kib(server.pid(), "VmRSS:"))
}

#[test]
fn a_good_client_is_served_among_hundreds_of_hostile_ones() {
    let (clients, time) = if rounds().is_some() {
        (500, Duration::from_secs(120))
    } else {
        (60, Duration::from_secs(3))
    };
    let seed = seed();
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    let target = Target {
        address: server.address.parse().unwrap(),
        token: server.token.clone(),
        talkative: server.schedule("talkative"),
        endless: server.schedule("endless"),
    };
    server.ended(&target.talkative);
    let good = |keeps_connection| Good {
        target: &target,
        connection: None,
        keeps_connection,
        measured: Measured::default(),
    };
    // What the first requests need for good is part of the idle state.
    for _ in 0..20 {
        good(true).expect(202, "POST", "/pipelines/schedule", r#"{"pipeline": "quick"}"#);
    }
    let before = eventually("it is idle", || {
        let before = counts(&server);
        let jobs = server.get("/pipelines/jobs?status=running&status=waiting").json();
        (jobs["jobs"].as_array().unwrap().len() == 1 && before.0 < 20).then_some(before)
    });
    let peak = [const { AtomicU64::new(0) }; 3];
    let stop = Stop::default();
    let (measured, attempts) = thread::scope(|scope| {
        let hostile: Vec<_> = (0..clients)
            .map(|number| {
                let hostile = Hostile {
                    target: &target,
                    stop: &stop,
                    random: Random::new(seed.wrapping_add(number)),
                };
                let kind = &KINDS[usize::try_from(number).unwrap() % KINDS.len()];
                thread::Builder::new()
                    .name(kind.name.to_owned())
                    .stack_size(256 << 10)
                    .spawn_scoped(scope, move || {
                        // Elsewhere they have machines of their own: what they compute is not taken from the server.
                        rustix::process::nice(19).unwrap();
                        // They come one after the other, as far as a crowd does.
                        hostile.stop.wait(Duration::from_millis(2 * number));
                        hostile.run(kind)
                    })
                    .unwrap()
            })
            .collect();
        let good: Vec<_> = [true, false]
            .map(good)
            .into_iter()
            .map(|good| scope.spawn(|| good.run(&stop)))
            .collect();
        let end = Instant::now() + time;
        // A good client that fails is heard of at once.
        while Instant::now() < end && !good.iter().any(thread::ScopedJoinHandle::is_finished) {
            let (threads, descriptors, memory) = counts(&server);
            for (peak, now) in peak.iter().zip([threads as u64, descriptors as u64, memory]) {
                peak.fetch_max(now, Ordering::Relaxed);
            }
            stop.wait(Duration::from_millis(100));
        }
        stop.stop();
        let measured: Vec<Measured> = good.into_iter().map(|good| good.join().unwrap()).collect();
        let (mut attempts, mut all_wrong) = (0, BTreeSet::new());
        for client in hostile {
            let (made, wrong) = client.join().unwrap();
            attempts += made;
            all_wrong.extend(wrong);
        }
        assert!(all_wrong.is_empty(), "SEED={seed}: {all_wrong:?}");
        (measured, attempts)
    });
    let peak = peak.map(AtomicU64::into_inner);
    let mut after = counts(&server);
    eventually("as many threads and descriptors as before", || {
        after = counts(&server);
        (after.0 <= before.0 && after.1 <= before.1).then_some(())
    });
    let times = measured.iter().map(|measured| measured.times.clone());
    let (keeping, connecting, all) = (
        Latency::of(times.clone().next().unwrap()),
        Latency::of(times.clone().nth(1).unwrap()),
        Latency::of(times.flatten().collect()),
    );
    #[expect(clippy::print_stdout, reason = "the figures are what a long run is made for")]
    {
        println!(
            "torture: {clients} hostile clients of {} kinds, {attempts} attempts; good requests: {all}; with a connection \
             kept: {keeping}; with one for each: {connecting}; {} times refused for want of a place, {} on a connection closed \
             while idle; threads, descriptors, KiB before {before:?}, at most {peak:?}, after {after:?} (SEED={seed})",
            KINDS.len(),
            measured.iter().map(|measured| measured.refused).sum::<usize>(),
            measured.iter().map(|measured| measured.repeated).sum::<usize>(),
        );
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert!(peak[2] < MOST_KIB, "{} KiB", peak[2]);
    let kept = after.2.saturating_sub(before.2);
    assert!(kept < MOST_KIB_KEPT, "{kept} KiB more than before");
    if rounds().is_some() {
        assert!(
            all.p99 < P99,
            "the slowest hundredth of the good requests took {:?}",
            all.p99
        );
    }
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn without_free_descriptors_it_waits_for_some() {
    let space = TestSpace::new("pipelines: {quick: {tasks: {a: {script: [echo done]}}}}");
    let server = space.serve_by(in_shell(&space, "ulimit -n 64; exec \"$@\""), &[], &[]);
    let idle = || census::threads_and_descriptors(server.pid());
    // What the first job needs for good is part of the idle state.
    server.ended(&server.schedule("quick"));
    let mut before = (0, 0);
    eventually("it is idle", || {
        let now = idle();
        (std::mem::replace(&mut before, now) == now && now.0 < 20).then_some(())
    });
    // Requests that are under way: connections that are idle would be closed for others.
    let begun: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: tor").unwrap();
            stream
        })
        .collect();
    eventually("there are no more descriptors", || (idle().1 >= 63).then_some(()));
    let waiting = server.send("GET", "/health", "", "");
    drop(begun);
    assert_eq!(waiting.answer().status, 200);
    let id = server.schedule("quick");
    assert_eq!(server.ended(&id)["status"], "succeeded");
    eventually("as many threads and descriptors as before", || {
        let after = idle();
        (after.0 <= before.0 && after.1 <= before.1).then_some(())
    });
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert_eq!(server.stop(), Some(0));
}
