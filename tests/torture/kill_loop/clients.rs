//! Clients that ask for this and that until the server is gone, and what they were told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::files::NAMES;
use crate::client::Client;
use crate::random::Random;

/// Numbers requests, so that the jobs of each are known.
static NEXT_MARK: AtomicU64 = AtomicU64::new(1);

/// A request for a job. The job has its mark as a variable.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub pipeline: &'static str,
    pub body: Value,
    pub key: Option<String>,
}

impl Request {
    pub(super) fn mark(&self) -> &str {
        self.body["variables"]["mark"].as_str().unwrap()
    }
}

/// A request with a key, and the job that it was answered with, where there was an answer.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    pub request: Request,
    pub job: Option<String>,
    /// The job was there already.
    pub joined: bool,
}

/// A schedule that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Added {
    pub mark: String,
    /// `None`: it is one with an interval.
    pub at_ms: Option<i64>,
    pub makes_up: bool,
}

/// What a client was told, or tried.
pub(super) enum Told {
    /// With a key: whether it is answered or not.
    Asks(Request),
    Accepted {
        id: String,
        request: Request,
        joined: bool,
    },
    /// The same request again, and its answer.
    AskedAgain {
        request: Request,
        answer: Result<String, u16>,
    },
    /// Another request with the key of this job, and its answer.
    AskedOther {
        of: String,
        request: Request,
        answer: Result<String, u16>,
    },
    Refused(Request),
    Cancels(String),
    Canceled(String),
    Forgets(String),
    Forgotten(String),
    Ended(Value),
    Adds(Added),
    Added {
        id: String,
        added: Added,
    },
    Removes(String),
    Removed(String),
    Wrong(String),
}

/// What a client knows of before.
#[derive(Clone, Default)]
pub(super) struct Known {
    pub ids: Vec<String>,
    pub keyed: Vec<Keyed>,
    pub schedules: Vec<String>,
}

pub(super) fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Asks for this and that until the server is gone.
pub(super) fn work(client: &Client, mut random: Random, mut known: Known) -> Vec<Told> {
    let mut told = Vec::new();
    while ask(client, &mut random, &mut known, &mut told).is_some() {}
    told
}

fn some<T: Clone>(random: &mut Random, items: &[T]) -> Option<T> {
    (!items.is_empty()).then(|| random.pick(items))
}

fn ask(client: &Client, random: &mut Random, known: &mut Known, told: &mut Vec<Told>) -> Option<()> {
    let some_id = some(random, &known.ids);
    match (random.below(36), some_id) {
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
        (8, Some(id)) => {
            told.push(Told::Forgets(id.clone()));
            if client.ask("POST", &format!("/job/forget?id={id}"), "")?.0 == 200 {
                told.push(Told::Forgotten(id));
            }
        }
        (9..=11, _) => add_schedule(client, random, known, told)?,
        (12..=13, _) => {
            if let Some(id) = some(random, &known.schedules) {
                told.push(Told::Removes(id.clone()));
                if client.ask("DELETE", &format!("/schedules?id={id}"), "")?.0 == 200 {
                    told.push(Told::Removed(id));
                }
            }
        }
        (14..=17, _) => ask_again(client, random, known, told)?,
        (number, _) => {
            let mut request = request(random);
            // Their jobs are forgotten with their keys.
            if number % 2 == 0 && !matches!(request.pipeline, "large" | "brief") {
                request.key = Some(format!("key {}", request.mark()));
                told.push(Told::Asks(request.clone()));
            }
            match schedule(client, &request)? {
                (Ok(id), joined) => {
                    if !joined {
                        known.ids.push(id.clone());
                    }
                    if request.key.is_some() {
                        let job = Some(id.clone());
                        let request = request.clone();
                        known.keyed.push(Keyed { request, job, joined });
                    }
                    told.push(Told::Accepted { id, request, joined });
                }
                // A full wait list, an equal job, wrong variables, or a shutdown.
                (Err(400 | 503), _) => told.push(Told::Refused(request)),
                (Err(status), _) => told.push(Told::Wrong(format!("{request:?} was answered with {status}"))),
            }
        }
    }
    Some(())
}

