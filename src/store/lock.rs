//! The data directory, which one prunner at a time owns. Unaware of what is in it.
//!
//! The lock is an advisory one on the file `lock`: the kernel drops it with its process, however that ends, so there are
//! no stale locks. The process id in the file is for the message alone.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::reason::reason;

/// A data directory that this process owns until the value is dropped.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    /// Absolute.
    pub path: PathBuf,
    lock: File,
}

/// Why the data directory can't be used.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// Another process owns it.
    InUse {
        directory: PathBuf,
        /// `None`: it has not written its id yet.
        pid: Option<u32>,
    },
    /// This file or directory can't be used.
    Io(PathBuf, io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::InUse { directory, pid } => {
                write!(formatter, "the data directory `{}` is in use by ", directory.display())?;
                match pid {
                    Some(pid) => write!(formatter, "process {pid}")?,
                    None => formatter.write_str("another process")?,
                }
                formatter.write_str("; stop it, or choose another directory with `--data`")
            }
            OpenError::Io(path, error) => write!(formatter, "failed to open `{}`: {}", path.display(), reason(error)),
        }
    }
}

impl std::error::Error for OpenError {}

impl DataDirectory {
    /// Makes the directory where it is missing, for this user alone, and locks it.
    pub(crate) fn open(path: &Path) -> Result<DataDirectory, OpenError> {
        let failed = |error| OpenError::Io(path.to_owned(), error);
        make_directory(path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let lock_path = path.join("lock");
        let failed = |error| OpenError::Io(lock_path.clone(), error);
        let mut lock = open_private(&lock_path).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let pid = read_pid(&mut lock);
                return Err(OpenError::InUse { directory: path, pid });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        write_pid(&mut lock).map_err(failed)?;
        Ok(DataDirectory { path, lock })
    }

    /// Makes and locks it again where it was deleted: else another process could own it too.
    pub(crate) fn keep(&mut self) -> Result<(), OpenError> {
        let is_there = self.lock.metadata().is_ok_and(|metadata| metadata.nlink() > 0);
        if !is_there {
            *self = DataDirectory::open(&self.path)?;
        }
        Ok(())
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        // The mode is set again, for the umask may have taken bits from it.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o700)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens a file for reading and writing; where it is missing, it is made, with mode 0600 whatever the umask.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            file.set_permissions(Permissions::from_mode(0o600))?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

fn read_pid(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// A full disk does not stop the start: the id is for a message.
fn write_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.seek(SeekFrom::Start(0))?;
    match lock.write_all(format!("{}\n", std::process::id()).as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDirectory;

    #[track_caller]
    fn check_mode(path: &Path, expected: u32) {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, expected, "{}", path.display());
    }

    #[test]
    fn a_directory_has_one_owner() {
        let parent = TestDirectory::new();
        let path = parent.path().join("a/data");
        let directory = DataDirectory::open(&path).unwrap();
        check_mode(&path, 0o700);
        check_mode(&path.join("lock"), 0o600);
        let error = DataDirectory::open(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the data directory `{}` is in use by process {}; stop it, or choose another directory with `--data`",
                path.canonicalize().unwrap().display(),
                std::process::id()
            )
        );
        drop(directory);
        DataDirectory::open(&path).unwrap();
    }

    #[test]
    fn a_directory_that_was_deleted_is_owned_again() {
        let parent = TestDirectory::new();
        let path = parent.path().join("data");
        let mut directory = DataDirectory::open(&path).unwrap();
        directory.keep().unwrap();
        assert!(matches!(DataDirectory::open(&path), Err(OpenError::InUse { .. })));
        fs::remove_dir_all(&path).unwrap();
        directory.keep().unwrap();
        check_mode(&path, 0o700);
        assert!(matches!(DataDirectory::open(&path), Err(OpenError::InUse { .. })));
        fs::remove_dir_all(&path).unwrap();
        let other = DataDirectory::open(&path).unwrap();
        assert!(matches!(directory.keep(), Err(OpenError::InUse { .. })));
        drop(other);
        directory.keep().unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let parent = TestDirectory::new();
        let path = parent.path().join("file");
        File::create(&path).unwrap();
        assert_eq!(
            DataDirectory::open(&path).unwrap_err().to_string(),
            format!("failed to open `{}`: file exists", path.display())
        );
    }
}
