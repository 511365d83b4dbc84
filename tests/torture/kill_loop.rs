//! Kills the server at random moments while clients schedule and cancel, and holds every restart against what the
//! clients were told.
//!
//! What must hold after each restart: every job whose id was answered is there, in order. None runs twice. What ran has
//! ended, and its processes are gone before anything new starts. An end or a cancel that was shown is never taken back.
//! And in the end all that waited has run.
//!
//! Bugs put in on purpose, each of which this caught within 60 kills: answers let go before they are written; starts
//! before they are written; leftovers not killed; waiting jobs that change places; a compaction that does not copy what
//! was appended meanwhile; a cancel that is not written; starts that are not written; ends shown before they are written.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::census;
use crate::client::Client;
use crate::random::Random;
use crate::space::{Server, TestSpace, eventually};
use crate::{rounds, seed};

/// Rounds on one data directory, so that what is compared each time stays small.
const ROUNDS_OF_A_SPACE: usize = 50;
const CLIENTS: usize = 2;

/// The first line of every task says that it runs, and looks whether processes of before the last kill live still: each
/// line of `old` has a process and when that started, which stands in the 22nd field of its `stat`. A task that stands there
/// itself is of that time too, and so is one that another server started: it stood between two programs when the list was made.
const PIPELINES: &str = r#"
pipelines:
  quick:
    concurrency: 2
    queue_limit: 30
    tasks:
      a: {script: [". ./begin"]}
      b: {script: [". ./begin"], depends_on: a}
  serial: {queue_limit: 20, tasks: {a: {script: [". ./begin"]}}}
  long: {queue_limit: 3, tasks: {a: {script: [". ./begin", exec sleep 1000]}}}
  stubborn: {queue_limit: 3, tasks: {a: {script: ["trap '' INT TERM HUP", ". ./begin", sleep 1000 & sleep 1000]}}}
  failing: {tasks: {a: {script: [". ./begin", exit 3]}}, on_error: {script: [". ./begin"]}}
  delayed: {start_delay: 30ms, queue_limit: 1, queue_strategy: replace, tasks: {a: {script: [". ./begin"]}}}
  large: {concurrency: 2, queue_limit: 5, retention_count: 2, tasks: {a: {script: [". ./begin"]}}}
"#;
const BEGIN: &str = r#"echo "$PRUNNER_TASK $PRUNNER_JOB_ID" >> ran
others=
while read -r pid started; do
  if read -r _ name state _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ since _ < "/proc/$pid/stat"; then
    case "$state $since" in "Z $started" | "X $started") ;; *" $started") others="$others $pid $name $state" ;; esac
  fi 2>/dev/null
  if test "$pid" = $$; then others=; break; fi
done < old
if test "$others"; then echo "$others, seen by $PRUNNER_TASK of $PRUNNER_JOB_ID, a child of $PPID" >> overlap; fi
"#;
const NAMES: [&str; 7] = ["quick", "serial", "long", "stubborn", "failing", "delayed", "large"];

/// How a server is brought to its end.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// While it starts.
    Early,
    /// At work.
    Late,
    /// While it writes a new journal.
    Compacting,
    /// While it loads the files anew.
    Reloading,
    /// While it shuts down.
    Leaving(&'static str),
    /// Of its own will.
    Clean,
}

const DEATHS: [Death; 10] = [
    Death::Early,
    Death::Late,
    Death::Late,
    Death::Late,
    Death::Compacting,
    Death::Reloading,
    Death::Leaving("TERM"),
    Death::Leaving("INT"),
    Death::Leaving("HUP"),
    Death::Clean,
];

