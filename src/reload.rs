//! Reads the definition files anew, for a signal or because they changed, and tells the main loop.

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

/// Loads the files, and hands them to the main loop if they are right. A bad set changes nothing.
pub(crate) fn reload(search: &Search, ask: &dyn Fn(Request)) {
    let loaded = definition::load(search);
    if report(&loaded) {
        ask(Request::Reload {
            pipelines: loaded.pipelines,
            reply: None,
        });
    } else {
        log::error("the pipeline files are wrong; the pipelines stay as they were", &[]);
        service_manager::ready();
    }
}

/// Looks at the files every `interval` and reloads them when one is new, gone or changed.
///
/// # Errors
/// Where the thread can't be had.
pub(crate) fn watch(search: Search, interval: Duration, ask: impl Fn(Request) + Send + 'static) -> io::Result<()> {
    let watching = move || {
        let mut seen = look(&search);
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

/// What tells that a file is not the one it was.
fn look(search: &Search) -> Vec<(PathBuf, Option<(u64, SystemTime)>)> {
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
