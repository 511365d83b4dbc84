//! Wakes the main loop at a time of the wall clock, and when that clock is set.
//!
//! A thread waits for a timer of the system; it lives only while there is something to wait for, and sleeps until then.
//! The timer also rings when the clock is set, for then what is due may be due at another moment, and when the machine
//! wakes up behind the time. Unaware of schedules.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::log;
use crate::waker::Waker;

/// The timer, and whom it wakes.
pub(crate) struct WallTimer {
    ring: Arc<dyn Fn() + Send + Sync>,
    running: Option<Running>,
    /// What it was set to last.
    set_to_ms: Option<i64>,
    /// There is none to be had; it was said.
    is_missing: bool,
}

struct Running {
    timer: Arc<OwnedFd>,
    stop: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for WallTimer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("WallTimer")
            .field("set_to_ms", &self.set_to_ms)
            .finish_non_exhaustive()
    }
}

impl WallTimer {
    /// `ring` is called on the timer's thread.
    pub(crate) fn new(ring: impl Fn() + Send + Sync + 'static) -> WallTimer {
        WallTimer {
            ring: Arc::new(ring),
            running: None,
            set_to_ms: None,
            is_missing: false,
        }
    }

    /// Rings at this time at the latest, or never. False: there is no timer; whoever set it must look at the clock himself.
    #[must_use]
    pub(crate) fn set(&mut self, at_wall_ms: Option<i64>) -> bool {
        let Some(at_ms) = at_wall_ms else {
            self.running = None;
            self.set_to_ms = None;
            return true;
        };
        if self.set_to_ms == Some(at_ms) {
            return true;
        }
        let set = self.running().and_then(|running| running.set(at_ms));
        match set {
            Ok(clock_was_set) => {
                if clock_was_set {
                    (self.ring)();
                }
                self.set_to_ms = Some(at_ms);
                self.is_missing = false;
            }
            Err(error) => {
                self.running = None;
                self.set_to_ms = None;
                if !self.is_missing {
                    log::warning(
                        "there is no timer for the wall clock: schedules don't follow where it is set",
                        &[("error", &crate::reason::reason(&error))],
                    );
                }
                self.is_missing = true;
            }
        }
        !self.is_missing
    }

    /// It has rung: what it was set to may no longer be so.
    pub(crate) fn has_rung(&mut self) {
        self.set_to_ms = None;
    }

    fn running(&mut self) -> io::Result<&Running> {
        if self.running.is_none() {
            self.running = Some(Running::start(Arc::clone(&self.ring))?);
        }
        Ok(self.running.as_ref().expect("it was just started"))
    }
}

impl Running {
    fn start(ring: Arc<dyn Fn() + Send + Sync>) -> io::Result<Running> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = Arc::new(timerfd_create(TimerfdClockId::Realtime, flags)?);
        let stop = Arc::new(Waker::new()?);
        let thread = {
            let (timer, stop) = (Arc::clone(&timer), Arc::clone(&stop));
            Builder::new()
                .name("wall clock".to_owned())
                .stack_size(256 * 1024)
                .spawn(move || wait(&timer, &stop, &*ring))?
        };
        Ok(Running {
            timer,
            stop,
            thread: Some(thread),
        })
    }

    /// True: it is set, but the clock was set just before, which would else be told by ringing.
    fn set(&self, at_ms: i64) -> io::Result<bool> {
        // All zeros would turn it off. A time that is over rings at once.
        let at_ms = at_ms.max(1);
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let at = Itimerspec {
            it_interval: never,
            it_value: Timespec {
                tv_sec: at_ms / 1000,
                tv_nsec: at_ms % 1000 * 1_000_000,
            },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        match timerfd_settime(&*self.timer, flags, &at) {
            Ok(_) => Ok(false),
            Err(Errno::CANCELED) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.wake();
        if let Some(thread) = self.thread.take() {
            // It fails only where the thread panicked, which has been reported.
            let _ = thread.join();
        }
    }
}

fn wait(timer: &OwnedFd, stop: &Waker, ring: &dyn Fn()) {
    loop {
        let mut watched = [PollFd::new(timer, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            // The main loop is not told any more, but nothing turns in a circle.
            Err(errno) => {
                log::error(
                    "the timer of the wall clock failed; schedules may come late",
                    &[("error", &errno)],
                );
                return;
            }
        }
        if !watched[1].revents().is_empty() {
            return;
        }
        // ECANCELED: the clock was set.
        match rustix::io::read(timer, &mut [0; 8]) {
            Ok(_) | Err(Errno::CANCELED) => ring(),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::unbounded;

    use super::*;
    use crate::clock::wall_ms;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn it_rings_when_it_is_time_and_not_before() {
        let (sender, rung) = unbounded();
        let mut timer = WallTimer::new(move || {
            let _ = sender.send(wall_ms());
        });
        let at_ms = wall_ms() + 300;
        assert!(timer.set(Some(at_ms)));
        assert!(rung.recv_timeout(PATIENCE).unwrap() >= at_ms);
        timer.has_rung();
        // What is over rings at once, also long ago.
        for at_ms in [at_ms, 0, -5] {
            assert!(timer.set(Some(at_ms)));
            rung.recv_timeout(PATIENCE).unwrap();
            timer.has_rung();
        }
    }

    #[test]
    fn without_anything_to_wait_for_there_is_no_thread() {
        let mut timer = WallTimer::new(|| ());
        assert!(timer.set(None));
        assert!(timer.running.is_none());
        assert!(timer.set(Some(i64::MAX)));
        assert!(timer.running.is_some());
        assert!(timer.set(None));
        assert!(timer.running.is_none());
    }
}