/// What a client was told, or tried.
enum Told {
    Accepted { id: String, pipeline: &'static str },
    Cancels(String),
    Canceled(String),
    Ended(Value),
}

#[derive(Default)]
struct Job {
    pipeline: String,
    cancels: bool,
    canceled: bool,
    /// As it was shown when it had ended.
    end: Option<Value>,
    /// It ended and was forgotten.
    forgotten: bool,
}

#[derive(Default)]
struct Record {
    jobs: HashMap<String, Job>,
    by_client: [Vec<String>; CLIENTS],
}

#[derive(Debug, Default)]
struct Totals {
    kills: usize,
    acknowledged: usize,
    lost: usize,
    twice: usize,
    processes_left: usize,
    other: Vec<String>,
}

impl Totals {
    #[track_caller]
    fn check(&self, seed: u64, what: &str) {
        let bad = self.lost + self.twice + self.processes_left + self.other.len();
        assert!(bad == 0, "SEED={seed} {what}: {self:?}");
    }
}

#[test]
fn nothing_is_lost_and_nothing_runs_twice_however_often_it_is_killed() {
    let seed = seed();
    let rounds = rounds().unwrap_or(15);
    let begin = Instant::now();
    let mut totals = Totals::default();
    let mut random = Random::new(seed);
    let mut left = rounds;
    while left > 0 {
        let count = left.min(ROUNDS_OF_A_SPACE);
        Loop::new(seed, &mut random, &mut totals).run(count);
        left -= count;
    }
    #[expect(clippy::print_stdout, reason = "the summary is what a long run is made for")]
    {
        println!(
            "torture: {rounds} rounds, {} kills, {} jobs acknowledged, {} lost, {} twice, {} processes left, {} s (SEED={seed})",
            totals.kills,
            totals.acknowledged,
            totals.lost,
            totals.twice,
            totals.processes_left,
            begin.elapsed().as_secs()
        );
    }
}

struct Loop<'a> {
    seed: u64,
    random: &'a mut Random,
    totals: &'a mut Totals,
    space: TestSpace,
    /// The last that was started, by its process.
    server: u32,
    record: Record,
    /// What was running or had run when the server died.
    ran: HashSet<String>,
}

