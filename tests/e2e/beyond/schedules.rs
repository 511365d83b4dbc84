//! `schedules`: pipelines that run by themselves, from files and over the API, over restarts and kills.

mod calendar;
mod client;
mod files;
mod kept;

use serde_json::{Value, json};

use crate::space::{Answer, Server, TestSpace, eventually};

/// A definition file with one pipeline `p` that has these schedules and notes each job.
fn noting(schedules: &Value) -> String {
    let script = "echo \"$PRUNNER_VAR_who\" >> ran";
    super::pipeline(&json!({"tasks": {"note": {"script": [script]}}, "schedules": schedules,
        "variables": {"who": {"default": "nobody"}}}))
}

/// A moment so many seconds from now.
fn in_seconds(seconds: i64) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    rfc3339(i64::try_from(now.as_secs()).unwrap() + seconds)
}

fn rfc3339(second: i64) -> String {
    jiff::Timestamp::from_second(second).unwrap().to_string()
}

fn seconds(text: &Value) -> i64 {
    text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second()
}

impl Server {
    #[track_caller]
    fn schedules(&self) -> Vec<Value> {
        let answer = self.get("/schedules");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["schedules"].as_array().unwrap().clone()
    }

    fn try_add(&self, body: &Value) -> Answer {
        self.post("/schedules", &body.to_string())
    }

    /// The id of a schedule that was added.
    #[track_caller]
    fn add(&self, body: &Value) -> String {
        let answer = self.try_add(body);
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()["scheduleId"].as_str().unwrap().to_owned()
    }

    fn remove(&self, id: &str) -> Answer {
        self.request("DELETE", &format!("/schedules?id={id}"), &self.authorization(), "")
    }

    /// All jobs, oldest first.
    fn jobs(&self) -> Vec<Value> {
        let mut jobs = self.get("/pipelines/jobs").json()["jobs"].as_array().unwrap().clone();
        jobs.reverse();
        jobs
    }

    /// As soon as there are so many jobs, all that there are, ended.
    #[track_caller]
    fn jobs_ended(&self, count: usize) -> Vec<Value> {
        let jobs = eventually("there are so many jobs", || {
            let jobs = self.jobs();
            (jobs.len() >= count).then_some(jobs)
        });
        jobs.iter().map(|job| self.ended(job["id"].as_str().unwrap())).collect()
    }
}

impl TestSpace {
    /// Lets what is kept of schedules be so long ago.
    fn age_schedules(&self, seconds: i64) {
        let changed: Vec<String> = self
            .read(".prunner/journal.jsonl")
            .lines()
            .map(|line| {
                let mut value: Value = serde_json::from_str(&line[9..]).unwrap();
                let Some(record) = value.get_mut("schedule").and_then(Value::as_object_mut) else {
                    return format!("{line}\n");
                };
                for key in ["sinceMs", "lastMs"] {
                    if let Some(at_ms) = record.get(key).and_then(Value::as_i64) {
                        record.insert(key.to_owned(), json!(at_ms - seconds * 1000));
                    }
                }
                if let Some(at) = record.get_mut("added").and_then(|added| added.get_mut("at")) {
                    *at = json!(rfc3339(self::seconds(at) - seconds));
                }
                let text = value.to_string();
                format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes()))
            })
            .collect();
        self.write(".prunner/journal.jsonl", &changed.concat());
    }
}
