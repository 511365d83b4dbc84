//! Who is connected, and the threads that serve them: one connection, one thread.
//!
//! Unaware of what is said on a connection. A queued connection never waits for a client: it is queued only if a thread
//! is free, is just being started, or is about to be because an idle connection was closed for it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::socket::{Socket, poll_until};
use super::{Limits, connection, response};
use crate::api::exchange::{BadRequest, Service};

/// After the grace of a stop is over and the sockets are shut down, threads need only return.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// A connection as others than its own thread see it.
#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    pub(super) socket: Socket,
    presence: Mutex<Presence>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// Between requests since then: may be closed.
    Idle(Instant),
    /// A request or its answer is under way.
    Busy,
    /// It was idle, and was closed for another one or because the server stops.
    Closed,
}

impl Connection {
    /// From now on the connection may be closed by others. False where it was already.
    #[must_use]
    pub(super) fn becomes_idle(&self, now: Instant) -> bool {
        self.changes_to(Presence::Idle(now))
    }

    /// From now on the connection is left alone. False where it was closed.
    #[must_use]
    pub(super) fn becomes_busy(&self) -> bool {
        self.changes_to(Presence::Busy)
    }

    fn changes_to(&self, next: Presence) -> bool {
        let mut presence = lock(&self.presence);
        if *presence == Presence::Closed {
            return false;
        }
        *presence = next;
        true
    }

    fn idle_since(&self) -> Option<Instant> {
        match *lock(&self.presence) {
            Presence::Idle(since) => Some(since),
            Presence::Busy | Presence::Closed => None,
        }
    }

    /// Whether it was idle and is closed now. Its thread then returns at once.
    fn close_if_idle(&self) -> bool {
        let mut presence = lock(&self.presence);
        if !matches!(*presence, Presence::Idle(_)) {
            return false;
        }
        *presence = Presence::Closed;
        self.socket.shut_down();
        true
    }
}

pub(super) struct Pool {
    service: Arc<dyn Service>,
    limits: Limits,
    stopping: AtomicBool,
    state: Mutex<State>,
    /// There is something in the queue, or the server stops.
    work: Condvar,
    /// A thread has ended.
    thread_ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Every connection there is, those in the queue too.
    connections: HashMap<u64, Arc<Connection>>,
    /// Those that no thread has taken yet.
    queue: VecDeque<Arc<Connection>>,
    next_id: u64,
    threads: usize,
    next_thread: u64,
    /// Threads that wait for a connection.
    spare: usize,
    /// One of the spare threads waits for good.
    one_stays: bool,
}

impl State {
    /// No thread would notice soon that it was closed: without this, connections that come faster than threads take them
    /// would pile up.
    fn forget_if_queued(&mut self, id: u64) {
        if let Some(place) = self.queue.iter().position(|queued| queued.id == id) {
            self.queue.remove(place);
            self.connections.remove(&id);
        }
    }
}

impl Pool {
    pub(super) fn new(service: Arc<dyn Service>, limits: Limits) -> Pool {
        Pool {
            service,
            limits,
            stopping: AtomicBool::new(false),
            state: Mutex::default(),
            work: Condvar::new(),
            thread_ended: Condvar::new(),
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn service(&self) -> &dyn Service {
        &*self.service
    }

    /// Whether no further request is to be read.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Has a new connection served, if need be in place of one that is idle; gives it back where there is no place.
    pub(super) fn admit(self: &Arc<Pool>, socket: Socket) -> Result<(), Socket> {
        let mut state = lock(&self.state);
        // One that was closed to make a place counts until its thread has noticed; so each place is given away once.
        if state.connections.len() >= self.limits.connections {
            let Some(closed) = close_longest_idle(&state) else {
                return Err(socket);
            };
            state.forget_if_queued(closed);
        }
        let id = state.next_id;
        state.next_id += 1;
        let connection = Arc::new(Connection {
            id,
            socket,
            presence: Mutex::new(Presence::Idle(Instant::now())),
        });
        state.connections.insert(id, Arc::clone(&connection));
        state.queue.push_back(connection);
        if state.queue.len() <= state.spare {
            self.work.notify_one();
        } else if state.threads < self.limits.connections && !self.start_thread(&mut state) {
            state.connections.remove(&id);
            let connection = state.queue.pop_back().expect("the connection was just queued");
            drop(state);
            let connection = Arc::into_inner(connection).expect("no thread has taken the connection");
            return Err(connection.socket);
        }
        Ok(())
    }

    /// Connections, threads, and how many of these wait for a connection.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let state = lock(&self.state);
        (state.connections.len(), state.threads, state.spare)
    }

    /// How many connections may be closed for others.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        lock(&self.state)
            .connections
            .values()
            .filter(|connection| connection.idle_since().is_some())
            .count()
    }

