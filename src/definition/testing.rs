//! A directory of files for the tests of this module, removed when dropped.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::complaint::Complaint;
use super::find::Search;

pub(crate) struct Space {
    path: PathBuf,
}

impl Space {
    pub(crate) fn new() -> Space {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("prunner-definition-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Space { path }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        if relative.is_empty() {
            self.path.clone()
        } else {
            self.path.join(relative)
        }
    }

    /// Creates the file, and the directories that it is in.
    pub(crate) fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Creates a symbolic link with a target that is relative to the space.
    pub(crate) fn link(&self, target: &str, relative: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(self.path(target), path).unwrap();
    }

    pub(crate) fn search(&self, pattern: &str) -> Search {
        Search {
            path: self.path.clone(),
            pattern: pattern.to_owned(),
            data: self.path(".prunner"),
        }
    }

    /// The complaint, with paths as they are below the space.
    pub(crate) fn text(&self, complaint: &Complaint) -> String {
        complaint.to_string().replace(self.path.to_str().unwrap(), "")
    }

    pub(crate) fn below<'p>(&self, path: &'p Path) -> &'p str {
        path.strip_prefix(&self.path).unwrap().to_str().unwrap()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).unwrap();
    }
}
