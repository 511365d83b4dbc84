//! What is shown: all jobs and pipelines as they stand on disk, for readers that never wait for the main loop.
//!
//! The store applies every change here after its sync and before the answers that wait for it are let go. So what
//! anybody sees is what a restart would find. A finished job is kept as its finished JSON and nothing else; a job that
//! lives is kept as its record, and turned into JSON once after each change, when somebody asks.
//! Unaware of the scheduler, of files and of sockets.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::job::{Change, JobId, JobRecord, JobStatus};
use crate::metrics::JobCounts;
use crate::schedule::{Due, ScheduleId, ScheduleRecord};
use crate::scheduler::PipelineView;
use crate::waker::Waker;

/// All that is shown.
#[derive(Debug)]
pub(crate) struct ReadModel {
    image: RwLock<Image>,
    /// Who waits for news of a job.
    watchers: Mutex<HashMap<JobId, Vec<Arc<Waker>>>>,
}

/// All jobs and pipelines at one moment.
#[derive(Debug, Default)]
pub(crate) struct Image {
    /// By the order in which they were accepted.
    jobs: BTreeMap<u64, Entry>,
    numbers: HashMap<JobId, u64>,
    next_number: u64,
    pipelines: Arc<[PipelineView]>,
    schedules: BTreeMap<ScheduleId, ScheduleRecord>,
    counts: JobCounts,
    /// Counts the changes.
    revision: u64,
}

/// One job.
#[derive(Debug)]
pub(crate) struct Entry {
    pub id: JobId,
    pub pipeline: Arc<str>,
    pub status: JobStatus,
    pub content: Content,
    /// Of everything, when this changed last; 0: it was there at the start.
    pub revision: u64,
}

/// What is known of a job, shared: a copy is taken out of the lock, and looked at there.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Live(Arc<Live>),
    /// The job object of the API.
    Ended(Arc<str>),
}

#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub record: JobRecord,
    json: OnceLock<Arc<str>>,
}

impl Content {
    /// The job object of the API. It may have to be made: not under the lock, where that keeps all others waiting.
    pub(crate) fn json(&self) -> Arc<str> {
        match self {
            Content::Live(live) => Arc::clone(live.json.get_or_init(|| live.record.to_json().into())),
            Content::Ended(json) => Arc::clone(json),
        }
    }
}

impl Image {
    /// A job as it ended, from a file. Returns its number.
    pub(crate) fn insert_ended(&mut self, id: JobId, pipeline: Arc<str>, status: JobStatus, json: Arc<str>) -> u64 {
        let entry = Entry {
            id,
            pipeline,
            status,
            content: Content::Ended(json),
            revision: 0,
        };
        let (number, before) = self.insert(entry);
        if let Some(before) = before {
            self.counts.leave(&before.pipeline, before.status);
        }
        number
    }

    /// Returns what stood there before it.
    fn insert(&mut self, entry: Entry) -> (u64, Option<Entry>) {
        // A job that is known keeps its place in the list.
        let number = *self.numbers.entry(entry.id).or_insert_with(|| {
            self.next_number += 1;
            self.next_number
        });
        (number, self.jobs.insert(number, entry))
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        self.revision += 1;
        match change {
            Change::Schedule(record) => {
                self.schedules.insert(record.id, (**record).clone());
            }
            Change::WasDue(due) => self.note_due(*due),
            Change::ForgetSchedule { schedule } => {
                self.schedules.remove(schedule);
            }
            Change::Job(record) => {
                // One that is known was accepted before, for a due time that may not be the last.
                if let Some(due) = record.due.filter(|_| !self.numbers.contains_key(&record.id)) {
                    self.note_due(due);
                }
                let before = self.job(record.id).map(|entry| entry.status);
                self.counts.put(before, record);
                self.insert(Entry {
                    id: record.id,
                    pipeline: Arc::clone(&record.pipeline),
                    status: record.status,
                    content: Content::Live(Arc::new(Live {
                        record: (**record).clone(),
                        json: OnceLock::new(),
                    })),
                    revision: self.revision,
                });
            }
            Change::Forget { job } => {
                let number = self.numbers.remove(job);
                if let Some(entry) = number.and_then(|number| self.jobs.remove(&number)) {
                    self.counts.leave(&entry.pipeline, entry.status);
                }
            }
            Change::Start { job, .. }
            | Change::Task { job, .. }
            | Change::Fail { job, .. }
            | Change::Cancel { job, .. }
            | Change::Join { job, .. }
            | Change::DelayOver { job }
            | Change::End { job, .. } => self.apply_to(*job, change),
        }
    }

