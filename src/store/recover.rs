//! Reads what an earlier run left: the journal, line by line, into the image of all jobs.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{JOURNAL, old_form};
use crate::job::{Change, JobId, JobRecord, JobStatus, TaskStatus};
use crate::read_model::{Content, Image};
use crate::scheduler::EndedJob;
use crate::timestamp::parse_rfc3339;

/// What an earlier run left.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub image: Image,
    /// Jobs that wait, in their order.
    pub waiting: Vec<JobRecord>,
    pub ended: Vec<EndedJob>,
    /// Tasks of jobs that ran, which may have left processes: job and task name.
    pub leftovers: HashSet<(JobId, String)>,
    /// For the log.
    pub messages: Vec<String>,
    /// Lines of kinds that this version doesn't know.
    pub unknown_lines: Vec<String>,
    /// Something was lost: the file is to be kept.
    pub is_damaged: bool,
}

const INTERRUPTED: &str = "prunner ended while the job ran";

/// # Errors
/// Where a file is there and can't be read.
pub(crate) fn recover(directory: &Path, now_wall_ms: i64) -> io::Result<Recovered> {
    let mut recovered = Recovered::default();
    match fs::read(directory.join(JOURNAL)) {
        Ok(bytes) => read_journal(&mut recovered, &bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => old_form::read(directory, &mut recovered, now_wall_ms)?,
        Err(error) => return Err(error),
    }
    end_interrupted(&mut recovered, now_wall_ms);
    collect(&mut recovered);
    Ok(recovered)
}

fn read_journal(recovered: &mut Recovered, bytes: &[u8]) {
    let mut rest = bytes;
    let mut number = 0;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        number += 1;
        let line = &rest[..end];
        rest = &rest[end + 1..];
        if let Err(why) = read_line(recovered, line) {
            recovered.is_damaged = true;
            recovered
                .messages
                .push(format!("line {number} of the journal is damaged and left out: {why}"));
        }
    }
    if !rest.is_empty() {
        recovered.messages.push(format!(
            "the last line of the journal was not finished; {} bytes are cut off",
            rest.len()
        ));
    }
}

fn read_line(recovered: &mut Recovered, line: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    let (checksum, json) = text.split_once(' ').ok_or("it has no checksum")?;
    if format!("{:08x}", crc32fast::hash(json.as_bytes())) != checksum {
        return Err("its checksum is wrong".to_owned());
    }
    let entries: BTreeMap<String, &RawValue> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let Some((kind, content)) = entries.first_key_value().filter(|_| entries.len() == 1) else {
        return Err("it is no object of one key".to_owned());
    };
    match kind.as_str() {
        "job" => match ended_job(content.get()) {
            Some((id, pipeline, status)) => {
                recovered.image.insert_ended(id, pipeline, status, content.get().into());
                return Ok(());
            }
            None => apply(recovered, json)?,
        },
        "start" | "task" | "cancel" | "end" | "forget" => apply(recovered, json)?,
        other => {
            recovered.messages.push(format!(
                "the journal has a line of the unknown kind `{other}`, which is kept"
            ));
            recovered.unknown_lines.push(json.to_owned());
        }
    }
    Ok(())
}

fn apply(recovered: &mut Recovered, json: &str) -> Result<(), String> {
    let change: Change = serde_json::from_str(json).map_err(|error| error.to_string())?;
    recovered.image.apply(&change);
    Ok(())
}

#[derive(Deserialize)]
struct Probe {
    id: JobId,
    pipeline: Arc<str>,
    status: JobStatus,
    #[serde(default)]
    completed: bool,
}

/// A job line in the form in which ended jobs are served.
fn ended_job(json: &str) -> Option<(JobId, Arc<str>, JobStatus)> {
    let probe: Probe = serde_json::from_str(json).ok()?;
    probe.completed.then_some((probe.id, probe.pipeline, probe.status))
}

/// Jobs that ran when prunner died ended with it.
fn end_interrupted(recovered: &mut Recovered, now_wall_ms: i64) {
    let mut ends = Vec::new();
    for entry in recovered.image.jobs() {
        let Content::Live(live) = &entry.content else { continue };
        if entry.status != JobStatus::Running {
            continue;
        }
        for task in &live.record.tasks {
            if !matches!(task.progress.status, TaskStatus::Done | TaskStatus::Error) {
                recovered.leftovers.insert((entry.id, task.name.to_string()));
            }
        }
        let reason = &live.record.reason;
        let (status, reason) = if reason.is_empty() {
            (JobStatus::Interrupted, INTERRUPTED.to_owned())
        } else {
            (JobStatus::Canceled, reason.clone())
        };
        ends.push(Change::End {
            job: entry.id,
            end_ms: now_wall_ms,
            status,
            reason,
        });
    }
    for end in &ends {
        recovered.image.apply(end);
    }
}

#[derive(Deserialize)]
struct EndProbe<'a> {
    #[serde(borrow)]
    start: Option<&'a str>,
    #[serde(borrow)]
    end: Option<&'a str>,
}

fn collect(recovered: &mut Recovered) {
    for entry in recovered.image.jobs() {
        match &entry.content {
            Content::Live(live) => recovered.waiting.push(live.record.clone()),
            Content::Ended(json) => {
                let probe: EndProbe<'_> = serde_json::from_str(json).unwrap_or(EndProbe { start: None, end: None });
                recovered.ended.push(EndedJob {
                    id: entry.id,
                    pipeline: Arc::clone(&entry.pipeline),
                    end_ms: probe.end.and_then(parse_rfc3339).unwrap_or(0),
                    started: probe.start.is_some(),
                });
            }
        }
    }
    recovered.waiting.sort_by_key(|record| record.place);
}
