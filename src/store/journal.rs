//! The journal: one line for each change, `checksum {"kind":{…}}`, and the file that these lines are appended to.
//!
//! The checksum is there because a flipped digit is valid JSON. Unaware of what the changes mean and of when they are
//! written. Surprise: room behind the end of the file is reserved without making the file longer, so that ends and
//! cancels can still be written on a full disk.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use serde::de::IgnoredAny;

use super::job_summary::JobSummary;
use super::lock::open_private;
use crate::job::{Change, IdempotencyKey, JobId, JobRecord, JobStatus};
use crate::timestamp::parse_rfc3339;

pub(super) const JOURNAL: &str = "journal.jsonl";
/// A journal that is being written to take the place of the other.
const NEW_JOURNAL: &str = "journal.jsonl.new";

/// The checksum and the blank behind it.
pub(super) const PREFIX: usize = 9;
/// What a job's line has around its JSON: the prefix, `{"job":`, `}` and the newline.
pub(super) const AROUND_JOB: u64 = 18;

/// What is reserved behind the end: more than the ends and cancels of all jobs that can run take.
const ROOM: u64 = 4 * 1024 * 1024;
/// Reserved again where less is left.
const LEAST_ROOM: u64 = 2 * 1024 * 1024;

/// One line, understood.
#[derive(Debug)]
pub(super) enum Line<'a> {
    Change(Change),
    Ended(EndedLine<'a>),
    /// Of a kind that a later prunner writes.
    Unknown {
        kind: &'a str,
        payload: &'a str,
    },
}

/// A job as it ended, in the form in which it is served.
#[derive(Debug)]
pub(super) struct EndedLine<'a> {
    pub id: JobId,
    pub pipeline: Cow<'a, str>,
    pub status: JobStatus,
    pub end_ms: i64,
    pub started: bool,
    pub idempotency: Vec<IdempotencyKey>,
    pub json: &'a str,
}

pub(super) fn push_change(buffer: &mut Vec<u8>, change: &Change) {
    push_line(buffer, |buffer| {
        serde_json::to_writer(buffer, change).expect("changes are made of what JSON can hold");
    });
}

/// A job that ended, as its line.
pub(super) fn push_ended(buffer: &mut Vec<u8>, json: &str) {
    push_line(buffer, |buffer| {
        buffer.extend_from_slice(b"{\"job\":");
        buffer.extend_from_slice(json.as_bytes());
        buffer.push(b'}');
    });
}

pub(super) fn push_record(buffer: &mut Vec<u8>, record: &JobRecord) {
    push_line(buffer, |buffer| {
        buffer.extend_from_slice(b"{\"job\":");
        serde_json::to_writer(&mut *buffer, record).expect("records are made of what JSON can hold");
        buffer.push(b'}');
    });
}

pub(super) fn push_payload(buffer: &mut Vec<u8>, payload: &str) {
    push_line(buffer, |buffer| buffer.extend_from_slice(payload.as_bytes()));
}

fn push_line(buffer: &mut Vec<u8>, push: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend_from_slice(b"00000000 ");
    push(buffer);
    let checksum = checksum(&buffer[start + PREFIX..]);
    buffer[start..start + 8].copy_from_slice(&checksum);
    buffer.push(b'\n');
}

fn checksum(payload: &[u8]) -> [u8; 8] {
    let sum = crc32fast::hash(payload);
    let mut digits = [0; 8];
    for (place, digit) in digits.iter_mut().enumerate() {
        let nibble = sum >> (28 - 4 * place) & 0xf;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
    digits
}

/// A line without its newline; `None` where it is damaged.
pub(super) fn parse_line(line: &[u8]) -> Option<Line<'_>> {
    let payload = line.get(PREFIX..)?;
    if line[8] != b' ' || line[..8] != checksum(payload) {
        return None;
    }
    let payload = str::from_utf8(payload).ok()?;
    let (kind, _) = payload.strip_prefix("{\"")?.split_once('"')?;
    match kind {
        "job" => {
            let json = payload.strip_prefix("{\"job\":")?.strip_suffix('}')?;
            parse_job(json)
        }
        "start" | "task" | "fail" | "cancel" | "join" | "end" | "forget" => {
            serde_json::from_str(payload).ok().map(Line::Change)
        }
        "schedule" | "wasDue" | "forgetSchedule" => match serde_json::from_str(payload) {
            Ok(change) => Some(Line::Change(change)),
            // One that says it in another way is kept, as those of other kinds are.
            Err(_) => parse_unknown(kind, payload),
        },
        _ => parse_unknown(kind, payload),
    }
}

