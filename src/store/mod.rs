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
//! | `worker.rs` | the thread: save, show, let go; and what to do where the disk does not take it |
//! | `compact.rs` | what a new journal holds |
//! | `forget.rs` | deletes logs |
//! | `old_form.rs` | the old server's file |

mod compact;
mod forget;
mod journal;
mod lock;
mod old_form;
mod recover;
#[cfg(test)]
mod tests;
mod worker;

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Sender, unbounded};

use crate::health::Health;
use crate::read_model::ReadModel;
use crate::scheduler::PipelineView;
use worker::{Message, Worker};

pub(crate) use crate::job::Change;
pub(crate) use lock::{DataDirectory, OpenError};
pub(crate) use old_form::export;
pub(crate) use recover::{JournalState, recover};

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
}

/// The thread that saves.
#[derive(Debug)]
pub(crate) struct Store<R> {
    sender: Sender<Message<R>>,
    thread: Option<JoinHandle<()>>,
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
            sender,
            thread: Some(thread),
        })
    }

    /// Returns at once.
    pub(crate) fn save(&self, batch: Batch<R>) {
        self.sender
            .send(Message::Save(batch))
            .expect("the store's thread takes batches until it is told to finish");
    }

    /// Returns when all that was handed in is written, as far as the disk takes it, and the directory has no owner.
    pub(crate) fn finish(self) {
        drop(self);
    }
}

impl<R> Drop for Store<R> {
    fn drop(&mut self) {
        // Both fail only where the thread panicked, which has been reported.
        let _ = self.sender.send(Message::Finish);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