    /// A schedule was due: it was so for the last time, or it is over.
    fn note_due(&mut self, due: Due) {
        let Some(record) = self.schedules.get_mut(&due.id) else {
            return;
        };
        if record.is_once() {
            self.schedules.remove(&due.id);
        } else {
            record.last_ms = Some(due.at_ms);
        }
    }

    fn apply_to(&mut self, job: JobId, change: &Change) {
        let Some(entry) = self.numbers.get(&job).and_then(|number| self.jobs.get_mut(number)) else {
            return;
        };
        let Content::Live(live) = &mut entry.content else {
            return;
        };
        // Copied where somebody looks at it just now.
        let live = Arc::make_mut(live);
        live.json = OnceLock::new();
        live.record.apply(change);
        entry.revision = self.revision;
        self.counts.change(entry.status, &live.record);
        entry.status = live.record.status;
        if entry.status.has_ended() {
            let json = live.record.to_json().into();
            entry.content = Content::Ended(json);
        }
    }

    /// Oldest first.
    pub(crate) fn jobs(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.jobs.values()
    }

    pub(crate) fn job(&self, id: JobId) -> Option<&Entry> {
        self.jobs.get(self.numbers.get(&id)?)
    }

    /// Counts the jobs from 1, in the order in which they were accepted; one that was forgotten leaves a gap.
    pub(crate) fn number(&self, id: JobId) -> Option<u64> {
        self.numbers.get(&id).copied()
    }

    /// The jobs that were accepted before this one, oldest first; `None` where it is not known.
    pub(crate) fn jobs_before(&self, id: JobId) -> Option<impl DoubleEndedIterator<Item = &Entry>> {
        let number = *self.numbers.get(&id)?;
        Some(self.jobs.range(..number).map(|(_, entry)| entry))
    }

    pub(crate) fn pipelines(&self) -> &Arc<[PipelineView]> {
        &self.pipelines
    }

    pub(crate) fn schedules(&self) -> impl Iterator<Item = &ScheduleRecord> {
        self.schedules.values()
    }

    pub(crate) fn schedule(&self, id: ScheduleId) -> Option<&ScheduleRecord> {
        self.schedules.get(&id)
    }

    pub(crate) fn counts(&self) -> &JobCounts {
        &self.counts
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    fn show_pipelines(&mut self, pipelines: Arc<[PipelineView]>) {
        // They are shown anew whenever a job starts or ends, and are others after a reload alone.
        let before = self.pipelines.iter().map(|view| &view.pipeline);
        let now = pipelines.iter().map(|view| &view.pipeline);
        if !before.eq(now.clone()) {
            self.counts.define(now);
        }
        self.pipelines = pipelines;
        self.revision += 1;
    }
}

impl ReadModel {
    pub(crate) fn new(image: Image) -> ReadModel {
        ReadModel {
            image: RwLock::new(image),
            watchers: Mutex::default(),
        }
    }

    /// A look at everything, during which nothing changes: take what is needed and let go.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Image> {
        self.image.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what has been saved, and wakes who waits for it.
    pub(crate) fn publish(&self, changes: &[Change], pipelines: Option<Arc<[PipelineView]>>) {
        let mut image = self.write();
        for change in changes {
            image.apply(change);
        }
        if let Some(pipelines) = pipelines {
            image.show_pipelines(pipelines);
        }
        drop(image);
        let watchers = self.watchers();
        if watchers.is_empty() {
            return;
        }
        for waker in changes
            .iter()
            .filter_map(|change| watchers.get(&change.job()?))
            .flatten()
        {
            waker.wake();
        }
    }

