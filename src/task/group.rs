//! Which processes there are, by `/proc`: the members of a process group, their names, and when they are gone.
//!
//! Sends no signals. The surprise: `kill(-group, 0)` would be simpler but does not tell whether a group is empty, for it
//! answers for the dead leader that is not reaped yet.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How often to look again where the end of a process can't be waited for, and while processes are killed.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Descriptors are scarce: of a large group so many are waited for, then the group is looked at again.
const WAITED_FOR_AT_ONCE: usize = 16;

/// The processes of this machine.
#[derive(Clone, Debug)]
pub(super) struct ProcessTable {
    root: PathBuf,
}

impl ProcessTable {
    /// `None` where there is no `/proc`, as in an empty root.
    pub(super) fn open() -> Option<ProcessTable> {
        let root = PathBuf::from("/proc");
        fs::metadata(root.join("self/stat"))
            .is_ok()
            .then_some(ProcessTable { root })
    }

    pub(super) fn path(&self, process: Pid) -> PathBuf {
        self.root.join(process.as_raw_nonzero().to_string())
    }

    /// All processes. Some may be gone when this returns, and others new.
    pub(super) fn processes(&self) -> impl Iterator<Item = Pid> {
        fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?))
    }

    /// The living processes of the group, its leader aside.
    pub(super) fn members(&self, leader: Pid) -> Vec<Pid> {
        self.processes()
            .filter(|&process| process != leader && self.is_member(process, leader))
            .collect()
    }

    fn is_member(&self, process: Pid, leader: Pid) -> bool {
        self.stat(process)
            .is_some_and(|stat| stat.lives && stat.group == Some(leader))
    }

    fn stat(&self, process: Pid) -> Option<Stat> {
        Stat::parse(&fs::read(self.path(process).join("stat")).ok()?)
    }

    pub(super) fn parent(&self, process: Pid) -> Option<Pid> {
        self.stat(process)?.parent
    }

    /// For a person, such as ``process 4711 (`sleep`)``.
    pub(super) fn describe(&self, process: Pid) -> String {
        let number = process.as_raw_nonzero();
        match self.stat(process) {
            Some(stat) => format!("process {number} (`{}`)", stat.name),
            None => format!("process {number}"),
        }
    }

    /// Returns when the `members` that are looked at are gone, at a wake, or after `timeout`; look again in any case.
    pub(super) fn wait_for_exits(
        &self,
        leader: Pid,
        members: &[Pid],
        waker: BorrowedFd<'_>,
        timeout: Option<Duration>,
    ) {
        let mut timeout = timeout;
        let mut exits = Vec::new();
        for &member in members.iter().take(WAITED_FOR_AT_ONCE) {
            match pidfd_open(member, PidfdFlags::empty()) {
                // Another process may have got its number in between.
                Ok(exit) if self.is_member(member, leader) => exits.push(exit),
                Ok(_) | Err(Errno::SRCH) => {}
                // An old kernel, or no descriptors left.
                Err(_) => timeout = Some(timeout.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN)),
            }
        }
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        wait_for_all(&mut exits, Some(waker), deadline);
    }
}

/// Waits until all processes have exited, for a wake, or until the deadline. Those that have exited are taken away.
pub(super) fn wait_for_all(exits: &mut Vec<OwnedFd>, waker: Option<BorrowedFd<'_>>, deadline: Option<Instant>) {
    while !exits.is_empty() {
        let waited_for = exits.iter().map(AsFd::as_fd).chain(waker);
        let mut polled: Vec<PollFd<'_>> = waited_for
            .map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN))
            .collect();
        let ready = poll(&mut polled, timespec_until(deadline).as_ref());
        let is_ready: Vec<bool> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
        match ready {
            Ok(0) => return,
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            // Short of memory: the caller looks again.
            Err(_) => return,
        }
        let woken = waker.is_some() && is_ready.last() == Some(&true);
        let mut has_exited = is_ready.iter();
        exits.retain(|_| has_exited.next() != Some(&true));
        if woken {
            return;
        }
    }
}

/// What is left until the deadline, for `poll`.
pub(super) fn timespec_until(deadline: Option<Instant>) -> Option<Timespec> {
    let left = deadline?.saturating_duration_since(Instant::now());
    // One that is too long to be expressed is as good as none.
    Timespec::try_from(left).ok()
}

/// What is used of `/proc/<pid>/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    lives: bool,
    parent: Option<Pid>,
    /// `None` for the kernel's own threads.
    group: Option<Pid>,
}

impl Stat {
    fn parse(text: &[u8]) -> Option<Stat> {
        // The name stands in parentheses and may itself hold some.
        let start = text.iter().position(|&byte| byte == b'(')?;
        let end = text.iter().rposition(|&byte| byte == b')')?;
        let name = String::from_utf8_lossy(text.get(start + 1..end)?).into_owned();
        let fields: Vec<&str> = std::str::from_utf8(&text[end + 1..])
            .ok()?
            .split_ascii_whitespace()
            .collect();
        let threads: usize = fields.get(17)?.parse().ok()?;
        // The first thread of a process may have ended before the others: it is no zombie then.
        let lives = match *fields.first()? {
            "Z" => threads > 1,
            "X" | "x" => false,
            _ => true,
        };
        // A process that is just going away has -1 for numbers that it has no more.
        let process = |field: usize| Some(Pid::from_raw(fields.get(field)?.parse::<i32>().ok()?.max(0)));
        Some(Stat {
            name,
            lives,
            parent: process(1)?,
            group: process(2)?,
        })
    }
}

/// Reads a file of `/proc` into `buffer`, whose room is kept from file to file.
pub(super) fn read_into(path: &Path, buffer: &mut Vec<u8>) -> bool {
    buffer.clear();
    fs::File::open(path).is_ok_and(|mut file| file.read_to_end(buffer).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, bool)>) {
        let found = Stat::parse(text.as_bytes());
        let expected = expected.map(|(name, lives)| Stat {
            name: name.to_owned(),
            lives,
            parent: Pid::from_raw(7),
            group: Pid::from_raw(9),
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn the_state_stands_behind_the_last_parenthesis() {
        let rest = "7 9 8 0 -1 4194304 1 0 0 0 0 0 0 0 20 0";
        check(&format!("12 (sh) S {rest} 1 0 5 6"), Some(("sh", true)));
        check(&format!("12 (a) Z (b) R {rest} 1 0 5 6"), Some(("a) Z (b", true)));
        check(&format!("12 (sh) Z {rest} 1 0 5 6"), Some(("sh", false)));
        check(&format!("12 (threads) Z {rest} 3 0 5 6"), Some(("threads", true)));
        let stat = Stat::parse(b"12 (gone) X 0 -1 -1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 0 0 5 6").unwrap();
        assert_eq!((stat.lives, stat.parent, stat.group), (false, None, None));
        check("", None);
        check("12 (sh) S 7", None);
    }

    #[test]
    fn this_process_is_found_with_its_parent() {
        let table = ProcessTable::open().unwrap();
        let own = rustix::process::getpid();
        assert!(table.processes().any(|process| process == own));
        assert_eq!(table.parent(own), rustix::process::getppid());
    }
}
