//! Deletes the log directories of jobs that are forgotten, in a thread of its own: large ones take long.
//!
//! Unaware of why a job is forgotten. Surprise: the thread lives only while there is something to delete.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::job::JobId;
use crate::log;
use crate::read_model::ReadModel;
use crate::reason::reason;

/// Where forgotten jobs are handed in.
#[derive(Debug)]
pub(super) struct Remover {
    logs: PathBuf,
    queue: Arc<Mutex<Queue>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Queue {
    work: VecDeque<Work>,
    has_thread: bool,
}

#[derive(Debug)]
enum Work {
    Forgotten(JobId),
    /// All directories of jobs that are not known.
    Unowned(Arc<ReadModel>),
}

impl Remover {
    pub(super) fn new(directory: &Path) -> Remover {
        Remover {
            logs: directory.join("logs"),
            queue: Arc::default(),
            thread: None,
        }
    }

    pub(super) fn forget(&mut self, job: JobId) {
        self.take_on(Work::Forgotten(job));
    }

    /// Removes the directories that no job owns. Files of other names are left alone.
    pub(super) fn remove_unowned(&mut self, model: &Arc<ReadModel>) {
        if self.logs.exists() {
            self.take_on(Work::Unowned(Arc::clone(model)));
        }
    }

    fn take_on(&mut self, work: Work) {
        let mut queue = lock(&self.queue);
        queue.work.push_back(work);
        if queue.has_thread {
            return;
        }
        let (logs, shared) = (self.logs.clone(), Arc::clone(&self.queue));
        match Builder::new()
            .name("forget".to_owned())
            .spawn(move || run(&logs, &shared))
        {
            Ok(thread) => {
                queue.has_thread = true;
                self.thread = Some(thread);
            }
            // The work stays in the queue: the next one tries again, and the next start finds what is left.
            Err(error) => log::warning(
                "can't start the thread that deletes logs",
                &[("error", &reason(&error))],
            ),
        }
    }

    /// Waits until all is deleted.
    pub(super) fn finish(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Its panic has been reported, and what it left is found by the next start.
            let _ = thread.join();
        }
    }
}

fn run(logs: &Path, shared: &Mutex<Queue>) {
    loop {
        let mut queue = lock(shared);
        let Some(work) = queue.work.pop_front() else {
            queue.has_thread = false;
            return;
        };
        drop(queue);
        match work {
            Work::Forgotten(job) => remove(&logs.join(job.to_string())),
            Work::Unowned(model) => remove_unowned(logs, &model),
        }
    }
}

fn remove_unowned(logs: &Path, model: &ReadModel) {
    let Ok(entries) = fs::read_dir(logs) else {
        return;
    };
    for entry in entries.flatten() {
        let job = entry.file_name().to_str().and_then(|name| name.parse::<JobId>().ok());
        // A job is known before its directory is made, so one that is new since the listing is not taken for unowned.
        if job.is_some_and(|job| model.read().job(job).is_none()) {
            remove(&entry.path());
        }
    }
}

fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warning(
                "can't delete the logs of a forgotten job",
                &[("path", &path.display()), ("error", &reason(&error))],
            );
        }
        _ => {}
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
