//! What the clients know: which jobs, keys and schedules there must be, and what must have become of them.
//!
//! Unaware of servers. It is held against what a server shows; what does not fit becomes a complaint.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::clients::{Keyed, Known, Told};
use super::schedules::Schedules;
use super::{CLIENTS, Totals, files};

#[derive(Default)]
pub(super) struct Job {
    pub pipeline: String,
    /// It is no older. `None`: than the first server.
    since: Option<Instant>,
    pub cancels: bool,
    pub canceled: bool,
    /// As it was shown when it had ended.
    pub end: Option<Value>,
    /// Somebody asked for that.
    pub forgets: bool,
    /// It ended and was forgotten.
    pub forgotten: bool,
    /// What requests that joined it asked for.
    pub releases: Vec<Value>,
}

#[derive(Default)]
pub(super) struct Record {
    /// When a server was found to serve, before the last time and then.
    served: [Option<Instant>; 2],
    pub jobs: HashMap<String, Job>,
    /// Jobs of new requests that were answered at once, in their order.
    pub by_client: [Vec<String>; CLIENTS],
    keyed: [Vec<Keyed>; CLIENTS],
    /// Marks of requests that made no job.
    refused: HashSet<String>,
    pub schedules: Schedules,
}

/// How many ended jobs of a pipeline there are.
struct Kept {
    started: usize,
    unstarted: usize,
}

impl Kept {
    fn of(pipeline: &str, listed: &[Value]) -> Kept {
        let ended = listed
            .iter()
            .filter(|job| job["pipeline"] == pipeline && job["completed"] == true);
        let (started, unstarted): (Vec<_>, Vec<_>) = ended.partition(|job| job["start"].is_string());
        Kept {
            started: started.len(),
            unstarted: unstarted.len(),
        }
    }
}

/// Whether no more ended jobs are kept than should be.
pub(super) fn is_trimmed(listed: &[Value]) -> bool {
    files::RETENTION_COUNTS.iter().all(|(name, count)| {
        let kept = Kept::of(name, listed);
        kept.started.max(kept.unstarted) <= *count
    })
}

impl Record {
    pub(super) fn known_to(&self, client: usize) -> Known {
        Known {
            ids: self.by_client[client].iter().rev().take(40).cloned().collect(),
            keyed: self.keyed[client].iter().rev().take(20).cloned().collect(),
            schedules: self.schedules.known_to(client),
        }
    }

    pub(super) fn job(&mut self, id: &str) -> &mut Job {
        // One that nobody was told of is of the time of the server before.
        let [since, _] = self.served;
        self.jobs.entry(id.to_owned()).or_insert_with(|| Job {
            since,
            ..Job::default()
        })
    }

    pub(super) fn note(&mut self, told: Vec<Vec<Told>>, totals: &mut Totals) {
        // What one client was told can depend on what the other one asked for.
        for told in told.iter().flatten() {
            if let Told::Forgets(id) = told {
                self.job(id).forgets = true;
            } else if let Told::Removes(id) = told {
                self.schedules.removes(id);
            } else if let Told::Cancels(id) = told {
                self.job(id).cancels = true;
            }
        }
        for (client, told) in told.into_iter().enumerate() {
            for told in told {
                self.note_one(client, told, totals);
            }
        }
    }

