//! The store's thread: save, show, let go.
//!
//! What the disk does not take stays pending, in order, and nothing behind it is shown or let go; once a second it is
//! tried again. Idle, the thread blocks without a timeout.

use std::fs;
use std::io;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::compact::{self, Snapshot};
use super::forget::Remover;
use super::journal::{JOURNAL, Journal, NewJournal, Room, push_change, remove_unfinished, sync_directory};
use super::{Batch, Change, DataDirectory, Parts};
use crate::health::Health;
use crate::log;
use crate::metrics::Meters;
use crate::read_model::ReadModel;
use crate::reason::reason;

/// A smaller journal is read in no time, so it is left as it is.
const LEAST_COMPACTED: u64 = 1024 * 1024;
/// How often what the journal holds is counted: at the least after this much has been appended.
const COUNT_AFTER: u64 = 256 * 1024;
/// How long to wait before the disk is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(super) enum Message<R> {
    Save(Batch<R>),
    /// The thread that writes a new journal has ended.
    Compacted,
    Finish,
}

pub(super) struct Worker<R> {
    directory: DataDirectory,
    pub(super) journal: Journal,
    model: Arc<ReadModel>,
    health: Arc<Health>,
    meters: Arc<Meters>,
    release: Box<dyn FnMut(R) + Send>,
    trouble: Box<dyn Fn(bool) + Send>,
    sender: Sender<Message<R>>,
    remover: Remover,
    /// Batches that are not shown yet.
    pending: Vec<Batch<R>>,
    /// Their lines.
    unwritten: Vec<u8>,
    needs_sync: bool,
    /// Lines that a new journal takes over.
    unknown: Arc<[String]>,
    write_trouble: Option<String>,
    room_trouble: Option<String>,
    retry_at: Option<Instant>,
    compaction: Option<Compaction>,
    /// The journal's length from which on what it holds is counted.
    count_at: u64,
}

/// A new journal that is being written.
struct Compaction {
    /// What it holds is what the journal held up to here.
    offset: u64,
    thread: JoinHandle<io::Result<NewJournal>>,
}

