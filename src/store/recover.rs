//! Reads what an earlier run left, and says what has become of it. Writes nothing: the store does what is needed when it
//! starts.
//!
//! Surprise: a damaged journal may have lost the line that says that a job runs. What its tasks left says so too, and so
//! may the damaged line; both count: better a job that is shown as interrupted than one that runs twice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::damage::{Suspects, is_never_in_a_line};
use super::journal::{JOURNAL, Line, inner_lines, open_if_there, parse_line, read_if_there};
use super::old_form::{OLD_FILE, read_old};
use crate::definition::ON_ERROR;
use crate::job::{Change, JobId, JobRecord, JobStatus, TaskStatus};
use crate::read_model::{Content, Image};
use crate::schedule::ScheduleRecord;
use crate::scheduler::EndedJob;
use crate::timestamp::rfc3339;

/// Why a job that seems to wait does not wait on.
const MAY_HAVE_RUN: &str = "the journal is damaged where it may have said that the job ran";

/// Of the journal at once: calls of the system are few then beside what is done with each line.
const BUFFER_BYTES: usize = 64 * 1024;

/// What an earlier run left.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// All jobs as they are shown: those that ran when prunner died have ended.
    pub image: Image,
    /// In the order in which they wait.
    pub waiting: Vec<JobRecord>,
    pub ended: Vec<EndedJob>,
    pub schedules: Vec<ScheduleRecord>,
    /// How the jobs ended that had not, by their pipelines.
    pub ended_now: Vec<(Arc<str>, JobStatus)>,
    /// Tasks that may have left processes: not recorded as ended, of jobs that ran.
    pub leftovers: HashSet<(JobId, String)>,
    /// What a person should know, for the log.
    pub messages: Vec<String>,
    /// For `Store::start`.
    pub journal: JournalState,
}

/// What the store must do with the files before it appends to the journal.
#[derive(Debug)]
pub(crate) struct JournalState {
    /// What is whole of the journal.
    pub(super) length: u64,
    /// What recovering found out and the journal does not say yet.
    pub(super) changes: Vec<Change>,
    /// The journal must be written anew from what was read.
    pub(super) is_rewritten: bool,
    /// A damaged file, and the name under which it is kept.
    pub(super) damaged: Option<(PathBuf, PathBuf)>,
    /// Lines of kinds that are not known, without their checksums.
    pub(super) unknown: Vec<String>,
}

/// What is in the files, as it is there.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) image: Image,
    ended: EndedJobs,
    messages: Vec<String>,
    journal: JournalState,
    suspects: Suspects,
    is_from_journal: bool,
}

/// Reads the data directory, and ends what ran. Writes nothing. Fails only where a file that is there can't be read.
pub(crate) fn recover(directory: &Path, now_wall_ms: i64) -> io::Result<Recovered> {
    let mut loaded = load(directory, now_wall_ms)?;
    let mut leftovers = HashSet::new();
    // The old server's logs are no sign: who knows when it made them.
    let logs = loaded.is_from_journal.then(|| directory.join("logs"));
    let ends = unfinished(&loaded, logs.as_deref(), now_wall_ms, &mut leftovers);
    let suspected = ends
        .iter()
        .filter(|change| matches!(change, Change::End { reason, .. } if reason == MAY_HAVE_RUN))
        .count();
    if suspected > 0 {
        loaded.messages.push(format!(
            "{suspected} jobs that seem to wait may have run; they are shown as interrupted, so that none runs twice"
        ));
    }
    let mut ended_now = Vec::with_capacity(ends.len());
    for change in ends {
        if !loaded.journal.is_rewritten {
            loaded.journal.changes.push(change.clone());
        }
        loaded.apply(&change);
        let entry = change.job().and_then(|job| loaded.image.job(job));
        ended_now.extend(entry.map(|entry| (Arc::clone(&entry.pipeline), entry.status)));
    }
    let mut waiting: Vec<JobRecord> = live(&loaded.image).cloned().collect();
    waiting.sort_by_key(|record| record.place);
    let Loaded {
        image,
        ended,
        messages,
        journal,
        ..
    } = loaded;
    Ok(Recovered {
        schedules: image.schedules().cloned().collect(),
        image,
        waiting,
        ended: ended.by_number.into_iter().flatten().collect(),
        ended_now,
        leftovers,
        messages,
        journal,
    })
}

