//! Speaks with the program that started prunner as a service, where it asks for that: tells it how prunner is, and takes
//! over the socket that it opened.
//!
//! The protocol is systemd's: variables of the environment, and datagrams to a socket. Without the variables nothing
//! happens. Surprise: the watchdog is the one thing that wakes an idle prunner, and only where it is asked for.

use std::io;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::log;
use crate::reason::reason;

/// Requests are served from now on; or what was loaded anew holds.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Files are being loaded anew; followed by `ready`, whether they are right or not.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => log::warning("the clock can't be read", &[("reason", &reason(&error))]),
    }
}

pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warning("the service manager can't be told", &[("reason", &reason(&error))]);
    }
}

/// The sockets that were handed over, listening; empty where there are none.
///
/// # Errors
/// Where one of them is no TCP socket that listens.
pub(crate) fn listeners() -> io::Result<Vec<TcpListener>> {
    let mut handed_over = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..handed_over.len() {
        if let Some(listener) = handed_over.take_tcp_listener(index)? {
            // The thread that accepts waits in `poll`.
            listener.set_nonblocking(true)?;
            listeners.push(listener);
        }
    }
    Ok(listeners)
}

/// Shows the service manager that the main loop still turns.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// Half of the time after which prunner would be taken for dead. `None`: nobody watches.
    interval: Option<Duration>,
    next: Instant,
}

impl Watchdog {
    /// As the environment asks for; feeds at once.
    pub(crate) fn from_environment() -> Watchdog {
        Watchdog {
            interval: sd_notify::watchdog_enabled().map(|timeout| timeout / 2),
            next: Instant::now(),
        }
    }

    pub(crate) fn none() -> Watchdog {
        Watchdog {
            interval: None,
            next: Instant::now(),
        }
    }

    /// When it must be fed again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.interval.map(|_| self.next)
    }

    /// Feeds it where that is due.
    pub(crate) fn feed(&mut self) {
        let Some(interval) = self.interval else { return };
        let now = Instant::now();
        if now >= self.next {
            self.next = now + interval;
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// The variables of the protocol: they are for prunner alone, its tasks must not speak for it.
pub(crate) const VARIABLES: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];