    /// Counts what happens from now on, and these jobs, which were found not to have ended and did so by that.
    pub(crate) fn begin_counting(&self, ended: &[(Arc<str>, JobStatus)]) {
        self.write().counts.begin(ended);
    }

    /// Wakes `waker` at every change of the job from now on, until the watch is dropped.
    pub(crate) fn watch(self: &Arc<Self>, job: JobId, waker: Arc<Waker>) -> Watch {
        self.watchers().entry(job).or_default().push(Arc::clone(&waker));
        Watch {
            model: Arc::clone(self),
            job,
            waker,
        }
    }

    /// Wakes everybody who waits, for prunner ends.
    pub(crate) fn wake_all(&self) {
        self.watchers().values().flatten().for_each(|waker| waker.wake());
    }

    fn write(&self) -> RwLockWriteGuard<'_, Image> {
        self.image.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn watchers(&self) -> MutexGuard<'_, HashMap<JobId, Vec<Arc<Waker>>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a waker among those of a job.
#[derive(Debug)]
pub(crate) struct Watch {
    model: Arc<ReadModel>,
    job: JobId,
    waker: Arc<Waker>,
}

impl Watch {
    pub(crate) fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watchers = self.model.watchers();
        if let Some(of_job) = watchers.get_mut(&self.job) {
            of_job.retain(|waker| !Arc::ptr_eq(waker, &self.waker));
            if of_job.is_empty() {
                watchers.remove(&self.job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_was_taken_out_of_the_lock_stays_as_it_was() {
        let record: JobRecord = serde_json::from_value(serde_json::json!({
            "id": Uuid::from_u128(1), "pipeline": "p", "createdMs": 0, "place": 0, "status": "waiting", "tasks": [],
        }))
        .unwrap();
        let id = record.id;
        let model = ReadModel::new(Image::default());
        let content = || model.read().job(id).unwrap().content.clone();
        model.publish(&[Change::Job(Box::new(record))], None);
        let waiting = content();
        // Made after the change, from what was there before it.
        model.publish(&[Change::Start { job: id, start_ms: 0 }], None);
        assert!(waiting.json().contains(r#""status":"waiting""#));
        assert!(content().json().contains(r#""status":"running""#));
        // Once for all who ask.
        assert!(Arc::ptr_eq(&content().json(), &content().json()));
    }

    /// Waiting, running and ended jobs of the one pipeline that the counts know of.
    #[track_caller]
    fn check_counts(image: &Image, expected: [u64; 3]) {
        let shown = image.counts().shown();
        let [of] = &shown[..] else {
            panic!("{shown:?}");
        };
        let ended = JobStatus::ALL.iter().map(|status| of.ended(*status)).sum();
        assert_eq!([of.waiting, of.running, ended], expected);
    }

    #[test]
    fn jobs_are_counted_however_they_come_and_go() {
        let record = |status: &str| -> JobRecord {
            serde_json::from_value(serde_json::json!({
                "id": Uuid::from_u128(1), "pipeline": "p", "createdMs": 0, "place": 0, "status": status, "tasks": [],
            }))
            .unwrap()
        };
        let waiting = Change::Job(Box::new(record("waiting")));
        let job = waiting.job().unwrap();
        let mut image = Image::default();
        image.apply(&waiting);
        check_counts(&image, [1, 0, 0]);
        // It has a new definition.
        image.apply(&waiting);
        check_counts(&image, [1, 0, 0]);
        image.apply(&Change::Start { job, start_ms: 0 });
        check_counts(&image, [0, 1, 0]);
        image.apply(&Change::End {
            job,
            end_ms: 0,
            status: JobStatus::Failed,
            reason: String::new(),
        });
        check_counts(&image, [0, 0, 1]);
        image.apply(&Change::Forget { job });
        check_counts(&image, [0, 0, 1]);
        // One that has started by the time when it is known.
        image.apply(&Change::Job(Box::new(record("running"))));
        check_counts(&image, [0, 1, 1]);
        image.insert_ended(job, "p".into(), JobStatus::Failed, "{}".into());
        check_counts(&image, [0, 0, 1]);
    }
}