pub(super) fn load(directory: &Path, now_wall_ms: i64) -> io::Result<Loaded> {
    let path = directory.join(JOURNAL);
    if let Some(file) = open_if_there(&path)? {
        return load_journal(&path, file, now_wall_ms);
    }
    let mut loaded = Loaded::new(0);
    let path = directory.join(OLD_FILE);
    if let Some(bytes) = read_if_there(&path)? {
        let old = read_old(&bytes, now_wall_ms);
        loaded.journal.is_rewritten = true;
        for record in old.records {
            loaded.insert(record);
        }
        for complaint in &old.complaints {
            loaded.messages.push(format!("{}: {complaint}", path.display()));
        }
        if !old.complaints.is_empty() {
            loaded.keep_damaged(&path, now_wall_ms);
        }
        loaded.messages.push(format!(
            "{}: took over {} jobs of the old server",
            path.display(),
            loaded.image.jobs().count()
        ));
    }
    Ok(loaded)
}

/// Line by line: the whole file would stay in memory for good, beside what is read from it.
fn load_journal(path: &Path, file: File, now_wall_ms: i64) -> io::Result<Loaded> {
    let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut loaded = Loaded::new(0);
    loaded.is_from_journal = true;
    let mut pipelines = HashSet::new();
    let mut unknown_kinds: BTreeMap<String, u64> = BTreeMap::new();
    let mut damaged = Vec::new();
    let mut take = |loaded: &mut Loaded, line: &[u8]| match parse_line(line) {
        None => false,
        Some(Line::Change(change)) => {
            loaded.replay(change);
            true
        }
        Some(Line::Ended(line)) => {
            loaded.suspects.close(&loaded.image);
            let pipeline = pipelines.get(&*line.pipeline).cloned().unwrap_or_else(|| {
                let pipeline: Arc<str> = line.pipeline.into();
                pipelines.insert(Arc::clone(&pipeline));
                pipeline
            });
            let job = EndedJob {
                id: line.id,
                pipeline: Arc::clone(&pipeline),
                end_ms: line.end_ms,
                // It is served, and so written, without its fraction.
                latest_end_ms: line.end_ms.saturating_add(999),
                idempotency: line.idempotency,
                started: line.started,
            };
            let number = loaded
                .image
                .insert_ended(line.id, pipeline, line.status, line.json.into());
            loaded.ended.insert(number, job);
            true
        }
        Some(Line::Unknown { kind, payload }) => {
            *unknown_kinds.entry(kind.to_owned()).or_default() += 1;
            loaded.journal.unknown.push(payload.to_owned());
            true
        }
    };
    let mut line = Vec::new();
    let mut torn_bytes = 0;
    for number in 1.. {
        line.clear();
        let length = file.read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        // One whose last newline is damaged, or that holds what a kill can't leave, is no line that was not written to its end.
        if !line.ends_with(b"\n") && !is_damaged_tail(&line) {
            torn_bytes = length;
            break;
        }
        loaded.journal.length += length as u64;
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        if take(&mut loaded, line) {
            continue;
        }
        damaged.push(number);
        // What stands before a line may be whole without the byte that was the newline.
        let starts: Vec<usize> = inner_lines(line).collect();
        let ends = starts.iter().map(|&next| next - 1).chain([line.len()]);
        for (start, end) in [0].iter().chain(&starts).zip(ends) {
            let part = &line[*start..end.max(*start)];
            if !take(&mut loaded, part) && !take(&mut loaded, &part[..part.len().max(1) - 1]) {
                loaded.suspects.take_damaged(part, &loaded.image);
            }
        }
    }
    loaded.suspects.close(&loaded.image);
    if torn_bytes > 0 {
        loaded.messages.push(format!(
            "{}: cut off {torn_bytes} bytes behind the last whole line, which was not written to its end",
            path.display()
        ));
    }
    for (kind, count) in unknown_kinds {
        loaded.messages.push(format!(
            "{}: kept {count} lines of the kind `{kind}`, which this version does not know",
            path.display()
        ));
    }
    if let [first, ..] = damaged[..] {
        loaded.messages.push(format!(
            "{}: {} damaged lines, the first is line {first}; the others are used",
            path.display(),
            damaged.len()
        ));
        loaded.journal.is_rewritten = true;
        // It is kept as it is: nothing is cut off.
        loaded.journal.length += torn_bytes as u64;
        loaded.keep_damaged(path, now_wall_ms);
    }
    Ok(loaded)
}

