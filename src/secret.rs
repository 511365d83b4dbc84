//! The secret that tokens are signed with, and the file that keeps it.
//!
//! Unaware of flags and of tokens. Surprise: what the YAML parser says about a broken file is never shown, because it
//! quotes the file, and so maybe the secret.

use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::Deserialize;
use serde_yaml::{Mapping, Value};

use crate::reason::reason;
use crate::small_file;

/// Shorter ones can be guessed by trying.
pub(crate) const MINIMUM_CHARACTERS: usize = 16;

/// The file holds one line; more than this is some other file.
const MAXIMUM_FILE_BYTES: u64 = 64 * 1024;

const KEY: &str = "jwt_secret";

/// The text of a secret. It shows only where `expose` is called.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// # Errors
    /// Where it is too short; `origin` says where it was found.
    pub(crate) fn check_length(&self, origin: &str) -> Result<()> {
        let characters = self.0.chars().count();
        if characters < MINIMUM_CHARACTERS {
            bail!("{origin} has {characters} characters, expected at least {MINIMUM_CHARACTERS}");
        }
        Ok(())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// What to do where the file isn't there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// Make it, with a random secret.
    Make,
    /// A command that talks to a server has no use for a secret that the server doesn't know.
    Refuse,
}

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SecretFile {
    pub secret: Secret,
    /// It was missing and is there now.
    pub made: bool,
    /// Whole sentences about what is odd in it.
    pub warnings: Vec<String>,
}

/// The secret of the file at `path`.
///
/// # Errors
/// Where the file can't be read or made, isn't what it should be, or holds a secret that is too short.
pub(crate) fn read(path: &Path, if_missing: IfMissing) -> Result<SecretFile> {
    if let Some(found) = read_existing(path)? {
        return Ok(found);
    }
    if if_missing == IfMissing::Refuse {
        bail!(
            "`{}` does not exist, so there is no secret to make a token with; give `--jwt-secret`, the `--config` of \
             the server, or `PRUNNER_TOKEN`",
            path.display()
        );
    }
    let made = make(path).map_err(|error| {
        anyhow!(
            "failed to make `{}`: {}; give `--jwt-secret` to do without it",
            path.display(),
            reason(&error)
        )
    })?;
    // Where another process was faster, its secret is the one that counts: so the file is read in either case.
    let found = read_existing(path)?;
    let Some(found) = found else {
        bail!("`{}` vanished while it was made", path.display());
    };
    Ok(SecretFile { made, ..found })
}

fn read_existing(path: &Path) -> Result<Option<SecretFile>> {
    let Some(bytes) = small_file::read(path, MAXIMUM_FILE_BYTES)? else {
        return Ok(None);
    };
    parse(&bytes, &path.display().to_string()).map(Some)
}

fn parse(bytes: &[u8], name: &str) -> Result<SecretFile> {
    /// Read by type, a secret that looks like a number keeps its text.
    #[derive(Deserialize)]
    struct Known {
        jwt_secret: Option<String>,
    }
    let invalid = |error: &serde_yaml::Error| match error.location() {
        Some(place) => anyhow!(
            "`{name}`, line {}, column {}: not valid; expected a line `{KEY}: …`",
            place.line(),
            place.column()
        ),
        None => anyhow!("`{name}` is not valid; expected a line `{KEY}: …`"),
    };
    let lacks_key =
        || anyhow!("`{name}` has no `{KEY}`; add one, or remove the file: the server makes it anew with a random one");
    let mapping = match serde_yaml::from_slice::<Option<Mapping>>(bytes) {
        Ok(mapping) => mapping.unwrap_or_default(),
        Err(error) => return Err(invalid(&error)),
    };
    if mapping.is_empty() {
        return Err(lacks_key());
    }
    let known: Known = serde_yaml::from_slice(bytes).map_err(|error| invalid(&error))?;
    let secret = Secret(known.jwt_secret.ok_or_else(lacks_key)?);
    secret.check_length(&format!("`{KEY}` in `{name}`"))?;
    let warnings = mapping
        .keys()
        .filter(|key| key.as_str() != Some(KEY))
        .map(|key| match key {
            Value::String(key) => format!("`{name}`: key `{key}` is not known and has no effect"),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Sequence(_)
            | Value::Mapping(_)
            | Value::Tagged(_) => format!("`{name}`: a key that is no text has no effect"),
        })
        .collect();
    Ok(SecretFile {
        secret,
        made: false,
        warnings,
    })
}

/// Makes the file, whole or not at all; `false` where another process made it first.
fn make(path: &Path) -> io::Result<bool> {
    let text = format!("{KEY}: {}\n", random_hex::<32>()?);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let mut temporary_name = path.file_name().ok_or(ErrorKind::InvalidFilename)?.to_owned();
    temporary_name.push(format!(".{}", random_hex::<8>()?));
    let temporary = directory.join(temporary_name);
    let made = write_synced(&temporary, text.as_bytes()).and_then(|()| give_name(&temporary, path));
    // After a rename there is nothing left to remove.
    let _ = fs::remove_file(&temporary);
    let made = made?;
    File::open(directory)?.sync_all()?;
    Ok(made)
}

