//! Reads the definition files anew, for a signal, for a request or because they changed.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use std::{fs, io, thread};

use crossbeam_channel::never;

use crate::definition::{self, Loaded, Search};
use crate::log;
use crate::requests::Request;
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

/// Loads the files anew, and logs every complaint. A set with errors is not to be used, and the log says so.
pub(crate) fn load(search: &Search) -> Loaded {
    let loaded = definition::load(search);
    if !report(&loaded) {
        log::error("the pipeline files are wrong; the pipelines stay as they were", &[]);
    }
    loaded
}

/// Loads the files, and hands them to the main loop if they are right. A bad set changes nothing.
pub(crate) fn reload(search: &Search, ask: &dyn Fn(Request)) {
    let loaded = load(search);
    if loaded.errors.is_empty() {
        ask(Request::Reload {
            pipelines: loaded.pipelines,
            reply: None,
        });
    } else {
        service_manager::ready();
    }
}

/// The files at one moment, and what tells of each that it is not the one it was.
pub(crate) type Look = Vec<(PathBuf, Option<(u64, SystemTime)>)>;

/// Looks at the files every `interval` and reloads them when one is new, gone or changed since they were `seen`.
///
/// # Errors
/// Where the thread can't be had.
pub(crate) fn watch(
    search: Search,
    mut seen: Look,
    interval: Duration,
    ask: impl Fn(Request) + Send + 'static,
) -> io::Result<()> {
    let watching = move || {
        loop {
            let _ = never::<()>().recv_timeout(interval);
            let now = look(&search);
            if now != seen {
                seen = now;
                reload(&search, &ask);
            }
        }
    };
    thread::Builder::new().name("watch".to_owned()).spawn(watching)?;
    Ok(())
}

/// Look before the files are loaded: then what changes in between is seen at the next look.
pub(crate) fn look(search: &Search) -> Look {
    let stamp = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.len(), metadata.modified().ok()?))
    };
    definition::find(search)
        .files
        .into_iter()
        .map(|path| (path.clone(), stamp(&path)))
        .collect()
}