    /// Sets a descriptor free, where there are too many open files.
    pub(super) fn close_longest_idle(&self) {
        let mut state = lock(&self.state);
        if let Some(closed) = close_longest_idle(&state) {
            state.forget_if_queued(closed);
        }
    }

    /// What a connection gets that is not admitted.
    pub(super) fn turning_away(&self) -> Vec<u8> {
        let answer = AssertUnwindSafe(|| response::in_full(self.service.bad_request(&BadRequest::TooManyConnections)));
        catch_unwind(answer).unwrap_or_default()
    }

    /// False where the system has no thread for us.
    fn start_thread(self: &Arc<Pool>, state: &mut State) -> bool {
        state.next_thread += 1;
        let pool = Arc::clone(self);
        let started = thread::Builder::new()
            .name(format!("http {}", state.next_thread))
            .spawn(move || pool.work());
        if started.is_ok() {
            state.threads += 1;
        }
        started.is_ok()
    }

    /// A thread of the pool.
    fn work(self: Arc<Pool>) {
        while let Some(connection) = self.next_connection() {
            // A panic of the service is caught and answered closer to it; this one keeps the place from being lost. The
            // panic itself has been reported by the hook.
            let _ = catch_unwind(AssertUnwindSafe(|| connection::serve(&connection, &self)));
            lock(&self.state).connections.remove(&connection.id);
            // The last reference but for moments: here the socket is closed.
            drop(connection);
        }
    }

    /// Waits for a connection; `None` where the thread is to end.
    fn next_connection(&self) -> Option<Arc<Connection>> {
        let mut state = lock(&self.state);
        let mut deadline = None;
        loop {
            if let Some(connection) = state.queue.pop_front() {
                return Some(connection);
            }
            if self.is_stopping() {
                break;
            }
            state.spare += 1;
            if state.one_stays {
                let now = Instant::now();
                let left = deadline
                    .get_or_insert(now + self.limits.spare_thread_time)
                    .saturating_duration_since(now);
                let timed_out;
                (state, timed_out) = {
                    let (state, result) = self
                        .work
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner);
                    (state, result.timed_out())
                };
                state.spare -= 1;
                if timed_out && state.one_stays && state.queue.is_empty() {
                    break;
                }
            } else {
                state.one_stays = true;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.one_stays = false;
                state.spare -= 1;
            }
        }
        state.threads -= 1;
        self.thread_ended.notify_all();
        None
    }

    /// Closes what is idle, waits up to `grace` for the others, then breaks those off. Nothing may be admitted any more.
    pub(super) fn stop(&self, grace: Duration) {
        // First of all: a connection that becomes idle from here on closes itself.
        self.stopping.store(true, Ordering::SeqCst);
        let mut state = lock(&self.state);
        while let Some(unserved) = state.queue.pop_front() {
            state.connections.remove(&unserved.id);
        }
        for connection in state.connections.values() {
            connection.close_if_idle();
        }
        self.work.notify_all();
        state = self.wait_for_threads(state, Instant::now() + grace);
        for connection in state.connections.values() {
            connection.socket.shut_down();
        }
        drop(self.wait_for_threads(state, Instant::now() + LAST_MOMENT));
    }

    fn wait_for_threads<'a>(&self, mut state: MutexGuard<'a, State>, deadline: Instant) -> MutexGuard<'a, State> {
        while state.threads > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self
                .thread_ended
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pool")
            .field("limits", &self.limits)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Closes the connection that has been idle longest and says which; `None` where none is idle. One whose next request has arrived but was
/// not yet taken up by its thread is no longer idle.
fn close_longest_idle(state: &State) -> Option<u64> {
    let mut idle: Vec<(Instant, &Connection)> = state
        .connections
        .values()
        .filter_map(|connection| Some((connection.idle_since()?, &**connection)))
        .collect();
    idle.sort_unstable_by_key(|(since, connection)| (*since, connection.id));
    // One after the other, since the first will nearly always do: in a storm this is done for each connection that comes.
    idle.iter().find_map(|(_, connection)| {
        (!has_request(&connection.socket) && connection.close_if_idle()).then_some(connection.id)
    })
}

/// Whether something has arrived on a connection that is still whole.
fn has_request(socket: &Socket) -> bool {
    let mut descriptor = [PollFd::new(socket, PollFlags::IN | PollFlags::RDHUP)];
    // What can't be asked is left alone.
    poll_until(&mut descriptor, Some(Instant::now())).is_err() || {
        let events = descriptor[0].revents();
        events.contains(PollFlags::IN) && !events.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
    }
}

/// What these locks guard is whole at every point where a panic could be.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
