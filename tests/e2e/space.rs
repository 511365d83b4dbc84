//! A directory to run the real binary in, and a small HTTP client.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::contract;
use crate::inherited_signals;

const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "it never came true: {what}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// Whether it does anything still: who is dead but not reaped by its parent does not.
pub(crate) fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(") ").map(|(_, rest)| !rest.starts_with(['Z', 'X'])))
        .unwrap_or(false)
}

/// A directory of its own, removed at the end.
pub(crate) struct TestSpace {
    pub path: PathBuf,
}

impl TestSpace {
    pub(crate) fn new(pipelines: &str) -> TestSpace {
        inherited_signals::heed();
        let path = std::env::temp_dir().join(format!("prunner-e2e-{}", Uuid::now_v7()));
        fs::create_dir(&path).unwrap();
        let space = TestSpace { path };
        space.write("pipelines.yml", pipelines);
        space
    }

    /// Whole at every moment, as a server may watch it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let new = PathBuf::from(format!("{}.new", path.display()));
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
    }

    pub(crate) fn write_script(&self, name: &str, text: &str) {
        self.write(name, &format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(self.path.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Empty where it is missing.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path.join(name)).unwrap_or_default()
    }

    /// The first line of a file, as soon as it is whole.
    #[track_caller]
    pub(crate) fn first_line(&self, name: &str) -> String {
        eventually(name, || {
            self.read(name).split_once('\n').map(|(line, _)| line.to_owned())
        })
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_by(Command::new(env!("CARGO_BIN_EXE_prunner")), arguments)
    }

    /// Another program, started as prunner is.
    pub(crate) fn command_by(&self, mut command: Command, arguments: &[&str]) -> Command {
        command
            .args(arguments)
            .current_dir(&self.path)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("USER", "anna")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, &[])
    }

    /// Runs a command to its end, with more in its environment.
    pub(crate) fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        // Where it serves, though it should be refused, nobody would stop it.
        let mut deadline = Command::new("timeout");
        deadline.args(["30", env!("CARGO_BIN_EXE_prunner")]);
        let mut command = self.command_by(deadline, arguments);
        command.envs(variables.iter().copied()).output().unwrap()
    }

    /// Starts a server, and returns when it serves.
    #[track_caller]
    pub(crate) fn serve(&self) -> Server {
        self.serve_with(&["--address", "127.0.0.1:0"], &[])
    }

    /// The same with these flags alone, and with more in its environment.
    #[track_caller]
    pub(crate) fn serve_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Server {
        self.serve_by(self.command(arguments), arguments, variables)
    }

    /// The same, started by a command that ends in being prunner. The arguments are for the token.
    #[track_caller]
    pub(crate) fn serve_by(&self, starter: Command, arguments: &[&str], variables: &[(&str, &str)]) -> Server {
        let mut server = self.start(starter, arguments, variables);
        server.wait_until_it_serves();
        server
    }

    /// The same, but returns as soon as there is a process. It may end at any time.
    pub(crate) fn start(&self, mut starter: Command, arguments: &[&str], variables: &[(&str, &str)]) -> Server {
        let mut debug = self.command(arguments);
        debug
            .arg("debug")
            .envs(variables.iter().copied())
            .env("MINIMAL_OUTPUT", "1");
        let token = debug.output().unwrap();
        let mut child = starter
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, serving) = channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let written = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if line.contains(r#"msg="serving""#) {
                    let address = line.split(' ').find_map(|field| field.strip_prefix("address="));
                    let _ = sender.send(address.unwrap().to_owned());
                }
                let mut written = written.lock().unwrap();
                written.push_str(&line);
                written.push('\n');
            }
        });
        Server {
            child,
            address: String::new(),
            log,
            serving: Mutex::new(serving),
            token: String::from_utf8(token.stdout).unwrap(),
        }
    }
}

