//! Signals: what prunner does about those that it gets, and how it sees to it that tasks start with none of that.
//!
//! A handler only sets a flag and writes to a pipe; a thread that reads the pipe wakes the main loop, which takes the
//! flags. Surprise: signals are never blocked, for tasks would inherit that.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::SigSet;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// A signal that ends prunner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Interrupt,
    Terminate,
    HangUp,
}

impl Stop {
    const ALL: [Stop; 3] = [Stop::Interrupt, Stop::Terminate, Stop::HangUp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Stop::Interrupt => "SIGINT",
            Stop::Terminate => "SIGTERM",
            Stop::HangUp => "SIGHUP",
        }
    }

    pub(crate) fn number(self) -> i32 {
        match self {
            Stop::Interrupt => SIGINT,
            Stop::Terminate => SIGTERM,
            Stop::HangUp => SIGHUP,
        }
    }
}

/// The signals that have arrived and were not taken yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrived {
    flags: [Arc<AtomicBool>; 3],
}

impl Arrived {
    pub(crate) fn take(&self) -> Option<Stop> {
        let mut flags = Stop::ALL.iter().zip(&self.flags);
        flags
            .find(|(_, flag)| flag.swap(false, Ordering::SeqCst))
            .map(|(stop, _)| *stop)
    }
}

/// Gives tasks a clean start, whatever prunner inherited: an empty signal mask, and for signals that are ignored a
/// handler that does nothing, which `exec` resets to the default. Called before any thread is started.
///
/// # Errors
/// Where the system refuses a handler.
pub(crate) fn clean_up_inheritance() -> io::Result<()> {
    SigSet::empty().thread_set_mask()?;
    let ignored = ignored_at_start();
    let is_ignored = |signal: i32| ignored.is_none_or(|mask| mask >> (signal - 1) & 1 == 1);
    // A file size limit must not kill prunner; for the others a handler that is not needed would only cost wake-ups.
    for signal in [SIGCHLD, SIGQUIT, SIGXFSZ] {
        if signal == SIGXFSZ || is_ignored(signal) {
            flag::register(signal, Arc::new(AtomicBool::new(false)))?;
        }
    }
    Ok(())
}

/// One bit a signal; `None` where there is no `/proc` to ask.
fn ignored_at_start() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Begins to listen. `on_stop` is called after a flag was set, `on_reload` for SIGUSR1, both on a thread of their own.
///
/// # Errors
/// Where a handler or the thread can't be had.
pub(crate) fn listen(
    on_stop: impl Fn() + Send + 'static,
    on_reload: impl Fn() + Send + 'static,
) -> io::Result<Arrived> {
    let arrived = Arrived::default();
    let mut signals = vec![SIGUSR1];
    // Under `nohup` a hang-up stays ignored, for tasks too.
    let hang_up_is_ignored = ignored_at_start().is_some_and(|mask| mask >> (SIGHUP - 1) & 1 == 1);
    for (stop, flag) in Stop::ALL.iter().zip(&arrived.flags) {
        if *stop == Stop::HangUp && hang_up_is_ignored {
            continue;
        }
        // The flag is registered first, so that it is set when the thread hears of the signal.
        flag::register(stop.number(), Arc::clone(flag))?;
        signals.push(stop.number());
    }
    let mut signals = Signals::new(signals)?;
    thread::Builder::new()
        .name("signals".to_owned())
        .stack_size(256 * 1024)
        .spawn(move || {
            for signal in signals.forever() {
                if signal == SIGUSR1 { on_reload() } else { on_stop() }
            }
        })?;
    Ok(arrived)
}