impl Loop<'_> {
    fn new<'a>(seed: u64, random: &'a mut Random, totals: &'a mut Totals) -> Loop<'a> {
        let space = TestSpace::new(PIPELINES);
        space.write("begin", BEGIN);
        space.write("old", "");
        Loop {
            seed,
            random,
            totals,
            space,
            server: 0,
            record: Record::default(),
            ran: HashSet::new(),
        }
    }

    fn run(mut self, rounds: usize) {
        for round in 0..rounds {
            let death = self.random.pick(&DEATHS);
            self.round(death);
            self.totals.check(self.seed, &format!("round {round}, {death:?}"));
        }
        self.finish();
        self.totals.check(self.seed, "at the end");
    }

    fn server(&mut self) -> Server {
        let mut command = self.space.command(&[]);
        command.args(["--address", "127.0.0.1:0", "--kill-grace", "50ms"]);
        let server = self.space.start(command, &[], &[]);
        self.server = server.pid();
        server
    }

    fn round(&mut self, death: Death) {
        let mut server = self.server();
        if matches!(death, Death::Early) {
            let life = self.random.between(0, 60_000);
            live(life);
            self.totals.kills += 1;
            server.kill();
            self.note_what_lives();
            return;
        }
        server.wait_until_it_serves();
        let client = Client::new(&server);
        self.compare(&client);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let random = Random::new(self.random.between(0, i64::from(u32::MAX)).unsigned_abs());
                let known = self.record.by_client[number].iter().rev().take(40).cloned().collect();
                let client = client.clone();
                thread::spawn(move || work(&client, random, known))
            })
            .collect();
        self.die(server, death);
        for (number, client) in clients.into_iter().enumerate() {
            self.note(number, client.join().unwrap());
        }
        self.note_what_lives();
    }

    /// Lets it live for a while, and brings it to its end.
    fn die(&mut self, mut server: Server, death: Death) {
        let life = self.random.between(5_000, 150_000);
        match death {
            Death::Early | Death::Late => live(life),
            Death::Compacting => {
                let new = self.space.path.join(".prunner/journal.jsonl.new");
                let deadline = Instant::now() + Duration::from_millis(400);
                while !new.exists() && Instant::now() < deadline {
                    thread::yield_now();
                }
                let life = self.random.between(0, 8_000);
                live(life);
            }
            Death::Reloading => {
                live(life);
                server.signal("USR1");
                let life = self.random.between(0, 3_000);
                live(life);
            }
            Death::Leaving(signal) => {
                live(life);
                server.signal(signal);
                let life = self.random.between(0, 70_000);
                live(life);
            }
            Death::Clean => {
                live(life);
                server.signal("TERM");
                let status = server.end();
                let log = server.log();
                if status != Some(0) {
                    self.complain(format!("it ended with {status:?}: {log}"));
                }
                self.complain_of_log(&log);
                let left = census::of_tasks(&self.space.path.join(".prunner"));
                if !left.is_empty() {
                    self.totals.processes_left += left.len();
                    self.complain(format!("after a clean exit: {left:?}"));
                }
                return;
            }
        }
        self.totals.kills += 1;
        let log = server.log();
        server.kill();
        self.complain_of_log(&log);
    }

    fn complain(&mut self, what: String) {
        self.totals.other.push(what);
    }

    fn complain_of_log(&mut self, log: &str) {
        for word in ["panicked", "trouble", "damaged", "can't"] {
            if log.contains(word) {
                self.complain(format!("the log speaks of `{word}`: {log}"));
            }
        }
    }

    fn note(&mut self, client: usize, told: Vec<Told>) {
        for told in told {
            match told {
                Told::Accepted { id, pipeline } => {
                    self.totals.acknowledged += 1;
                    self.record.by_client[client].push(id.clone());
                    let job = self.record.jobs.entry(id).or_default();
                    pipeline.clone_into(&mut job.pipeline);
                }
                Told::Cancels(id) => self.record.jobs.entry(id).or_default().cancels = true,
                Told::Canceled(id) => self.record.jobs.entry(id).or_default().canceled = true,
                Told::Ended(end) => self.note_end(end),
            }
        }
    }

    /// What was shown as ended must look the same for ever.
    fn note_end(&mut self, end: Value) {
        let job = self
            .record
            .jobs
            .entry(end["id"].as_str().unwrap().to_owned())
            .or_default();
        end["pipeline"].as_str().unwrap().clone_into(&mut job.pipeline);
        if job.end.as_ref().is_some_and(|shown| *shown != end) {
            let complaint = format!("an end was taken back: {:?} became {end}", job.end);
            self.complain(complaint);
            return;
        }
        // A cancel of a job that was replaced is answered in the same way.
        if job.canceled && end["status"] != "canceled" && end["status"] != "replaced" {
            let complaint = format!("a cancel was taken back: {end}");
            self.complain(complaint);
            return;
        }
        job.end = Some(end);
    }

    /// The server is dead: what of its tasks is there must be gone before anything new starts.
    fn note_what_lives(&mut self) {
        let old: String = census::of_tasks(&self.space.path.join(".prunner"))
            .iter()
            .map(|process| format!("{} {}\n", process.pid, process.started))
            .collect();
        self.space.write("old", &old);
        let ran = self.space.read("ran");
        self.ran = ran
            .lines()
            .filter_map(|line| Some(line.split_once(' ')?.1.to_owned()))
            .collect();
        let mut seen = HashSet::new();
        let twice: Vec<&str> = ran.lines().filter(|&line| !seen.insert(line)).collect();
        if !twice.is_empty() {
            self.totals.twice += twice.len();
            self.complain(format!("ran twice: {twice:?}"));
        }
        let of_this_server = format!(", a child of {}", self.server);
        let seen = self.space.read("overlap");
        let overlap: Vec<&str> = seen.lines().filter(|line| line.ends_with(&of_this_server)).collect();
        if !overlap.is_empty() {
            self.totals.processes_left += overlap.len();
            self.complain(format!("ran beside what was new: {overlap:?}"));
        }
    }

    /// Right after a restart.
    fn compare(&mut self, client: &Client) {
        let listed = client.jobs().expect("a server that was just started answers");
        let places: HashMap<&str, usize> = listed.iter().map(|job| job["id"].as_str().unwrap()).zip(0..).collect();
        // A job can be there that nobody was told of: one for each request that was under way.
        let untold: Vec<&Value> = listed
            .iter()
            .filter(|job| !self.record.jobs.contains_key(job["id"].as_str().unwrap()))
            .collect();
        if untold.len() > CLIENTS {
            self.complain(format!("{} jobs that nobody asked for", untold.len()));
        }
        for job in untold {
            let pipeline = job["pipeline"].as_str().unwrap().to_owned();
            let job = self
                .record
                .jobs
                .entry(job["id"].as_str().unwrap().to_owned())
                .or_default();
            job.pipeline = pipeline;
        }
        for ids in &self.record.by_client {
            let found: Vec<usize> = ids.iter().filter_map(|id| places.get(id.as_str()).copied()).collect();
            if !found.is_sorted() {
                self.totals.other.push("the order has changed".to_owned());
            }
        }
        let kept_of_large = listed
            .iter()
            .filter(|job| job["pipeline"] == "large" && job["completed"] == true && job["start"].is_string())
            .count();
        for (id, job) in &mut self.record.jobs {
            let is_listed = places.contains_key(id.as_str());
            if is_listed && job.forgotten {
                self.totals.other.push(format!("job {id} was forgotten and is back"));
            }
            if !is_listed && !job.forgotten {
                // Only what ended may be forgotten, and only for two that ended later.
                let may_be_forgotten = job.pipeline == "large"
                    && kept_of_large >= 2
                    && (job.cancels || self.ran.contains(id) || job.end.is_some());
                if may_be_forgotten {
                    job.forgotten = true;
                } else {
                    self.totals.lost += 1;
                    self.totals.other.push(format!("job {id} of {} is lost", job.pipeline));
                }
            }
        }
        for job in listed {
            let id = job["id"].as_str().unwrap();
            if job["completed"] == true {
                if job["status"] == "interrupted" && job["start"].is_null() {
                    self.complain(format!("interrupted without having run: {job}"));
                }
                self.note_end(job);
            } else {
                let known = &self.record.jobs[id];
                if self.ran.contains(id) || known.canceled || known.end.is_some() {
                    self.complain(format!("it ran or had ended, and lives again: {job}"));
                }
            }
        }
        self.compare_processes(client);
        self.compare_files();
    }

    /// Every process of a task belongs to a job that runs.
    fn compare_processes(&mut self, client: &Client) {
        let data = self.space.path.join(".prunner");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let before = census::of_tasks(&data);
            let jobs = client.jobs().expect("a server that was just started answers");
            let running: HashSet<&str> = jobs
                .iter()
                .filter(|job| job["status"] == "running")
                .map(|job| job["id"].as_str().unwrap())
                .collect();
            // One that began after the list was made, or was about to end, is seen to at the next look.
            let left: Vec<_> = before
                .iter()
                .filter(|process| !running.contains(process.job.as_str()))
                .collect();
            if left.is_empty() {
                return;
            }
            if Instant::now() >= deadline {
                self.totals.processes_left += left.len();
                let complaint = format!("of jobs that do not run: {left:?}");
                self.complain(complaint);
                return;
            }
        }
    }

    fn compare_files(&mut self) {
        for entry in fs::read_dir(self.space.path.join(".prunner")).unwrap() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            if !matches!(name.as_str(), "journal.jsonl" | "journal.jsonl.new" | "lock" | "logs") {
                self.complain(format!("what is `{name}`"));
            }
        }
    }

    /// A last start, at which all comes to its end.
    fn finish(&mut self) {
        let mut server = self.server();
        server.wait_until_it_serves();
        let client = Client::new(&server);
        self.compare(&client);
        let listed = eventually("all jobs end", || {
            let listed = client.jobs().unwrap();
            let mut all_ended = true;
            for job in &listed {
                if job["completed"] == true {
                    continue;
                }
                all_ended = false;
                let id = job["id"].as_str().unwrap();
                if matches!(job["pipeline"].as_str().unwrap(), "long" | "stubborn") && job["status"] == "running" {
                    self.record.jobs.get_mut(id).unwrap().cancels = true;
                    client.cancel(id);
                }
            }
            all_ended.then_some(listed)
        });
        self.compare_processes(&client);
        assert_eq!(server.stop(), Some(0), "SEED={}", self.seed);
        self.note_what_lives();
        let left = self.space.read("old");
        self.totals.processes_left += left.lines().count();
        for job in listed {
            self.compare_outcome(&job);
            self.note_end(job);
        }
        self.compare_order();
    }

    /// What must have become of a job in the end.
    fn compare_outcome(&mut self, job: &Value) {
        let id = job["id"].as_str().unwrap();
        let pipeline = job["pipeline"].as_str().unwrap();
        let status = job["status"].as_str().unwrap();
        let known = &self.record.jobs[id];
        let is_as_expected = match status {
            "succeeded" => matches!(pipeline, "quick" | "serial" | "delayed" | "large") && self.ran.contains(id),
            "failed" => pipeline == "failing" && self.ran.contains(id),
            "canceled" => known.cancels || job["reason"] == "prunner was stopped",
            "replaced" => pipeline == "delayed" && !self.ran.contains(id),
            "interrupted" => true,
            _ => false,
        };
        if !is_as_expected {
            self.complain(format!("not what should have become of it: {job}"));
        }
    }

    /// Jobs of which one runs at a time ran in the order in which they were accepted.
    fn compare_order(&mut self) {
        let ran = self.space.read("ran");
        let places: HashMap<&str, usize> = ran
            .lines()
            .filter_map(|line| line.strip_prefix("a "))
            .zip(0..)
            .collect();
        for ids in &self.record.by_client {
            let of_serial = ids.iter().filter(|&id| self.record.jobs[id].pipeline == "serial");
            let found: Vec<usize> = of_serial.filter_map(|id| places.get(id.as_str()).copied()).collect();
            if !found.is_sorted() {
                self.totals.other.push("jobs ran in another order".to_owned());
            }
        }
    }
}