    fn note_one(&mut self, client: usize, told: Told, totals: &mut Totals) {
        match told {
            Told::Forgets(_) | Told::Removes(_) | Told::Cancels(_) => {}
            Told::Asks(request) => self.keyed[client].push(Keyed {
                request,
                job: None,
                joined: false,
            }),
            Told::Accepted { id, request, joined } => {
                if request.key.is_some() {
                    let keyed = self.keyed[client].iter_mut().rev();
                    let mut same = keyed.filter(|keyed| keyed.request.mark() == request.mark());
                    let same = same.next().expect("it was noted when it was asked");
                    (same.job, same.joined) = (Some(id.clone()), joined);
                }
                let job = self.job(&id);
                request.pipeline.clone_into(&mut job.pipeline);
                if joined {
                    job.releases.push(request.body["variables"]["release"].clone());
                    totals.joined += 1;
                } else {
                    totals.acknowledged += 1;
                    self.by_client[client].push(id);
                }
            }
            Told::AskedAgain { request, answer } => self.note_again(client, request.mark(), &answer, totals),
            Told::AskedOther { of, request, answer } => match answer {
                Err(409 | 503) => {}
                _ if self.job(&of).forgets => {
                    // The key was free. Whose it is now is not followed.
                    self.keyed[client].retain(|keyed| keyed.request.key != request.key);
                    if let Ok(id) = answer {
                        request.pipeline.clone_into(&mut self.job(&id).pipeline);
                    }
                }
                _ => totals.complain(format!("the key of job {of} was taken for {request:?}: {answer:?}")),
            },
            // With a key it may be made again.
            Told::Refused(request) if request.key.is_none() => {
                self.refused.insert(request.mark().to_owned());
            }
            Told::Refused(_) => {}
            Told::Canceled(id) => self.job(&id).canceled = true,
            Told::Forgotten(id) => {
                self.job(&id).forgotten = true;
                totals.forgotten += 1;
            }
            Told::Ended(end) => self.note_end(end, totals),
            Told::Adds(added) => self.schedules.adds(added),
            Told::Added { id, added } => {
                self.schedules.added(client, id, added);
                totals.schedules += 1;
            }
            Told::Removed(id) => self.schedules.removed(&id),
            Told::Wrong(what) => totals.complain(what),
        }
    }

    /// A request that was made before is answered with the same job, as long as that is there.
    fn note_again(&mut self, client: usize, mark: &str, answer: &Result<String, u16>, totals: &mut Totals) {
        let mut keyed = self.keyed[client].iter_mut();
        // Its key was given to another.
        let Some(keyed) = keyed.find(|keyed| keyed.request.mark() == mark) else {
            return;
        };
        let before = keyed.job.clone();
        if let Ok(id) = answer {
            keyed.job = Some(id.clone());
            let pipeline = keyed.request.pipeline;
            pipeline.clone_into(&mut self.job(id).pipeline);
            totals.answered_again += 1;
        }
        if let Some(before) = before
            && *answer != Err(503)
            && answer.as_ref() != Ok(&before)
            && !self.job(&before).forgets
        {
            totals.twice += 1;
            totals.complain(format!("the key of job {before} was answered with {answer:?}"));
        }
    }

    /// What was shown as ended must look the same for ever.
    pub(super) fn note_end(&mut self, end: Value, totals: &mut Totals) {
        let job = self.job(end["id"].as_str().unwrap());
        end["pipeline"].as_str().unwrap().clone_into(&mut job.pipeline);
        if let Some(shown) = job.end.as_ref().filter(|shown| !is_same(shown, &end)) {
            totals.complain(format!("an end was taken back: {shown} became {end}"));
            return;
        }
        // A cancel of a job that was replaced is answered in the same way.
        if job.canceled && end["status"] != "canceled" && end["status"] != "replaced" {
            totals.complain(format!("a cancel was taken back: {end}"));
            return;
        }
        job.end = Some(end);
    }

