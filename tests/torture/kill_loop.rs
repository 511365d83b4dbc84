//! Kills the server at random moments while clients schedule, cancel, forget, add and remove schedules and ask again with
//! their keys, and holds every restart against what the clients were told.
//!
//! What must hold after each restart: every job whose id was answered is there, in order, and none that was forgotten. None
//! runs twice. What ran has ended, and its processes are gone before anything new starts. An end or a cancel that was shown
//! is never taken back. A request with a key is answered with the same job. Schedules are those that were added, and no due
//! time brings two jobs. And in the end all that waited has run, and all that was to be due was.

mod clients;
mod files;
mod record;
mod schedules;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use self::clients::{now_ms, work};
use self::record::Record;
use self::schedules::Schedules;
use crate::census;
use crate::client::Client;
use crate::random::Random;
use crate::space::{Server, TestSpace, eventually};
use crate::{rounds, seed};

/// Rounds on one data directory, so that what is compared each time stays small.
const ROUNDS_OF_A_SPACE: usize = 50;
const CLIENTS: usize = 2;
/// What is kept of the end of a log, behind its limit.
const LOG_TAIL: usize = 65_536;

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

#[derive(Debug, Default)]
struct Totals {
    kills: usize,
    acknowledged: usize,
    lost: usize,
    twice: usize,
    processes_left: usize,
    joined: usize,
    /// Requests that were made again with their keys.
    answered_again: usize,
    schedules: usize,
    forgotten: usize,
    complaints: Vec<String>,
}

impl Totals {
    fn complain(&mut self, what: String) {
        self.complaints.push(what);
    }

    #[track_caller]
    fn check(&self, seed: u64, what: &str) {
        let bad = self.lost + self.twice + self.processes_left + self.complaints.len();
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
            "torture: {rounds} rounds, {} kills, {} jobs acknowledged, {} joined, {} answered again, {} schedules, {} forgotten; {} lost, {} twice, {} processes left, {} s (SEED={seed})",
            totals.kills,
            totals.acknowledged,
            totals.joined,
            totals.answered_again,
            totals.schedules,
            totals.forgotten,
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
        let space = TestSpace::new(&files::pipelines());
        space.write("begin", files::BEGIN);
        space.write("old", "");
        fs::create_dir(space.path.join("tries")).unwrap();
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
        command.args(["--retention-count", &files::RETENTION_COUNT.to_string()]);
        command.args(["--log-limit", &format!("{}B", files::LOG_LIMIT)]);
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
                let known = self.record.known_to(number);
                let client = client.clone();
                thread::spawn(move || work(&client, random, known))
            })
            .collect();
        self.die(server, death);
        let told = clients.into_iter().map(|client| client.join().unwrap()).collect();
        self.record.note(told, self.totals);
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
        self.totals.complain(what);
    }

    fn complain_of_log(&mut self, log: &str) {
        for word in ["panicked", "trouble", "damaged", "can't"] {
            if log.contains(word) {
                self.complain(format!("the log speaks of `{word}`: {log}"));
            }
        }
    }

    /// The server is dead: what of its tasks is there must be gone before anything new starts.
    fn note_what_lives(&mut self) {
        let old: String = census::of_tasks(&self.space.path.join(".prunner"))
            .iter()
            .map(|process| format!("{} {}\n", process.pid, process.started))
            .collect();
        self.space.write("old", &old);
        let ran = self.space.read("ran");
        self.ran = jobs_of(&ran);
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
        let journal = self.space.read(".prunner/journal.jsonl");
        self.record.schedules.note_journal(&journal, self.totals);
    }

    /// Right after a restart.
    fn compare(&mut self, client: &Client) {
        let listed = client.jobs().expect("a server that was just started answers");
        // What waited may have run already.
        let by_now = jobs_of(&self.space.read("ran"));
        self.record.compare(&listed, &self.ran, &by_now, self.totals);
        self.compare_schedules(client);
        self.compare_processes(client);
        self.compare_files();
    }

    fn compare_schedules(&mut self, client: &Client) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let schedules = client.schedules().expect("a server that was just started answers");
            let jobs = client.jobs().expect("a server that was just started answers");
            let complaints = self.record.schedules.compare(&schedules, &jobs);
            if complaints.is_empty() {
                return;
            }
            if Instant::now() >= deadline {
                self.totals.lost += complaints.len();
                self.totals.complaints.extend(complaints);
                return;
            }
        }
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
        let since_ms = now_ms();
        eventually("all schedules are due", || {
            Schedules::have_been_due(&client.schedules().unwrap(), since_ms).then_some(())
        });
        self.compare_schedules(&client);
        self.record.schedules.compare_intervals(self.totals);
        let listed = eventually("all jobs end", || {
            let listed = client.jobs().unwrap();
            let mut all_ended = true;
            for job in &listed {
                if job["completed"] == true {
                    continue;
                }
                all_ended = false;
                let id = job["id"].as_str().unwrap();
                if files::is_endless(job["pipeline"].as_str().unwrap()) && job["status"] == "running" {
                    self.record.job(id).cancels = true;
                    client.cancel(id);
                }
            }
            (all_ended && record::is_trimmed(&listed)).then_some(listed)
        });
        self.compare_processes(&client);
        self.compare_logs(&client);
        assert_eq!(server.stop(), Some(0), "SEED={}", self.seed);
        self.note_what_lives();
        let left = self.space.read("old");
        self.totals.processes_left += left.lines().count();
        for job in listed {
            self.record.compare_outcome(&job, &self.ran, self.totals);
            self.record.note_end(job, self.totals);
        }
        self.compare_order();
    }

    /// There are logs of the jobs that there are, and none is longer than its limit allows.
    fn compare_logs(&mut self, client: &Client) {
        let logs = self.space.path.join(".prunner/logs");
        eventually("logs of jobs that are forgotten are deleted", || {
            let found: HashSet<String> = fs::read_dir(&logs)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
                .collect();
            let jobs = client.jobs().unwrap();
            let ids: HashSet<&str> = jobs.iter().map(|job| job["id"].as_str().unwrap()).collect();
            found.iter().all(|id| ids.contains(id.as_str())).then_some(())
        });
        for job in client.jobs().unwrap() {
            if job["pipeline"] != "chatty" {
                continue;
            }
            let id = job["id"].as_str().unwrap();
            for (task, limit) in [("a", 1_000), ("b", files::LOG_LIMIT)] {
                let text = self.space.read(&format!(".prunner/logs/{id}/{task}-stdout.log"));
                let is_whole =
                    text.len() > limit + LOG_TAIL && text.contains(" bytes are left out here, by the log limit\n");
                if text.len() > limit + LOG_TAIL + 100 || (job["status"] == "succeeded" && !is_whole) {
                    self.complain(format!("{} bytes are in the log of `{task}`: {job}", text.len()));
                }
            }
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
                self.totals.complain("jobs ran in another order".to_owned());
            }
        }
    }
}

/// The jobs of what tasks have written down.
fn jobs_of(ran: &str) -> HashSet<String> {
    ran.lines()
        .filter_map(|line| Some(line.split_once(' ')?.1.to_owned()))
        .collect()
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
