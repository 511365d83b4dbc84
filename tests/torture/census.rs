//! Which processes, threads and descriptors there are.

use std::fs;
use std::path::Path;

use crate::space::is_alive;

/// A process that says that it belongs to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    pub pid: String,
    /// With the process id, this names one process for good.
    pub started: String,
    pub job: String,
}

/// The living processes of tasks that a server with this data directory started.
pub(crate) fn of_tasks(data: &Path) -> Vec<Marked> {
    // A server that was killed early has not made it yet.
    let Ok(data) = data.canonicalize() else {
        return Vec::new();
    };
    let prefix = format!("PRUNNER_MARK={}:", data.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if !pid.starts_with(|first: char| first.is_ascii_digit()) {
            continue;
        }
        let Ok(environment) = fs::read(entry.path().join("environ")) else {
            continue;
        };
        let mark = environment
            .split(|&byte| byte == 0)
            .find_map(|entry| entry.strip_prefix(prefix.as_bytes()));
        if let Some(mark) = mark
            && is_alive(&pid)
            && let Some(started) = start_time(&pid)
        {
            let mark = String::from_utf8_lossy(mark);
            found.push(Marked {
                job: mark.split(':').next().unwrap().to_owned(),
                pid,
                started,
            });
        }
    }
    found
}

fn start_time(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19).map(str::to_owned)
}

/// Threads and open descriptors of a process.
pub(crate) fn threads_and_descriptors(pid: u32) -> (usize, usize) {
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
    (count("task"), count("fd"))
}

/// A line of `/proc/<pid>/status` that is a size, in KiB.
pub(crate) fn memory_kib(pid: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    value
        .trim_matches(|other: char| !other.is_ascii_digit())
        .parse()
        .unwrap()
}

/// The living children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let parent = pid.to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|child: &u32| {
            fs::read_to_string(format!("/proc/{child}/stat"))
                .ok()
                .and_then(|stat| Some(stat.rsplit_once(") ")?.1.split(' ').nth(1)? == parent))
                .unwrap_or(false)
        })
        .collect()
}
