//! The store as a whole, on real files.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, unbounded};
use uuid::Uuid;

use super::journal::{JOURNAL, push_change, push_ended, push_payload};
use super::recover::Recovered;
use super::worker::{Message, Worker};
use super::{Batch, Change, DataDirectory, Parts, Store, recover};
use crate::health::Health;
use crate::job::{IdempotencyKey, JobId, JobRecord, JobStatus, TaskProgress, TaskRecord, TaskStatus};
use crate::read_model::{Image, ReadModel};
use crate::schedule::{Added, Due, ScheduleId, ScheduleRecord};
use crate::template::Variables;
use crate::testing::TestDirectory;

const NOW_MS: i64 = 1_795_490_867_000;

/// Two of them differ in many digits, as real ones do.
fn id(number: u128) -> JobId {
    JobId(Uuid::from_u128(number | (number * 0x2545_f491_4f6c_dd1d) << 64))
}

fn number(id: JobId) -> u64 {
    id.0.as_u64_pair().1
}

fn job(number: u64) -> Change {
    let task = |name: &str, depends_on: &[&str]| TaskRecord {
        name: name.into(),
        depends_on: depends_on.iter().map(|&name| name.into()).collect(),
        progress: TaskProgress::default(),
    };
    let mut variables = Variables::new();
    variables.insert(
        "release".to_owned(),
        serde_json::from_str("[1.10, \"a\\n\\\"b\"]").unwrap(),
    );
    Change::Job(Box::new(JobRecord {
        id: id(number.into()),
        pipeline: "deploy".into(),
        user: "anna".to_owned(),
        variables: Arc::new(variables),
        by_default: Vec::new(),
        partition: String::new(),
        created_ms: NOW_MS,
        place: number,
        start_after_ms: None,
        status: JobStatus::Waiting,
        start_ms: None,
        end_ms: None,
        errored: false,
        last_error: String::new(),
        idempotency: Vec::new(),
        reason: String::new(),
        due: None,
        replaced: false,
        tasks: vec![task("build", &[]), task("upload", &["build"])],
    }))
}

fn start(number: u128) -> Change {
    Change::Start {
        job: id(number),
        start_ms: NOW_MS,
    }
}

fn task(number: u128, index: usize, status: TaskStatus) -> Change {
    let progress = TaskProgress {
        status,
        start_ms: Some(NOW_MS),
        ..TaskProgress::default()
    };
    Change::Task {
        job: id(number),
        index,
        name: Arc::default(),
        progress,
        fails_job: false,
    }
}

fn end(number: u128, status: JobStatus) -> Change {
    Change::End {
        job: id(number),
        end_ms: NOW_MS + 1000,
        status,
        reason: String::new(),
    }
}

fn fail(number: u128) -> Change {
    Change::Fail {
        job: id(number),
        error: "job timed out after 1h".to_owned(),
    }
}

/// One job that succeeded, one that ran, one that was told to stop, one that waits, one that was forgotten.
fn history() -> Vec<Change> {
    vec![
        job(1),
        start(1),
        task(1, 0, TaskStatus::Running),
        job(2),
        task(1, 0, TaskStatus::Done),
        start(2),
        task(2, 0, TaskStatus::Done),
        job(3),
        start(3),
        fail(3),
        Change::Cancel {
            job: id(3),
            reason: "canceled by anna".to_owned(),
            replaced: false,
        },
        job(4),
        task(1, 1, TaskStatus::Done),
        end(1, JobStatus::Succeeded),
        job(5),
        end(5, JobStatus::Canceled),
        Change::Forget { job: id(5) },
    ]
}

struct Bed {
    directory: TestDirectory,
}

impl Bed {
    fn new() -> Bed {
        Bed {
            directory: TestDirectory::new(),
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn journal(&self) -> Vec<u8> {
        fs::read(self.path().join(JOURNAL)).unwrap()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "what is broken here on purpose need not survive anything"
    )]
    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path().join(name);
        // A file that is made anew is not flushed when it is closed, as one is that was cut to nothing.
        let _ = fs::remove_file(&path);
        fs::write(path, bytes).unwrap();
    }

