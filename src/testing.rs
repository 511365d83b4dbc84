//! What tests of several modules need.

pub(crate) mod inherited_signals;

use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// A new directory that is removed at the end of the test.
#[derive(Debug)]
pub(crate) struct TestDirectory {
    path: PathBuf,
}

impl TestDirectory {
    pub(crate) fn new() -> TestDirectory {
        let path = std::env::temp_dir().join(format!("prunner-test-{}", Uuid::now_v7()));
        fs::create_dir(&path).expect("the temporary directory can be written");
        TestDirectory { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
