//! A client that expects the server to die at any moment.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::space::Server;

/// Longer than any answer takes; what is to be waited for is asked for in shorter steps.
const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub(crate) struct Client {
    address: String,
    token: String,
}

impl Client {
    pub(crate) fn new(server: &Server) -> Client {
        Client {
            address: server.address.clone(),
            token: server.token.clone(),
        }
    }

    /// The status and the body; `None` where there was no whole answer.
    pub(crate) fn ask(&self, method: &str, target: &str, body: &str) -> Option<(u16, Value)> {
        self.ask_with(method, target, "", body)
    }

    /// The same with more headers.
    pub(crate) fn ask_with(&self, method: &str, target: &str, headers: &str, body: &str) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).ok()?;
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: torture\r\nConnection: close\r\nAuthorization: {}\r\n{headers}Content-Length: {}\r\n\r\n",
            self.token,
            body.len()
        );
        stream.write_all((head + body).as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        // An answer that was broken off is no JSON value.
        Some((status, serde_json::from_str(body).ok()?))
    }

    /// The job's id, where it was accepted.
    pub(crate) fn schedule(&self, pipeline: &str, variables: &Value) -> Option<Result<String, u16>> {
        let body = json!({"pipeline": pipeline, "variables": variables}).to_string();
        let (status, answer) = self.ask("POST", "/pipelines/schedule", &body)?;
        if status != 202 {
            return Some(Err(status));
        }
        Some(Ok(answer["jobId"].as_str()?.to_owned()))
    }

    pub(crate) fn cancel(&self, id: &str) -> Option<u16> {
        self.ask("POST", &format!("/job/cancel?id={id}"), "")
            .map(|(status, _)| status)
    }

    pub(crate) fn schedules(&self) -> Option<Vec<Value>> {
        let (_, mut answer) = self.ask("GET", "/schedules", "")?;
        Some(std::mem::take(answer["schedules"].as_array_mut()?))
    }

    /// All jobs, oldest first.
    pub(crate) fn jobs(&self) -> Option<Vec<Value>> {
        let (_, mut answer) = self.ask("GET", "/pipelines/jobs", "")?;
        let mut jobs = std::mem::take(answer["jobs"].as_array_mut()?);
        jobs.reverse();
        Some(jobs)
    }
}
