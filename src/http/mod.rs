//! The sockets of the API: takes connections, reads requests within bounds and sends what the [`Service`] answers.
//!
//! It is unaware of routes, tokens, JSON and jobs; `api` in turn knows no sockets. Between them stands
//! `api/exchange.rs`.
//!
//! What would surprise: `tiny_http` gives the types and prints the heads of answers, but its server is not used. A client
//! can abort, fill or stop it without a token (a `Content-Length` of 100 TB is allocated, a header that never ends is
//! kept, an accept that fails ends it for good), and nothing outside of it can mend that.
//!
//! ```text
//! accept.rs      one thread for all listeners: accepts, goes on after every error
//!    │ admit
//! pool.rs        who is connected, and a thread for each: at most `Limits::connections`
//!    │ serve
//! connection.rs  one connection: read a request, answer it, wait for the next
//!    │
//!    ├─ request.rs   bytes → head and body
//!    ├─ chunked.rs   a body in chunks
//!    ├─ response.rs  answer → bytes
//!    └─ socket.rs    the system calls, each with a deadline
//! ```
//!
//! Life of a connection:
//!
//! 1. The accept thread takes it from the kernel and admits it to the pool. Where all places are taken, the connection
//!    that has been idle longest is closed for it; where none is idle, it gets 503.
//! 2. A thread of the pool serves it from its first byte to its end. Nothing that one client does can delay another.
//! 3. Between two requests it is idle: it holds no buffer, and may be closed at any time.
//! 4. A request's head is read whole, then [`Service::refuse`] decides whether its body is wanted, then the body is
//!    read, then [`Service::handle`] answers. The next request is read only after the answer was written.
//! 5. An answer that is to come is waited for on the same thread, in `poll` on the socket and the answer's waker.
//! 6. After a request that could not be read the connection is closed, but gently: see [`socket::Socket::linger`].
//!
//! Invariants: whatever a client sends is bounded by [`Limits`] in memory and in time; deadlines are absolute, so that
//! a byte now and then does not extend them; without requests no thread wakes up, except once when a wait ends.

mod accept;
mod chunked;
mod connection;
mod listen;
mod pool;
mod request;
mod response;
mod socket;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt;

pub(crate) use self::listen::bind;
use self::pool::Pool;
use crate::api::exchange::Service;
use crate::waker::Waker;

/// How many are connected at once.
pub(crate) const CONNECTIONS: usize = 256;

/// How much of anything a client gets.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Connections, and so threads.
    pub connections: usize,
    /// Request line and headers. Trailers behind a body in chunks get as much again.
    pub head_bytes: usize,
    /// From the first byte of a head to its last.
    pub head_time: Duration,
    /// From the answer to the first byte of the next request, and from the connection to the first request.
    pub idle_time: Duration,
    pub body_bytes: usize,
    /// From the head to the last byte of the body.
    pub body_time: Duration,
    /// How long a client may read nothing of what is sent to it.
    pub send_time: Duration,
    /// A body up to this size is read and thrown away when its request is refused, as that costs less than a new
    /// connection.
    pub discard_bytes: usize,
    /// How long a connection is kept to let the client read why it is closed.
    pub linger_time: Duration,
    pub linger_bytes: usize,
    /// How long a thread without a connection waits for one. One of them waits for good.
    pub spare_thread_time: Duration,
    /// How long nothing is accepted after an error that is not the client's, such as too many open files.
    pub accept_pause: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: CONNECTIONS,
            head_bytes: 16 << 10,
            head_time: Duration::from_secs(10),
            // Longer than the 60 s after which proxies commonly drop their side: they, not we, should be the first, or a
            // request meets a connection that is just being closed.
            idle_time: Duration::from_secs(75),
            body_bytes: 1 << 20,
            body_time: Duration::from_secs(30),
            send_time: Duration::from_secs(10),
            discard_bytes: 64 << 10,
            linger_time: Duration::from_secs(1),
            linger_bytes: 1 << 20,
            spare_thread_time: Duration::from_secs(1),
            accept_pause: Duration::from_millis(100),
        }
    }
}

/// A running server: one thread that accepts, and those of the connections.
pub(crate) struct Server {
    addresses: Vec<SocketAddr>,
    pool: Arc<Pool>,
    stop_accepting: Arc<Waker>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// # Errors
    /// Where a listener can't be used, or no thread or descriptor is to be had.
    pub(crate) fn start(listeners: Vec<TcpListener>, service: Arc<dyn Service>) -> io::Result<Server> {
        Server::start_with(listeners, service, Limits::default())
    }

    fn start_with(listeners: Vec<TcpListener>, service: Arc<dyn Service>, limits: Limits) -> io::Result<Server> {
        let mut addresses = Vec::with_capacity(listeners.len());
        for listener in &listeners {
            // Else `accept` blocks where the client is gone again by the time it is called.
            listener.set_nonblocking(true)?;
            // Its connections inherit that. Answers are written whole; waiting for more only delays them.
            sockopt::set_tcp_nodelay(listener, true)?;
            addresses.push(listener.local_addr()?);
        }
        let pool = Arc::new(Pool::new(service, limits));
        let stop_accepting = Arc::new(Waker::new()?);
        let accepting = accept::start(listeners, Arc::clone(&pool), Arc::clone(&stop_accepting))?;
        Ok(Server {
            addresses,
            pool,
            stop_accepting,
            accepting: Mutex::new(Some(accepting)),
        })
    }

    /// Where it listens, with the real port where 0 was asked for.
    #[cfg(test)]
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops accepting, closes what is idle, gives answers under way `grace` to be finished, and breaks off the others.
    /// Afterwards no thread of the server is left but those that a [`Service`] does not let return.
    pub(crate) fn stop(&self, grace: Duration) {
        self.stop_accepting.wake();
        let accepting = self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(accepting) = accepting {
            // It never waits for anything but `poll`, which the waker ends. A panic in it has been reported already.
            let _ = accepting.join();
        }
        self.pool.stop(grace);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Server")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}
