//! The schedules that the clients know, and what came of them.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::clients::{Added, now_ms};
use super::{CLIENTS, Totals};

/// Intervals follow the monotonic clock, due times are noted by the wall.
const TOLERANCE_MS: i64 = 25;
const INTERVAL_MS: i64 = 1_000;
/// How many stand in the file.
const OF_FILE: usize = 3;

struct Schedule {
    added: Added,
    removes: bool,
    removed: bool,
}

#[derive(Default)]
pub(super) struct Schedules {
    /// By their ids.
    known: HashMap<String, Schedule>,
    by_client: [Vec<String>; CLIENTS],
    /// By their marks: what was asked for, whether it was answered or not.
    asked: HashMap<String, Added>,
    /// The ids of those of the file, which are the same for ever.
    of_file: Vec<Value>,
    /// By schedule and due time, the job that came of it.
    due: BTreeMap<(String, i64), String>,
}

impl Schedules {
    pub(super) fn known_to(&self, client: usize) -> Vec<String> {
        self.by_client[client].iter().rev().take(10).cloned().collect()
    }

    pub(super) fn adds(&mut self, added: Added) {
        self.asked.insert(added.mark.clone(), added);
    }

    pub(super) fn added(&mut self, client: usize, id: String, added: Added) {
        self.by_client[client].push(id.clone());
        self.insert(id, added);
    }

    fn insert(&mut self, id: String, added: Added) {
        self.known.entry(id).or_insert(Schedule {
            added,
            removes: false,
            removed: false,
        });
    }

    pub(super) fn removes(&mut self, id: &str) {
        // In the order of what was told, one that was just added may not be known yet.
        let added = Added {
            mark: String::new(),
            at_ms: None,
            makes_up: false,
        };
        self.insert(id.to_owned(), added);
        self.known.get_mut(id).unwrap().removes = true;
    }

    pub(super) fn removed(&mut self, id: &str) {
        self.known.get_mut(id).unwrap().removed = true;
    }

    /// Of what was written, each due time has one job.
    pub(super) fn note_journal(&mut self, journal: &str, totals: &mut Totals) {
        for line in journal.lines().filter(|line| line.contains("\"due\":")) {
            // The last one may be torn.
            let Some(Ok(line)) = line.get(9..).map(serde_json::from_str::<Value>) else {
                continue;
            };
            let job = &line["job"];
            let (Some(id), Some(at_ms)) = (job["due"]["id"].as_str(), job["due"]["atMs"].as_i64()) else {
                continue;
            };
            let job = job["id"].as_str().unwrap();
            let before = self.due.insert((id.to_owned(), at_ms), job.to_owned());
            if before.as_ref().is_some_and(|before| before != job) {
                totals.twice += 1;
                totals.complain(format!(
                    "jobs {before:?} and {job} are of one due time of schedule {id}"
                ));
            }
            if let Some(expected_ms) = self.known.get(id).and_then(|known| known.added.at_ms)
                && at_ms != expected_ms
            {
                totals.complain(format!("schedule {id} for {expected_ms} was due at {at_ms}: {job}"));
            }
        }
    }

    /// Where there are complaints: what is due may be seen as gone a moment before its job is seen.
    pub(super) fn compare(&mut self, listed: &[Value], jobs: &[Value]) -> Vec<String> {
        let mut complaints = Vec::new();
        let of_file = listed.iter().filter(|schedule| schedule["source"] == "file");
        let mut of_file: Vec<Value> = of_file.map(|schedule| schedule["id"].clone()).collect();
        of_file.sort_by_key(Value::to_string);
        if self.of_file.is_empty() {
            self.of_file.clone_from(&of_file);
        }
        if of_file.len() != OF_FILE || of_file != self.of_file {
            complaints.push(format!("other schedules of the file: {listed:?}"));
        }
        for schedule in listed.iter().filter(|schedule| schedule["source"] == "api") {
            let id = schedule["id"].as_str().unwrap();
            if let Some(asked) = schedule["variables"]["of"].as_str().and_then(|of| self.asked.get(of)) {
                let asked = asked.clone();
                self.insert(id.to_owned(), asked);
            }
            match self.known.get(id) {
                None => complaints.push(format!("nobody asked for {schedule}")),
                Some(known) if known.removed => complaints.push(format!("it was removed and is back: {schedule}")),
                Some(_) => {}
            }
        }
        let mut came: HashMap<&str, Vec<&Value>> = HashMap::new();
        for job in jobs {
            if let Some(id) = job["scheduleId"].as_str() {
                came.entry(id).or_default().push(job);
                let is_known = self.known.contains_key(id) || self.of_file.iter().any(|of_file| of_file == id);
                // One that nobody was told of may be gone before it is seen.
                let is_asked = job["variables"]["of"]
                    .as_str()
                    .is_some_and(|of| self.asked.contains_key(of));
                if !is_known && !is_asked {
                    complaints.push(format!("of a schedule that is not known: {job}"));
                }
            }
        }
        let now_ms = now_ms();
        for (id, known) in &self.known {
            let jobs = came.get(id.as_str()).map_or(0, Vec::len);
            let is_listed = listed.iter().any(|schedule| schedule["id"] == **id);
            let Added { at_ms, makes_up, .. } = known.added;
            if at_ms.is_some() && (jobs > 1 || (jobs == 1 && is_listed)) {
                complaints.push(format!("schedule {id} is due again: {:?}", came.get(id.as_str())));
            }
            let is_over = at_ms.is_some_and(|at_ms| jobs == 1 || (!makes_up && at_ms <= now_ms));
            if !is_listed && !known.removes && !is_over {
                complaints.push(format!("schedule {id} is lost: {:?}, {jobs} jobs", known.added));
            }
        }
        complaints
    }

    /// Intervals keep their distance, also over restarts; those that make up for nothing also their beginning.
    pub(super) fn compare_intervals(&self, totals: &mut Totals) {
        let mut due = self.due.keys().collect::<Vec<_>>();
        due.sort();
        for pair in due.windows(2) {
            let ((id, first), (other, second)) = (pair[0], pair[1]);
            let Some(known) = self
                .known
                .get(id)
                .filter(|known| known.added.at_ms.is_none() && id == other)
            else {
                continue;
            };
            let distance_ms = second - first;
            let off_ms = (distance_ms + INTERVAL_MS / 2) % INTERVAL_MS - INTERVAL_MS / 2;
            // One that is removed before it was noted as added is taken for one of these.
            let is_wrong = !known.added.makes_up && !known.removes && off_ms.abs() > TOLERANCE_MS;
            if distance_ms < INTERVAL_MS - TOLERANCE_MS || is_wrong {
                totals.twice += 1;
                totals.complain(format!(
                    "schedule {id} was due at {first} and at {second}: {:?}",
                    known.added
                ));
            }
        }
    }

    /// At the end: whether all single times are gone, and all intervals were due since then.
    pub(super) fn have_been_due(listed: &[Value], since_ms: i64) -> bool {
        listed.iter().all(|schedule| {
            let last = schedule["last"]
                .as_str()
                .and_then(|last| last.parse::<jiff::Timestamp>().ok());
            schedule["cron"].is_string()
                || (schedule["every"].is_string() && last.is_some_and(|last| last.as_millisecond() > since_ms))
        })
    }
}