    fn recover(&self) -> Recovered {
        recover(self.path(), NOW_MS + 5000).unwrap()
    }

    /// Starts on what is there; releases arrive at the receiver.
    fn start(&self) -> (Store<u32>, Arc<ReadModel>, Receiver<u32>) {
        let recovered = self.recover();
        let model = Arc::new(ReadModel::new(recovered.image));
        let (sender, releases) = unbounded();
        let parts = Parts {
            directory: DataDirectory::open(self.path()).unwrap(),
            journal: recovered.journal,
            model: Arc::clone(&model),
            health: Arc::default(),
            meters: Arc::default(),
        };
        let store = Store::start(parts, move |release| sender.send(release).unwrap(), |_| {}).unwrap();
        (store, model, releases)
    }

    fn damaged_files(&self) -> usize {
        self.kept().len()
    }

    /// What the damaged files that are kept hold.
    fn kept(&self) -> Vec<Vec<u8>> {
        fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains(".damaged-"))
            .map(|path| fs::read(path).unwrap())
            .collect()
    }
}

fn lines(changes: &[Change]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for change in changes {
        push_change(&mut bytes, change);
    }
    bytes
}

fn batch(changes: Vec<Change>, release: u32) -> Batch<u32> {
    Batch {
        changes,
        pipelines: None,
        releases: vec![release],
    }
}

/// Each job in a line: number, status, reason.
fn shown(image: &Image) -> Vec<String> {
    image
        .jobs()
        .map(|entry| format!("{} {}", number(entry.id), entry.status.as_str()))
        .collect()
}

fn all_json(image: &Image) -> Vec<Arc<str>> {
    image.jobs().map(|entry| entry.content.json()).collect()
}

