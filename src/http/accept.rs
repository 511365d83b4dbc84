//! The thread that accepts connections, for all listeners.
//!
//! It never waits for a client, and no error ends it: an accept that fails is either the client's affair, or it is tried
//! again after a moment.

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::pool::Pool;
use super::socket::{Socket, poll_until};
use crate::waker::Waker;

/// How many connections one listener gets before the others are looked at.
const ACCEPTS_A_TURN: usize = 64;

/// How many that were turned away are kept until they can have read why.
const TURNED_AWAY: usize = 64;

pub(super) fn start(listeners: Vec<TcpListener>, pool: Arc<Pool>, stop: Arc<Waker>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("http".to_owned()).spawn(move || {
        Acceptor {
            pool,
            turned_away: VecDeque::new(),
        }
        .run(&listeners, &stop);
    })
}

struct Acceptor {
    pool: Arc<Pool>,
    /// Closed at their time: closing them with their request unread would be a reset, which can overtake the answer.
    turned_away: VecDeque<(Instant, Socket)>,
}

/// What is to be done after connections were accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    GoOn,
    /// It would fail again at once.
    Pause,
}

impl Acceptor {
    fn run(mut self, listeners: &[TcpListener], stop: &Waker) {
        loop {
            let mut descriptors = vec![PollFd::new(stop, PollFlags::IN)];
            descriptors.extend(listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
            let next_close = self.turned_away.front().map(|(at, _)| *at);
            let mut then = match poll_until(&mut descriptors, next_close) {
                Ok(_) => Then::GoOn,
                Err(_) => Then::Pause,
            };
            if !descriptors[0].revents().is_empty() {
                return;
            }
            self.close_turned_away();
            for (listener, descriptor) in listeners.iter().zip(&descriptors[1..]) {
                if !descriptor.revents().is_empty() && self.accept(listener) == Then::Pause {
                    then = Then::Pause;
                }
            }
            if then == Then::Pause && pause(stop, self.pool.limits().accept_pause) {
                return;
            }
        }
    }

    fn accept(&mut self, listener: &TcpListener) -> Then {
        for _ in 0..ACCEPTS_A_TURN {
            match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(descriptor) => self.admit(Socket::new(descriptor)),
                Err(Errno::AGAIN) => break,
                Err(error) if concerns_the_client(error) => {}
                Err(Errno::MFILE | Errno::NFILE) => {
                    self.pool.close_longest_idle();
                    return Then::Pause;
                }
                Err(_) => return Then::Pause,
            }
        }
        Then::GoOn
    }

    fn admit(&mut self, socket: Socket) {
        if let Err(socket) = self.pool.admit(socket) {
            socket.send_without_waiting(&self.pool.turning_away());
            socket.end();
            if self.turned_away.len() == TURNED_AWAY {
                self.turned_away.pop_front();
            }
            self.turned_away
                .push_back((Instant::now() + self.pool.limits().linger_time, socket));
        }
    }

    fn close_turned_away(&mut self) {
        while self.turned_away.front().is_some_and(|(at, _)| *at <= Instant::now()) {
            self.turned_away.pop_front();
        }
    }
}

/// Whether another accept may well succeed: the connection at hand is gone or was forbidden, or a signal came.
fn concerns_the_client(error: Errno) -> bool {
    [
        Errno::INTR,
        Errno::CONNABORTED,
        Errno::PROTO,
        Errno::PERM,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NONET,
        Errno::NOPROTOOPT,
        Errno::OPNOTSUPP,
    ]
    .contains(&error)
}

/// Waits without accepting; true where the server stops.
fn pause(stop: &Waker, time: Duration) -> bool {
    poll_until(&mut [PollFd::new(stop, PollFlags::IN)], Some(Instant::now() + time)).unwrap_or_else(|_| {
        // Without `poll` there is nothing to wait in, but it must not spin.
        thread::park_timeout(time);
        false
    })
}
