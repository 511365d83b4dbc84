//! Who is connected, and the threads that serve them: one connection, one thread.
//!
//! Unaware of what is said on a connection. A queued connection never waits for a client: it is queued only if a thread
//! is free, is just being started, or is about to be because an idle connection was closed for it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    presence: Presence,
}

impl Connection {
    /// From now on the connection may be closed by others. False where it was already.
    #[must_use]
    pub(super) fn becomes_idle(&self, now: Instant) -> bool {
        self.presence.change_to(self.presence.idle_since(now))
    }

    /// From now on the connection is left alone. False where it was closed.
    #[must_use]
    pub(super) fn becomes_busy(&self) -> bool {
        self.presence.change_to(BUSY)
    }

    /// Its thread returns at once where it was idle.
    fn close_if_idle(&self) {
        if self.presence.close(self.presence.now()) {
            self.socket.shut_down();
        }
    }
}

/// One word, since those of all connections are looked at for each that comes while there is no place: since when it is idle, in
/// microseconds, or one of the two numbers below. The longer it is idle, the smaller.
#[derive(Debug)]
struct Presence {
    begun: Instant,
    word: AtomicU64,
}

/// A request or its answer is under way.
const BUSY: u64 = u64::MAX - 1;
/// It was idle, and was closed for another one or because the server stops.
const CLOSED: u64 = u64::MAX;

impl Presence {
    /// Idle from now on.
    fn new(begun: Instant) -> Presence {
        let presence = Presence {
            begun,
            word: AtomicU64::new(BUSY),
        };
        let idle = presence.idle_since(Instant::now());
        presence.word.store(idle, Ordering::SeqCst);
        presence
    }

    fn idle_since(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.begun).as_micros())
            .map_or(BUSY - 1, |since| since.min(BUSY - 1))
    }

    fn now(&self) -> u64 {
        self.word.load(Ordering::SeqCst)
    }

    /// False where it was closed.
    fn change_to(&self, next: u64) -> bool {
        let open = |now| (now != CLOSED).then_some(next);
        self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, open).is_ok()
    }

    /// False unless it is idle, and since the moment at which it was seen to be.
    fn close(&self, seen: u64) -> bool {
        is_idle(seen)
            && self
                .word
                .compare_exchange(seen, CLOSED, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
    }
}

fn is_idle(presence: u64) -> bool {
    presence < BUSY
}

pub(super) struct Pool {
    service: Arc<dyn Service>,
    limits: Limits,
    begun: Instant,
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
    /// `None` where a thread has it: its place is free when that returns.
    fn take_from_queue(&mut self, id: u64) -> Option<Arc<Connection>> {
        let place = self.queue.iter().position(|queued| queued.id == id)?;
        self.connections.remove(&id);
        self.queue.remove(place)
    }

    /// `None` where none is idle. Who gets it is to shut it down.
    fn close_longest_idle(&mut self) -> Option<Arc<Connection>> {
        let closed = close_longest_idle(&self.connections)?;
        // No thread would notice soon that it was closed: without this, connections that come faster than threads take them
        // would pile up.
        self.take_from_queue(closed.id);
        Some(closed)
    }
}

impl Pool {
    pub(super) fn new(service: Arc<dyn Service>, limits: Limits) -> Pool {
        Pool {
            service,
            limits,
            begun: Instant::now(),
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

    /// Has a new connection served, if need be in place of one that is idle; gives it back where there is no place. One
    /// thread alone accepts: another would count on a thread that is then not to be had.
    pub(super) fn admit(self: &Arc<Pool>, socket: Socket) -> Result<(), Socket> {
        let mut state = lock(&self.state);
        // One that was closed to make a place counts until its thread has noticed; so each place is given away once.
        let closed = if state.connections.len() >= self.limits.connections {
            let Some(closed) = state.close_longest_idle() else {
                return Err(socket);
            };
            Some(closed)
        } else {
            None
        };
        let id = state.next_id;
        state.next_id += 1;
        let connection = Arc::new(Connection {
            id,
            socket,
            presence: Presence::new(self.begun),
        });
        state.connections.insert(id, Arc::clone(&connection));
        state.queue.push_back(connection);
        let is_awaited = state.queue.len() <= state.spare;
        let needs_thread = !is_awaited && state.threads < self.limits.connections;
        if needs_thread {
            state.threads += 1;
            state.next_thread += 1;
        }
        let thread = state.next_thread;
        // What wakes or starts others is not done under the lock: all threads need it for each connection.
        drop(state);
        if is_awaited {
            self.work.notify_one();
        }
        if let Some(closed) = closed {
            closed.socket.shut_down();
        }
        if needs_thread && !self.start_thread(thread) {
            return self.take_back(id);
        }
        Ok(())
    }

    /// There was no thread for a connection; another one may have taken it meanwhile.
    fn take_back(&self, id: u64) -> Result<(), Socket> {
        let mut state = lock(&self.state);
        state.threads -= 1;
        self.thread_ended.notify_all();
        let connection = state.take_from_queue(id);
        drop(state);
        // Whoever closes or stops looks at it for a moment at most, under the lock.
        match connection.and_then(Arc::into_inner) {
            Some(connection) => Err(connection.socket),
            None => Ok(()),
        }
    }

    /// Connections, threads, and how many of these wait for a connection.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let state = lock(&self.state);
        (state.connections.len(), state.threads, state.spare)
    }

    /// Whether nothing that is sent waits for more.
    #[cfg(test)]
    pub(super) fn all_send_at_once(&self) -> bool {
        let state = lock(&self.state);
        let mut sockets = state.connections.values().map(|connection| &connection.socket);
        sockets.all(|socket| rustix::net::sockopt::tcp_nodelay(socket) == Ok(true))
    }

    /// How many connections may be closed for others.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        lock(&self.state)
            .connections
            .values()
            .filter(|connection| is_idle(connection.presence.now()))
            .count()
    }

