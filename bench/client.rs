//! A client that costs next to nothing: one socket that is kept open, requests that are made before time is taken.
//!
//! Unaware of what is measured with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::server::pause;

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    authorization: String,
    line: String,
}

pub(crate) struct Answer {
    pub status: u16,
    pub etag: Option<String>,
    pub body: Vec<u8>,
}

impl Client {
    pub(crate) fn new(stream: TcpStream, authorization: &str) -> Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client {
            stream: BufReader::with_capacity(64 * 1024, stream),
            authorization: authorization.to_owned(),
            line: String::new(),
        })
    }

    pub(crate) fn connect(address: SocketAddr, authorization: &str) -> Result<Client> {
        Client::new(TcpStream::connect(address)?, authorization)
    }

    /// The bytes of a request.
    pub(crate) fn request(&self, method: &str, target: &str, headers: &str, body: &str) -> Vec<u8> {
        let (authorization, length) = (&self.authorization, body.len());
        format!(
            "{method} {target} HTTP/1.1\r\nHost: bench\r\nAuthorization: {authorization}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        )
        .into_bytes()
    }

    pub(crate) fn schedule_request(&self, pipeline: &str) -> Vec<u8> {
        let body = json!({"pipeline": pipeline}).to_string();
        self.request("POST", "/pipelines/schedule", "", &body)
    }

    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.get_mut().write_all(request)?;
        self.next_line()?;
        let status = self.line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("not an answer: `{}`", self.line.trim_end()))?;
        let mut length = Some(0);
        let mut etag = None;
        loop {
            self.next_line()?;
            let Some((name, value)) = self.line.trim_end().split_once(": ") else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.parse().context("the length is no number")?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                length = None;
            } else if name.eq_ignore_ascii_case("etag") {
                etag = Some(value.to_owned());
            }
        }
        let mut body = Vec::new();
        match length {
            _ if status == 304 => {}
            Some(length) => {
                body.resize(length, 0);
                self.stream.read_exact(&mut body)?;
            }
            None => while self.read_chunk(&mut body)? {},
        }
        Ok(Answer { status, etag, body })
    }

    fn next_line(&mut self) -> Result<()> {
        self.line.clear();
        ensure!(self.stream.read_line(&mut self.line)? > 0, "the connection was closed");
        Ok(())
    }

    /// False behind the last one.
    fn read_chunk(&mut self, body: &mut Vec<u8>) -> Result<bool> {
        self.next_line()?;
        let length = usize::from_str_radix(self.line.trim_end(), 16).context("not a chunk")?;
        let start = body.len();
        body.resize(start + length, 0);
        self.stream.read_exact(&mut body[start..])?;
        self.next_line()?;
        Ok(length > 0)
    }

    /// Sends a request that must be answered with this status.
    pub(crate) fn expect(&mut self, status: u16, request: &[u8]) -> Result<Answer> {
        let answer = self.exchange(request)?;
        if answer.status != status {
            let body = String::from_utf8_lossy(&answer.body);
            bail!("expected status {status}, found {}: {body}", answer.status);
        }
        Ok(answer)
    }

    pub(crate) fn get(&mut self, target: &str) -> Result<Answer> {
        let request = self.request("GET", target, "", "");
        self.expect(200, &request)
    }

    pub(crate) fn json(&mut self, target: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.get(target)?.body)?)
    }

    /// The id of the job.
    pub(crate) fn schedule(&mut self, request: &[u8]) -> Result<String> {
        let answer = self.expect(202, request)?;
        // Without a parser: this is inside of what is timed.
        let text = std::str::from_utf8(&answer.body)?;
        let id = text.split('"').nth(3).context("an answer without a job")?;
        Ok(id.to_owned())
    }

    /// Returns when the job has ended.
    pub(crate) fn wait_for_end(&mut self, id: &str) -> Result<()> {
        let request = self.request("GET", &format!("/job/detail?id={id}&wait=60s"), "", "");
        loop {
            let body = self.expect(200, &request)?.body;
            let completed = br#""completed":true"#;
            if body.windows(completed.len()).any(|part| part == completed) {
                return Ok(());
            }
            // A server that can't wait is asked again.
            pause(Duration::from_millis(1));
        }
    }

    /// Runs a job and returns its id.
    pub(crate) fn run(&mut self, request: &[u8]) -> Result<String> {
        let id = self.schedule(request)?;
        self.wait_for_end(&id)?;
        Ok(id)
    }
}