    /// Right after a restart: the jobs, oldest first, and which of them ran before it and by now.
    pub(super) fn compare(
        &mut self,
        listed: &[Value],
        ran: &HashSet<String>,
        by_now: &HashSet<String>,
        totals: &mut Totals,
    ) {
        self.served = [self.served[1], Some(Instant::now())];
        let places: HashMap<&str, usize> = listed.iter().map(|job| job["id"].as_str().unwrap()).zip(0..).collect();
        // A job can be there that nobody was told of: one for each request that was under way.
        let untold: Vec<&Value> = listed
            .iter()
            .filter(|job| job.get("scheduleId").is_none())
            .filter(|job| !self.jobs.contains_key(job["id"].as_str().unwrap()))
            .collect();
        if untold.len() > CLIENTS {
            totals.complain(format!("{} jobs that nobody asked for", untold.len()));
        }
        for job in listed {
            let pipeline = job["pipeline"].as_str().unwrap();
            pipeline.clone_into(&mut self.job(job["id"].as_str().unwrap()).pipeline);
        }
        for ids in &self.by_client {
            let found: Vec<usize> = ids.iter().filter_map(|id| places.get(id.as_str()).copied()).collect();
            if !found.is_sorted() {
                totals.complain("the order has changed".to_owned());
            }
        }
        self.compare_forgotten(listed, &places, by_now, totals);
        self.compare_requests(listed, totals);
        for job in listed {
            let id = job["id"].as_str().unwrap();
            if job["completed"] == true {
                if job["status"] == "interrupted" && job["start"].is_null() {
                    totals.complain(format!("interrupted without having run: {job}"));
                }
                self.note_end(job.clone(), totals);
            } else {
                let known = &self.jobs[id];
                if ran.contains(id) || known.canceled || known.end.is_some() {
                    totals.complain(format!("it ran or had ended, and lives again: {job}"));
                }
            }
        }
    }

    /// None is lost, and none that was forgotten is back.
    fn compare_forgotten(
        &mut self,
        listed: &[Value],
        places: &HashMap<&str, usize>,
        ran: &HashSet<String>,
        totals: &mut Totals,
    ) {
        let limits = files::RETENTION_COUNTS.map(|(name, count)| {
            // Those that somebody let be forgotten had been kept before, and may have pushed others out.
            let asked = self.jobs.values().filter(|job| job.forgets && job.pipeline == name);
            (name, count.saturating_sub(asked.count()), Kept::of(name, listed))
        });
        for (id, job) in &mut self.jobs {
            let is_listed = places.contains_key(id.as_str());
            if is_listed && job.forgotten {
                totals.complain(format!("job {id} was forgotten and is back"));
            }
            if is_listed || job.forgotten {
                continue;
            }
            // Because somebody asked, for others that ended later, or when it is old. Whether it had ended can't be told: what
            // waited may have been interrupted before it did anything.
            let is_too_many = limits.iter().any(|(name, count, kept)| {
                *name == job.pipeline && (kept.started >= *count || (kept.unstarted >= *count && !ran.contains(id)))
            });
            // Its end may be a moment before this start, which can take that long.
            // What a new journal says of an end is the whole second.
            let age = job.since.map(|since| since.elapsed() + Duration::from_secs(1));
            let is_old = age.is_none_or(|age| age >= files::RETENTION_PERIOD);
            let is_too_old = job.pipeline == "brief" && is_old;
            if job.forgets || is_too_old || is_too_many {
                job.forgotten = true;
            } else {
                totals.lost += 1;
                totals.complain(format!("job {id} of {} is lost", job.pipeline));
            }
        }
    }

