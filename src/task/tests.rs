//! Tasks with real processes. A test knows that a task has come to a point by what that prints, never by time.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, mkfifoat};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, test_kill_process, waitid};
use serde_json::json;
use uuid::Uuid;

use super::group::{ProcessTable, timespec_until};
use super::*;
use crate::definition::bounds::{Bounds, NO_LIMIT, StopSignal};
use crate::definition::intake::Intake;
use crate::definition::{Pipeline, Queue, Task};
use crate::job::TaskRef;
use crate::scheduler::{Failure, Outcome, TaskExit, TaskStart};
use crate::template::{Delimiters, Template, Variables};
use crate::testing::inherited_signals;
use crate::waker::Waker;
/// Far more than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pool with a directory of its own, which goes when this is dropped.
struct Bed {
    directory: PathBuf,
    settings: Settings,
    workers: Workers,
    followers: Arc<Followers>,
    exits: Receiver<(TaskRef, TaskExit)>,
}

impl Bed {
    fn new() -> Bed {
        Bed::with(|_| {}, ProcessTable::open())
    }

    fn with(change: impl FnOnce(&mut Settings), table: Option<ProcessTable>) -> Bed {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        inherited_signals::heed();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("prunner-task-{}-{number}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let mut settings = Settings {
            logs: Some(directory.join("logs")),
            observer: None,
            mark: Mark::Data(directory.clone()),
            shell: vec!["sh".to_owned()],
            log_limit: NO_LIMIT,
            environment: std::env::vars_os().collect(),
            meters: Arc::default(),
        };
        change(&mut settings);
        let followers = Followers::new();
        let (sender, exits) = unbounded();
        let report = Box::new(move |task, exit| drop(sender.send((task, exit))));
        Bed {
            workers: Workers::with_table(settings.clone(), Arc::clone(&followers), report, table),
            directory,
            settings,
            followers,
            exits,
        }
    }

    fn logs(&self) -> &Path {
        self.settings.logs.as_deref().unwrap()
    }

    fn launch(&self, start: &TaskStart) {
        self.workers.launch(self.workers.prepare(start.clone()));
    }

    /// The exit that is reported next, which must be that of this task.
    #[track_caller]
    fn exit(&self, start: &TaskStart) -> TaskExit {
        let (task, exit) = self.exits.recv_timeout(PATIENCE).expect("an exit is reported");
        assert_eq!(task, start.task);
        exit
    }

    #[track_caller]
    fn run(&self, start: &TaskStart) -> TaskExit {
        self.launch(start);
        self.exit(start)
    }

    fn log(&self, start: &TaskStart, stream: StreamKind) -> PathBuf {
        let name = &start.pipeline.task(start.task.index).name;
        log_path(self.logs(), start.task.job, name, stream)
    }

    fn stdout(&self, start: &TaskStart) -> String {
        String::from_utf8_lossy(&fs::read(self.log(start, StreamKind::Stdout)).unwrap_or_default()).into_owned()
    }

    fn stderr(&self, start: &TaskStart) -> String {
        String::from_utf8_lossy(&fs::read(self.log(start, StreamKind::Stderr)).unwrap_or_default()).into_owned()
    }

    /// Waits until standard output holds `text`, and returns it.
    #[track_caller]
    fn wait_for(&self, start: &TaskStart, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let waker = Arc::new(Waker::new().unwrap());
        let _follower = self
            .followers
            .register(start.task, StreamKind::Stdout, Arc::clone(&waker));
        loop {
            waker.clear();
            let output = self.stdout(start);
            if output.contains(text) {
                return output;
            }
            let mut waited_for = [PollFd::new(&waker, PollFlags::IN)];
            let ready = poll(&mut waited_for, timespec_until(Some(deadline)).as_ref()).unwrap();
            assert!(
                ready == 1,
                "`{text}` did not come: {output:?}, {:?}",
                self.stderr(start)
            );
        }
    }

