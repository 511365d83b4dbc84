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
use crate::definition::find::{FileId, Search, file_id, find};
use crate::definition::parse::{self, MAX_FILE_BYTES};
use crate::definition::{Pipelines, check};
use crate::reason::reason;

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
                let message = format!("can't be read: {}", reason(&error));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::testing::Space;

    #[track_caller]
    fn check(space: &Space, files: &[&str], expected: &[&str]) -> Loaded {
        let files: Vec<PathBuf> = files.iter().map(|file| space.path(file)).collect();
        let loaded = load_files(&files);
        let complaints: Vec<String> = loaded
            .errors
            .iter()
            .chain(&loaded.warnings)
            .map(|found| space.text(found))
            .collect();
        assert_eq!(complaints, expected);
        loaded
    }

    #[test]
    fn all_files_are_one_set() {
        let space = Space::new();
        space.write("b.yml", "pipelines: {b: {}, a: {}}");
        space.write("a.yml", "pipelines: {c: {}}");
        let loaded = check(&space, &["b.yml", "a.yml"], &[]);
        let names: Vec<&str> = loaded.pipelines.keys().map(AsRef::as_ref).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(loaded.files, [space.path("b.yml"), space.path("a.yml")]);
    }

    #[test]
    fn all_complaints_of_all_files_are_told() {
        let space = Space::new();
        space.write("a.yml", "pipelines: {p: {concurrency: 0}, q: {}}");
        space.write("b.yml", "pipelines: [");
        space.write("c.yml", "pipelines: {p: {}, r: {prio: 1}, q: {queue_limit: -1}}");
        space.write("d.yml", "");
        let loaded = check(
            &space,
            &["a.yml", "b.yml", "gone.yml", ".", "c.yml", "d.yml"],
            &[
                "/a.yml: pipeline `p` has the number `0` as `concurrency`; expected an integer of at least 1",
                "/b.yml: not valid YAML: did not find expected node content at line 2 column 1, while parsing a flow node",
                "/gone.yml: can't be read: no such file or directory",
                "/.: can't be read: is a directory",
                "/c.yml: pipeline `q` has the number `-1` as `queue_limit`; expected an integer of at least 0",
                "/c.yml: pipeline `p` is defined in `/a.yml` too; rename one of them",
                "/c.yml: pipeline `q` is defined in `/a.yml` too; rename one of them",
                "/c.yml: pipeline `r` has the unknown key `prio`, which is ignored; expected one of `tasks`, `concurrency`, \
                 `queue_limit`, `queue_strategy`, `queue_partition_limit`, `start_delay`, \
                 `continue_running_tasks_after_failure`, `retention_period`, `retention_count`, `env`, `on_error`, `shell`, \
                 `delimiters`, `timeout`, `stop_signal`, `kill_grace`, `log_limit`, `variables`, `strict_variables`, `deduplicate`, `merge_variables`, `interrupt_running`, `schedules`",
            ],
        );
        assert_eq!(loaded.files.len(), 6);
    }

    #[test]
    fn a_file_that_is_named_twice_counts_once() {
        let space = Space::new();
        space.write("a.yml", "pipelines: {p: {}}");
        space.link("a.yml", "b.yml");
        let loaded = check(&space, &["b.yml", "a.yml", "./a.yml"], &[]);
        assert_eq!(loaded.files, [space.path("b.yml")]);
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let space = Space::new();
        space.write("a.yml", &" ".repeat(MAX_FILE_BYTES + 1));
        check(
            &space,
            &["a.yml"],
            &["/a.yml: larger than 8 MiB, the most that is read"],
        );
    }

    #[test]
    fn what_was_found_is_loaded() {
        let space = Space::new();
        space.write("ci/pipelines.yml", "pipelines: {p: {}}");
        let mut search = space.search("**/pipelines.{yml,yaml}");
        assert_eq!(load(&search).files, [space.path("ci/pipelines.yml")]);
        assert!(load(&search).warnings.is_empty());

        search.pattern = "*.yml".to_owned();
        let loaded = load(&search);
        assert!(loaded.pipelines.is_empty() && loaded.errors.is_empty());
        let warnings: Vec<String> = loaded.warnings.iter().map(|found| space.text(found)).collect();
        assert_eq!(warnings, [": no file below matches the pattern `*.yml`"]);

        search.path = space.path("gone");
        let loaded = load(&search);
        assert!(loaded.warnings.is_empty());
        let errors: Vec<String> = loaded.errors.iter().map(|found| space.text(found)).collect();
        assert_eq!(
            errors,
            ["/gone: no such file or directory; expected the directory below which pipelines are looked for"]
        );
    }
}