    /// Sets a descriptor free, where there are too many open files.
    pub(super) fn close_longest_idle(&self) {
        let closed = lock(&self.state).close_longest_idle();
        if let Some(closed) = closed {
            closed.socket.shut_down();
        }
    }

    /// What a connection gets that is not admitted.
    pub(super) fn turning_away(&self) -> Vec<u8> {
        let answer = AssertUnwindSafe(|| response::in_full(self.service.bad_request(&BadRequest::TooManyConnections)));
        catch_unwind(answer).unwrap_or_default()
    }

    /// False where the system has no thread for us.
    fn start_thread(self: &Arc<Pool>, number: u64) -> bool {
        let pool = Arc::clone(self);
        thread::Builder::new()
            .name(format!("http {number}"))
            .spawn(move || pool.work())
            .is_ok()
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

/// Takes its place from the connection that has been idle longest. One whose next request has arrived but was not yet
/// taken up by its thread is no longer idle.
fn close_longest_idle(connections: &HashMap<u64, Arc<Connection>>) -> Option<Arc<Connection>> {
    let mut seen = None;
    // One after the other, since the first will nearly always do.
    loop {
        let (longest, connection) = connections
            .values()
            .map(|connection| ((connection.presence.now(), connection.id), connection))
            .filter(|(key, _)| is_idle(key.0) && seen.is_none_or(|seen| seen < *key))
            .min_by_key(|(key, _)| *key)?;
        if !has_request(&connection.socket) && connection.presence.close(longest.0) {
            return Some(Arc::clone(connection));
        }
        seen = Some(longest);
    }
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// The other ends of their sockets, which are to stay open.
    fn queue(state: &mut State, since: &[u64]) -> Vec<UnixStream> {
        let mut others = Vec::new();
        for (id, &since) in (0..).zip(since) {
            let (socket, other) = UnixStream::pair().unwrap();
            let presence = Presence::new(Instant::now());
            assert!(presence.change_to(since));
            let connection = Arc::new(Connection {
                id,
                socket: Socket::new(socket.into()),
                presence,
            });
            state.connections.insert(id, Arc::clone(&connection));
            state.queue.push_back(connection);
            others.push(other);
        }
        others
    }

    #[test]
    fn what_a_thread_has_taken_is_not_taken_back() {
        let mut state = State::default();
        let _others = queue(&mut state, &[1, 2, 3]);
        let taken = state.queue.pop_front().unwrap();
        assert!(state.take_from_queue(taken.id).is_none());
        assert_eq!((state.connections.len(), state.queue.len()), (3, 2));
        // Nobody else has it, so that its socket can be given back.
        assert!(state.take_from_queue(2).and_then(Arc::into_inner).is_some());
        assert_eq!((state.connections.len(), state.queue.len()), (2, 1));
    }

    #[test]
    fn each_idle_connection_is_closed_once_and_the_longest_idle_first() {
        let mut state = State::default();
        let others = queue(&mut state, &[7, BUSY, 5, 9, 3]);
        // Threads have all of them; the next request of the last has arrived.
        state.queue.clear();
        std::io::Write::write_all(&mut &others[4], b"G").unwrap();
        let closed: Vec<u64> = std::iter::from_fn(|| state.close_longest_idle().map(|closed| closed.id)).collect();
        assert_eq!(closed, [2, 0, 3]);
        assert_eq!(state.connections.len(), 5);
        let became_busy = |id: u64| state.connections[&id].becomes_busy();
        assert_eq!([0, 1, 2, 3, 4].map(became_busy), [false, true, false, false, true]);
    }

    #[test]
    fn who_is_seen_idle_is_left_alone_once_it_is_busy_or_idle_anew() {
        let presence = Presence::new(Instant::now());
        for next in [BUSY, presence.now() + 1] {
            let seen = presence.now();
            assert!(presence.change_to(next));
            assert!(!presence.close(seen));
        }
        assert!(presence.close(presence.now()));
        assert!(!presence.change_to(BUSY) && !presence.close(presence.now()));
    }
}