/// The job and whether it was joined, or why there is none.
fn schedule(client: &Client, request: &Request) -> Option<(Result<String, u16>, bool)> {
    let key = request.key.as_ref().map(|key| format!("Idempotency-Key: {key}\r\n"));
    let (status, answer) = client.ask_with(
        "POST",
        "/pipelines/schedule",
        &key.unwrap_or_default(),
        &request.body.to_string(),
    )?;
    if status != 202 {
        return Some((Err(status), false));
    }
    let id = answer["jobId"].as_str()?.to_owned();
    Some((Ok(id), answer["joined"] == true))
}

fn request(random: &mut Random) -> Request {
    let pipeline = random.pick(&NAMES);
    let number = NEXT_MARK.fetch_add(1, Ordering::Relaxed);
    let mut variables = json!({"mark": number.to_string()});
    let mut partition = "";
    match pipeline {
        "large" => variables["text"] = json!("x".repeat(200_000)),
        "interrupting" => partition = random.pick(&["x", "y"]),
        "merging" => {
            variables["pages"] = json!([number]);
            variables["flags"] = json!({number.to_string(): true});
            variables["since"] = json!(number);
        }
        "joining" | "refusing" => variables["release"] = json!(random.below(2).to_string()),
        "typed" => {
            variables["release"] = json!("1");
            match random.below(6) {
                0 => variables["release"] = json!("one"),
                1 => variables["target"] = json!("nowhere"),
                2 => variables["unknown"] = json!(1),
                _ => {}
            }
        }
        _ => {}
    }
    Request {
        pipeline,
        body: json!({"pipeline": pipeline, "variables": variables, "queuePartition": partition}),
        key: None,
    }
}

/// A request that was made before, or another one with its key.
fn ask_again(client: &Client, random: &mut Random, known: &Known, told: &mut Vec<Told>) -> Option<()> {
    // There are few that joined a job.
    let joined: Vec<Keyed> = known.keyed.iter().filter(|keyed| keyed.joined).cloned().collect();
    let keyed = some(random, &joined).filter(|_| random.chance(1, 3));
    let Some(Keyed { mut request, job, .. }) = keyed.or_else(|| some(random, &known.keyed)) else {
        return Some(());
    };
    match job {
        Some(of) if random.chance(1, 4) => {
            let number = NEXT_MARK.fetch_add(1, Ordering::Relaxed);
            request.body["variables"]["mark"] = json!(number.to_string());
            let (answer, _) = schedule(client, &request)?;
            told.push(Told::AskedOther { of, request, answer });
        }
        _ => {
            let (answer, _) = schedule(client, &request)?;
            told.push(Told::AskedAgain { request, answer });
        }
    }
    Some(())
}

fn add_schedule(client: &Client, random: &mut Random, known: &mut Known, told: &mut Vec<Told>) -> Option<()> {
    let mark = NEXT_MARK.fetch_add(1, Ordering::Relaxed).to_string();
    let makes_up = random.chance(1, 2);
    let catch_up = if makes_up { "one" } else { "none" };
    let mut body = json!({"pipeline": "due", "catch_up": catch_up, "variables": {"of": mark}});
    // Mostly within the time of this server or the next one. An interval is for good: there are to be few.
    let at_ms = (random.chance(5, 6)).then(|| now_ms() + random.between(5, 1_200));
    match at_ms {
        Some(at_ms) => {
            let at = jiff::Timestamp::from_millisecond(at_ms).unwrap();
            body["at"] = json!(at.to_string());
        }
        None => body["every"] = json!("1s"),
    }
    let added = Added { mark, at_ms, makes_up };
    told.push(Told::Adds(added.clone()));
    let (status, answer) = client.ask("POST", "/schedules", &body.to_string())?;
    match status {
        201 => {
            let id = answer["scheduleId"].as_str()?.to_owned();
            known.schedules.push(id.clone());
            told.push(Told::Added { id, added });
        }
        503 => {}
        _ => told.push(Told::Wrong(format!("{body} was answered with {status}: {answer}"))),
    }
    Some(())
}