fn write_synced(path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // The umask may have taken even the owner's bits.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Never replaces a file: of two that start at once, one wins and both use its secret.
fn give_name(temporary: &Path, path: &Path) -> io::Result<bool> {
    let linked = match fs::hard_link(temporary, path) {
        // Some file systems know no hard links.
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
            renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE).map_err(io::Error::from)
        }
        linked => linked,
    };
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn random_hex<const BYTES: usize>() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::from)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
        text
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;
    use crate::testing::TestDirectory;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let parsed = parse(text.as_bytes(), "c.yml");
        let parsed = parsed.as_ref().map(|file| file.secret.expose());
        assert_eq!(parsed.map_err(ToString::to_string), expected.map_err(str::to_owned));
    }

    #[test]
    fn the_secret_is_read_as_it_is_written() {
        check("jwt_secret: abcdefghijklmnop\n", Ok("abcdefghijklmnop"));
        check("jwt_secret: 0123456789012345678", Ok("0123456789012345678"));
        check("jwt_secret: 1e1000000000000000", Ok("1e1000000000000000"));
        check("jwt_secret: 'ab: #cdefghijklmnop'", Ok("ab: #cdefghijklmnop"));
        check("jwt_secret: ööööööööööööööö1", Ok("ööööööööööööööö1"));
    }

    #[test]
    fn a_file_without_a_good_secret_is_refused() {
        let lacks =
            "`c.yml` has no `jwt_secret`; add one, or remove the file: the server makes it anew with a random one";
        check("", Err(lacks));
        check("# nothing\n", Err(lacks));
        check("other: 1", Err(lacks));
        check("jwt_secret:", Err(lacks));
        check(
            "jwt_secret: short",
            Err("`jwt_secret` in `c.yml` has 5 characters, expected at least 16"),
        );
        check(
            "jwt_secret: ööööööööööööööö",
            Err("`jwt_secret` in `c.yml` has 15 characters, expected at least 16"),
        );
    }

    #[test]
    fn complaints_do_not_quote_the_file() {
        for text in [
            "abcdefghijklmnop",
            "jwt_secret: [abcdefghijklmnop]",
            "jwt_secret: {a: abcdefghijklmnop}",
            "- abcdefghijklmnop",
            "jwt_secret: 'abcdefghijklmnop",
            "jwt_secret: abcdefghijklmnop\njwt_secret: abcdefghijklmnop",
            "jwt_secret: !abcdefghijklmnop [x]",
        ] {
            let message = format!("{:#}", parse(text.as_bytes(), "c.yml").unwrap_err());
            assert!(message.starts_with("`c.yml`"), "{message}");
            assert!(!message.contains("abcdefgh"), "{message}");
        }
    }

    #[test]
    fn unknown_keys_are_warned_of() {
        let file = parse(b"jwt_secret: abcdefghijklmnop\njwt_secrets: x\n7: y\n", "c.yml").unwrap();
        assert_eq!(
            file.warnings,
            [
                "`c.yml`: key `jwt_secrets` is not known and has no effect",
                "`c.yml`: a key that is no text has no effect"
            ]
        );
    }

    #[test]
    fn a_secret_does_not_show() {
        let file = parse(b"jwt_secret: abcdefghijklmnop", "c.yml").unwrap();
        assert!(!format!("{file:?}").contains("abc"), "{file:?}");
    }

    #[test]
    fn a_missing_file_is_made_once_and_for_the_owner_alone() {
        let directory = TestDirectory::new();
        let path = directory.path().join(".prunner.yml");
        let made = read(&path, IfMissing::Make).unwrap();
        assert!(made.made);
        assert_eq!(made.secret.expose().len(), 64);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let again = read(&path, IfMissing::Make).unwrap();
        assert_eq!((again.made, &again.secret), (false, &made.secret));
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "nothing else is left"
        );
    }

    #[test]
    fn a_missing_file_is_not_made_by_commands_that_talk_to_a_server() {
        let directory = TestDirectory::new();
        let path = directory.path().join(".prunner.yml");
        let message = read(&path, IfMissing::Refuse).unwrap_err().to_string();
        assert!(message.contains("does not exist"), "{message}");
        assert!(!path.exists());
    }

    #[test]
    fn an_existing_file_is_never_replaced() {
        let directory = TestDirectory::new();
        let path = directory.path().join(".prunner.yml");
        File::create(&path).unwrap().write_all(b"mine").unwrap();
        assert!(!make(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let directory = TestDirectory::new();
        let path = directory.path().join("no/such.yml");
        assert_eq!(
            read(&path, IfMissing::Make).unwrap_err().to_string(),
            format!(
                "failed to make `{}`: no such file or directory; give `--jwt-secret` to do without it",
                path.display()
            )
        );
    }

    #[test]
    fn those_that_start_at_once_agree() {
        let directory = TestDirectory::new();
        let path = directory.path().join(".prunner.yml");
        let barrier = Barrier::new(4);
        let found = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|number| {
                    thread::Builder::new()
                        .name(format!("starts {number}"))
                        .spawn_scoped(scope, || {
                            barrier.wait();
                            read(&path, IfMissing::Make).unwrap()
                        })
                        .unwrap()
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert!(found.iter().all(|file| file.secret == found[0].secret));
        assert_eq!(found.iter().filter(|file| file.made).count(), 1);
    }
}