    /// One request, one job; and each job has what its request brought.
    fn compare_requests(&self, listed: &[Value], totals: &mut Totals) {
        let mut marks = HashMap::new();
        let mut waiting = HashSet::new();
        let by_id: HashMap<&str, &Value> = listed.iter().map(|job| (job["id"].as_str().unwrap(), job)).collect();
        for job in listed {
            let variables = &job["variables"];
            if let Some(mark) = variables["mark"].as_str() {
                if let Some(other) = marks.insert(mark, job) {
                    totals.twice += 1;
                    totals.complain(format!("two jobs of one request: {other} and {job}"));
                }
                if self.refused.contains(mark) {
                    totals.complain(format!("a job of a request that was refused: {job}"));
                }
            }
            let release = &variables["release"];
            let known = &self.jobs[job["id"].as_str().unwrap()];
            if known.releases.iter().any(|joined| joined != release) {
                totals.complain(format!("a request joined a job that is not equal: {job}"));
            }
            let is_alone = matches!(job["pipeline"].as_str(), Some("joining" | "refusing"));
            if is_alone && job["status"] == "waiting" && !waiting.insert((&job["pipeline"], release.as_str())) {
                totals.complain(format!("it equals a job that waits too: {job}"));
            }
            if job["pipeline"] == "typed" {
                let expected = json!({"mark": variables["mark"], "release": "1", "count": 7, "target": "staging"});
                if *variables != expected {
                    totals.complain(format!("these variables should have been refused: {job}"));
                }
            }
            if job["pipeline"] == "merging" && job["status"] == "replaced" {
                let by = job["reason"]
                    .as_str()
                    .and_then(|reason| reason.strip_prefix("replaced by job "));
                match by.map(|id| (id, by_id.get(id))) {
                    Some((_, Some(by))) if has_taken_over(by, variables) => {}
                    Some((id, None)) if self.jobs.get(id).is_some_and(|job| job.forgotten || job.forgets) => {}
                    by => totals.complain(format!("what it brought is lost: {job}, {by:?}")),
                }
            }
        }
    }

    /// What must have become of a job in the end.
    pub(super) fn compare_outcome(&self, job: &Value, ran: &HashSet<String>, totals: &mut Totals) {
        let id = job["id"].as_str().unwrap();
        let pipeline = job["pipeline"].as_str().unwrap();
        // One that came of a schedule at last is not known yet.
        let cancels = self.jobs.get(id).is_some_and(|known| known.cancels);
        let is_as_expected = match job["status"].as_str().unwrap() {
            "succeeded" => files::can_succeed(pipeline) && ran.contains(id),
            // Its time may be over before it has done anything.
            "failed" => files::can_fail(pipeline) && (matches!(pipeline, "timed" | "limited") || ran.contains(id)),
            "canceled" => cancels || job["reason"] == "prunner was stopped",
            "replaced" => files::can_be_replaced(pipeline) && (pipeline == "interrupting" || !ran.contains(id)),
            "interrupted" => true,
            _ => false,
        };
        if !is_as_expected || !is_complete(job) {
            totals.complain(format!("not what should have become of it: {job}"));
        }
    }
}

/// The rest of what must hold of a job that has ended in this way.
fn is_complete(job: &Value) -> bool {
    let task = |name: &str| {
        let mut tasks = job["tasks"].as_array().unwrap().iter();
        tasks.find(|task| task["name"] == name).unwrap()
    };
    match (job["pipeline"].as_str().unwrap(), job["status"].as_str().unwrap()) {
        ("retried", "succeeded") => task("a")["attempt"] == 3,
        ("timed", "failed") => task("a")["exitCode"] == 124 && task("a")["error"] == "timed out after 30ms",
        ("limited", "failed") => job["lastError"] == "job timed out after 40ms",
        // It was let end, unless it had not begun.
        ("spared", "failed") => task("b")["status"] == "done" || task("b")["start"].is_null(),
        _ => true,
    }
}

/// Requests that joined it later are written to its record.
fn is_same(shown: &Value, end: &Value) -> bool {
    let without = |job: &Value| {
        let mut job = job.clone();
        job.as_object_mut().unwrap().remove("idempotency");
        job
    };
    shown == end || without(shown) == without(end)
}

/// Whether a job has what one brought that it replaced.
fn has_taken_over(job: &Value, variables: &Value) -> bool {
    let new = &job["variables"];
    let pages = |variables: &Value| variables["pages"].as_array().cloned().unwrap_or_default();
    let mut flags = variables["flags"].as_object().unwrap().iter();
    pages(new).starts_with(&pages(variables))
        && flags.all(|(name, value)| new["flags"][name] == *value)
        && new["since"] == variables["since"]
}
