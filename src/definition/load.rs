//! Definition files → one set of pipelines, with all complaints about all files.
//!
//! Unaware of who asks and what follows from errors: that is up to the server and the commands.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::definition::complaint::{Complaint, shown};
use crate::definition::fields::Findings;
use crate::definition::find::{FileId, Search, file_id, find, system_error};
use crate::definition::parse::{self, MAX_FILE_BYTES};
use crate::definition::{Pipelines, check};

/// What the files say.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// All pipelines without errors; to be used only where no file has an error.
    pub pipelines: Pipelines,
    pub errors: Vec<Complaint>,
    pub warnings: Vec<Complaint>,
    /// The files, each once, also those with errors.
    pub files: Vec<PathBuf>,
}

/// Finds the files and loads them. Where there are none, that is a warning.
pub(crate) fn load(search: &Search) -> Loaded {
    let found = find(search);
    let mut loaded = load_files(&found.files);
    loaded.errors.splice(0..0, found.errors);
    loaded.warnings.splice(0..0, found.warnings);
    if loaded.files.is_empty() && loaded.errors.is_empty() {
        let message = format!("no file below matches the pattern `{}`", shown(&search.pattern));
        loaded.warnings.push(Complaint::about(&search.path, message));
    }
    loaded
}

/// Loads the files as one set, in this order; a file that is named twice counts once.
pub(crate) fn load_files(files: &[PathBuf]) -> Loaded {
    let mut findings = Findings::new();
    let mut pipelines = Pipelines::new();
    let mut defined_in: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut seen = HashSet::new();
    let mut read_files = Vec::new();
    for path in files {
        let bytes = match read(path, &mut seen) {
            Ok(None) => continue,
            Ok(Some(bytes)) => bytes,
            Err(error) => {
                let message = format!("can't be read: {}", system_error(&error));
                findings.errors.push(Complaint::about(path, message));
                read_files.push(path.clone());
                continue;
            }
        };
        read_files.push(path.clone());
        let root = match parse::parse(&bytes) {
            Ok(root) => root,
            Err(message) => {
                findings.errors.push(Complaint::about(path, message));
                continue;
            }
        };
        for checked in check::check(path, &root, &mut findings) {
            if let Some(other) = defined_in.get(&checked.name) {
                findings.errors.push(Complaint {
                    pipeline: Some(checked.name),
                    ..Complaint::about(
                        path,
                        format!("is defined in `{}` too; rename one of them", other.display()),
                    )
                });
                continue;
            }
            defined_in.insert(checked.name, path.clone());
            if let Some(pipeline) = checked.pipeline {
                pipelines.insert(Arc::clone(&pipeline.name), Arc::new(pipeline));
            }
        }
    }
    Loaded {
        pipelines,
        errors: findings.errors,
        warnings: findings.warnings,
        files: read_files,
    }
}

/// `None` for a file that was read before. One byte more than may be is read, so that the file is seen to be too large.
fn read(path: &Path, seen: &mut HashSet<FileId>) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    if !seen.insert(file_id(&file.metadata()?)) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_BYTES + 1).expect("the limit is small");
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
