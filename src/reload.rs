//! Reads the definition files anew, for a signal, for a request or because they changed.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use std::{fmt, fs, io, thread};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::definition::{self, Complaint, Loaded, Search};
use crate::log;
use crate::requests::{Reply, Request};
use crate::service_manager;

/// Logs every complaint. False: there are errors, so the set must not be used.
pub(crate) fn report(loaded: &Loaded) -> bool {
    for warning in &loaded.warnings {
        log::warning(&warning.to_string(), &[]);
    }
    for error in &loaded.errors {
        log::error(&error.to_string(), &[]);
    }
    loaded.errors.is_empty()
}

/// Who loads the files anew: one at a time, else an older look at them could win over a newer one.
pub(crate) struct Reloader {
    pub search: Search,
    ask: Box<dyn Fn(Request) + Send + Sync>,
    one_at_a_time: Mutex<()>,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Reloader")
    }
}

/// What came of it. With errors, all is as it was.
#[derive(Debug)]
pub(crate) struct Reloaded {
    pub pipelines: usize,
    pub warnings: Vec<Complaint>,
    pub errors: Vec<Complaint>,
}

impl Reloader {
    pub(crate) fn new(search: Search, ask: Box<dyn Fn(Request) + Send + Sync>) -> Reloader {
        Reloader {
            search,
            ask,
            one_at_a_time: Mutex::new(()),
        }
    }

    /// Loads the files, logs every complaint, and hands the set to the main loop if it is right, which answers when it holds.
    pub(crate) fn reload(&self, reply: Option<Reply<()>>) -> Reloaded {
        let _alone = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = definition::load(&self.search);
        let reloaded = Reloaded {
            pipelines: loaded.pipelines.len(),
            warnings: loaded.warnings.clone(),
            errors: loaded.errors.clone(),
        };
        if report(&loaded) {
            // The main loop takes requests in the order in which they are made.
            (self.ask)(Request::Reload {
                pipelines: loaded.pipelines,
                reply,
            });
        } else {
            log::error("the pipeline files are wrong; the pipelines stay as they were", &[]);
        }
        reloaded
    }
}

/// The files at one moment, and what tells of each that it is not the one it was.
pub(crate) type Look = Vec<(PathBuf, Option<(u64, u64, SystemTime)>)>;

/// Starts the thread that reloads: whenever it is sent something, and, with `watch`, when a file is new, gone or changed
/// since it was seen there, at which it looks in these intervals.
///
/// # Errors
/// Where the thread can't be had.
pub(crate) fn start(reloader: Arc<Reloader>, watch: Option<(Look, Duration)>) -> io::Result<Sender<()>> {
    // What is asked for while a reload is about to begin is that one.
    let (ask, asked) = bounded::<()>(1);
    let mut watch = watch;
    let reloading = move || {
        loop {
            let wake = match &watch {
                Some((_, interval)) => asked.recv_timeout(*interval),
                None => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match wake {
                Ok(()) => {
                    service_manager::reloading();
                    if !reloader.reload(None).errors.is_empty() {
                        service_manager::ready();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let Some((seen, _)) = &mut watch else { continue };
                    let now = look(&reloader.search);
                    if now != *seen {
                        *seen = now;
                        reloader.reload(None);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    thread::Builder::new().name("reload".to_owned()).spawn(reloading)?;
    Ok(ask)
}

/// Look before the files are loaded: then what changes in between is seen at the next look.
pub(crate) fn look(search: &Search) -> Look {
    let stamp = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.ino(), metadata.len(), metadata.modified().ok()?))
    };
    definition::find(search)
        .files
        .into_iter()
        .map(|path| (path.clone(), stamp(&path)))
        .collect()
}
