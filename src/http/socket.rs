//! One client's socket: the system calls, each bounded by a deadline.
//!
//! Unaware of HTTP. The descriptor never blocks; what waits here waits in `poll`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, sockopt};

/// The client went away, or the connection was shut down by us from another thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotReceived {
    /// The deadline has passed.
    Late,
    Gone,
}

/// What ended a wait for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The waker was woken; it is cleared already.
    Woken,
    Deadline,
    Gone,
}

/// A stalled send is given a new deadline only after this much more was taken, so that a client that reads a byte now
/// and then does not hold a thread for hours.
const PROGRESS_BYTES: usize = 16 << 10;

#[derive(Debug)]
pub(super) struct Socket {
    descriptor: OwnedFd,
}

impl Socket {
    /// Takes a connection that was accepted as non-blocking.
    pub(super) fn new(descriptor: OwnedFd) -> Socket {
        Socket { descriptor }
    }

    /// Has the kernel find out whether a client that we wait with is still there. Without it one that vanished (a power
    /// cut, a firewall) would hold its thread for as long as there is nothing to send.
    pub(super) fn probe_when_silent(&self) {
        let _ = sockopt::set_tcp_keepidle(&self.descriptor, Duration::from_secs(60));
        let _ = sockopt::set_tcp_keepintvl(&self.descriptor, Duration::from_secs(20));
        let _ = sockopt::set_tcp_keepcnt(&self.descriptor, 3);
        let _ = sockopt::set_socket_keepalive(&self.descriptor, true);
    }

    /// Appends what there is to `buffer`, up to its capacity, and says how much; 0 is the end.
    pub(super) fn receive(&self, buffer: &mut Vec<u8>, deadline: Instant) -> Result<usize, NotReceived> {
        assert!(buffer.len() < buffer.capacity(), "there is room to receive into");
        loop {
            // Before every read, not only where there is nothing to read: a trickle must not extend the deadline.
            if Instant::now() >= deadline {
                return Err(NotReceived::Late);
            }
            match rustix::io::read(&self.descriptor, spare_capacity(buffer)) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.wait(PollFlags::IN, deadline).map_err(|Gone| NotReceived::Gone)?;
                }
                Err(_) => return Err(NotReceived::Gone),
            }
        }
    }

    /// Whether there is something to receive, be it the end, before the deadline.
    pub(super) fn wait_readable(&self, deadline: Instant) -> bool {
        self.wait(PollFlags::IN, deadline).unwrap_or(false)
    }

    /// Sends all, and gives up where the client takes nothing for `patience`.
    pub(super) fn send(&self, mut bytes: &[u8], patience: Duration) -> Result<(), Gone> {
        let mut progress = 0;
        let mut deadline = None;
        while !bytes.is_empty() {
            match self.send_some(bytes) {
                Ok(count) => {
                    bytes = &bytes[count..];
                    progress += count;
                    if progress >= PROGRESS_BYTES {
                        progress = 0;
                        deadline = None;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + patience);
                    if !self.wait(PollFlags::OUT, deadline)? {
                        return Err(Gone);
                    }
                }
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Sends what the kernel takes at once, and nothing more.
    pub(super) fn send_without_waiting(&self, bytes: &[u8]) {
        while self.send_some(bytes) == Err(Errno::INTR) {}
    }

    fn send_some(&self, bytes: &[u8]) -> Result<usize, Errno> {
        rustix::net::send(&self.descriptor, bytes, SendFlags::NOSIGNAL)
    }

    /// Waits until the waker is woken, the deadline passes or the client goes away, whichever is first. Input is not
    /// waited for: a client may well have sent its next request already.
    pub(super) fn wait_for_news(&self, waker: BorrowedFd<'_>, deadline: Option<Instant>) -> News {
        // RDHUP is also a client that only closed its sending side; one that waits for an answer does not do that.
        let mut descriptors = [
            PollFd::new(&self.descriptor, PollFlags::RDHUP),
            PollFd::from_borrowed_fd(waker, PollFlags::IN),
        ];
        match poll_until(&mut descriptors, deadline) {
            Ok(true) => {}
            Ok(false) => return News::Deadline,
            Err(_) => return News::Gone,
        }
        if !descriptors[0].revents().is_empty() || !descriptors[1].revents().contains(PollFlags::IN) {
            return News::Gone;
        }
        // Cleared before the question is asked again, so that what comes after the answer wakes again.
        let mut count = [0; 8];
        let _ = rustix::io::read(waker, &mut count);
        News::Woken
    }

    /// Closes the sending side and waits until the client has closed its own, for a limited time and amount. A close
    /// with input unread would be a reset, which can overtake the answer: the client would never learn what was wrong.
    pub(super) fn linger(&self, time: Duration, bytes: usize) {
        if rustix::net::shutdown(&self.descriptor, Shutdown::Write).is_err() {
            return;
        }
        let deadline = Instant::now() + time;
        let mut left = bytes;
        let mut buffer = Vec::with_capacity(4096);
        while left > 0 {
            buffer.clear();
            match self.receive(&mut buffer, deadline) {
                Ok(0) | Err(_) => return,
                Ok(count) => left = left.saturating_sub(count),
            }
        }
    }

    /// Closes the sending side: the client sees the end, and what it still sends is not yet answered with a reset.
    pub(super) fn end(&self) {
        let _ = rustix::net::shutdown(&self.descriptor, Shutdown::Write);
    }

    /// Has the close to come be a reset, which no client takes for the end of a body.
    pub(super) fn reset_at_close(&self) {
        let _ = sockopt::set_socket_linger(&self.descriptor, Some(Duration::ZERO));
    }

    /// Breaks the connection off: whoever waits with it returns at once.
    pub(super) fn shut_down(&self) {
        let _ = rustix::net::shutdown(&self.descriptor, Shutdown::Both);
    }

    /// Whether the socket is ready; false where the deadline passed.
    fn wait(&self, events: PollFlags, deadline: Instant) -> Result<bool, Gone> {
        poll_until(&mut [PollFd::new(&self.descriptor, events)], Some(deadline)).map_err(|_| Gone)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// `poll` that goes on after a signal: true where something is ready, false where the deadline passed.
pub(super) fn poll_until(descriptors: &mut [PollFd<'_>], deadline: Option<Instant>) -> Result<bool, Errno> {
    loop {
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec::try_from(left).expect("deadlines lie within minutes")
        });
        match rustix::event::poll(descriptors, timeout.as_ref()) {
            Ok(0) if timeout.is_none() => {}
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
