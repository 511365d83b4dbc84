//! What tests about running tasks share: more of the server's answers, signals and files to meet at.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::space::{Server, TestSpace, eventually};

impl TestSpace {
    /// A server with these pipelines.
    #[track_caller]
    pub(crate) fn serving(pipelines: &str) -> (TestSpace, Server) {
        let space = TestSpace::new(pipelines);
        let server = space.serve();
        (space, server)
    }

    /// Starts prunner on a terminal of its own, with its log where it is read.
    pub(crate) fn terminal_starter(&self, arguments: &[&str]) -> Command {
        let prunner = format!("exec '{}' {} 2>&3", env!("CARGO_BIN_EXE_prunner"), arguments.join(" "));
        let mut starter = Command::new("sh");
        starter
            .args(["-c", "exec script -qefc \"$1\" /dev/null 3>&2", "sh", &prunner])
            .current_dir(&self.path)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("USER", "anna")
            .stdin(Stdio::null());
        starter
    }
}

impl Server {
    /// The id of a job that was accepted with these variables.
    #[track_caller]
    pub(crate) fn schedule_with(&self, pipeline: &str, variables: &Value) -> String {
        let request = json!({"pipeline": pipeline, "variables": variables});
        self.accepted(&request)
    }

    #[track_caller]
    pub(crate) fn schedule_in(&self, pipeline: &str, partition: &str) -> String {
        let request = json!({"pipeline": pipeline, "queuePartition": partition});
        self.accepted(&request)
    }

    /// The id of a job that was accepted, of a request with these fields.
    #[track_caller]
    pub(crate) fn accepted(&self, request: &Value) -> String {
        let answer = self.post("/pipelines/schedule", &request.to_string());
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.json()["jobId"].as_str().unwrap().to_owned()
    }

    /// Schedules a job and waits for its end.
    #[track_caller]
    pub(crate) fn run_job(&self, pipeline: &str) -> Value {
        self.ended(&self.schedule(pipeline))
    }

    #[track_caller]
    pub(crate) fn cancel_job(&self, id: &str) {
        let answer = self.post(&format!("/job/cancel?id={id}"), "");
        assert_eq!((answer.status, answer.body.trim_end()), (200, "true"));
    }

    #[track_caller]
    pub(crate) fn status_of(&self, id: &str) -> String {
        text(&self.job(id)["status"])
    }

    /// Standard output and standard error of a task.
    #[track_caller]
    pub(crate) fn output_of(&self, job: &Value, task: &str) -> (String, String) {
        let id = text(&job["id"]);
        let answer = self.get(&format!("/job/logs?id={id}&task={task}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        let logs = answer.json();
        (text(&logs["stdout"]), text(&logs["stderr"]))
    }

    #[track_caller]
    pub(crate) fn stdout_of(&self, job: &Value, task: &str) -> String {
        self.output_of(job, task).0
    }

    /// A line of the log that holds the text, as soon as there is one.
    #[track_caller]
    pub(crate) fn logged(&self, text: &str) -> String {
        eventually(text, || {
            let log = self.log();
            log.lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }
}

#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}

/// The task of a job, or null.
pub(crate) fn task<'j>(job: &'j Value, name: &str) -> &'j Value {
    let tasks = job["tasks"].as_array().unwrap();
    tasks.iter().find(|task| task["name"] == name).unwrap_or(&Value::Null)
}

/// `lint done, test error 7`: the tasks of a job in its order, with the exit codes that are not 0.
pub(crate) fn ends_of(job: &Value) -> String {
    let tasks = job["tasks"].as_array().unwrap();
    let ends = tasks.iter().map(|task| {
        let end = format!("{} {}", text(&task["name"]), text(&task["status"]));
        match task["exitCode"].as_i64().unwrap() {
            0 => end,
            code => format!("{end} {code}"),
        }
    });
    ends.collect::<Vec<_>>().join(", ")
}

pub(crate) fn send_signal(name: &str, pid: &str) {
    let status = Command::new("kill").args(["-s", name, pid]).status().unwrap();
    assert!(status.success(), "{name} to {pid}");
}

/// The shells of this machine that tasks are promised to run in alike.
pub(crate) fn shells() -> Vec<&'static [&'static str]> {
    let known: [&'static [&'static str]; 4] = [&["sh"], &["bash"], &["dash"], &["busybox", "sh"]];
    known.into_iter().filter(|shell| is_there(shell[0])).collect()
}

pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Says that something was not tested; where a test passes, only what is written past the harness is seen.
pub(crate) fn say_skipped(program: &str, what: &str) {
    let text = format!("SKIPPED: without `{program}` {what}\n");
    let _ = std::io::stderr().write_all(text.as_bytes());
}
