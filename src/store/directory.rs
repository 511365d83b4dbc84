//! The data directory: made private, and owned by one prunner at a time.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Ours as long as this value lives: the lock ends with its file, also when prunner is killed.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    /// Absolute.
    pub path: PathBuf,
    _lock: File,
}

#[derive(Debug)]
pub(crate) enum OpenError {
    InUse { directory: PathBuf, pid: String },
    Io(PathBuf, io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::InUse { directory, pid } => write!(
                formatter,
                "the data directory `{}` is in use by process {pid}; stop it, or choose another with `--data`",
                directory.display()
            ),
            OpenError::Io(path, error) => write!(formatter, "failed to open `{}`: {error}", path.display()),
        }
    }
}

impl DataDirectory {
    /// Makes the directory if it is missing, and takes its lock.
    ///
    /// # Errors
    /// Where another prunner has it, or it can't be used.
    pub(crate) fn open(path: &Path) -> Result<DataDirectory, OpenError> {
        let failed = |error| OpenError::Io(path.to_owned(), error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let lock_path = path.join("lock");
        let lock_failed = |error| OpenError::Io(lock_path.clone(), error);
        let mut lock =
            private(OpenOptions::new().create(true).read(true).write(true), &lock_path).map_err(lock_failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // Only for the message: it may be empty for a moment.
                let _ = lock.read_to_string(&mut pid);
                return Err(OpenError::InUse {
                    directory: path,
                    pid: pid.trim().to_owned(),
                });
            }
            Err(error) => return Err(lock_failed(error.into())),
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(lock_failed)?;
        Ok(DataDirectory { path, _lock: lock })
    }
}

/// Opens a file that only its owner can read, whatever the umask.
pub(super) fn private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}
