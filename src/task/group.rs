//! Which processes there are, by `/proc`: the members of a process group, their names, and when they are gone.
//!
//! Sends no signals. The surprise: `kill(-group, 0)` would be simpler but does not tell whether a group is empty, for it
//! answers for the dead leader that is not reaped yet.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};

/// How often to look again where the end of a process can't be waited for, and while processes are killed.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Descriptors are scarce: of a large group so many are waited for, then the group is looked at again.
const WAITED_FOR_AT_ONCE: usize = 16;

/// The processes of this machine.
#[derive(Clone, Debug)]
pub(super) struct ProcessTable {
    pub(super) root: PathBuf,
    /// Gives what becomes readable when the process has exited.
    pub(super) open_exit: fn(Pid) -> rustix::io::Result<OwnedFd>,
}

impl ProcessTable {
    /// `None` where there is no `/proc`, as in an empty root.
    pub(super) fn open() -> Option<ProcessTable> {
        let root = PathBuf::from("/proc");
        let open_exit = |process| pidfd_open(process, PidfdFlags::empty());
        fs::metadata(root.join("self/stat"))
            .is_ok()
            .then_some(ProcessTable { root, open_exit })
    }

    pub(super) fn path(&self, process: Pid) -> PathBuf {
        self.root.join(process.as_raw_nonzero().to_string())
    }

    /// All processes, each as soon as it is found. Some may be gone by then, and others new.
    ///
    /// # Errors
    /// Where they can't be listed, as without descriptors.
    pub(super) fn processes(&self) -> io::Result<impl Iterator<Item = io::Result<Pid>>> {
        let number = |name: &OsStr| Pid::from_raw(name.to_str()?.parse().ok()?);
        Ok(
            fs::read_dir(&self.root)?
                .filter_map(move |entry| entry.map(|entry| number(&entry.file_name())).transpose()),
        )
    }

    /// The living processes of the group, its leader aside.
    ///
    /// # Errors
    /// Where not all could be looked at: then the group may have others.
    pub(super) fn members(&self, leader: Pid) -> io::Result<Vec<Pid>> {
        let mut members = Vec::new();
        for process in self.processes()? {
            let process = process?;
            if process != leader && self.is_member(process, leader)? {
                members.push(process);
            }
        }
        Ok(members)
    }

    fn is_member(&self, process: Pid, leader: Pid) -> io::Result<bool> {
        let stat = self.stat(process)?;
        Ok(stat.is_some_and(|stat| stat.lives && stat.group == Some(leader)))
    }

