//! Kills what a prunner that died left running, before a new one starts anything.
//!
//! A process that belongs to a task says so in its environment, which its children inherit. Unaware of how jobs are kept:
//! who calls says which tasks may have left something. The surprise: this very prunner may have been started by such a
//! task, so neither it nor its ancestors are touched.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal};

use super::environment::{MARK, mark};
use super::group::{LOOK_AGAIN, ProcessTable, wait_for_all};
use crate::job::JobId;

/// How long after a look that killed nothing, but did not see all, the next one follows.
const SHORT_PAUSE: Duration = Duration::from_millis(10);

/// Kills the processes of these tasks (by job and name) that a prunner with this data directory started. Returns when
/// none is left, or after `patience`; what then still lives is named for the log.
pub(crate) fn kill_leftovers(data: &Path, tasks: &HashSet<(JobId, String)>, patience: Duration) -> Vec<String> {
    let Some(table) = ProcessTable::open() else {
        return Vec::new();
    };
    if tasks.is_empty() {
        return Vec::new();
    }
    let deadline = Instant::now() + patience;
    let hunt = Hunt {
        marks: tasks
            .iter()
            .map(|task| (mark(data, task.0, &task.1).into_vec(), task))
            .collect(),
        spared: ancestors(&table),
        table,
    };
    let mut hidden = HashSet::new();
    loop {
        let is_over = Instant::now() >= deadline;
        let mut look = hunt.look(!is_over, &hidden).unwrap_or_default();
        if look.found.is_empty() && (look.has_seen_all || is_over) {
            return Vec::new();
        }
        if is_over {
            let left = look.found.iter();
            return left.map(|&(process, task)| hunt.describe(process, task)).collect();
        }
        let pause = if look.exits.is_empty() { SHORT_PAUSE } else { LOOK_AGAIN };
        hidden = look.hidden;
        // What was forked meanwhile is found by the next look; so is what can't be waited for.
        let look_again = deadline.min(Instant::now() + pause);
        if look.exits.is_empty() {
            wait_until(look_again);
        } else {
            wait_for_all(&mut look.exits, None, Some(look_again));
        }
    }
}

/// What one look at all processes found.
#[derive(Default)]
struct Look<'a> {
    found: Vec<(Pid, &'a (JobId, String))>,
    exits: Vec<OwnedFd>,
    /// Those that showed no environment: they are gone, have ended, stand between two programs, or are the kernel's.
    hidden: HashSet<Pid>,
    /// It can be told of every process whose it is. One that ended since it was listed may have had a child that was not
    /// listed; if none did, whoever was there when the look began was seen, itself or by its children.
    has_seen_all: bool,
}

/// What a process shows of itself.
enum Sight<'a> {
    Ours(&'a (JobId, String)),
    Another,
    Hidden,
}

struct Hunt<'a> {
    table: ProcessTable,
    marks: HashMap<Vec<u8>, &'a (JobId, String)>,
    spared: HashSet<Pid>,
}

impl Hunt<'_> {
    /// What is there, and where it `kills`, what tells of the exits. Each is killed as soon as it is seen: one that hands
    /// over to a child again and again would else be gone.
    fn look(&self, kills: bool, hidden_before: &HashSet<Pid>) -> io::Result<Look<'_>> {
        let mut look = Look {
            has_seen_all: true,
            ..Look::default()
        };
        let mut environment = Vec::new();
        for process in self.table.processes()? {
            let process = process?;
            if self.spared.contains(&process) {
                continue;
            }
            match self.see(process, &mut environment) {
                Sight::Ours(task) => {
                    look.found.push((process, task));
                    if kills {
                        look.exits.extend(self.kill(process));
                    }
                }
                Sight::Another => {}
                Sight::Hidden => {
                    look.hidden.insert(process);
                    if !hidden_before.contains(&process) || self.table.becomes_another_program(process) {
                        look.has_seen_all = false;
                    }
                }
            }
        }
        Ok(look)
    }

    fn see(&self, process: Pid, environment: &mut Vec<u8>) -> Sight<'_> {
        environment.clear();
        let path = self.table.path(process).join("environ");
        match File::open(path).and_then(|mut file| file.read_to_end(environment)) {
            // Another user's.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Sight::Another,
            Ok(0) | Err(_) => Sight::Hidden,
            Ok(_) => environment
                .split(|&byte| byte == 0)
                .filter_map(|entry| entry.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="))
                .find_map(|mark| self.marks.get(mark).copied())
                .map_or(Sight::Another, Sight::Ours),
        }
    }

    /// Returns what tells of its exit.
    fn kill(&self, process: Pid) -> Option<OwnedFd> {
        let handle = pidfd_open(process, PidfdFlags::empty());
        // Its number may belong to another process since it was found. From here on the handle stands for what is
        // looked at now.
        let Sight::Ours(_) = self.see(process, &mut Vec::new()) else {
            return None;
        };
        match handle {
            Ok(handle) => {
                // One of another user can't be killed: it is named in the end.
                let _ = pidfd_send_signal(&handle, Signal::KILL);
                Some(handle)
            }
            Err(Errno::SRCH) => None,
            // An old kernel, or no descriptors left.
            Err(_) => {
                let _ = kill_process(process, Signal::KILL);
                None
            }
        }
    }

    fn describe(&self, process: Pid, (job, task): &(JobId, String)) -> String {
        format!("{} of task `{task}` of job {job}", self.table.describe(process))
    }
}