/// By the numbers that jobs have in the image, which leave few gaps.
#[derive(Debug, Default)]
struct EndedJobs {
    by_number: Vec<Option<EndedJob>>,
}

impl EndedJobs {
    fn insert(&mut self, number: u64, job: EndedJob) {
        let place = place(number);
        if self.by_number.len() <= place {
            self.by_number.resize(place + 1, None);
        }
        self.by_number[place] = Some(job);
    }

    fn remove(&mut self, number: u64) {
        if let Some(job) = self.by_number.get_mut(place(number)) {
            *job = None;
        }
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number).expect("jobs are counted one by one as they are read")
}

fn ended_job(record: &JobRecord, end_ms: i64) -> EndedJob {
    EndedJob {
        id: record.id,
        pipeline: Arc::clone(&record.pipeline),
        end_ms,
        latest_end_ms: end_ms,
        idempotency: record.idempotency.clone(),
        started: record.start_ms.is_some(),
    }
}

impl Loaded {
    fn new(length: u64) -> Loaded {
        Loaded {
            image: Image::default(),
            ended: EndedJobs::default(),
            messages: Vec::new(),
            journal: JournalState {
                length,
                changes: Vec::new(),
                is_rewritten: false,
                damaged: None,
                unknown: Vec::new(),
            },
            suspects: Suspects::default(),
            is_from_journal: false,
        }
    }

    /// Applies a line of the journal.
    fn replay(&mut self, change: Change) {
        self.suspects.close(&self.image);
        let Some(id) = change.job() else {
            self.apply(&change);
            return;
        };
        let status = self.image.job(id).map(|entry| entry.status);
        match change {
            Change::Job(record) => {
                self.suspects.clear(id);
                self.insert(*record);
            }
            // A damaged line may have said that it runs.
            Change::Task { ref progress, .. } if status == Some(JobStatus::Waiting) => {
                let start_ms = progress.start_ms.or(progress.end_ms).unwrap_or_default();
                self.apply(&Change::Start { job: id, start_ms });
                self.apply(&change);
            }
            Change::Cancel { .. } | Change::Fail { .. } if status == Some(JobStatus::Waiting) => {
                let start_ms = live_record(&self.image, id).map_or(0, |record| record.created_ms);
                self.apply(&Change::Start { job: id, start_ms });
                self.apply(&change);
            }
            Change::Start { .. }
            | Change::Task { .. }
            | Change::Fail { .. }
            | Change::Cancel { .. }
            | Change::Join { .. }
            | Change::DelayOver { .. }
            | Change::End { .. }
            | Change::Forget { .. }
            | Change::Schedule(_)
            | Change::WasDue(_)
            | Change::ForgetSchedule { .. } => self.apply(&change),
        }
    }

    fn insert(&mut self, record: JobRecord) {
        if let Some(end_ms) = record.end_ms.filter(|_| record.status.has_ended()) {
            let number = self.image.insert_ended(
                record.id,
                Arc::clone(&record.pipeline),
                record.status,
                record.to_json().into(),
            );
            self.ended.insert(number, ended_job(&record, end_ms));
        } else {
            self.image.apply(&Change::Job(Box::new(record)));
        }
    }

