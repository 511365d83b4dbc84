//! Files that people write for prunner, which are small: read whole, but no more than that.
//!
//! Unaware of what is in them. Surprise: one that is missing is no error.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Result, bail};

use crate::reason::reason;

/// `None` where there is no such file.
///
/// # Errors
/// Where it can't be read, or is larger than `max_bytes`.
pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(max_bytes + 1).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => bail!("failed to read `{}`: {}", path.display(), reason(&error)),
    }
    if bytes.len() as u64 > max_bytes {
        bail!(
            "`{}` is larger than {max_bytes} bytes; is it the right file?",
            path.display()
        );
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::testing::TestDirectory;

    #[test]
    fn no_more_is_read_than_may_be() {
        let directory = TestDirectory::new();
        let path = directory.path().join("file");
        assert_eq!(read(&path, 3).unwrap(), None);
        File::create(&path).unwrap().write_all(b"abc").unwrap();
        assert_eq!(read(&path, 3).unwrap().as_deref(), Some(&b"abc"[..]));
        let error = read(&path, 2).unwrap_err().to_string();
        let expected = format!("`{}` is larger than 2 bytes; is it the right file?", path.display());
        assert_eq!(error, expected);
        let error = read(directory.path(), 2).unwrap_err().to_string();
        assert!(error.ends_with(": is a directory"), "{error}");
    }
}
