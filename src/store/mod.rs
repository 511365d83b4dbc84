//! Keeps what happened on disk, and shows it once it is there.
//!
//! The store thread owns the journal. It takes all batches that are queued, appends their changes with one write and one
//! sync, shows them in the read model, and then lets go what waited for them: answers and the first tasks of jobs.
//! Unaware of what a release is and of why anything changes.
//!
//! Surprise: a batch that can't be written is kept and tried again once a second. What waits for it waits; nothing that
//! is not on disk is ever shown.

mod directory;
mod old_form;
mod recover;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, never, unbounded};

use crate::clock::wall_ms;
use crate::health::Health;
use crate::job::{Change, JobId};
use crate::log;
use crate::read_model::{Content, Image, ReadModel};
use crate::scheduler::PipelineView;

pub(crate) use directory::{DataDirectory, OpenError};
pub(crate) use old_form::export;
pub(crate) use recover::recover;

const JOURNAL: &str = "journal.jsonl";
/// A smaller journal is not worth writing anew.
const COMPACTION_FLOOR: u64 = 1024 * 1024;
/// How often a write is tried again while the disk refuses it.
const RETRY: Duration = Duration::from_secs(1);

/// Changes that belong together, and what must follow them.
pub(crate) struct Batch<R> {
    pub changes: Vec<Change>,
    pub pipelines: Option<Arc<[PipelineView]>>,
    pub releases: Vec<R>,
}

/// The store thread.
pub(crate) struct Store<R> {
    // Unbounded, but never long: each request that waits for an answer has a connection's thread, of which there are
    // few, and each task that runs has one of `--max-tasks`.
    batches: Sender<Batch<R>>,
    thread: JoinHandle<()>,
    is_finishing: Arc<AtomicBool>,
}

/// What the store does beside the journal.
pub(crate) struct Parts {
    pub directory: DataDirectory,
    pub model: Arc<ReadModel>,
    pub health: Arc<Health>,
    pub unknown_lines: Vec<String>,
    /// The journal lost something: the old file is kept, and no log directory is removed.
    pub is_damaged: bool,
}

impl<R: Send + 'static> Store<R> {
    /// Writes the recovered state as a new journal, then waits for batches.
    ///
    /// # Errors
    /// Where the journal or the thread can't be had.
    pub(crate) fn start(
        parts: Parts,
        release: impl FnMut(R) + Send + 'static,
        trouble: impl Fn(bool) + Send + 'static,
    ) -> io::Result<Store<R>> {
        if parts.is_damaged {
            keep_damaged(&parts.directory.path.join(JOURNAL))?;
        }
        let mut journal = Journal {
            path: parts.directory.path.join(JOURNAL),
            unknown_lines: parts.unknown_lines,
            file: None,
            length: 0,
            compact_length: 0,
        };
        journal.write_anew(&parts.model.read())?;
        let logs = parts.directory.path.join("logs");
        let (forgotten, to_delete) = unbounded();
        let orphans = if parts.is_damaged {
            Vec::new()
        } else {
            orphans(&logs, &parts.model.read())
        };
        thread::Builder::new()
            .name("log remover".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || {
                for directory in orphans {
                    remove_logs(&directory);
                }
                for job in to_delete {
                    let job: JobId = job;
                    remove_logs(&logs.join(job.to_string()));
                }
            })?;
        let (batches, receiver) = unbounded();
        let is_finishing = Arc::new(AtomicBool::new(false));
        let mut writer = Writer {
            journal,
            model: parts.model,
            health: parts.health,
            forgotten,
            release,
            trouble,
            is_troubled: false,
            is_finishing: Arc::clone(&is_finishing),
            _directory: parts.directory,
        };
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(&receiver))?;
        Ok(Store {
            batches,
            thread,
            is_finishing,
        })
    }

    pub(crate) fn save(&self, batch: Batch<R>) {
        self.batches.send(batch).expect("the store thread lasts until `finish`");
    }

    /// Writes what is queued, and the journal anew. The lock is released with that.
    pub(crate) fn finish(self) {
        self.is_finishing.store(true, Ordering::SeqCst);
        drop(self.batches);
        // A panic in it has been reported already.
        let _ = self.thread.join();
    }
}

struct Writer<F, T> {
    journal: Journal,
    model: Arc<ReadModel>,
    health: Arc<Health>,
    forgotten: Sender<JobId>,
    release: F,
    trouble: T,
    is_troubled: bool,
    /// Prunner ends: what can't be written now never will be.
    is_finishing: Arc<AtomicBool>,
    _directory: DataDirectory,
}

impl<F, T: Fn(bool)> Writer<F, T> {
    fn run<R>(&mut self, batches: &Receiver<Batch<R>>)
    where
        F: FnMut(R),
    {
        while let Ok(first) = batches.recv() {
            let mut taken = vec![first];
            taken.extend(batches.try_iter());
            if !self.write(&taken) {
                return;
            }
            for batch in taken {
                self.model.publish(&batch.changes, batch.pipelines);
                for change in &batch.changes {
                    if let Change::Forget { job } = change {
                        // Its thread ends only with this one.
                        let _ = self.forgotten.send(*job);
                    }
                }
                batch.releases.into_iter().for_each(&mut self.release);
            }
            if self.journal.is_worth_compacting() {
                self.compact();
            }
        }
        self.compact();
    }

