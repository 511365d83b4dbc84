//! A server in a directory of its own, and what the system tells about its process.
//!
//! Unaware of what is measured. Surprise: ports are taken from below the range that the system gives to clients, or
//! somebody who tries to connect before the server listens may be connected to himself.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::Client;

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);
const CONFIGURATION: &str = "jwt_secret: 0123456789abcdef0123456789abcdef\n";
/// Threads that were needed for a burst end after a second of rest.
const REST: Duration = Duration::from_millis(2500);
/// Ticks of the clock by which the system counts a process's time.
const TICKS_A_SECOND: f64 = 100.0;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Waits at least about that long, without doing anything.
pub(crate) fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

/// Of the last 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let words: Vec<&str> = text.split(' ').take(3).collect();
    words.join(" ")
}

/// A directory on the disk of the repository, removed at the end.
pub(crate) struct Space {
    pub path: PathBuf,
}

impl Space {
    pub(crate) fn new() -> Result<Space> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bench-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path)?;
        Ok(Space { path })
    }

    pub(crate) fn with(pipelines: &str) -> Result<Space> {
        let space = Space::new()?;
        fs::write(space.path.join("pipelines.yml"), pipelines)?;
        fs::write(space.path.join(".prunner.yml"), CONFIGURATION)?;
        Ok(space)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    authorization: String,
    /// From before its start to its first answer.
    pub ready: Duration,
}

impl Server {
    pub(crate) fn start(binary: &Path, space: &Space) -> Result<Server> {
        let authorization = Command::new(binary)
            .arg("debug")
            .current_dir(&space.path)
            .env("MINIMAL_OUTPUT", "1")
            .output()?
            .stdout;
        let authorization = String::from_utf8(authorization)?.trim().to_owned();
        let address = free_address()?;
        let log = space.path.join("log");
        let mut command = Command::new(binary);
        command
            .args(["--address", &address.to_string()])
            .current_dir(&space.path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let begun = Instant::now();
        let mut server = Server {
            child: command.spawn()?,
            address,
            authorization,
            ready: Duration::ZERO,
        };
        let stream = loop {
            if let Ok(stream) = TcpStream::connect(address) {
                break stream;
            }
            if server.child.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                bail!("it does not serve: {}", fs::read_to_string(&log).unwrap_or_default());
            }
            thread::yield_now();
        };
        let mut client = Client::new(stream, &server.authorization)?;
        let request = client.request("GET", "/health", "", "");
        // Whatever it says: an older server has no such path.
        client.exchange(&request)?;
        server.ready = begun.elapsed();
        Ok(server)
    }

    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(self.address, &self.authorization)
    }

    /// A clean exit.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("it does not end");
            }
            pause(Duration::from_millis(1));
        }
        Ok(())
    }

    /// As a crash would.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn proc(&self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("failed to read `{path}`"))
    }

    /// In MB.
    fn memory(&self, field: &str) -> Result<f64> {
        Ok(number_in(&self.proc("status")?, field)? * 1024.0 / 1e6)
    }

    /// In MB.
    pub(crate) fn resident(&self) -> Result<f64> {
        self.memory("VmRSS:")
    }

    /// The most that was ever resident, in MB.
    pub(crate) fn peak(&self) -> Result<f64> {
        self.memory("VmHWM:")
    }

    pub(crate) fn threads(&self) -> Result<f64> {
        number_in(&self.proc("status")?, "Threads:")
    }

    pub(crate) fn descriptors(&self) -> Result<f64> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count() as f64)
    }

    /// Of all its threads since their start.
    pub(crate) fn context_switches(&self) -> Result<f64> {
        let mut sum = 0.0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let status = fs::read_to_string(thread?.path().join("status"))?;
            sum += number_in(&status, "\nvoluntary_ctxt_switches:")?;
            sum += number_in(&status, "nonvoluntary_ctxt_switches:")?;
        }
        Ok(sum)
    }

    /// Its own CPU time in seconds, children not counted. The system counts exactly and rounds to a hundredth.
    pub(crate) fn cpu(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        let (_, fields) = stat.rsplit_once(") ").context("a process without a name")?;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
        Ok(ticks.sum::<Result<f64, _>>()? / TICKS_A_SECOND)
    }

    /// Lets threads end that have nothing to do.
    #[expect(clippy::unused_self, reason = "it is this server that rests")]
    pub(crate) fn rest(&self) {
        pause(REST);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Its tasks end with it.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let deadline = Instant::now() + PATIENCE / 10;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                pause(Duration::from_millis(1));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn number_in(status: &str, field: &str) -> Result<f64> {
    let (_, rest) = status.split_once(field).with_context(|| format!("no `{field}`"))?;
    let word = rest.split_whitespace().next().context("no number")?;
    Ok(word.parse()?)
}

fn free_address() -> Result<SocketAddr> {
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id();
        let port = 20_000 + u16::try_from(number % 12_000)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
}