    /// `None` where it is gone, or hidden from us.
    fn stat(&self, process: Pid) -> io::Result<Option<Stat>> {
        match fs::read(self.path(process).join("stat")) {
            Ok(text) => Ok(Stat::parse(&text)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(None),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn parent(&self, process: Pid) -> Option<Pid> {
        self.stat(process).ok()??.parent
    }

    /// Whether it shows no environment because it stands between two programs. On a loaded machine that may last.
    pub(super) fn becomes_another_program(&self, process: Pid) -> bool {
        let path = self.path(process);
        // Of processes of others such numbers are not shown.
        fs::metadata(&path).is_ok_and(|found| found.uid() == geteuid().as_raw())
            && fs::read(path.join("stat")).is_ok_and(|text| Stat::parse(&text).is_some_and(|stat| stat.is_between))
    }

    /// For a person, such as ``process 4711 (`sleep`)``.
    pub(super) fn describe(&self, process: Pid) -> String {
        let number = process.as_raw_nonzero();
        match self.stat(process) {
            Ok(Some(stat)) => format!("process {number} (`{}`)", stat.name),
            Ok(None) | Err(_) => format!("process {number}"),
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
        let mut exits = Vec::new();
        let mut misses_some = false;
        for &member in members.iter().take(WAITED_FOR_AT_ONCE) {
            match (self.open_exit)(member) {
                // Another process may have got its number in between.
                Ok(exit) => match self.is_member(member, leader) {
                    Ok(true) => exits.push(exit),
                    Ok(false) => {}
                    Err(_) => misses_some = true,
                },
                Err(Errno::SRCH) => {}
                // An old kernel, or no descriptors left.
                Err(_) => misses_some = true,
            }
        }
        if misses_some {
            let timeout = timeout.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN);
            let deadline = Instant::now() + timeout;
            if exits.is_empty() {
                wait_for_wake(waker, deadline);
            } else {
                wait_for_all(&mut exits, Some(waker), Some(deadline));
            }
        } else {
            let deadline = timeout.map(|timeout| Instant::now() + timeout);
            wait_for_all(&mut exits, Some(waker), deadline);
        }
    }
}

/// Waits for a wake, or until the deadline.
pub(super) fn wait_for_wake(waker: BorrowedFd<'_>, deadline: Instant) {
    loop {
        let mut polled = [PollFd::from_borrowed_fd(waker, PollFlags::IN)];
        if poll(&mut polled, timespec_until(Some(deadline)).as_ref()) != Err(Errno::INTR) {
            return;
        }
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
    /// It lives, is none of the kernel's, and has no place for an environment: as in the middle of `exec`.
    is_between: bool,
}

/// Among the flags of a process: it is the kernel's own thread.
const KERNEL_THREAD: u64 = 0x0020_0000;

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
        let number = |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok());
        let is_kernel_thread = number(6).is_none_or(|flags| flags & KERNEL_THREAD != 0);
        // A process that is just going away has -1 for numbers that it has no more.
        let process = |field: usize| Some(Pid::from_raw(fields.get(field)?.parse::<i32>().ok()?.max(0)));
        Some(Stat {
            name,
            lives,
            parent: process(1)?,
            group: process(2)?,
            is_between: lives && !is_kernel_thread && number(48) == Some(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{getpgrp, getpid};

    use super::*;
    use crate::testing::TestDirectory;
    use crate::waker::Waker;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, bool)>) {
        let found = Stat::parse(text.as_bytes());
        let expected = expected.map(|(name, lives)| Stat {
            name: name.to_owned(),
            lives,
            parent: Pid::from_raw(7),
            group: Pid::from_raw(9),
            is_between: false,
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
    fn a_process_without_room_for_an_environment_becomes_another_program() {
        #[track_caller]
        fn check(state: &str, flags: u64, environment_end: u64, expected: bool) {
            let fields = "1 ".repeat(10) + "1 0 5 6 " + &"1 ".repeat(27);
            let text = format!("12 (sh) {state} 7 9 8 0 -1 {flags} {fields}{environment_end} 0");
            assert_eq!(Stat::parse(text.as_bytes()).unwrap().is_between, expected, "{text}");
        }
        check("R", 0x0040_0000, 0, true);
        check("R", 0x0040_0000, 140_723_412_000_000, false);
        check("S", 0x0020_8040, 0, false);
        check("Z", 0x0040_0000, 0, false);
        let table = ProcessTable::open().unwrap();
        assert!(!table.becomes_another_program(rustix::process::getpid()));
    }

    #[test]
    fn this_process_is_found_with_its_parent() {
        let table = ProcessTable::open().unwrap();
        let own = rustix::process::getpid();
        assert!(table.processes().unwrap().flatten().any(|process| process == own));
        assert_eq!(table.parent(own), rustix::process::getppid());
    }

    /// Nothing but this process is in the group of its leader.
    #[track_caller]
    fn check_wait(table: &ProcessTable, members: &[Pid], timeout: Option<Duration>, least: Duration) {
        let waker = Waker::new().unwrap();
        let begun = Instant::now();
        table.wait_for_exits(getpgrp(), members, waker.as_fd(), timeout);
        assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
        waker.wake();
        table.wait_for_exits(
            getpgrp(),
            members,
            waker.as_fd(),
            timeout.map(|_| Duration::from_secs(1000)),
        );
    }

    #[test]
    fn what_cannot_be_waited_for_is_looked_at_again_after_a_while() {
        let own = [getpid()];
        let table = ProcessTable::open().unwrap();
        let failures: [fn(Pid) -> rustix::io::Result<OwnedFd>; 3] =
            [|_| Err(Errno::NOSYS), |_| Err(Errno::PERM), |_| Err(Errno::MFILE)];
        for open_exit in failures {
            let table = ProcessTable {
                open_exit,
                ..table.clone()
            };
            check_wait(&table, &own, None, LOOK_AGAIN);
            check_wait(&table, &own, Some(Duration::from_millis(20)), Duration::from_millis(20));
        }
        let short = Some(Duration::from_millis(20));
        check_wait(&table, &own, short, Duration::from_millis(20));
    }

    #[test]
    fn a_look_that_fails_is_no_empty_group() {
        let directory = TestDirectory::new();
        let process = Pid::from_raw(7).unwrap();
        let table = ProcessTable {
            root: directory.path().join("proc"),
            ..ProcessTable::open().unwrap()
        };
        assert!(table.members(process).is_err());
        fs::create_dir_all(table.path(process)).unwrap();
        assert_eq!(table.members(Pid::INIT).unwrap(), []);
        // As good as any other reason why it can't be read.
        fs::create_dir(table.path(process).join("stat")).unwrap();
        assert!(table.members(Pid::INIT).is_err());
    }
}