#[test]
fn what_was_saved_is_found_again() {
    let bed = Bed::new();
    let (store, model, releases) = bed.start();
    for (number, change) in (0..).zip(history()) {
        store.save(batch(vec![change], number));
    }
    let count = u32::try_from(history().len()).unwrap();
    assert_eq!(
        releases.iter().take(history().len()).collect::<Vec<_>>(),
        (0..count).collect::<Vec<_>>()
    );
    assert_eq!(
        fs::metadata(bed.path().join(JOURNAL)).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // As a kill would leave it.
    let recovered = bed.recover();
    assert_eq!(bed.journal(), lines(&history()));
    store.finish();

    assert_eq!(
        shown(&recovered.image),
        ["1 succeeded", "2 interrupted", "3 canceled", "4 waiting"]
    );
    assert_eq!(
        shown(&model.read()),
        ["1 succeeded", "2 running", "3 running", "4 waiting"]
    );
    let waiting: Vec<JobId> = recovered.waiting.iter().map(|record| record.id).collect();
    assert_eq!(waiting, [id(4)]);
    let mut ended: Vec<_> = recovered
        .ended
        .iter()
        .map(|job| (job.id, job.end_ms - NOW_MS, job.started))
        .collect();
    ended.sort();
    assert_eq!(ended, [(id(1), 1000, true), (id(2), 5000, true), (id(3), 5000, true)]);
    let mut leftovers: Vec<String> = recovered
        .leftovers
        .iter()
        .map(|(job, task)| format!("{} {task}", number(*job)))
        .collect();
    leftovers.sort();
    assert_eq!(
        leftovers,
        ["2 on_error", "2 upload", "3 build", "3 on_error", "3 upload"]
    );
    assert!(
        recovered
            .image
            .job(id(2))
            .unwrap()
            .content
            .json()
            .contains("\"reason\":\"prunner ended while the job ran\"")
    );
    assert!(
        recovered
            .image
            .job(id(3))
            .unwrap()
            .content
            .json()
            .contains("\"reason\":\"canceled by anna\"")
    );
    let failed = recovered.image.job(id(3)).unwrap().content.json();
    assert!(
        failed.contains("\"errored\":true,\"lastError\":\"job timed out after 1h\""),
        "{failed}"
    );
    assert_eq!(recovered.messages, Vec::<String>::new());

    // The clean exit wrote each job as one line; the next start ends what ran, and a further one finds that.
    assert_eq!(bed.journal().iter().filter(|&&byte| byte == b'\n').count(), 4);
    let (store, model, _) = bed.start();
    let json = all_json(&model.read());
    drop(store);
    assert_eq!(all_json(&bed.recover().image), json);
    assert_eq!(bed.recover().ended.len(), 3);
}

#[test]
fn an_end_whose_fraction_was_not_written_is_taken_for_a_later_one() {
    let bed = Bed::new();
    let (store, _, releases) = bed.start();
    let end_ms = NOW_MS + 1_567;
    let end = Change::End {
        job: id(1),
        end_ms,
        status: JobStatus::Succeeded,
        reason: String::new(),
    };
    store.save(batch(vec![job(1), start(1), end], 0));
    let ends = |bed: &Bed| -> Vec<_> {
        let recovered = bed.recover();
        recovered
            .ended
            .iter()
            .map(|job| (job.end_ms, job.latest_end_ms))
            .collect()
    };
    releases.recv().unwrap();
    assert_eq!(ends(&bed), [(end_ms, end_ms)]);
    store.finish();
    // The line that a clean exit writes has whole seconds.
    assert_eq!(ends(&bed), [(NOW_MS + 1_000, NOW_MS + 1_999)]);
}

#[test]
fn jobs_that_ended_are_found_once_in_the_order_in_which_they_were_accepted() {
    let bed = Bed::new();
    let mut image = Image::default();
    for number in 1..=4 {
        image.apply(&job(number));
    }
    for (number, status) in [
        (3, JobStatus::Failed),
        (1, JobStatus::Succeeded),
        (2, JobStatus::Canceled),
    ] {
        image.apply(&end(number, status));
    }
    let [first, second, third, _] = &all_json(&image)[..] else {
        panic!("there are four");
    };
    let mut journal = Vec::new();
    push_ended(&mut journal, first);
    push_ended(&mut journal, second);
    push_ended(&mut journal, third);
    push_change(&mut journal, &job(4));
    // One that is written again, one that is forgotten, one that is back behind all others, one that ends in two lines.
    push_ended(&mut journal, second);
    journal.extend(lines(&[Change::Forget { job: id(3) }, Change::Forget { job: id(1) }]));
    push_ended(&mut journal, first);
    journal.extend(lines(&[end(4, JobStatus::Replaced)]));
    bed.write(JOURNAL, &journal);
    let recovered = bed.recover();
    assert_eq!(shown(&recovered.image), ["2 canceled", "4 replaced", "1 succeeded"]);
    let ended: Vec<u64> = recovered.ended.iter().map(|job| number(job.id)).collect();
    assert_eq!(ended, [2, 4, 1]);
    assert_eq!(recovered.messages, Vec::<String>::new());
}

#[test]
fn a_journal_may_end_anywhere() {
    let bed = Bed::new();
    let changes = history();
    let whole = lines(&changes);
    for length in 0..whole.len() {
        bed.write(JOURNAL, &whole[..length]);
        let recovered = bed.recover();
        let count = whole[..length].iter().filter(|&&byte| byte == b'\n').count();
        let mut expected = Image::default();
        changes[..count].iter().for_each(|change| expected.apply(change));
        let shown_before = all_json(&super::recover::load(bed.path(), NOW_MS).unwrap().image);
        assert_eq!(shown_before, all_json(&expected), "cut at {length}");
        let is_cut = length > 0 && whole[length - 1] != b'\n';
        assert_eq!(recovered.messages.len(), usize::from(is_cut), "cut at {length}");
        assert!(recovered.journal.damaged.is_none());
        assert!(!recovered.journal.is_rewritten);
    }
    // The cut line does not stay in the way of the next.
    let (store, _, releases) = bed.start();
    store.save(batch(vec![job(9)], 0));
    releases.recv().unwrap();
    assert_eq!(bed.recover().messages, Vec::<String>::new());
    store.finish();
    assert_eq!(bed.damaged_files(), 0);
}

#[test]
fn a_flipped_byte_costs_its_line_alone() {
    let bed = Bed::new();
    let changes: Vec<Change> = (1..=4).map(job).collect();
    let whole = lines(&changes);
    for place in 0..whole.len() {
        for flip in [0x01, 0x20, 0xff] {
            let mut bytes = whole.clone();
            bytes[place] ^= flip;
            bed.write(JOURNAL, &bytes);
            let recovered = bed.recover();
            let line = whole[..place].iter().filter(|&&byte| byte == b'\n').count();
            let is_newline = whole[place] == b'\n';
            let expected: Vec<String> = (0..4)
                .filter(|&number| number != line || is_newline)
                .map(|number| format!("{} waiting", number + 1))
                .collect();
            assert_eq!(shown(&recovered.image), expected, "byte {place} with {flip:x}");
            assert!(recovered.journal.damaged.is_some());
        }
    }
}

#[test]
fn a_damaged_journal_is_kept_and_written_anew() {
    let bed = Bed::new();
    let mut bytes = lines(&history());
    bytes.splice(0..0, b"\0\xff rubbish\n\n".iter().copied());
    bytes.extend_from_slice(b"half a line");
    bed.write(JOURNAL, &bytes);
    let logs = bed.path().join("logs").join(id(77).to_string());
    fs::create_dir_all(&logs).unwrap();
    bed.start().0.finish();
    assert_eq!(bed.kept(), [bytes]);
    assert!(logs.exists());
    let recovered = bed.recover();
    assert_eq!(
        shown(&recovered.image),
        ["1 succeeded", "2 interrupted", "3 canceled", "4 waiting"]
    );
    assert_eq!(recovered.messages, Vec::<String>::new());
    bed.start().0.finish();
    assert!(!logs.exists());
    assert_eq!(bed.damaged_files(), 1);
}

#[test]
fn a_lost_start_does_not_run_a_job_twice() {
    let bed = Bed::new();
    bed.write(JOURNAL, &lines(&[job(1), task(1, 0, TaskStatus::Done)]));
    assert_eq!(shown(&bed.recover().image), ["1 interrupted"]);
    bed.write(JOURNAL, &lines(&[job(1), fail(1)]));
    assert_eq!(shown(&bed.recover().image), ["1 interrupted"]);
}

/// Jobs 1 to 6, of two pipelines: 1 ended, 2 runs, the others wait. Behind them the lines that are given, and the end of 2.
fn damaged_behind_six(bed: &Bed, middle: &[u8]) -> Vec<String> {
    let mut changes: Vec<Change> = (1..=6).map(job).collect();
    for change in &mut changes[4..] {
        if let Change::Job(record) = change {
            record.pipeline = "other".into();
        }
    }
    changes.extend([start(1), end(1, JobStatus::Succeeded), start(2)]);
    let mut bytes = lines(&changes);
    bytes.extend_from_slice(middle);
    bytes.extend(lines(&[end(2, JobStatus::Succeeded)]));
    bed.write(JOURNAL, &bytes);
    shown(&bed.recover().image)
        .into_iter()
        .filter(|job| !job.ends_with("waiting"))
        .collect()
}

/// Each byte of a line that stands behind the six jobs, flipped in several ways.
#[track_caller]
fn check_flips(change: &Change, expected: &[&str]) {
    let bed = Bed::new();
    let line = lines(std::slice::from_ref(change));
    // A newline that is damaged costs nothing: what it joins is taken apart again.
    for place in 0..line.len() - 1 {
        for flip in [0x01, 0x20, 0xff] {
            let mut line = line.clone();
            line[place] ^= flip;
            let found = damaged_behind_six(&bed, &line);
            assert_eq!(found, expected, "byte {place} with {flip:x} of {change:?}");
        }
    }
}

#[test]
fn a_damaged_line_that_started_a_job_interrupts_it_alone() {
    for change in [
        start(4),
        task(4, 0, TaskStatus::Done),
        fail(4),
        end(4, JobStatus::Canceled),
        Change::Forget { job: id(4) },
        Change::Cancel {
            job: id(4),
            reason: String::new(),
            replaced: false,
        },
    ] {
        check_flips(&change, &["1 succeeded", "2 succeeded", "4 interrupted"]);
    }
}

#[test]
fn a_damaged_line_that_starts_no_job_interrupts_none() {
    let schedule = ScheduleId(id(9).0);
    let added = Added {
        pipeline: "deploy".to_owned(),
        every: Some("1m".to_owned()),
        ..Added::default()
    };
    for change in [
        job(9),
        Change::Join {
            job: id(4),
            key: IdempotencyKey {
                key: "k".to_owned(),
                body_hash: "h".to_owned(),
                joined: true,
            },
        },
        Change::Schedule(Box::new(ScheduleRecord {
            id: schedule,
            since_ms: NOW_MS,
            last_ms: None,
            added: Some(Box::new(added)),
        })),
        Change::WasDue(Due {
            id: schedule,
            at_ms: NOW_MS,
        }),
        Change::ForgetSchedule { schedule },
    ] {
        check_flips(&change, &["1 succeeded", "2 succeeded"]);
    }
}

#[test]
fn an_unreadable_line_interrupts_who_may_have_started_in_it() {
    let bed = Bed::new();
    let shortest = lines(&[Change::Start {
        job: id(1),
        start_ms: 0,
    }])
    .len();
    assert_eq!(shortest, super::damage::SHORTEST_START);
    let ended = ["1 succeeded", "2 succeeded"];
    let rubbish = |length: usize| {
        let mut line = vec![0; length];
        line[length - 1] = b'\n';
        line
    };
    assert_eq!(damaged_behind_six(&bed, &rubbish(shortest - 1)), ended);
    assert_eq!(damaged_behind_six(&bed, b"rubbish\n"), ended);
    let one_each = ["1 succeeded", "2 succeeded", "3 interrupted", "5 interrupted"];
    assert_eq!(damaged_behind_six(&bed, &rubbish(shortest)), one_each);
    assert_eq!(damaged_behind_six(&bed, &rubbish(2 * shortest - 1)), one_each);
    let all = [&one_each[..3], &["4 interrupted", "5 interrupted", "6 interrupted"]].concat();
    assert_eq!(damaged_behind_six(&bed, &rubbish(2 * shortest)), all);
    assert_eq!(damaged_behind_six(&bed, &b"\0\n".repeat(shortest)), all);
    // What a later line says to wait did wait.
    let mut again = rubbish(shortest);
    again.extend(lines(&[job(3)]));
    assert_eq!(
        damaged_behind_six(&bed, &again),
        ["1 succeeded", "2 succeeded", "5 interrupted"]
    );
    // A job that nobody knows, and one that has ended, start no other.
    for other in [job(9), start(9), task(1, 0, TaskStatus::Done)] {
        let mut line = lines(&[other]);
        line[12] ^= 1;
        assert_eq!(damaged_behind_six(&bed, &line), ended);
    }
}

#[test]
fn the_last_start_may_have_a_damaged_newline() {
    let bed = Bed::new();
    let mut bytes = lines(&[job(1), job(2), start(1)]);
    let whole = bytes.len() - 1;
    bed.write(JOURNAL, &bytes[..whole]);
    assert_eq!(shown(&bed.recover().image), ["1 waiting", "2 waiting"]);
    bytes[whole] = b'x';
    bed.write(JOURNAL, &bytes);
    assert_eq!(shown(&bed.recover().image), ["1 interrupted", "2 waiting"]);
    assert!(bed.recover().journal.damaged.is_some());
    // All of the line is gone, and its newline too.
    bytes.truncate(lines(&[job(1), job(2)]).len());
    bytes.extend([0; 200]);
    bed.write(JOURNAL, &bytes);
    assert_eq!(shown(&bed.recover().image), ["1 interrupted", "2 interrupted"]);
    bed.start().0.finish();
    assert_eq!(bed.damaged_files(), 1);
    assert_eq!(shown(&bed.recover().image), ["1 interrupted", "2 interrupted"]);
}

#[test]
fn a_job_that_has_logs_has_run() {
    let bed = Bed::new();
    bed.write(JOURNAL, &lines(&[job(1), job(2)]));
    fs::create_dir_all(bed.path().join("logs").join(id(1).to_string())).unwrap();
    let recovered = bed.recover();
    assert_eq!(shown(&recovered.image), ["1 interrupted", "2 waiting"]);
    assert!(recovered.leftovers.contains(&(id(1), "upload".to_owned())));
    assert!(
        recovered
            .image
            .job(id(1))
            .unwrap()
            .content
            .json()
            .contains("\"reason\":\"the journal is damaged where it may have said that the job ran\"")
    );
    assert_eq!(recovered.messages.len(), 1);
    assert!(!recovered.journal.is_rewritten);
    bed.start().0.finish();
    assert_eq!(shown(&bed.recover().image), ["1 interrupted", "2 waiting"]);
}

#[test]
fn a_half_written_replacement_is_completed() {
    let bed = Bed::new();
    let mut newer = job(2);
    if let Change::Job(record) = &mut newer {
        record.place = 1;
    }
    bed.write(JOURNAL, &lines(&[job(1), newer]));
    assert_eq!(shown(&bed.recover().image), ["1 replaced", "2 waiting"]);
}

#[test]
fn lines_of_unknown_kinds_stay() {
    let bed = Bed::new();
    let mut bytes = lines(&[job(1)]);
    push_payload(&mut bytes, r#"{"schedule":{"pipeline":"p"}}"#);
    bed.write(JOURNAL, &bytes);
    for _ in 0..2 {
        let (store, _, releases) = bed.start();
        store.save(batch(
            vec![Change::Cancel {
                job: id(8),
                reason: String::new(),
                replaced: false,
            }],
            0,
        ));
        releases.recv().unwrap();
        store.finish();
        let messages = bed.recover().messages;
        assert_eq!(messages.len(), 1);
        assert!(messages[0].contains("`schedule`"), "{messages:?}");
        assert_eq!(shown(&bed.recover().image), ["1 waiting"]);
    }
    assert_eq!(bed.damaged_files(), 0);
}

#[test]
fn the_old_file_is_taken_over_once() {
    let bed = Bed::new();
    bed.write(
        "data.json",
        br#"{"Jobs":[{"ID":"01932f3e-0000-7000-8000-000000000001","Pipeline":"p","Created":"2026-11-24T03:00:00Z"}]}"#,
    );
    bed.start().0.finish();
    bed.write("data.json", b"{");
    assert_eq!(bed.recover().waiting.len(), 1);
    fs::remove_file(bed.path().join(JOURNAL)).unwrap();
    bed.start().0.finish();
    assert_eq!(bed.damaged_files(), 1);
    assert_eq!(bed.recover().waiting.len(), 0);
}

#[test]
fn a_large_journal_is_compacted_while_it_grows() {
    let bed = Bed::new();
    let (store, model, releases) = bed.start();
    store.save(batch(vec![job(1), start(1)], 0));
    let mut written = lines(&[job(1), start(1)]).len();
    let step = task(1, 0, TaskStatus::Running);
    // Saved one after the other, so that some come while the new journal is written.
    for number in 0..40_u32 {
        let changes = vec![step.clone(); 1000];
        written += lines(&changes).len();
        store.save(batch(changes, number));
        releases.recv().unwrap();
    }
    store.save(batch(vec![job(2)], 0));
    while releases.recv().unwrap() != 0 {}
    let saved = all_json(&model.read());
    assert_eq!(
        all_json(&super::recover::load(bed.path(), NOW_MS).unwrap().image),
        saved
    );
    assert!(written > 4 * 1024 * 1024);
    store.finish();
    assert!(bed.journal().len() < 2000);
    assert_eq!(
        all_json(&super::recover::load(bed.path(), NOW_MS).unwrap().image),
        saved
    );
    assert!(!bed.path().join("journal.jsonl.new").exists());
}

#[test]
fn forgotten_jobs_leave_no_logs() {
    let bed = Bed::new();
    let logs = |number| bed.path().join("logs").join(id(number).to_string());
    for number in 1..=3 {
        fs::create_dir_all(logs(number)).unwrap();
    }
    fs::create_dir(bed.path().join("logs/mine")).unwrap();
    bed.write(JOURNAL, &lines(&[job(1), job(2)]));
    let (store, _, _releases) = bed.start();
    store.save(batch(
        vec![end(1, JobStatus::Canceled), Change::Forget { job: id(1) }],
        0,
    ));
    store.finish();
    assert_eq!([1, 2, 3].map(|number| logs(number).exists()), [false, true, false]);
    assert!(bed.path().join("logs/mine").exists());
}

#[test]
fn a_batch_without_changes_is_let_go_in_its_turn() {
    let bed = Bed::new();
    let (store, _, releases) = bed.start();
    store.save(batch(vec![job(1)], 1));
    store.save(batch(vec![], 2));
    store.save(batch(vec![Change::DelayOver { job: id(1) }], 3));
    assert_eq!(releases.iter().take(3).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(bed.journal(), lines(&[job(1)]));
    store.finish();
}

/// A worker without its thread, and what it told: releases, and trouble as 1000 and 1001.
fn worker(bed: &Bed) -> (Worker<u32>, Arc<ReadModel>, Arc<Health>, Receiver<u32>) {
    let recovered = bed.recover();
    let model = Arc::new(ReadModel::new(recovered.image));
    let health: Arc<Health> = Arc::default();
    let (told, tellings) = unbounded();
    let trouble_told = told.clone();
    let (sender, _messages) = unbounded::<Message<u32>>();
    let parts = Parts {
        directory: DataDirectory::open(bed.path()).unwrap(),
        journal: recovered.journal,
        model: Arc::clone(&model),
        health: Arc::clone(&health),
        meters: Arc::default(),
    };
    let release = Box::new(move |release| told.send(release).unwrap());
    let trouble = Box::new(move |is_troubled| trouble_told.send(1000 + u32::from(is_troubled)).unwrap());
    (
        Worker::new(parts, release, trouble, sender).unwrap(),
        model,
        health,
        tellings,
    )
}

#[test]
fn what_the_disk_does_not_take_waits_for_it() {
    let bed = Bed::new();
    let (mut worker, model, health, told) = worker(&bed);
    let full = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
    let file: File = worker.journal.replace_file(full);
    worker.take(batch(vec![job(1)], 1));
    worker.take(batch(vec![], 2));
    worker.save();
    worker.save();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [1001]);
    assert_eq!(shown(&model.read()), Vec::<String>::new());
    assert!(format!("{:?}", health.refusal()).contains("no space left on device"));
    worker.journal.replace_file(file);
    worker.take(batch(vec![job(2)], 3));
    worker.save();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [1, 2, 3, 1000]);
    assert_eq!(health.refusal(), None);
    assert_eq!(bed.journal(), lines(&[job(1), job(2)]));
}

#[test]
fn a_journal_whose_sync_failed_is_replaced() {
    let bed = Bed::new();
    let (mut worker, _, _, told) = worker(&bed);
    worker.take(batch(vec![job(1)], 1));
    worker.save();
    let old = File::open(bed.path().join(JOURNAL)).unwrap();
    worker.journal.set_broken();
    worker.take(batch(vec![job(2)], 2));
    worker.save();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(old.metadata().unwrap().len(), lines(&[job(1)]).len() as u64);
    assert_eq!(bed.journal(), lines(&[job(1), job(2)]));
}

#[test]
fn a_journal_that_was_deleted_is_written_anew_at_once() {
    let bed = Bed::new();
    let (mut worker, _, health, told) = worker(&bed);
    worker.take(batch(vec![job(1)], 1));
    worker.save();
    fs::remove_dir_all(bed.path()).unwrap();
    worker.take(batch(vec![job(2)], 2));
    worker.save();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(health.refusal(), None);
    assert_eq!(bed.journal(), lines(&[job(1), job(2)]));
    assert!(DataDirectory::open(bed.path()).is_err());
}

#[test]
fn room_is_reserved_behind_the_end() {
    use std::os::unix::fs::MetadataExt;
    let bed = Bed::new();
    let (mut worker, _, _, _told) = worker(&bed);
    worker.take(batch(vec![job(1)], 1));
    worker.save();
    let metadata = fs::metadata(bed.path().join(JOURNAL)).unwrap();
    assert_eq!(metadata.len(), lines(&[job(1)]).len() as u64);
    assert!(metadata.blocks() * 512 >= 4 * 1024 * 1024);
}
