//! What a new journal holds: every job as one line, in the order in which they were accepted, and every schedule.
//!
//! Unaware of when one is written and of what happens meanwhile.

use std::io;
use std::sync::Arc;

use super::journal::{AROUND_JOB, NewJournal, push_change, push_ended, push_payload, push_record};
use crate::job::{Change, JobRecord};
use crate::read_model::{Content, Image};

/// Written at once: many lines a call, and not much memory.
const CHUNK: usize = 256 * 1024;

/// All that the journal holds, at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    schedules: Vec<Change>,
    jobs: Vec<Job>,
    /// Lines of kinds that are not known, without their checksums.
    unknown: Arc<[String]>,
}

#[derive(Debug)]
enum Job {
    Live(Box<JobRecord>),
    Ended(Arc<str>),
}

impl Snapshot {
    pub(super) fn of(image: &Image, unknown: &Arc<[String]>) -> Snapshot {
        Snapshot {
            schedules: schedules(image).collect(),
            jobs: image
                .jobs()
                .map(|entry| match &entry.content {
                    Content::Live(live) => Job::Live(Box::new(live.record.clone())),
                    Content::Ended(json) => Job::Ended(Arc::clone(json)),
                })
                .collect(),
            unknown: Arc::clone(unknown),
        }
    }

    pub(super) fn write(&self, to: &mut NewJournal) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(CHUNK);
        for job in &self.jobs {
            match job {
                Job::Live(record) => push_record(&mut buffer, record),
                Job::Ended(json) => push_ended(&mut buffer, json),
            }
            if buffer.len() >= CHUNK {
                to.write(&buffer)?;
                buffer.clear();
            }
        }
        // Behind the jobs: what is read last of when one was due is what counts.
        for schedule in &self.schedules {
            push_change(&mut buffer, schedule);
        }
        for payload in self.unknown.iter() {
            push_payload(&mut buffer, payload);
        }
        to.write(&buffer)
    }
}

/// The bytes that a new journal would have.
pub(super) fn size(image: &Image, unknown: &[String]) -> u64 {
    let jobs: u64 = image
        .jobs()
        .map(|entry| match &entry.content {
            Content::Live(live) => {
                let mut count = Count(0);
                serde_json::to_writer(&mut count, &live.record).expect("records are made of what JSON can hold");
                count.0 + AROUND_JOB
            }
            Content::Ended(json) => json.len() as u64 + AROUND_JOB,
        })
        .sum();
    let schedules: u64 = schedules(image)
        .map(|change| {
            let mut count = Count(0);
            serde_json::to_writer(&mut count, &change).expect("changes are made of what JSON can hold");
            count.0 + 10
        })
        .sum();
    // Ten: the checksum, the blank, the newline.
    jobs + schedules + unknown.iter().map(|payload| payload.len() as u64 + 10).sum::<u64>()
}

fn schedules(image: &Image) -> impl Iterator<Item = Change> {
    image
        .schedules()
        .map(|record| Change::Schedule(Box::new(record.clone())))
}

/// Counts what is written to it.
struct Count(u64);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