    /// Writes until it works. False: prunner ends, and the disk still refuses.
    fn write<R>(&mut self, taken: &[Batch<R>]) -> bool {
        let changes = || taken.iter().flat_map(|batch| &batch.changes);
        let mut lines = Vec::new();
        for change in changes().filter(|change| !matches!(change, Change::DelayOver { .. })) {
            let json = serde_json::to_string(change).expect("changes are made of what JSON can hold");
            push_line(&mut lines, &json);
        }
        let needs_sync = changes().any(Change::needs_sync);
        loop {
            match self.journal.append(&lines, needs_sync, &self.model) {
                Ok(()) => {
                    self.set_trouble(None);
                    return true;
                }
                Err(error) => self.set_trouble(Some(format!(
                    "failed to write `{}`: {error}",
                    self.journal.path.display()
                ))),
            }
            if self.is_finishing.load(Ordering::SeqCst) {
                log::error("prunner ends while the disk refuses what is queued", &[]);
                return false;
            }
            let _ = never::<()>().recv_timeout(RETRY);
        }
    }

    fn set_trouble(&mut self, trouble: Option<String>) {
        let is_troubled = trouble.is_some();
        if is_troubled != self.is_troubled {
            match &trouble {
                Some(text) => log::error(
                    "storage trouble; no new jobs are taken until it is over",
                    &[("cause", text)],
                ),
                None => log::info("the storage trouble is over", &[]),
            }
            self.is_troubled = is_troubled;
            (self.trouble)(is_troubled);
            self.health.set_storage_trouble(trouble);
        }
    }

    fn compact(&mut self) {
        if let Err(error) = self.journal.write_anew(&self.model.read()) {
            // The old journal is whole, so nothing is lost; it is tried again after it has grown.
            log::warning("failed to compact the journal", &[("cause", &error)]);
            self.journal.compact_length = self.journal.length;
        }
    }
}

struct Journal {
    path: PathBuf,
    unknown_lines: Vec<String>,
    /// `None`: it must be written anew from memory before it is appended to.
    file: Option<File>,
    length: u64,
    /// Its length when it was written anew.
    compact_length: u64,
}

impl Journal {
    fn append(&mut self, lines: &[u8], needs_sync: bool, model: &ReadModel) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.file.is_none() {
            self.write_anew(&model.read())?;
        }
        let file = self.file.as_mut().expect("it was written anew");
        if let Err(error) = file.write_all(lines) {
            // What was written of it is cut back, or the next line would be glued to it.
            if file.set_len(self.length).is_err() {
                self.file = None;
            }
            return Err(error);
        }
        if needs_sync && let Err(error) = file.sync_data() {
            // What a failed sync has lost can't be known: this file is never appended to again.
            self.file = None;
            return Err(error);
        }
        self.length += lines.len() as u64;
        Ok(())
    }

    fn is_worth_compacting(&self) -> bool {
        self.length > COMPACTION_FLOOR && self.length > 2 * self.compact_length
    }

    /// Writes all that is shown, beside the old journal, and puts it in its place.
    fn write_anew(&mut self, image: &Image) -> io::Result<()> {
        let mut lines = Vec::new();
        for json in &self.unknown_lines {
            push_line(&mut lines, json);
        }
        for entry in image.jobs() {
            let json = match &entry.content {
                Content::Ended(json) => format!("{{\"job\":{json}}}"),
                Content::Live(live) => serde_json::to_string(&Change::Job(Box::new(live.record.clone())))
                    .expect("records are made of what JSON can hold"),
            };
            push_line(&mut lines, &json);
        }
        let beside = self.path.with_extension("jsonl.new");
        let mut options = OpenOptions::new();
        let mut file = directory::private(options.create(true).write(true).truncate(true), &beside)?;
        file.write_all(&lines)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        File::open(self.path.parent().expect("the journal is in a directory"))?.sync_all()?;
        drop(file);
        self.file = Some(directory::private(OpenOptions::new().append(true), &self.path)?);
        self.length = lines.len() as u64;
        self.compact_length = self.length;
        Ok(())
    }
}

fn push_line(lines: &mut Vec<u8>, json: &str) {
    lines.extend(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).bytes());
}

/// Keeps a damaged file beside the new one.
fn keep_damaged(path: &Path) -> io::Result<()> {
    let name = format!("{}.damaged-{}", path.display(), wall_ms());
    log::warning("the damaged file is kept", &[("file", &name)]);
    fs::copy(path, name).map(drop)
}

/// Log directories that no job owns.
fn orphans(logs: &Path, image: &Image) -> Vec<PathBuf> {
    let entries = fs::read_dir(logs).into_iter().flatten().flatten();
    let is_orphan = |path: &PathBuf| {
        let id = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.parse::<JobId>().ok());
        id.is_some_and(|id| image.job(id).is_none())
    };
    entries.map(|entry| entry.path()).filter(is_orphan).collect()
}

fn remove_logs(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warning(
            "failed to remove logs",
            &[("directory", &directory.display()), ("cause", &error)],
        );
    }
}