impl Drop for TestSpace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A server that runs, and is stopped at the end with its tasks.
pub(crate) struct Server {
    child: Child,
    pub address: String,
    pub token: String,
    /// What it has said so far.
    log: Arc<Mutex<String>>,
    /// Where it says where it serves.
    serving: Mutex<Receiver<String>>,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn wait_until_it_serves(&mut self) {
        match self.serving.get_mut().unwrap().recv_timeout(PATIENCE) {
            Ok(address) => self.address = address,
            Err(error) => panic!("it does not serve ({error}): {}", self.log()),
        }
    }

    /// As a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Such as `TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        let _ = Command::new("sh")
            .args(["-c", "kill -$1 \"$2\"", "sh", signal, &self.pid().to_string()])
            .stderr(Stdio::null())
            .status();
    }

    /// SIGTERM, and its exit status.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        self.end()
    }

    /// Its exit status when it has ended.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Option<i32> {
        eventually("the server ends", || self.child.try_wait().unwrap()).code()
    }

    /// Sends a request as it is, with a token, and returns the open connection.
    pub(crate) fn send(&self, method: &str, target: &str, headers: &str, body: &str) -> Sent {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: e2e\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        stream.write_all((head + body).as_bytes()).unwrap();
        Sent {
            stream,
            line: (method.to_owned(), target.to_owned()),
        }
    }

    #[track_caller]
    pub(crate) fn request(&self, method: &str, target: &str, headers: &str, body: &str) -> Answer {
        self.send(method, target, headers, body).answer()
    }

    pub(crate) fn authorization(&self) -> String {
        format!("Authorization: {}\r\n", self.token)
    }

    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Answer {
        self.request("GET", target, &self.authorization(), "")
    }

    #[track_caller]
    pub(crate) fn post(&self, target: &str, body: &str) -> Answer {
        self.request("POST", target, &self.authorization(), body)
    }

    #[track_caller]
    pub(crate) fn try_schedule(&self, pipeline: &str) -> Answer {
        self.post("/pipelines/schedule", &json!({"pipeline": pipeline}).to_string())
    }

    /// The id of a job that was accepted.
    #[track_caller]
    pub(crate) fn schedule(&self, pipeline: &str) -> String {
        let answer = self.try_schedule(pipeline);
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.json()["jobId"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn job(&self, id: &str) -> Value {
        let answer = self.get(&format!("/job/detail?id={id}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// The job when it has ended.
    #[track_caller]
    pub(crate) fn ended(&self, id: &str) -> Value {
        eventually("the job ends", || {
            let job = self.get(&format!("/job/detail?id={id}&wait=10s")).json();
            (job["completed"] == true).then_some(job)
        })
    }
}

/// A request that was sent, and the connection that its answer comes on.
pub(crate) struct Sent {
    stream: TcpStream,
    /// Method and target.
    line: (String, String),
}

impl Sent {
    /// The whole answer, which is one that the API's document allows.
    #[track_caller]
    pub(crate) fn answer(mut self) -> Answer {
        let mut text = Vec::new();
        self.stream.read_to_end(&mut text).unwrap();
        let answer = Answer::new(&String::from_utf8(text).unwrap());
        contract::check(&self.line.0, &self.line.1, &answer);
        answer
    }
}

impl Deref for Sent {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.stream
    }
}

impl Read for Sent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal("TERM");
            let deadline = Instant::now() + Duration::from_secs(5);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                thread::park_timeout(Duration::from_millis(10));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn new(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// Empty where it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Reads until the text has come; what has come before it too.
#[track_caller]
pub(crate) fn read_until(stream: &mut impl Read, text: &str) -> String {
    let mut read = String::new();
    let mut buffer = [0; 4096];
    while !read.contains(text) {
        let length = stream.read(&mut buffer).unwrap();
        assert_ne!(length, 0, "`{text}` never came: {read}");
        read.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    read
}

/// Where a sample of the repository is.
pub(crate) fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name);
    fs::read_to_string(path).unwrap()
}