    fn apply(&mut self, change: &Change) {
        if let Change::End { job, end_ms, .. } = change
            && let Some(number) = self.image.number(*job)
            && let Some(record) = live_record(&self.image, *job)
        {
            self.ended.insert(number, ended_job(record, *end_ms));
        }
        if let Change::Forget { job } = change
            && let Some(number) = self.image.number(*job)
        {
            self.ended.remove(number);
        }
        self.image.apply(change);
    }

    fn keep_damaged(&mut self, path: &Path, now_wall_ms: i64) {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{}", rfc3339(now_wall_ms)));
        let mut kept = PathBuf::from(&name);
        let mut number = 1;
        while kept.exists() {
            number += 1;
            let mut numbered = name.clone();
            numbered.push(format!("-{number}"));
            kept = numbered.into();
        }
        self.messages.push(format!(
            "{}: the damaged file is kept as `{}`",
            path.display(),
            kept.display()
        ));
        self.journal.damaged = Some((path.to_owned(), kept));
    }
}

/// Whether the end of a journal, without a newline, is more than a line that was not written to its end: then only its
/// newline is damaged, or there is what no line begins with.
fn is_damaged_tail(tail: &[u8]) -> bool {
    tail.iter().any(|&byte| is_never_in_a_line(byte))
        || inner_lines(tail).next().is_some()
        || parse_line(&tail[..tail.len() - 1]).is_some()
}

/// The ends of jobs that have not ended and yet can't go on. In `logs` there is something of every job that has ever
/// put anything out.
fn unfinished(
    loaded: &Loaded,
    logs: Option<&Path>,
    now_wall_ms: i64,
    leftovers: &mut HashSet<(JobId, String)>,
) -> Vec<Change> {
    let has_logs = |id: JobId| logs.is_some_and(|logs| logs.join(id.to_string()).exists());
    let mut ends = Vec::new();
    // A job that replaces another has its place. Where both wait, the end of the older one was not written.
    let mut places: HashMap<u64, &JobRecord> = HashMap::new();
    for record in live(&loaded.image) {
        let may_have_run =
            record.status == JobStatus::Waiting && (loaded.suspects.contains(record.id) || has_logs(record.id));
        if record.status == JobStatus::Waiting && !may_have_run {
            if let Some(replaced) = places.insert(record.place, record) {
                ends.push(Change::End {
                    job: replaced.id,
                    end_ms: record.created_ms,
                    status: JobStatus::Replaced,
                    reason: format!("replaced by job {}", record.id),
                });
            }
            continue;
        }
        let (status, reason) = if may_have_run {
            (JobStatus::Interrupted, MAY_HAVE_RUN)
        } else if record.reason.is_empty() {
            (JobStatus::Interrupted, "prunner ended while the job ran")
        } else if record.replaced {
            (JobStatus::Replaced, record.reason.as_str())
        } else {
            (JobStatus::Canceled, record.reason.as_str())
        };
        ends.push(Change::End {
            job: record.id,
            end_ms: now_wall_ms,
            status,
            reason: reason.to_owned(),
        });
        // That a task started need not be on disk, nor that `on_error` is listed.
        for task in &record.tasks {
            if matches!(task.progress.status, TaskStatus::Waiting | TaskStatus::Running) {
                leftovers.insert((record.id, task.name.to_string()));
            }
        }
        if record.tasks.iter().all(|task| &*task.name != ON_ERROR) {
            leftovers.insert((record.id, ON_ERROR.to_owned()));
        }
    }
    ends
}

fn live(image: &Image) -> impl Iterator<Item = &JobRecord> {
    image.jobs().filter_map(|entry| match &entry.content {
        Content::Live(live) => Some(&live.record),
        Content::Ended(_) => None,
    })
}

fn live_record(image: &Image, id: JobId) -> Option<&JobRecord> {
    match &image.job(id)?.content {
        Content::Live(live) => Some(&live.record),
        Content::Ended(_) => None,
    }
}