fn parse_unknown<'a>(kind: &'a str, payload: &'a str) -> Option<Line<'a>> {
    serde_json::from_str::<IgnoredAny>(payload).ok()?;
    Some(Line::Unknown { kind, payload })
}

fn parse_job(json: &str) -> Option<Line<'_>> {
    let summary = JobSummary::of(json)?;
    if !summary.completed {
        let record = serde_json::from_str(json).ok()?;
        return Some(Line::Change(Change::Job(record)));
    }
    Some(Line::Ended(EndedLine {
        id: summary.id?,
        pipeline: summary.pipeline?,
        status: summary.status?,
        end_ms: parse_rfc3339(&summary.end?)?,
        started: summary.started,
        idempotency: summary.idempotency,
        json,
    }))
}

/// Where a line may begin inside of a damaged one: a checksum, a blank and a brace. A newline that was damaged joins two
/// whole lines; only one of a string's quotes would have to be escaped for this to be part of a value.
pub(super) fn inner_lines(line: &[u8]) -> impl Iterator<Item = usize> {
    line.windows(PREFIX + 2)
        .enumerate()
        .skip(1)
        .filter(|(_, window)| window.ends_with(b" {\"") && window[..8].iter().all(u8::is_ascii_hexdigit))
        .map(|(start, _)| start)
}

/// The file, opened to append.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    file: File,
    /// Where the next line goes: behind the last whole one.
    length: u64,
    /// The end of what is reserved.
    reserved_to: u64,
    /// The file system knows how to reserve.
    can_reserve: bool,
    /// Something may stand behind `length`.
    is_torn: bool,
    /// A sync failed: what was written may never reach the disk, though a later sync succeeds. Or the file was deleted.
    is_broken: bool,
}

/// Whether there is room behind the end.
#[derive(Debug)]
pub(super) enum Room {
    Enough,
    /// This file system has no such thing.
    Unsupported,
    Missing(io::Error),
}

impl Journal {
    /// Opens the journal, or makes it. What stands behind `length` is cut off.
    pub(super) fn open(directory: &Path, length: u64) -> io::Result<Journal> {
        let path = directory.join(JOURNAL);
        let is_new = !path.exists();
        let file = open_private(&path)?;
        if file.metadata()?.len() > length {
            file.set_len(length)?;
        }
        if is_new {
            sync_directory(directory)?;
        }
        Ok(Journal::new(directory, file, length))
    }

