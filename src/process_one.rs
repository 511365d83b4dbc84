//! Prunner as process 1 of a container: it starts itself as its child, and only reaps, forwards signals, and ends with
//! the child's status. Else every orphan would stay a zombie, and waiting for all children would steal those of workers.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

pub(crate) fn is_process_one() -> bool {
    getpid().is_init()
}

/// Runs prunner as a child, with the same arguments. Returns the status to end with.
///
/// # Errors
/// Where the child can't be started.
pub(crate) fn run_child() -> io::Result<u8> {
    let mut signals = Signals::new([SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGUSR1])?;
    let child = start()?;
    for signal in &mut signals {
        match signal {
            SIGCHLD => {
                if let Some(status) = reap(child) {
                    return Ok(status);
                }
            }
            SIGINT => forward(child, Signal::INT),
            SIGTERM => forward(child, Signal::TERM),
            SIGHUP => forward(child, Signal::HUP),
            _ => forward(child, Signal::USR1),
        }
    }
    unreachable!("nobody closes the signals")
}

#[expect(clippy::disallowed_methods, reason = "this is prunner itself, not a task")]
fn start() -> io::Result<Pid> {
    let program = env::current_exe().or_else(|error| env::args_os().next().map(Into::into).ok_or(error))?;
    let child = Command::new(program)
        .args(env::args_os().skip(1))
        .process_group(0)
        .spawn()?;
    Ok(Pid::from_child(&child))
}

fn forward(child: Pid, signal: Signal) {
    // It may have ended meanwhile; its number is still its own, for only this thread reaps.
    let _ = kill_process(child, signal);
}

/// Reaps all that has ended. The status to end with, if the child is among it.
fn reap(child: Pid) -> Option<u8> {
    let mut end = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == child {
            end = Some(status_to_end_with(status));
        }
    }
    end
}

fn status_to_end_with(status: WaitStatus) -> u8 {
    let code = status
        .exit_status()
        .unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}
