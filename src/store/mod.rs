//! Keeps what happened on disk, and shows it once it is there.
//!
//! One thread owns the files. It takes all batches that are queued, appends their changes to the journal with one write
//! and one sync, shows them, and then lets go what waited for them. The main loop never waits for it. Unaware of the
//! scheduler, and of what it is that waits.
//!
//! | file | |
//! |---|---|
//! | `lock.rs` | the data directory and its one owner |
//! | `journal.rs` | the form of a line, and the file |
//! | `recover.rs` | from the files to jobs, at the start |
//! | `damage.rs` | what a damaged line may have said |
//! | `worker.rs` | the thread: save, show, let go; and what to do where the disk does not take it |
//! | `compact.rs` | what a new journal holds |
//! | `forget.rs` | deletes logs |
//! | `old_form.rs` | the old server's file |

mod compact;
mod damage;
mod forget;
mod job_summary;
mod journal;
mod lock;
mod old_form;
mod recover;
#[cfg(test)]
mod tests;
mod worker;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Sender, unbounded};

use crate::health::Health;
use crate::metrics::Meters;
use crate::read_model::ReadModel;
use crate::scheduler::PipelineView;
use worker::{Message, Worker};

pub(crate) use crate::job::Change;
pub(crate) use lock::{DataDirectory, OpenError};
pub(crate) use old_form::export;
pub(crate) use recover::{JournalState, Recovered, recover};

/// What one turn of the main loop wants to be saved, and what follows from it.
#[derive(Debug)]
pub(crate) struct Batch<R> {
    pub changes: Vec<Change>,
    /// Shown together with the changes; `None`: as before.
    pub pipelines: Option<Arc<[PipelineView]>>,
    /// Let go in this order once the changes are on disk and shown.
    pub releases: Vec<R>,
}

/// What the store works with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub directory: DataDirectory,
    /// From `recover`.
    pub journal: JournalState,
    /// Shows what was recovered.
    pub model: Arc<ReadModel>,
    pub health: Arc<Health>,
    pub meters: Arc<Meters>,
}

/// Where batches go.
pub(crate) struct Store<R> {
    inner: Inner<R>,
}

enum Inner<R> {
    /// To the thread that saves.
    OnDisk {
        sender: Sender<Message<R>>,
        thread: Option<JoinHandle<()>>,
    },
    Nowhere {
        release: Box<dyn Fn(R)>,
    },
}

impl<R> fmt::Debug for Store<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Store").finish_non_exhaustive()
    }
}

impl<R: Send + 'static> Store<R> {
    /// Brings the files in order and starts the thread. `trouble` is told when
    /// the disk takes no more, and when it does again; both closures run in this thread first, then in the store's.
    ///
    /// # Errors
    /// Where the journal can't be opened, or a damaged one can't be kept. A full disk is no error, but trouble.
    pub(crate) fn start(
        parts: Parts,
        release: impl FnMut(R) + Send + 'static,
        trouble: impl Fn(bool) + Send + 'static,
    ) -> io::Result<Store<R>> {
        let (sender, receiver) = unbounded();
        let mut worker = Worker::new(parts, Box::new(release), Box::new(trouble), sender.clone())?;
        let thread = Builder::new()
            .name("store".to_owned())
            .spawn(move || worker.run(&receiver))?;
        Ok(Store {
            inner: Inner::OnDisk {
                sender,
                thread: Some(thread),
            },
        })
    }

    /// Keeps nothing: what waits for a batch is let go at once, on the thread that hands it in.
    pub(crate) fn nowhere(release: impl Fn(R) + 'static) -> Store<R> {
        Store {
            inner: Inner::Nowhere {
                release: Box::new(release),
            },
        }
    }

    /// Returns at once.
    pub(crate) fn save(&self, batch: Batch<R>) {
        match &self.inner {
            Inner::OnDisk { sender, .. } => sender
                .send(Message::Save(batch))
                .expect("the store's thread takes batches until it is told to finish"),
            Inner::Nowhere { release } => batch.releases.into_iter().for_each(release),
        }
    }

    /// Returns when all that was handed in is written, as far as the disk takes it, and the directory has no owner.
    pub(crate) fn finish(self) {
        drop(self);
    }
}

impl<R> Drop for Store<R> {
    fn drop(&mut self) {
        if let Inner::OnDisk { sender, thread } = &mut self.inner {
            // Both fail only where the thread panicked, which has been reported.
            let _ = sender.send(Message::Finish);
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
    }
}