    fn new(directory: &Path, file: File, length: u64) -> Journal {
        Journal {
            directory: directory.to_owned(),
            file,
            length,
            reserved_to: length,
            can_reserve: true,
            is_torn: false,
            is_broken: false,
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// It must not be appended to any more, but replaced.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub(super) fn set_broken(&mut self) {
        self.is_broken = true;
    }

    /// Appends whole lines, and returns how long the sync took, where there was one. Where that fails, the file is as it
    /// was, or broken.
    pub(super) fn append(&mut self, lines: &[u8], sync: bool) -> io::Result<Option<Duration>> {
        assert!(
            !self.is_broken,
            "a broken journal is replaced before anything is written"
        );
        self.cut_back()?;
        if let Err(error) = self.file.write_all_at(lines, self.length) {
            self.is_torn = true;
            // Tried again before the next write where it fails now.
            let _ = self.cut_back();
            return Err(error);
        }
        let begun = sync.then(Instant::now);
        let synced = if sync { self.file.sync_data() } else { Ok(()) };
        let took = begun.map(|begun| begun.elapsed());
        if sync && let Err(error) = synced.and_then(|()| self.check_name()) {
            self.is_broken = true;
            return Err(error);
        }
        self.length += lines.len() as u64;
        Ok(took)
    }

    /// Somebody who cleans up may delete it while it is used; then what is written here is lost at the end.
    fn check_name(&self) -> io::Result<()> {
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::other("it was deleted"));
        }
        Ok(())
    }

    fn cut_back(&mut self) -> io::Result<()> {
        // Cutting gives up the reserve too, so it is done only where something was written.
        if self.is_torn && self.file.metadata()?.len() > self.length {
            self.file.set_len(self.length)?;
            self.reserved_to = self.length;
        }
        self.is_torn = false;
        Ok(())
    }

    /// Reserves room behind the end, where not enough is left.
    pub(super) fn make_room(&mut self) -> Room {
        if !self.can_reserve || self.reserved_to.saturating_sub(self.length) >= LEAST_ROOM {
            return Room::Enough;
        }
        loop {
            match fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.length, ROOM) {
                Ok(()) => {
                    self.reserved_to = self.length + ROOM;
                    return Room::Enough;
                }
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    self.can_reserve = false;
                    return Room::Unsupported;
                }
                Err(errno) => return Room::Missing(errno.into()),
            }
        }
    }

    /// Everything from `offset` to the end.
    pub(super) fn copy_from(&self, offset: u64, to: &mut NewJournal) -> io::Result<()> {
        let mut offset = offset;
        let mut buffer = vec![0; 64 * 1024];
        while offset < self.length {
            let wanted = usize::try_from(self.length - offset).map_or(buffer.len(), |left| left.min(buffer.len()));
            self.file.read_exact_at(&mut buffer[..wanted], offset)?;
            to.write(&buffer[..wanted])?;
            offset += wanted as u64;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }
}

/// A journal beside the one that is used, which takes its place when it is whole. Removed again where it does not.
#[derive(Debug)]
pub(super) struct NewJournal {
    directory: PathBuf,
    file: File,
    length: u64,
    is_in_place: bool,
}

impl NewJournal {
    pub(super) fn create(directory: &Path) -> io::Result<NewJournal> {
        remove_unfinished(directory)?;
        Ok(NewJournal {
            directory: directory.to_owned(),
            file: open_private(&directory.join(NEW_JOURNAL))?,
            length: 0,
            is_in_place: false,
        })
    }

    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.length += lines.len() as u64;
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Takes the place of the journal. From then on the returned one is the journal; it is broken where it is not sure
    /// that a crash would find it.
    pub(super) fn put_in_place(mut self, room: Option<&Journal>) -> io::Result<Journal> {
        self.file.sync_all()?;
        let mut journal = Journal::new(&self.directory, self.file.try_clone()?, self.length);
        if let Some(old) = room {
            journal.can_reserve = old.can_reserve;
            // The old one gives up its room only for one that has some.
            if let Room::Missing(error) = journal.make_room() {
                return Err(error);
            }
        }
        fs::rename(self.directory.join(NEW_JOURNAL), self.directory.join(JOURNAL))?;
        self.is_in_place = true;
        journal.is_broken = sync_directory(&journal.directory).is_err();
        Ok(journal)
    }
}

impl Drop for NewJournal {
    fn drop(&mut self) {
        if !self.is_in_place {
            // The next start removes it where this fails.
            let _ = remove_unfinished(&self.directory);
        }
    }
}

/// Removes what a prunner that died while it wrote a new journal left.
pub(super) fn remove_unfinished(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(NEW_JOURNAL)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// `None` where there is none.
pub(super) fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// All bytes of a file; `None` where there is none.
pub(super) fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some(mut file) = open_if_there(path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
