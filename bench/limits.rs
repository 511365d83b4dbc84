//! What the machine does without prunner: processes, syncs, copies.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::server::Space;

/// About as long as the line of a job.
const LINE: [u8; 400] = [b'.'; 400];

/// How a task's line reaches its shell: as in `src/task/script.rs`.
pub(crate) fn wrapped(line: &str) -> String {
    format!("trap 'exit $(($? ? $? : 130))' INT\neval ' {line}'")
}

/// Many times, of which two are shown.
pub(crate) struct Spread {
    sorted_ms: Vec<f64>,
}

impl Spread {
    pub(crate) fn new(mut times_ms: Vec<f64>) -> Spread {
        times_ms.sort_by(f64::total_cmp);
        Spread { sorted_ms: times_ms }
    }

    /// Takes the time of each call.
    pub(crate) fn of(count: usize, mut call: impl FnMut() -> Result<()>) -> Result<Spread> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let begun = Instant::now();
            call()?;
            times.push(milliseconds(begun.elapsed()));
        }
        Ok(Spread::new(times))
    }

    /// Half of all took less.
    pub(crate) fn p50(&self) -> f64 {
        self.sorted_ms[self.sorted_ms.len() / 2]
    }

    pub(crate) fn p99(&self) -> f64 {
        self.sorted_ms[self.sorted_ms.len() * 99 / 100]
    }
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// As `date +%s%N` prints it.
pub(crate) fn wall_ns() -> Result<i128> {
    Ok(i128::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos(),
    )?)
}

/// Append and `fdatasync`.
pub(crate) fn sync() -> Result<Spread> {
    let space = Space::new()?;
    let mut file = File::create(space.path.join("journal"))?;
    Spread::of(300, || {
        file.write_all(&LINE)?;
        Ok(file.sync_data()?)
    })
}

/// A shell with this text, started and waited for.
fn shell(text: &str) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", text, "sh"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    anyhow::ensure!(status.success(), "`sh` ends with {status}");
    Ok(())
}

/// One after the other.
pub(crate) fn shells(count: usize, text: &str) -> Result<Spread> {
    Spread::of(count, || shell(text))
}

/// So many by so many threads: how long all take, in seconds.
pub(crate) fn shells_at_once(count: usize, threads: usize, text: &str) -> Result<f64> {
    let begun = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| shells(count / threads, text)))
            .collect();
        for worker in workers {
            worker.join().expect("a thread that measures does not panic")?;
        }
        Ok(())
    })?;
    Ok(begun.elapsed().as_secs_f64())
}

/// From before the start of a shell to what its `date` prints.
pub(crate) fn printed(count: usize) -> Result<Spread> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = wall_ns()?;
        let output = Command::new("sh")
            .args(["-c", &wrapped("date +%s%N"), "sh"])
            .stdin(Stdio::null())
            .output()?;
        let printed: i128 = String::from_utf8(output.stdout)?.trim().parse()?;
        times.push((printed - begun) as f64 / 1e6);
    }
    Ok(Spread::new(times))
}

/// What a process prints, from its pipe to a file: how long it takes, in seconds.
pub(crate) fn copy_output(text: &str, log: &Path) -> Result<f64> {
    let mut buffer = vec![0; 64 * 1024];
    let begun = Instant::now();
    let mut child = Command::new("sh")
        .args(["-c", text, "sh"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut pipe = child.stdout.take().context("the output is piped")?;
    let mut file = File::create(log)?;
    loop {
        let count = pipe.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        file.write_all(&buffer[..count])?;
    }
    child.wait()?;
    Ok(begun.elapsed().as_secs_f64())
}

/// A file of 4 MB read and written.
pub(crate) fn copy_4_mb() -> Result<Spread> {
    let space = Space::new()?;
    let (from, to) = (space.path.join("from"), space.path.join("to"));
    fs::write(&from, vec![b'.'; 4_000_000])?;
    Spread::of(10, || Ok(fs::write(&to, fs::read(&from)?)?))
}