/// This process and all above it.
fn ancestors(table: &ProcessTable) -> HashSet<Pid> {
    let mut ancestors = HashSet::new();
    let mut next = Some(getpid());
    while let Some(process) = next {
        // A number that was given out anew while we look could close a circle.
        if !ancestors.insert(process) {
            break;
        }
        next = table.parent(process);
    }
    ancestors
}

fn wait_until(moment: Instant) {
    while let Some(left) = moment.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use uuid::Uuid;

    use super::*;

    fn job(number: u128) -> JobId {
        JobId(Uuid::from_u128(number))
    }

    /// A shell that ignores what can be ignored, with a child; both are marked and up when this returns.
    #[expect(clippy::disallowed_methods, reason = "stands for a process of a prunner that died")]
    fn marked(value: &str) -> Child {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' INT TERM HUP; sleep 1000 & echo up; wait"])
            .env(MARK, value)
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = [0; 3];
        child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        child
    }

    fn has_ended(child: &mut Child) -> bool {
        child.try_wait().unwrap().is_some()
    }

    #[test]
    fn only_the_processes_of_the_given_tasks_are_killed() {
        let mut ours = marked(&format!("/data:{}:build", job(1)));
        let mut other_task = marked(&format!("/data:{}:lint", job(1)));
        let mut other_data = marked(&format!("/date:{}:build", job(1)));
        let tasks = HashSet::from([(job(1), "build".to_owned()), (job(2), "lint".to_owned())]);
        let left = kill_leftovers(Path::new("/data"), &tasks, Duration::from_secs(5));
        assert_eq!(left, Vec::<String>::new());
        // The child of the shell held the same pipe: it is readable to its end only where that is gone too.
        let mut rest = String::new();
        ours.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        assert!(has_ended(&mut ours));
        assert!(!has_ended(&mut other_task));
        assert!(!has_ended(&mut other_data));

        let tasks = HashSet::from([(job(1), "lint".to_owned())]);
        assert!(kill_leftovers(Path::new("/data"), &tasks, Duration::from_secs(5)).is_empty());
        let tasks = HashSet::from([(job(1), "build".to_owned())]);
        assert!(kill_leftovers(Path::new("/date"), &tasks, Duration::from_secs(5)).is_empty());
        assert!(other_task.wait().is_ok() && other_data.wait().is_ok());
    }

    #[test]
    fn what_is_left_at_the_end_is_named() {
        let mut child = marked(&format!("/named:{}:build", job(3)));
        let tasks = HashSet::from([(job(3), "build".to_owned())]);
        let left = kill_leftovers(Path::new("/named"), &tasks, Duration::ZERO);
        let number = child.id();
        assert!(
            left.contains(&format!("process {number} (`sh`) of task `build` of job {}", job(3))),
            "{left:?}"
        );
        assert!(kill_leftovers(Path::new("/named"), &tasks, Duration::from_secs(5)).is_empty());
        child.wait().unwrap();
    }

    #[test]
    fn neither_prunner_nor_what_started_it_is_touched() {
        let table = ProcessTable::open().unwrap();
        let spared = ancestors(&table);
        assert!(spared.contains(&getpid()));
        assert!(spared.contains(&rustix::process::getppid().unwrap()));
    }
}
