//! What a damaged line of the journal may have said: which of the waiting jobs it may have started or ended.
//!
//! A job whose start was lost would wait again and run twice. Mostly the line still shows whose it was. Where it does
//! not, its length tells how many starts it can have held at most, and jobs of a pipeline start in the order in which
//! they wait: so it costs at most that many jobs of each pipeline, the first ones. Unaware of files.

use std::collections::{BTreeMap, HashSet};

use super::journal::PREFIX;
use crate::job::{JobId, JobRecord, JobStatus};
use crate::read_model::{Content, Image};

/// The shortest line that starts a job, with its newline; the time is one digit there.
pub(super) const SHORTEST_START: usize = PREFIX + r#"{"start":{"job":"","startMs":0}}"#.len() + ID + 1;
/// The length of an id.
const ID: usize = 36;
/// So many bytes of an id may be wrong. Ids differ by chance in far more.
const WRONG_OF_ID: usize = 4;
/// So many bytes of what stands before an id may be wrong: less than kinds of the same length differ.
const WRONG_OF_KIND: usize = 2;
/// What lines begin with, and whether the job that they name waits no more. Where two are equally close to what is found,
/// the first one counts: the one that costs a job rather than running it twice.
const KINDS: [(&str, bool); 11] = [
    (r#"{"start":{"job":""#, true),
    (r#"{"task":{"job":""#, true),
    (r#"{"fail":{"job":""#, true),
    (r#"{"cancel":{"job":""#, true),
    (r#"{"end":{"job":""#, true),
    (r#"{"forget":{"job":""#, true),
    (r#"{"join":{"job":""#, false),
    (r#"{"job":{"id":""#, false),
    (r#"{"schedule":{"id":""#, false),
    (r#"{"wasDue":{"id":""#, false),
    (r#"{"forgetSchedule":{"schedule":""#, false),
];

/// The waiting jobs of which damaged lines may have said that they wait no more.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    jobs: HashSet<JobId>,
    /// The length of the unreadable lines that stand here one behind the other.
    unreadable: usize,
}

impl Suspects {
    /// A damaged line without its newline; `image` is what all lines before it say.
    pub(super) fn take_damaged(&mut self, line: &[u8], image: &Image) {
        match owner(line, image) {
            Owner::Job(job) => drop(self.jobs.insert(job)),
            Owner::OfNoAccount => {}
            Owner::Unreadable => self.unreadable += line.len() + 1,
        }
    }

    /// What is unreadable ends here, for a whole line follows, or nothing.
    pub(super) fn close(&mut self, image: &Image) {
        let starts = std::mem::take(&mut self.unreadable) / SHORTEST_START;
        if starts == 0 {
            return;
        }
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        for record in in_order(image) {
            let left = left.entry(&record.pipeline).or_insert(starts);
            if *left > 0 && self.jobs.insert(record.id) && record.start_after_ms.is_none() {
                *left -= 1;
            }
        }
    }

    /// A whole line says that the job waits.
    pub(super) fn clear(&mut self, job: JobId) {
        self.jobs.remove(&job);
    }

    pub(super) fn contains(&self, job: JobId) -> bool {
        self.jobs.contains(&job)
    }
}

/// JSON has other ways to write these.
pub(super) fn is_never_in_a_line(byte: u8) -> bool {
    byte < b' '
}

/// Whose line a damaged one was.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    Job(JobId),
    /// It has not changed what waits.
    OfNoAccount,
    Unreadable,
}

fn owner(line: &[u8], image: &Image) -> Owner {
    let unreadable_bytes = line.iter().filter(|&&byte| is_never_in_a_line(byte)).count();
    if unreadable_bytes > WRONG_OF_ID || !line.ends_with(b"}") && !line[..line.len().max(1) - 1].ends_with(b"}") {
        return Owner::Unreadable;
    }
    let kinds = KINDS.iter().filter_map(|(start, ends_wait)| {
        let (wrong, id) = id_behind(line, start)?;
        Some((wrong, id, *ends_wait))
    });
    match kinds.min_by_key(|(wrong, ..)| *wrong) {
        None => Owner::Unreadable,
        Some((.., false)) => Owner::OfNoAccount,
        Some((_, id, true)) => image
            .jobs()
            .find(|job| differences(id, job.id.to_string().as_bytes()) <= WRONG_OF_ID)
            .map_or(Owner::OfNoAccount, |job| Owner::Job(job.id)),
    }
}

/// What stands where the id is in a line that begins in this way, if both are close enough; and how many bytes of the
/// beginning are wrong.
fn id_behind<'a>(line: &'a [u8], start: &str) -> Option<(usize, &'a [u8])> {
    let found = line.get(PREFIX..PREFIX + start.len())?;
    let id = line.get(PREFIX + start.len()..)?.get(..ID)?;
    let wrong = id
        .iter()
        .filter(|byte| !byte.is_ascii_hexdigit() && **byte != b'-')
        .count();
    let wrong_of_kind = differences(found, start.as_bytes());
    (wrong_of_kind <= WRONG_OF_KIND && wrong <= WRONG_OF_ID).then_some((wrong_of_kind, id))
}

fn differences(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).filter(|(one, other)| one != other).count()
}

/// The jobs that wait, in their order.
fn in_order(image: &Image) -> Vec<&JobRecord> {
    let mut waiting: Vec<&JobRecord> = image
        .jobs()
        .filter(|entry| entry.status == JobStatus::Waiting)
        .filter_map(|entry| match &entry.content {
            Content::Live(live) => Some(&live.record),
            Content::Ended(_) => None,
        })
        .collect();
    waiting.sort_by_key(|record| record.place);
    waiting
}