    /// A FIFO for the task to wait at, by its path.
    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.directory.join(name);
        mkfifoat(rustix::fs::CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        path
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Where a test fails, its tasks still run.
        self.workers.kill_all();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn task(lines: &[&str]) -> Task {
    Task {
        name: "build".into(),
        script: lines
            .iter()
            .map(|line| Template::parse(line, Delimiters::Angle).unwrap())
            .collect(),
        source: Vec::new(),
        depends_on: Vec::new(),
        allow_failure: false,
        env: Vec::new(),
        shell: None,
        bounds: Bounds::default(),
    }
}

fn pipeline(task: Task) -> Pipeline {
    Pipeline {
        dependents: Vec::new(),
        name: "release".into(),
        concurrency: 1,
        queue: Queue::Append { limit: None },
        intake: Intake::default(),
        start_delay_ms: 0,
        continue_running_tasks_after_failure: false,
        timeout: None,
        retention_period_ms: None,
        retention_count: None,
        schedules: Vec::new(),
        env: Vec::new(),
        tasks: vec![task],
        file_order: vec![0],
        on_error: None,
    }
}

fn start(pipeline: Pipeline) -> TaskStart {
    TaskStart {
        task: TaskRef {
            job: JobId(Uuid::now_v7()),
            index: 0,
        },
        pipeline: Arc::new(pipeline),
        variables: Arc::default(),
        failure: None,
    }
}

fn script(lines: &[&str]) -> TaskStart {
    start(pipeline(task(lines)))
}

fn in_shell(shell: &[&str], lines: &[&str], allow_failure: bool) -> TaskStart {
    let mut task = task(lines);
    task.shell = Some(shell.iter().map(|&word| word.to_owned()).collect());
    task.allow_failure = allow_failure;
    start(pipeline(task))
}

fn exited(code: i32, stopped: bool) -> TaskExit {
    TaskExit {
        outcome: Outcome::Exited(code),
        stopped,
        note: String::new(),
    }
}

fn signaled(signal: Signal, stopped: bool) -> TaskExit {
    TaskExit {
        outcome: Outcome::Signaled(signal.as_raw()),
        stopped,
        note: String::new(),
    }
}

/// Waits for what nothing tells of.
#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// The number behind `name=` in the output.
#[track_caller]
fn process_in(output: &str, name: &str) -> Pid {
    let number = output
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    Pid::from_raw(number.expect("the output has the number").parse().unwrap()).unwrap()
}

/// A shell runs its traps when it waits. A signal that comes between two commands has no effect before the next has ended,
/// and one that comes right before `exec` has none at all: so wait until it waits, or until it has become another program.
#[track_caller]
fn wait_until_it_waits(process: Pid) {
    let path = format!("/proc/{}/stat", process.as_raw_nonzero());
    eventually("the process waits", || {
        fs::read_to_string(&path).unwrap().contains(") S ")
    });
}

#[track_caller]
fn wait_until_it_is(process: Pid, program: &str) {
    let path = format!("/proc/{}/comm", process.as_raw_nonzero());
    eventually("the process runs the program", || {
        fs::read_to_string(&path).unwrap().trim_end() == program
    });
}

fn is_gone(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

// How tasks end.

#[track_caller]
fn check_exit(line: &str, expected: &TaskExit) {
    let bed = Bed::new();
    assert_eq!(bed.run(&script(&[line])), *expected, "{line}");
}

#[test]
fn the_end_of_the_main_process_is_told() {
    check_exit("true", &exited(0, false));
    check_exit("exit 7", &exited(7, false));
    check_exit("/nowhere/command", &exited(127, false));
    check_exit("kill -9 $$", &signaled(Signal::KILL, false));
    check_exit("kill -TERM $$", &signaled(Signal::TERM, false));
    check_exit("kill -USR1 $$", &signaled(Signal::USR1, false));
}

#[track_caller]
fn check_not_started(start: &TaskStart, expected: &str) {
    let bed = Bed::new();
    let exit = bed.run(start);
    let expected = TaskExit {
        outcome: Outcome::NotStarted(expected.to_owned()),
        stopped: false,
        note: String::new(),
    };
    assert_eq!(exit, expected);
}

#[test]
fn what_cannot_be_started_says_why() {
    let missing = "failed to start the shell `no-such-shell`: not found in PATH";
    check_not_started(&in_shell(&["no-such-shell"], &["true"], false), missing);
    let missing = "failed to start the shell `/nowhere/sh`: no such file or directory";
    check_not_started(&in_shell(&["/nowhere/sh"], &["true"], false), missing);
    let forbidden = "failed to start the shell `/dev/null`: permission denied";
    check_not_started(&in_shell(&["/dev/null"], &["true"], false), forbidden);

    let mut nul = script(&["true"]);
    nul.variables = Arc::new(Variables::from_iter([("x".to_owned(), json!("a\0b"))]));
    let why = "the environment variable `PRUNNER_VAR_x` holds a NUL character, which no process can be given";
    check_not_started(&nul, why);
    let mut nul = script(&["true", "echo << .x.y >>"]);
    nul.variables = Arc::new(Variables::from_iter([("x".to_owned(), json!({"y": "\0"}))]));
    check_not_started(&nul, "line 2 holds a NUL character, which no shell can be given");

    let mut large = script(&["true"]);
    let value = json!("x".repeat(60_000));
    large.variables = Arc::new((0..200).map(|number| (format!("v{number}"), value.clone())).collect());
    let why = "failed to start the shell `sh`: argument list too long; its environment and the job's variables in it are too large";
    check_not_started(&large, why);
}

#[test]
fn a_shell_is_looked_for_in_the_path_of_the_task() {
    let bed = Bed::new();
    let directory = bed.directory.join("bin");
    fs::create_dir(&directory).unwrap();
    std::os::unix::fs::symlink("/bin/sh", directory.join("mysh")).unwrap();
    let mut task = task(&["echo here"]);
    task.shell = Some(vec!["mysh".to_owned()]);
    task.env = vec![("PATH".to_owned(), format!("/nowhere:{}", directory.display()))];
    let start = start(pipeline(task));
    assert_eq!(bed.run(&start), exited(0, false));
    assert_eq!(bed.stdout(&start), "here\n");
}

// Stopping.

/// A task that has become `sleep`, and minds no signal.
fn launch_sleeper(bed: &Bed) -> TaskStart {
    let start = script(&["echo main=$$; exec sleep 1000"]);
    bed.launch(&start);
    wait_until_it_is(process_in(&bed.wait_for(&start, "\n"), "main"), "sleep");
    start
}

#[test]
fn an_interrupt_ends_what_does_not_mind_it() {
    let bed = Bed::new();
    let start = launch_sleeper(&bed);
    bed.workers.interrupt(start.task);
    assert_eq!(bed.exit(&start), signaled(Signal::INT, true));
}

#[test]
fn an_interrupted_script_does_not_go_on() {
    let bed = Bed::new();
    let worker = "sh -c 'trap \"exit 143\" INT; echo worker=$$; sleep 1000 & wait'";
    let start = script(&[&format!("{worker}; echo later"), "echo last"]);
    bed.launch(&start);
    let output = bed.wait_for(&start, "\n");
    wait_until_it_waits(process_in(&output, "worker"));
    bed.workers.interrupt(start.task);
    assert_eq!(bed.exit(&start), exited(143, true));
    assert_eq!(bed.stdout(&start), output);
}

fn stopped_by(signal: Signal, shell: &str, line: &str) -> TaskStart {
    let mut task = task(&[line, "echo later"]);
    task.bounds.stop_signal = StopSignal::for_tests(signal.as_raw());
    task.shell = Some(vec![shell.to_owned()]);
    start(pipeline(task))
}

#[test]
fn a_task_is_stopped_by_the_signal_that_it_names() {
    for signal in [Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2] {
        let bed = Bed::new();
        let start = stopped_by(signal, "sh", "echo main=$$; exec sleep 1000");
        bed.launch(&start);
        wait_until_it_is(process_in(&bed.wait_for(&start, "\n"), "main"), "sleep");
        bed.workers.interrupt(start.task);
        assert_eq!(bed.exit(&start), signaled(signal, true));
    }
}

#[test]
fn a_script_that_is_stopped_ends_with_the_number_of_its_signal() {
    for shell in ["sh", "bash"] {
        for signal in [Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::WINCH] {
            let bed = Bed::new();
            let start = stopped_by(signal, shell, "sleep 1000 & echo main=$$; wait");
            bed.launch(&start);
            let output = bed.wait_for(&start, "\n");
            wait_until_it_waits(process_in(&output, "main"));
            bed.workers.interrupt(start.task);
            assert_eq!(bed.exit(&start), exited(128 + signal.as_raw(), true), "{shell}");
            assert_eq!(bed.stdout(&start), output);
        }
    }
}

#[test]
fn a_task_that_ignores_the_interrupt_is_killed_with_its_children() {
    let bed = Bed::new();
    let start =
        script(&["trap 'echo ignored' INT TERM; sleep 1000 & echo child=$!; echo main=$$; while :; do wait; done"]);
    bed.launch(&start);
    let output = bed.wait_for(&start, "main=");
    let child = process_in(&output, "child");
    wait_until_it_waits(process_in(&output, "main"));
    bed.workers.interrupt(start.task);
    bed.wait_for(&start, "ignored");
    assert!(!is_gone(child));
    bed.workers.kill(start.task);
    assert_eq!(bed.exit(&start), signaled(Signal::KILL, true));
    assert!(is_gone(child));
}

#[test]
fn nothing_runs_when_all_were_stopped() {
    let bed = Bed::new();
    let mild = script(&["echo up", "exec sleep 60"]);
    let stubborn = script(&["trap '' INT TERM; echo up; exec sleep 60"]);
    for start in [&mild, &stubborn] {
        bed.launch(start);
        bed.wait_for(start, "up");
    }
    bed.workers.stop_all(Duration::from_millis(100));
    assert_eq!(bed.workers.known(), 0);
}

#[test]
fn a_stopped_process_takes_notice_of_the_interrupt() {
    let bed = Bed::new();
    let start = script(&["echo main=$$; exec sh -c 'kill -STOP $$; exec sleep 1000'"]);
    bed.launch(&start);
    let main = process_in(&bed.wait_for(&start, "\n"), "main");
    eventually("the task pauses", || {
        fs::read_to_string(format!("/proc/{}/stat", main.as_raw_nonzero()))
            .unwrap()
            .contains(") T ")
    });
    bed.workers.interrupt(start.task);
    assert_eq!(bed.exit(&start), signaled(Signal::INT, true));
}

/// A task with a shell in the background, which therefore ignores the interrupt, and says how it takes SIGTERM. Returned
/// when both wait.
fn launch_with_background(bed: &Bed, on_term: &str) -> (TaskStart, Pid) {
    let background =
        format!("sh -c 'trap \"{on_term}\" TERM; echo background=$$; while :; do sleep 1000 & wait; done' &");
    let start = script(&[&format!("{background} echo main=$$; wait")]);
    bed.launch(&start);
    bed.wait_for(&start, "main=");
    let output = bed.wait_for(&start, "background=");
    wait_until_it_waits(process_in(&output, "main"));
    let background = process_in(&output, "background");
    wait_until_it_waits(background);
    (start, background)
}

#[test]
fn children_in_the_background_are_terminated() {
    let bed = Bed::new();
    let (start, background) = launch_with_background(&bed, "echo terminated; exit");
    bed.workers.interrupt(start.task);
    let exit = bed.exit(&start);
    assert!(exit.stopped && exit.note.is_empty(), "{exit:?}");
    assert!(bed.stdout(&start).ends_with("terminated\n"));
    assert!(is_gone(background));
}

#[test]
fn a_stopped_task_has_ended_only_when_nothing_of_it_is_left() {
    let bed = Bed::new();
    let (start, background) = launch_with_background(&bed, "echo ignored");
    bed.workers.interrupt(start.task);
    bed.wait_for(&start, "ignored");
    assert!(bed.exits.is_empty() && !is_gone(background));
    bed.workers.kill(start.task);
    assert!(bed.exit(&start).stopped);
    assert!(is_gone(background));
}

#[test]
fn without_proc_the_group_of_a_stopped_task_is_killed_unseen() {
    let bed = Bed::with(|_| {}, None);
    let (start, background) = launch_with_background(&bed, "echo ignored");
    bed.workers.interrupt(start.task);
    assert!(bed.exit(&start).stopped);
    eventually("the background is killed", || is_gone(background));
}

#[test]
fn a_task_that_was_stopped_before_its_launch_never_runs() {
    let bed = Bed::new();
    for stop in [Workers::interrupt, Workers::kill] {
        let start = script(&["echo ran"]);
        let prepared = bed.workers.prepare(start.clone());
        stop(&bed.workers, start.task);
        bed.workers.launch(prepared);
        let exit = TaskExit {
            outcome: Outcome::NotStarted("stopped before it started".to_owned()),
            stopped: true,
            note: String::new(),
        };
        assert_eq!(bed.exit(&start), exit);
        assert!(!bed.log(&start, StreamKind::Stdout).exists());
    }
}

#[test]
fn an_interrupt_at_any_moment_of_the_start_stops_the_task() {
    let bed = Bed::new();
    for spins in 0..40 {
        let start = script(&["exec sleep 1000"]);
        bed.launch(&start);
        let until = Instant::now() + Duration::from_micros(spins * 50);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        bed.workers.interrupt(start.task);
        // The shell can miss the interrupt right before `exec`.
        bed.workers.kill(start.task);
        let exit = bed.exit(&start);
        assert!(exit.stopped, "{exit:?}");
    }
}

#[test]
fn what_is_prepared_and_dropped_is_forgotten() {
    let bed = Bed::new();
    let start = script(&["true"]);
    let prepared = bed.workers.prepare(start.clone());
    assert_eq!(bed.workers.known(), 1);
    drop(prepared);
    assert_eq!(bed.workers.known(), 0);
    // A later attempt of the same task is another one: the end of the first must not take it away.
    let first = bed.workers.prepare(start.clone());
    let second = bed.workers.prepare(start.clone());
    drop(first);
    assert_eq!(bed.workers.known(), 1);
    bed.workers.launch(second);
    bed.exit(&start);
    assert_eq!(bed.workers.known(), 0);
}

#[test]
fn an_abandoned_task_is_reported_once_and_reaped_later() {
    let bed = Bed::new();
    let start = script(&["trap 'echo ignored' INT; sleep 1000 & echo main=$$; echo child=$!; while :; do wait; done"]);
    bed.launch(&start);
    let output = bed.wait_for(&start, "child=");
    let [main, child] = ["main", "child"].map(|name| process_in(&output, name));
    wait_until_it_waits(main);
    wait_until_it_is(child, "sleep");
    bed.workers.interrupt(start.task);
    bed.wait_for(&start, "ignored");
    bed.workers.abandon(start.task);
    bed.workers.abandon(start.task);
    let [main_number, child_number] = [main, child].map(Pid::as_raw_nonzero);
    let exit = TaskExit {
        outcome: Outcome::Signaled(Signal::KILL.as_raw()),
        stopped: true,
        note: format!("could not be killed: process {main_number} (`sh`), process {child_number} (`sleep`)"),
    };
    assert_eq!(bed.exit(&start), exit);
    assert_eq!((bed.workers.known(), bed.workers.idle()), (0, 0));
    kill_process(main, Signal::KILL).unwrap();
    eventually("the worker is free", || bed.workers.idle() == 1);
    assert!(test_kill_process(main).is_err(), "it is reaped");
    eventually("the child is killed with it", || is_gone(child));
    assert!(bed.exits.is_empty());
    // The worker is as good as before.
    let next = script(&["echo next"]);
    assert_eq!(bed.run(&next), exited(0, false));
    assert_eq!(bed.stdout(&next), "next\n");
}

// Background processes, terminals, pauses.

#[test]
fn a_daemon_of_a_task_that_ended_by_itself_is_left_alone() {
    let bed = Bed::new();
    let start = script(&["sleep 1000 >/dev/null 2>&1 & echo daemon=$!; exit 3"]);
    assert_eq!(bed.run(&start), exited(3, false));
    let daemon = process_in(&bed.stdout(&start), "daemon");
    bed.workers.kill(start.task);
    assert!(!is_gone(daemon));
    kill_process(daemon, Signal::KILL).unwrap();
}

#[test]
fn output_that_a_daemon_holds_is_cut_off() {
    let bed = Bed::new();
    let start = script(&["setsid sleep 1000 & echo daemon=$!"]);
    let before = Instant::now();
    let exit = bed.run(&start);
    assert!(before.elapsed() >= Duration::from_millis(200));
    assert_eq!(exit.outcome, Outcome::Exited(0));
    assert_eq!(
        exit.note,
        "output was cut off: a process in the background still held it 200 ms after the task ended"
    );
    let daemon = process_in(&bed.stdout(&start), "daemon");
    assert!(!is_gone(daemon));
    kill_process(daemon, Signal::KILL).unwrap();
    // The readers take up the next task.
    let next = script(&["echo next; echo error >&2"]);
    assert_eq!(bed.run(&next), exited(0, false));
    assert_eq!(
        (bed.stdout(&next).as_str(), bed.stderr(&next).as_str()),
        ("next\n", "error\n")
    );
}

#[test]
fn what_wants_a_terminal_is_killed_for_it() {
    for signal in ["TTIN", "TTOU"] {
        let bed = Bed::new();
        let line =
            format!("sh -c 'trap \"\" INT TERM; echo background=$$; sleep 1000' & read x <up; kill -{signal} $$");
        let fifo = bed.fifo("up");
        let start = script(&[&line.replace("up;", &format!("{};", fifo.display()))]);
        bed.launch(&start);
        let background = process_in(&bed.wait_for(&start, "\n"), "background");
        open_fifo(&fifo);
        let exit = TaskExit {
            outcome: Outcome::WantsTerminal,
            stopped: false,
            note: String::new(),
        };
        assert_eq!(bed.exit(&start), exit);
        assert!(is_gone(background));
    }
}

/// Lets who waits at it go on.
#[track_caller]
fn open_fifo(path: &Path) {
    use std::io::Write;
    writeln!(fs::OpenOptions::new().write(true).open(path).unwrap(), "go").unwrap();
}

#[test]
fn a_pause_is_noticed_once_and_does_not_end_the_task() {
    let bed = Bed::new();
    let start = script(&["echo main=$$; kill -STOP $$; echo on"]);
    bed.launch(&start);
    let main = process_in(&bed.wait_for(&start, "\n"), "main");
    let path = format!("/proc/{}/stat", main.as_raw_nonzero());
    eventually("the task pauses", || {
        fs::read_to_string(&path).unwrap().contains(") T ")
    });
    // As long as the news is there, `waitid` returns at once again and again.
    let news = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    eventually("the news is taken", || {
        waitid(WaitId::Pid(main), news).unwrap().is_none()
    });
    assert!(bed.exits.is_empty());
    kill_process(main, Signal::CONT).unwrap();
    assert_eq!(bed.exit(&start), exited(0, false));
    assert!(bed.stdout(&start).ends_with("on\n"));
}

// Output.

#[test]
fn output_is_kept_byte_for_byte() {
    let bed = Bed::new();
    let copy = bed.directory.join("copy");
    let start = script(&[&format!(
        "head -c 300000 /dev/urandom | tee {}; printf 'a\\000\\377\\r\\n' >&2",
        copy.display()
    )]);
    assert_eq!(bed.run(&start), exited(0, false));
    assert!(fs::read(bed.log(&start, StreamKind::Stdout)).unwrap() == fs::read(copy).unwrap());
    assert_eq!(fs::read(bed.log(&start, StreamKind::Stderr)).unwrap(), b"a\0\xff\r\n");
}

#[test]
fn logs_are_made_at_their_first_byte_for_this_user_alone() {
    let bed = Bed::new();
    let silent = script(&["true"]);
    bed.run(&silent);
    assert!(!bed.logs().exists());

    let start = script(&["echo x >&2"]);
    bed.run(&start);
    assert!(!bed.log(&start, StreamKind::Stdout).exists());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let log = bed.log(&start, StreamKind::Stderr);
    assert_eq!(mode(&log), 0o600);
    assert_eq!(mode(log.parent().unwrap()), 0o700);
    assert_eq!(mode(bed.logs()), 0o700);
}

fn retry(bed: &Bed, start: &TaskStart, text: &str) {
    bed.workers.tell_retry(start.task, &start.pipeline, text);
}

#[test]
fn what_comes_between_two_attempts_stands_between_their_outputs() {
    let bed = Bed::new();
    let start = script(&["echo attempt >&2; printf open >&2"]);
    bed.run(&start);
    for number in 2..20 {
        // Both write it that can; it is there once and at its place.
        retry(&bed, &start, &format!("attempt {number} starts now"));
        bed.run(&start);
    }
    let between: String = (2..20)
        .map(|number| format!("open\nprunner: attempt {number} starts now\nattempt\n"))
        .collect();
    assert_eq!(bed.stderr(&start), format!("attempt\n{between}open"));
}

#[test]
fn the_line_is_there_before_the_next_attempt_is() {
    let bed = Bed::new();
    let start = script(&["true"]);
    bed.run(&start);
    let waker = Arc::new(Waker::new().unwrap());
    let _follower = bed
        .followers
        .register(start.task, StreamKind::Stderr, Arc::clone(&waker));
    retry(&bed, &start, "attempt 2 starts in 5s");
    let mut waited_for = [PollFd::new(&waker, PollFlags::IN)];
    let ready = poll(
        &mut waited_for,
        timespec_until(Some(Instant::now() + PATIENCE)).as_ref(),
    );
    assert_eq!(ready, Ok(1));
    assert_eq!(bed.stderr(&start), "prunner: attempt 2 starts in 5s\n");
    bed.run(&start);
    assert_eq!(bed.stderr(&start), "prunner: attempt 2 starts in 5s\n");
}

#[test]
fn a_second_attempt_goes_on_in_the_same_log() {
    let bed = Bed::new();
    let start = script(&["echo attempt"]);
    bed.run(&start);
    bed.run(&start);
    assert_eq!(bed.stdout(&start), "attempt\nattempt\n");
}

#[test]
fn large_output_is_not_held_in_memory() {
    let peak_kib = || -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let bed = Bed::new();
    let before = peak_kib();
    let start = script(&["head -c 50000000 /dev/zero"]);
    assert_eq!(bed.run(&start), exited(0, false));
    assert_eq!(
        fs::metadata(bed.log(&start, StreamKind::Stdout)).unwrap().len(),
        50_000_000
    );
    let grown = peak_kib().saturating_sub(before);
    assert!(grown < 25_000, "grown by {grown} KiB");
}

#[test]
fn output_that_cannot_be_written_is_counted_and_the_task_goes_on() {
    let bed = Bed::with(
        |settings| {
            let file = settings.logs.as_ref().unwrap().with_file_name("file");
            fs::File::create(&file).unwrap();
            settings.logs = Some(file);
        },
        ProcessTable::open(),
    );
    let start = script(&["head -c 100000 /dev/zero; printf x >&2; exit 5"]);
    let exit = bed.run(&start);
    assert_eq!(exit.outcome, Outcome::Exited(5));
    let stdout = bed.log(&start, StreamKind::Stdout);
    let stderr = bed.log(&start, StreamKind::Stderr);
    let expected = format!(
        "100000 bytes were dropped of standard output: failed to write `{}`: not a directory; \
         1 byte was dropped of standard error: failed to write `{}`: not a directory",
        stdout.display(),
        stderr.display()
    );
    assert_eq!(exit.note, expected);
}

#[test]
fn a_log_that_can_be_written_again_goes_on() {
    let bed = Bed::with(
        |settings| {
            let file = settings.logs.as_ref().unwrap().with_file_name("file");
            fs::File::create(&file).unwrap();
            settings.logs = Some(file);
        },
        ProcessTable::open(),
    );
    let [dropped, repaired] = [bed.fifo("dropped"), bed.fifo("repaired")];
    let start = script(&[&format!(
        "echo lost; : >{}; read go <{}; echo kept",
        dropped.display(),
        repaired.display()
    )]);
    bed.launch(&start);
    drop(fs::File::open(&dropped).unwrap());
    // The task has printed; that it was read shows in nothing but the pipe, which is empty then.
    let pipe = pipe_of_running_task(&bed);
    eventually("the output is dropped", || {
        rustix::io::ioctl_fionread(&pipe).unwrap() == 0
    });
    drop(pipe);
    fs::remove_file(bed.logs()).unwrap();
    open_fifo(&repaired);
    let exit = bed.exit(&start);
    assert!(
        exit.note.starts_with("5 bytes were dropped of standard output: "),
        "{exit:?}"
    );
    assert_eq!(bed.stdout(&start), "kept\n");
}

/// The pipe that the only running task of this test prints to, opened anew through `/proc`.
fn pipe_of_running_task(bed: &Bed) -> fs::File {
    let table = ProcessTable::open().unwrap();
    let mark = format!("PRUNNER_MARK={}:", bed.directory.display());
    let is_ours = |process: &Pid| {
        let environment = fs::read(table.path(*process).join("environ")).unwrap_or_default();
        environment
            .split(|&byte| byte == 0)
            .any(|entry| entry.starts_with(mark.as_bytes()))
    };
    let main = table
        .processes()
        .unwrap()
        .flatten()
        .find(is_ours)
        .expect("the task runs");
    fs::File::open(table.path(main).join("fd/1")).unwrap()
}

#[test]
fn what_cannot_be_seen_has_its_grace() {
    let table = ProcessTable {
        root: "/nowhere".into(),
        ..ProcessTable::open().unwrap()
    };
    let bed = Bed::with(|_| {}, Some(table));
    let [up, told] = [bed.fifo("up"), bed.fifo("told")];
    // A shell that is interrupted just before its `exec` forgets that.
    let child = format!(
        "trap ': >{told}; exit' TERM; until read name </proc/$$/comm && [ $name = sleep ]; do :; done; : >{up}; \
         while :; do sleep 1000 & wait; done",
        up = up.display(),
        told = told.display()
    );
    let mut pipeline = pipeline(task(&["(eval \"$CHILD\") & exec sleep 1000"]));
    pipeline.tasks[0].env = vec![("CHILD".to_owned(), child)];
    let start = start(pipeline);
    bed.launch(&start);
    drop(fs::File::open(&up).unwrap());
    bed.workers.interrupt(start.task);
    // A group that is taken for empty would be killed, and nobody would open this.
    let (sender, receiver) = unbounded();
    let opener = thread::Builder::new().spawn(move || sender.send(fs::File::open(&told).is_ok()));
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok(true), "the child is told to end");
    drop(opener);
    bed.workers.kill(start.task);
    bed.workers.abandon(start.task);
    assert!(bed.exit(&start).stopped);
}

// What scripts and shells do with each other.

/// Runs the lines in every shell that there is.
#[track_caller]
fn check_script(lines: &[&str], allow_failure: bool, code: i32, stdout: &str) {
    let mut tried = 0;
    for shell in [
        &["sh"][..],
        &["dash"],
        &["bash"],
        &["bash", "-o", "posix"],
        &["busybox", "sh"],
    ] {
        let bed = Bed::new();
        let start = in_shell(shell, lines, allow_failure);
        let exit = bed.run(&start);
        if matches!(&exit.outcome, Outcome::NotStarted(why) if why.ends_with("not found in PATH")) {
            continue;
        }
        tried += 1;
        assert_eq!(
            (exit, bed.stdout(&start).as_str()),
            (exited(code, false), stdout),
            "{shell:?}: {lines:?}"
        );
    }
    assert!(tried > 0);
}

#[test]
fn the_first_line_that_fails_ends_the_task() {
    check_script(&["echo a", "false", "echo b"], false, 1, "a\n");
    check_script(&["echo a", "exit 5", "echo b"], false, 5, "a\n");
    check_script(&["echo a", "sh -c 'kill -9 $$'", "echo b"], false, 137, "a\n");
    check_script(&["echo a", "exit 0", "echo b"], false, 0, "a\n");
    check_script(&["false | true", "echo b"], false, 0, "b\n");
    check_script(&["false || true; echo a", "(exit 4)", "echo b"], false, 4, "a\n");
    check_script(&["return_four() { return 4; }", "return_four", "echo b"], false, 4, "");
}

#[test]
fn a_line_leaves_its_state_to_the_next() {
    check_script(&["x=1; f() { echo \"f $x\"; }", "f"], false, 0, "f 1\n");
    check_script(&["cd /", "pwd"], false, 0, "/\n");
    check_script(&["set -e", "false; echo a", "echo b"], false, 1, "");
    check_script(
        &["IFS=ab", "echo xax", "printf '%s,' $(echo 1a2)"],
        false,
        0,
        "xax\n1,2,",
    );
    check_script(&["cat <<END\nx $((1 + 1))\nEND", "echo b"], false, 0, "x 2\nb\n");
    check_script(&["exec 3>&1", "echo a >&3"], false, 0, "a\n");
    check_script(&["trap 'echo bye' EXIT", "exit 3"], false, 3, "bye\n");
}

#[test]
fn lines_are_separate() {
    check_script(&["echo a", "echo -n b", "-n"], false, 127, "a\nb");
    check_script(&["echo $# $0", "set -- 1 2", "echo $# $1"], false, 0, "0 sh\n2 1\n");
    check_script(&["for x in 1 2; do echo $x; break; done", "echo b"], false, 0, "1\nb\n");
    check_script(&["false", "echo never"], false, 1, "");
    check_script(&["echo \"it's\" '\"'"], false, 0, "it's \"\n");
    check_script(&["echo a\necho b\nfalse\necho c", "echo d"], false, 0, "a\nb\nc\nd\n");
    check_script(
        &["echo a # a comment", "# only a comment", "echo b"],
        false,
        0,
        "a\nb\n",
    );
    check_script(&["cat", "echo input is empty"], false, 0, "input is empty\n");
}

#[test]
fn with_allow_failure_later_lines_run_and_the_last_failure_counts() {
    check_script(&["false", "echo b"], true, 1, "b\n");
    check_script(&["(exit 4)", "(exit 5)", "echo b"], true, 5, "b\n");
    check_script(&["echo a", "true"], true, 0, "a\n");
    check_script(&["false", "exit 0", "echo b"], true, 0, "");
}

#[test]
fn an_open_quote_does_not_swallow_the_next_line() {
    let bed = Bed::new();
    for allow_failure in [false, true] {
        let start = in_shell(&["sh"], &["echo a", "echo 'open", "echo b"], allow_failure);
        let exit = bed.run(&start);
        assert!(!matches!(exit.outcome, Outcome::Exited(0)), "{exit:?}");
        assert!(!bed.stdout(&start).contains("open"));
        assert!(!bed.stderr(&start).is_empty());
    }
}

#[test]
fn a_shell_can_have_arguments() {
    let bed = Bed::new();
    let start = in_shell(&["env", "A=1", "sh", "-u"], &["echo $A $0", "echo $undefined"], false);
    assert!(!matches!(bed.run(&start).outcome, Outcome::Exited(0)));
    assert_eq!(bed.stdout(&start), "1 sh\n");
}

#[test]
fn a_text_that_is_too_long_for_an_argument_goes_through_standard_input() {
    for shell in [&["sh"][..], &["bash"]] {
        let bed = Bed::new();
        let long = format!("x='{}'", "0123456789".repeat(30_000));
        let start = in_shell(
            shell,
            &[
                &long,
                "echo ${#x} $0 $#; cat; trap 'exit 9' INT",
                "kill -INT $$",
                "echo b",
            ],
            false,
        );
        assert_eq!(bed.run(&start), exited(9, false), "{shell:?}");
        assert_eq!(bed.stdout(&start), "300000 sh 0\n");
    }
}

// Environment and templates.

#[test]
fn later_layers_of_the_environment_win() {
    let bed = Bed::with(
        |settings| {
            settings.environment = vec![
                ("PATH".into(), std::env::var_os("PATH").unwrap()),
                ("A".into(), "base".into()),
                ("B".into(), "base".into()),
                ("TASK_NAME".into(), "base".into()),
            ];
        },
        ProcessTable::open(),
    );
    let mut pipeline = pipeline(task(&["env | grep -v '^PWD\\|^SHLVL\\|^_\\|^PATH\\|^OLDPWD' | sort"]));
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|&(name, value)| (name.into(), value.into())).collect();
    pipeline.env = pairs(&[
        ("B", "pipeline"),
        ("C", "$A << .x >>"),
        ("PRUNNER_PIPELINE", "mine"),
        ("PRUNNER_VAR_x", "mine"),
    ]);
    pipeline.tasks[0].env = pairs(&[
        ("PRUNNER_TASK", "task's"),
        ("PRUNNER_VAR_z", "task's"),
        ("PRUNNER_MARK", "mine"),
    ]);
    let mut start = start(pipeline);
    start.variables = Arc::new(Variables::from_iter([
        ("x".to_owned(), json!("text")),
        ("list".to_owned(), json!([1, "a"])),
        ("null".to_owned(), json!(null)),
        ("z".to_owned(), json!(1)),
        ("no-name".to_owned(), json!(1)),
        ("fits".to_owned(), json!("f".repeat(65_536))),
        ("large".to_owned(), json!("l".repeat(65_537))),
    ]));
    assert_eq!(bed.run(&start), exited(0, false));
    let job = start.task.job;
    let fits = "f".repeat(65_536);
    let data = bed.directory.display();
    let expected = format!(
        "A=base\nB=pipeline\nC=$A << .x >>\nPRUNNER_JOB_ID={job}\nPRUNNER_MARK={data}:{job}:build\nPRUNNER_PIPELINE=release\n\
         PRUNNER_TASK=task's\nPRUNNER_VAR_fits={fits}\nPRUNNER_VAR_list=[1,\"a\"]\nPRUNNER_VAR_null=\nPRUNNER_VAR_x=text\n\
         PRUNNER_VAR_z=task's\nTASK_NAME=build\n"
    );
    assert!(
        bed.stdout(&start) == expected,
        "{}",
        bed.stdout(&start).replace(&fits, "fits")
    );
}

#[test]
fn scripts_are_rendered_with_the_variables_and_the_id_of_the_job() {
    let bed = Bed::new();
    let mut start = script(&["echo << .x >> << .__jobID >>"]);
    start.variables = Arc::new(Variables::from_iter([("x".to_owned(), json!("$PRUNNER_TASK"))]));
    assert_eq!(bed.run(&start), exited(0, false));
    assert_eq!(bed.stdout(&start), format!("build {}\n", start.task.job));

    let undefined = script(&["true", "echo << .y >>"]);
    let why = "line 2 needs the variable `y`, which is not defined";
    let exit = bed.run(&undefined);
    assert!(
        matches!(&exit.outcome, Outcome::NotStarted(text) if text.starts_with(why)),
        "{exit:?}"
    );
}

#[test]
fn on_error_gets_the_failure() {
    let bed = Bed::new();
    let mut failed = pipeline(task(&["echo out; printf 'e\\000\\377' >&2; exit 7"]));
    let mut on_error = task(&[
        "echo '<< .failedTaskName >> << .failedTaskExitCode >> << .failedTaskError >> << .failedTaskStdout >>'; env | grep ^PRUNNER_VAR_failed | sort",
    ]);
    on_error.name = "on_error".into();
    failed.on_error = Some(on_error);
    let failed = start(failed);
    assert_eq!(bed.run(&failed), exited(7, false));
    let on_error = TaskStart {
        task: TaskRef {
            index: 1,
            ..failed.task
        },
        failure: Some(Failure {
            task_name: "build".into(),
            exit_code: 7,
            error: "exit status 7".to_owned(),
        }),
        ..failed
    };
    assert_eq!(bed.run(&on_error), exited(0, false));
    assert_eq!(
        bed.stdout(&on_error),
        "build 7 exit status 7 out\n\n\
         PRUNNER_VAR_failedTaskError=exit status 7\nPRUNNER_VAR_failedTaskExitCode=7\nPRUNNER_VAR_failedTaskName=build\n\
         PRUNNER_VAR_failedTaskStderr=e\u{fffd}\u{fffd}\nPRUNNER_VAR_failedTaskStdout=out\n"
    );
}

#[track_caller]
fn check_tail(content: &[u8], limit: u64, expected: &str) {
    let bed = Bed::new();
    let path = bed.directory.join("log");
    std::io::Write::write_all(&mut fs::File::create(&path).unwrap(), content).unwrap();
    assert_eq!(output::tail(&path, limit), expected);
}

#[test]
fn the_tail_begins_with_a_line_or_else_with_a_character() {
    check_tail(b"one\ntwo\n", 8, "one\ntwo\n");
    check_tail(b"one\ntwo\n", 7, "two\n");
    check_tail(b"one\ntwo\n", 4, "two\n");
    check_tail(b"one\ntwo\n", 3, "wo\n");
    check_tail(b"one\ntwo", 5, "two");
    check_tail("aäöü".as_bytes(), 5, "öü");
    check_tail("aäöü\n".as_bytes(), 4, "ü\n");
    check_tail(b"a\0\xff\n", 100, "a\u{fffd}\u{fffd}\n");
    check_tail(b"abc\0\0", 5, "\u{fffd}");
    check_tail(b"", 5, "");
    assert_eq!(output::tail(Path::new("/nowhere/log"), 5), "");
}

// The pool.

#[test]
fn workers_are_used_again_and_all_but_one_end() {
    let bed = Bed::new();
    let all = [(); 3].map(|()| launch_sleeper(&bed));
    for start in &all {
        bed.workers.interrupt(start.task);
        bed.exit(start);
    }
    assert_eq!(bed.workers.made(), 3);
    eventually("all but one have ended", || bed.workers.idle() == 1);
    for _ in 0..20 {
        bed.run(&script(&["true"]));
    }
    assert_eq!(bed.workers.made(), 3);
}

#[test]
fn a_worker_that_breaks_down_ends_its_task() {
    let bed = Bed::new();
    let mut nothing = script(&["true"]);
    nothing.task.index = 1;
    let exit = bed.run(&nothing);
    assert!(
        matches!(&exit.outcome, Outcome::NotStarted(why) if why.contains("a bug")),
        "{exit:?}"
    );
    assert_eq!((bed.workers.known(), bed.workers.idle()), (0, 0));
    assert_eq!(bed.run(&script(&["true"])), exited(0, false));
}