/// Gives it so many microseconds. No rendezvous: at which moment it dies is to be left to chance.
fn live(life_us: i64) {
    let deadline = Instant::now() + Duration::from_micros(life_us.unsigned_abs());
    while let Some(left) = deadline
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        thread::park_timeout(left);
    }
}

/// Asks for this and that until the server is gone.
fn work(client: &Client, mut random: Random, known: Vec<String>) -> Vec<Told> {
    let mut ids: Vec<String> = known;
    let mut told = Vec::new();
    while ask(client, &mut random, &mut ids, &mut told).is_some() {}
    told
}

fn ask(client: &Client, random: &mut Random, ids: &mut Vec<String>, told: &mut Vec<Told>) -> Option<()> {
    let some_id = (!ids.is_empty()).then(|| ids[random.below(ids.len())].clone());
    match (random.below(20), some_id) {
        (0..=2, Some(id)) => {
            told.push(Told::Cancels(id.clone()));
            if client.cancel(&id)? == 200 {
                told.push(Told::Canceled(id));
            }
        }
        (3..=5, Some(id)) => {
            let (_, job) = client.ask("GET", &format!("/job/detail?id={id}&wait=20ms"), "")?;
            if job["completed"] == true {
                told.push(Told::Ended(job));
            }
        }
        (6, _) => {
            let ended = client.jobs()?.into_iter().filter(|job| job["completed"] == true);
            told.extend(ended.map(Told::Ended));
        }
        (7, _) => drop(client.ask("POST", "/pipelines/reload", "")?),
        _ => {
            let pipeline = random.pick(&NAMES);
            let variables = if pipeline == "large" {
                json!({"text": "x".repeat(200_000)})
            } else {
                json!({})
            };
            match client.schedule(pipeline, &variables)? {
                Ok(id) => {
                    ids.push(id.clone());
                    told.push(Told::Accepted { id, pipeline });
                }
                // A full wait list, or a shutdown.
                Err(400 | 503) => {}
                Err(status) => panic!("a request was answered with {status}"),
            }
        }
    }
    Some(())
}
