//! Who waits for more of a log: a reader that wrote to it wakes those who follow it.
//!
//! Unaware of what a follower reads and of when a task ends. Surprise: as long as nobody follows anything, a write costs one
//! load of an atomic number.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex};

use super::{StreamKind, lock};
use crate::job::TaskRef;
use crate::waker::Waker;

type Log = (TaskRef, StreamKind);

/// Everybody who follows a log.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    count: AtomicUsize,
    wakers: Mutex<HashMap<Log, Vec<Arc<Waker>>>>,
}

/// Its waker is woken after every write to the log, until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the wakes"]
pub(crate) struct Follower {
    followers: Arc<Followers>,
    log: Log,
    waker: Arc<Waker>,
}

impl Followers {
    pub(crate) fn new() -> Arc<Followers> {
        Arc::default()
    }

    /// `waker` is woken after each write from now on: register first and read the log then, or news are missed. It may
    /// stand for other things that are waited for too.
    pub(crate) fn register(self: &Arc<Self>, task: TaskRef, stream: StreamKind, waker: Arc<Waker>) -> Follower {
        let log = (task, stream);
        lock(&self.wakers).entry(log).or_default().push(Arc::clone(&waker));
        self.count.fetch_add(1, Ordering::SeqCst);
        // Pairs with the fence in `notify`: either the writer sees this follower, or the follower sees what was written.
        fence(Ordering::SeqCst);
        Follower {
            followers: Arc::clone(self),
            log,
            waker,
        }
    }

    /// Wakes those who follow this log.
    pub(super) fn notify(&self, task: TaskRef, stream: StreamKind) {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(wakers) = lock(&self.wakers).get(&(task, stream)) {
            for waker in wakers {
                waker.wake();
            }
        }
    }
}

impl Follower {
    pub(crate) fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut wakers = lock(&self.followers.wakers);
        if let Entry::Occupied(mut entry) = wakers.entry(self.log) {
            // One waker may be registered more than once: take away one of them.
            if let Some(position) = entry.get().iter().position(|waker| Arc::ptr_eq(waker, &self.waker)) {
                entry.get_mut().swap_remove(position);
            }
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        self.followers.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use uuid::Uuid;

    use super::*;
    use crate::job::JobId;

    fn is_awake(waker: &Waker) -> bool {
        let mut ready = [PollFd::new(waker, PollFlags::IN)];
        poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn only_those_who_follow_the_log_are_woken() {
        let followers = Followers::new();
        let task = TaskRef {
            job: JobId(Uuid::from_u128(1)),
            index: 0,
        };
        let other = TaskRef { index: 1, ..task };
        let waker = Arc::new(Waker::new().unwrap());
        let follower = followers.register(task, StreamKind::Stdout, Arc::clone(&waker));
        followers.notify(other, StreamKind::Stdout);
        followers.notify(task, StreamKind::Stderr);
        assert!(!is_awake(&waker));
        followers.notify(task, StreamKind::Stdout);
        assert!(is_awake(&waker));

        waker.clear();
        drop(follower);
        followers.notify(task, StreamKind::Stdout);
        assert!(!is_awake(&waker));
        assert_eq!(followers.count.load(Ordering::SeqCst), 0);
        assert!(lock(&followers.wakers).is_empty());
    }
}