impl<R: Send + 'static> Worker<R> {
    pub(super) fn new(
        parts: Parts,
        release: Box<dyn FnMut(R) + Send>,
        trouble: Box<dyn Fn(bool) + Send>,
        sender: Sender<Message<R>>,
    ) -> io::Result<Worker<R>> {
        let Parts {
            directory,
            journal: state,
            model,
            health,
            meters,
        } = parts;
        let path = &directory.path;
        remove_unfinished(path)?;
        if let Some((damaged, kept)) = &state.damaged {
            keep(path, damaged, kept)?;
        }
        let unknown: Arc<[String]> = state.unknown.into();
        let journal = if state.is_rewritten && !path.join(JOURNAL).exists() {
            // An empty journal must never stand beside a file that was not taken over yet.
            write_new(path, &model, &unknown, &[])?
        } else {
            let mut journal = Journal::open(path, state.length)?;
            if state.is_rewritten {
                journal.set_broken();
            }
            journal
        };
        let mut worker = Worker {
            remover: Remover::new(path),
            directory,
            journal,
            model,
            health,
            meters,
            release,
            trouble,
            sender,
            pending: Vec::new(),
            unwritten: Vec::new(),
            needs_sync: true,
            unknown,
            write_trouble: None,
            room_trouble: None,
            retry_at: None,
            compaction: None,
            count_at: LEAST_COMPACTED,
        };
        for change in &state.changes {
            push_change(&mut worker.unwritten, change);
        }
        worker.save();
        if state.damaged.is_none() {
            // A job whose line was lost may own some of them.
            worker.remover.remove_unowned(&worker.model);
        }
        Ok(worker)
    }

    pub(super) fn run(&mut self, messages: &Receiver<Message<R>>) {
        let mut is_finishing = false;
        while !is_finishing {
            let first = match self.retry_at {
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(retry_at) => messages.recv_deadline(retry_at),
            };
            let mut compacted = false;
            for message in first.into_iter().chain(messages.try_iter()) {
                match message {
                    Message::Save(batch) => self.take(batch),
                    Message::Compacted => compacted = true,
                    Message::Finish => is_finishing = true,
                }
            }
            let is_due = self.retry_at.is_none_or(|retry_at| Instant::now() >= retry_at);
            // While only the room is missing, what can be written is written at once.
            if is_due || is_finishing || self.write_trouble.is_none() {
                self.save();
            }
            if compacted {
                self.end_compaction();
            }
        }
        self.finish();
    }

    pub(super) fn take(&mut self, batch: Batch<R>) {
        for change in &batch.changes {
            if !matches!(change, Change::DelayOver { .. }) {
                push_change(&mut self.unwritten, change);
            }
            self.needs_sync |= change.needs_sync();
        }
        self.pending.push(batch);
    }

    /// Writes all that is pending, shows it and lets go what waited for it.
    pub(super) fn save(&mut self) {
        self.write_trouble = match self.write() {
            Ok(()) => {
                self.show();
                None
            }
            Err(error) => Some(format!("can't write the journal: {}", reason(&error))),
        };
        self.room_trouble = match self.journal.make_room() {
            Room::Enough => None,
            Room::Unsupported => {
                log::warning(
                    "this file system can't reserve room: on a full disk, ends and cancels may be lost at a crash",
                    &[("directory", &self.directory.path.display())],
                );
                None
            }
            Room::Missing(error) => Some(format!("can't reserve room for the journal: {}", reason(&error))),
        };
        self.tell_trouble();
        self.compact_if_large();
    }

    fn write(&mut self) -> io::Result<()> {
        if self.journal.is_broken() {
            return self.rewrite();
        }
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let appended = self.journal.append(&self.unwritten, self.needs_sync);
        match appended {
            Err(error) if self.journal.is_broken() => {
                log::warning("the journal is written anew", &[("reason", &reason(&error))]);
                self.rewrite()
            }
            Ok(Some(took)) => {
                self.meters.syncs.observe(took);
                Ok(())
            }
            appended => appended.map(|_| ()),
        }
    }

    /// A new journal from what is shown and what is pending.
    fn rewrite(&mut self) -> io::Result<()> {
        self.drop_compaction();
        self.directory.keep().map_err(io::Error::other)?;
        self.journal = write_new(&self.directory.path, &self.model, &self.unknown, &self.unwritten)?;
        if self.journal.is_broken() {
            return Err(io::Error::other("the directory can't be synced"));
        }
        Ok(())
    }

    fn show(&mut self) {
        self.unwritten.clear();
        // One large batch must not be paid for ever.
        self.unwritten.shrink_to(64 * 1024);
        self.needs_sync = false;
        for batch in mem::take(&mut self.pending) {
            if !batch.changes.is_empty() || batch.pipelines.is_some() {
                self.model.publish(&batch.changes, batch.pipelines);
            }
            for change in &batch.changes {
                if let Change::Forget { job } = change {
                    self.remover.forget(*job);
                }
            }
            batch.releases.into_iter().for_each(&mut self.release);
        }
    }

    fn tell_trouble(&mut self) {
        let text = self.write_trouble.as_ref().or(self.room_trouble.as_ref());
        let was_in_trouble = self.retry_at.is_some();
        self.health.set_storage_trouble(text.cloned());
        self.retry_at = text.map(|_| Instant::now() + RETRY_AFTER);
        match (text, was_in_trouble) {
            (Some(text), false) => {
                log::error("storage trouble: no new jobs are accepted", &[("error", text)]);
                (self.trouble)(true);
            }
            (None, true) => {
                log::info("storage trouble is over", &[]);
                (self.trouble)(false);
            }
            (Some(_), true) | (None, false) => {}
        }
    }

    fn compact_if_large(&mut self) {
        let length = self.journal.length();
        if self.compaction.is_some() || self.retry_at.is_some() || length <= self.count_at {
            return;
        }
        let held = compact::size(&self.model.read(), &self.unknown);
        // Counting takes time with what is held, so it is done more seldom where that is much.
        self.count_at = length + COUNT_AFTER.max(held / 4);
        if length > 2 * held {
            self.begin_compaction();
        }
    }

    fn begin_compaction(&mut self) {
        // Everything that is in the journal is shown, and nothing else: so the snapshot is what it holds up to here.
        let snapshot = Snapshot::of(&self.model.read(), &self.unknown);
        let directory = self.directory.path.clone();
        let sender = self.sender.clone();
        let thread = Builder::new().name("compact".to_owned()).spawn(move || {
            let written = NewJournal::create(&directory).and_then(|mut new| {
                snapshot.write(&mut new)?;
                // The store's thread then has little left to sync.
                new.sync()?;
                Ok(new)
            });
            // It fails only where the store has finished.
            let _ = sender.send(Message::Compacted);
            written
        });
        match thread {
            Ok(thread) => {
                self.compaction = Some(Compaction {
                    offset: self.journal.length(),
                    thread,
                });
            }
            Err(error) => log::warning("can't compact the journal", &[("error", &reason(&error))]),
        }
    }

    fn end_compaction(&mut self) {
        // A message of one that was dropped meanwhile finds either none or a later one, which is waited for.
        let Some(compaction) = self.compaction.take() else {
            return;
        };
        let replaced = compaction
            .thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
            .and_then(|mut new| {
                if self.journal.is_broken() {
                    return Err(io::Error::other("the journal is replaced anyway"));
                }
                self.journal.copy_from(compaction.offset, &mut new)?;
                new.put_in_place(Some(&self.journal))
            });
        match replaced {
            Ok(journal) => {
                self.journal = journal;
                self.count_at = LEAST_COMPACTED;
                if self.journal.is_broken() {
                    self.save();
                }
            }
            Err(error) => log::warning("can't compact the journal", &[("error", &reason(&error))]),
        }
    }

    fn drop_compaction(&mut self) {
        if let Some(compaction) = self.compaction.take() {
            // What it wrote is removed by being dropped.
            let _ = compaction.thread.join();
        }
    }

    fn finish(&mut self) {
        self.drop_compaction();
        if let Some(text) = &self.write_trouble {
            let lost: usize = self.pending.iter().map(|batch| batch.changes.len()).sum();
            log::error(
                "ends without having saved everything",
                &[("changes", &lost), ("error", text)],
            );
        } else if self.journal.length() != compact::size(&self.model.read(), &self.unknown)
            && let Err(error) = self.rewrite()
        {
            log::warning("can't compact the journal", &[("error", &reason(&error))]);
        }
        self.remover.finish();
    }
}

/// A new journal from what is shown, with `lines` behind it.
fn write_new(directory: &Path, model: &ReadModel, unknown: &Arc<[String]>, lines: &[u8]) -> io::Result<Journal> {
    let mut new = NewJournal::create(directory)?;
    let snapshot = Snapshot::of(&model.read(), unknown);
    snapshot.write(&mut new)?;
    new.write(lines)?;
    new.put_in_place(None)
}

/// Keeps a damaged file under another name, and makes sure of that before anything else is written.
fn keep(directory: &Path, damaged: &Path, kept: &Path) -> io::Result<()> {
    // A second name takes no room on a full disk. Not every file system has them.
    if fs::hard_link(damaged, kept).is_err() {
        fs::copy(damaged, kept)?;
    }
    sync_directory(directory)
}
