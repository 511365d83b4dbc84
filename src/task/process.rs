//! One task as a process: started, signaled, waited for and reaped.
//!
//! Unaware of the pool of workers and of deadlines. The one lock here, in [`Control`], guards both signaling and reaping.
//! The surprise: a process is waited for twice. First without reaping, so that its group's number stays ours while we
//! decide whether something in it must still be signaled, then to reap it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{Access, MemfdFlags, access, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, kill_process_group, waitid};

use super::environment::{self, Environment};
use super::follow::Followers;
use super::group::{LOOK_AGAIN, ProcessTable, wait_for_wake};
use super::output::{Cutter, Output, Starts};
use super::script::{LONGEST_ARGUMENT, READ_STANDARD_INPUT, wrap};
use super::{Settings, lock};
use crate::definition::bounds::StopSignal;
use crate::reason::reason;
use crate::scheduler::{Outcome, TaskExit, TaskStart};
use crate::template::{Scope, Variables};
use crate::waker::Waker;

/// What the search path is where the environment has none.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// How long the processes of a task that wants a terminal are killed again and again. It is the one kill that nobody else
/// gives up, because nobody else knows of it.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// So many processes that could not be killed are named.
const NAMED: usize = 10;

/// What all tasks of a pool are run with.
pub(super) struct Context {
    pub settings: Settings,
    pub followers: Arc<Followers>,
    /// `None` where there is no `/proc`: then nobody sees what is left of a group.
    pub table: Option<ProcessTable>,
    pub starts: Starts,
}

/// How others stop a task while its worker waits for it. Exists from before the task's process until after its end.
pub(super) struct Control {
    state: Mutex<State>,
}

struct State {
    stage: Stage,
    /// A stop was asked for. Before there is a process it calls the start off.
    interrupt: bool,
    /// The grace is over.
    kill: bool,
    /// It has been reported already: the worker reaps without a word.
    reported: bool,
    /// How the main process ended, as soon as that is known.
    outcome: Option<Outcome>,
    worker: Option<Handles>,
    /// What asks it to end.
    stop_signal: Signal,
}

/// How the worker that has the task is reached.
struct Handles {
    waker: Arc<Waker>,
    cutter: Arc<Cutter>,
}

/// What is to be done when the main process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It ended by itself, and what it left in the background is left alone.
    Reaped,
    /// Somebody stopped the task: the rest of its group must go, and then it is reaped.
    Stopped,
    /// The same, but nobody else knows of it.
    KilledByUs,
}

#[derive(Clone, Copy)]
enum Stage {
    /// No process yet.
    Starting,
    /// The leader of the group is not reaped: it may be signaled.
    Alive(Pid),
    Reaped,
}

impl Control {
    pub(super) fn new() -> Control {
        Control {
            state: Mutex::new(State {
                stage: Stage::Starting,
                interrupt: false,
                kill: false,
                reported: false,
                outcome: None,
                worker: None,
                stop_signal: Signal::INT,
            }),
        }
    }

    /// Asks all processes of the task to end.
    pub(super) fn interrupt(&self) {
        let mut state = lock(&self.state);
        match state.stage {
            Stage::Starting => state.interrupt = true,
            Stage::Alive(leader) => {
                state.interrupt = true;
                ask_to_end(leader, state.stop_signal);
            }
            Stage::Reaped => {}
        }
    }

    /// The grace is over: the worker goes on with it until nothing is left.
    pub(super) fn kill(&self) {
        let mut state = lock(&self.state);
        match state.stage {
            Stage::Starting => state.kill = true,
            Stage::Alive(leader) => {
                state.kill = true;
                signal(leader, Signal::KILL);
                if let Some(worker) = &state.worker {
                    worker.waker.wake();
                }
            }
            Stage::Reaped => {}
        }
    }

    /// Nobody waits for it any longer: the exit to report now, or `None` if it has been reported.
    pub(super) fn abandon(&self, table: Option<&ProcessTable>) -> Option<TaskExit> {
        let mut state = lock(&self.state);
        if state.reported {
            return None;
        }
        state.reported = true;
        // Where the start hangs: nothing of it may live on when it comes through after all.
        state.kill = true;
        let note = match state.stage {
            Stage::Starting => String::new(),
            Stage::Alive(leader) => {
                let main = state.outcome.is_none().then_some(leader);
                let members = table.and_then(|table| table.members(leader).ok()).unwrap_or_default();
                not_killed(table, &main.into_iter().chain(members).collect::<Vec<Pid>>())
            }
            Stage::Reaped => "the end of its output could not be written".to_owned(),
        };
        if let Some(worker) = &state.worker {
            // Inside the lock: the worker takes up no other task before it had the lock again.
            worker.cutter.cut();
            worker.waker.wake();
        }
        let outcome = state.outcome.clone().unwrap_or_else(|| match state.stage {
            Stage::Starting => Outcome::NotStarted(CALLED_OFF.to_owned()),
            Stage::Alive(_) | Stage::Reaped => Outcome::Signaled(Signal::KILL.as_raw()),
        });
        Some(TaskExit {
            outcome,
            stopped: true,
            note,
        })
    }

    /// Whether a stop came before there was a process.
    pub(super) fn is_called_off(&self) -> bool {
        let state = lock(&self.state);
        state.interrupt || state.kill || state.reported
    }

    /// True once: for who reports the exit.
    pub(super) fn claim_report(&self) -> bool {
        !std::mem::replace(&mut lock(&self.state).reported, true)
    }

    /// The worker can't go on with it: nothing of it may live on. It is never reaped, so that its number stays ours.
    pub(super) fn give_up(&self) {
        let state = lock(&self.state);
        if let Stage::Alive(leader) = state.stage {
            signal(leader, Signal::KILL);
        }
        if let Some(worker) = &state.worker {
            worker.cutter.cut();
        }
    }

    fn take_up(&self, handles: Handles, stop_signal: StopSignal) {
        let mut state = lock(&self.state);
        state.worker = Some(handles);
        state.stop_signal = Signal::from_named_raw(stop_signal.number).expect("definitions name signals that exist");
    }

    /// There is a process now. Delivers what was asked for while it was made.
    fn started(&self, leader: Pid) {
        let mut state = lock(&self.state);
        state.stage = Stage::Alive(leader);
        if state.kill {
            signal(leader, Signal::KILL);
        } else if state.interrupt {
            ask_to_end(leader, state.stop_signal);
        }
    }

    fn signal(&self, signals: &[Signal]) {
        let state = lock(&self.state);
        if let Stage::Alive(leader) = state.stage {
            for &each in signals {
                signal(leader, each);
            }
        }
    }

    /// The main process has ended and is not reaped: what counts as stopped is decided here. Reaps it if it ended by itself.
    fn seen_to_end(&self, child: &mut Child, outcome: Outcome) -> End {
        let mut state = lock(&self.state);
        let end = if state.interrupt || state.kill {
            End::Stopped
        } else if outcome == Outcome::WantsTerminal {
            End::KilledByUs
        } else {
            reap(child, &mut state);
            End::Reaped
        };
        // It was stopped already when it asked for the terminal.
        let as_stopped = end == End::Stopped && outcome == Outcome::WantsTerminal;
        state.outcome = Some(if as_stopped {
            Outcome::Signaled(Signal::KILL.as_raw())
        } else {
            outcome
        });
        end
    }

    fn reap(&self, child: &mut Child) {
        let mut state = lock(&self.state);
        if let Stage::Alive(leader) = state.stage {
            // The group was empty when it was looked at; what was forked just then is gone with this.
            signal(leader, Signal::KILL);
        }
        reap(child, &mut state);
    }

    fn is_stopped(&self) -> bool {
        let state = lock(&self.state);
        state.interrupt || state.kill
    }

    fn is_killed(&self) -> bool {
        lock(&self.state).kill
    }

    fn outcome(&self) -> Option<Outcome> {
        lock(&self.state).outcome.clone()
    }

    fn is_reported(&self) -> bool {
        lock(&self.state).reported
    }
}

fn reap(child: &mut Child, state: &mut State) {
    // It has ended, so this does not block. Where it fails there is nothing to reap.
    let _ = child.wait();
    state.stage = Stage::Reaped;
}

fn ask_to_end(leader: Pid, stop_signal: Signal) {
    signal(leader, stop_signal);
    // What is stopped would never take notice.
    signal(leader, Signal::CONT);
}

/// Sends to the group of this leader, which must not be reaped. Fails only where nothing is left, or where it belongs to
/// another user: who looks at the group afterwards sees it.
fn signal(leader: Pid, signal: Signal) {
    let _ = kill_process_group(leader, signal);
    if signal == Signal::KILL {
        // The leader itself can have gone over to another group.
        let _ = kill_process(leader, signal);
    }
}

pub(super) const CALLED_OFF: &str = "stopped before it started";

/// Runs the task from its start to the end of its output. The exit says whether it was stopped before it was seen to end.
pub(super) fn run(
    start: &TaskStart,
    control: &Control,
    context: &Context,
    output: &mut Output,
    waker: &Arc<Waker>,
) -> TaskExit {
    let not_started = |why: String| TaskExit {
        outcome: Outcome::NotStarted(why),
        stopped: control.is_stopped(),
        note: String::new(),
    };
    let task = start.pipeline.task(start.task.index);
    let handles = Handles {
        waker: Arc::clone(waker),
        cutter: output.cutter(),
    };
    control.take_up(handles, task.bounds.stop_signal);
    if control.is_called_off() {
        return not_started(CALLED_OFF.to_owned());
    }
    let launch = match Launch::prepare(start, &context.settings) {
        Ok(launch) => launch,
        Err(why) => return not_started(why),
    };
    let limit = task.bounds.log_limit.unwrap_or(context.settings.log_limit);
    let pipes = match output.start(start.task, &task.name, limit, &context.settings, &context.followers) {
        Ok(pipes) => pipes,
        Err(error) => return not_started(format!("failed to make a pipe: {}", reason(&error))),
    };
    // The pipes are closed here in any case.
    let under_way = context.starts.begin();
    let spawned = launch.spawn(pipes);
    drop(under_way);
    let mut child = match spawned {
        Ok(child) => child,
        Err(why) => {
            output.finish(&context.starts);
            return not_started(why);
        }
    };
    let leader = Pid::from_child(&child);
    control.started(leader);
    let outcome = wait_without_reaping(leader, control);
    let mut notes = Vec::new();
    let end = control.seen_to_end(&mut child, outcome);
    if end != End::Reaped {
        let give_up = (end == End::KilledByUs).then(|| Instant::now() + KILL_PATIENCE);
        notes.extend(clear_group(leader, control, context.table.as_ref(), waker, give_up));
        control.reap(&mut child);
    }
    notes.extend(output.finish(&context.starts));
    TaskExit {
        outcome: control.outcome().expect("it was seen to end"),
        stopped: end == End::Stopped,
        note: notes.join("; "),
    }
}

/// All that is needed to start the shell.
struct Launch<'a> {
    shell: &'a [String],
    program: PathBuf,
    text: String,
    environment: Environment,
}

impl<'a> Launch<'a> {
    fn prepare(start: &'a TaskStart, settings: &'a Settings) -> Result<Launch<'a>, String> {
        let task = start.pipeline.task(start.task.index);
        let shell = task.shell.as_deref().unwrap_or(&settings.shell);
        let given = environment::given(start, settings.logs.as_deref());
        let lines = render(start, &given)?;
        let environment = environment::of_task(start, &given, settings);
        if let Some((name, _)) = environment.iter().find(|(name, value)| has_nul(name) || has_nul(value)) {
            let name = name.to_string_lossy().replace('\0', "\u{fffd}");
            return Err(format!(
                "the environment variable `{name}` holds a NUL character, which no process can be given"
            ));
        }
        if let Some(argument) = shell.iter().find(|argument| argument.contains('\0')) {
            let argument = argument.replace('\0', "\u{fffd}");
            return Err(format!(
                "the shell's argument `{argument}` holds a NUL character, which no process can be given"
            ));
        }
        let path = environment.get(OsStr::new("PATH")).map(OsString::as_os_str);
        let name = shell.first().map_or("", String::as_str);
        Ok(Launch {
            program: find_program(name, path).map_err(|why| format!("failed to start the shell `{name}`: {why}"))?,
            shell,
            text: wrap(&lines, task.allow_failure, task.bounds.stop_signal),
            environment,
        })
    }

    /// The way to start a process that takes no copy of our memory's tables (`posix_spawn`) is open only as long as the
    /// program has a path and nothing runs between fork and exec.
    fn spawn(self, [stdout, stderr]: [OwnedFd; 2]) -> Result<Child, String> {
        let failed = |error: &io::Error| {
            let hint = if error.raw_os_error() == Some(Errno::TOOBIG.raw_os_error()) {
                "; its environment and the job's variables in it are too large"
            } else {
                ""
            };
            format!("failed to start the shell `{}`: {}{hint}", self.shell[0], reason(error))
        };
        let is_long = self.text.len() > LONGEST_ARGUMENT;
        let (argument, input) = if is_long {
            (READ_STANDARD_INPUT, in_memory(self.text.as_bytes()))
        } else {
            (self.text.as_str(), empty_input())
        };
        let input = input.map_err(|error| failed(&error))?;
        #[expect(clippy::disallowed_methods, reason = "the one place that starts tasks")]
        let mut command = Command::new(&self.program);
        command
            .arg0(&self.shell[0])
            .args(&self.shell[1..])
            .args(["-c", argument, "sh"])
            .env_clear()
            .envs(&self.environment)
            .stdin(input)
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0);
        // The command holds the pipes; it ends with this function.
        command.spawn().map_err(|error| failed(&error))
    }
}

fn render(start: &TaskStart, given: &Variables) -> Result<Vec<String>, String> {
    let scope = Scope {
        variables: &start.variables,
        given,
        later: &[],
    };
    let script = &start.pipeline.task(start.task.index).script;
    let mut lines = Vec::with_capacity(script.len());
    for (number, line) in (1..).zip(script) {
        let line = line.render(&scope).map_err(|undefined| {
            let hint = undefined.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            format!(
                "line {number} needs the variable `{}`, which is not defined{hint}",
                undefined.variable
            )
        })?;
        if line.contains('\0') {
            return Err(format!(
                "line {number} holds a NUL character, which no shell can be given"
            ));
        }
        lines.push(line);
    }
    Ok(lines)
}

fn has_nul(text: &OsStr) -> bool {
    text.as_encoded_bytes().contains(&0)
}

/// As a shell looks for a command. An empty entry of the path is the current directory.
fn find_program(name: &str, path: Option<&OsStr>) -> Result<PathBuf, String> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let mut why = "not found in PATH";
    for directory in std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        // Never a bare name: that would be looked for in our own path.
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &directory
        };
        let candidate = directory.join(name);
        if !candidate.is_file() {
            continue;
        }
        match access(&candidate, Access::EXEC_OK) {
            Ok(()) => return Ok(candidate),
            Err(_) => why = "what PATH has of that name is not executable",
        }
    }
    Err(why.to_owned())
}

fn empty_input() -> io::Result<Stdio> {
    // An empty root has no devices; a file without content reads the same.
    File::open("/dev/null").map(Stdio::from).or_else(|_| in_memory(b""))
}

/// A file without a name: a pipe would need somebody to fill it.
fn in_memory(content: &[u8]) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create("prunner-script", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}

/// Blocks until the main process has ended. It is not reaped then.
fn wait_without_reaping(leader: Pid, control: &Control) -> Outcome {
    let mut wants_terminal = false;
    let mut options = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
    loop {
        let status = match waitid(WaitId::Pid(leader), options) {
            Ok(Some(status)) => status,
            Ok(None) | Err(Errno::INTR) => continue,
            // Only where a parent made us ignore the ends of children, which the start of the program undoes.
            Err(error) => return Outcome::NotStarted(format!("lost its process: {error}")),
        };
        match status.stopping_signal().and_then(Signal::from_named_raw) {
            Some(Signal::TTIN | Signal::TTOU) => {
                control.signal(&[Signal::KILL]);
                wants_terminal = true;
                options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            }
            // Somebody made it pause and will make it go on. Take the news away, or it comes again at once.
            Some(_) => {
                let taken = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
                let _ = waitid(WaitId::Pid(leader), taken);
            }
            None if wants_terminal => return Outcome::WantsTerminal,
            None => return outcome(&status),
        }
    }
}

fn outcome(status: &WaitIdStatus) -> Outcome {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Outcome::Exited(code),
        (None, Some(signal)) => Outcome::Signaled(signal),
        (None, None) => Outcome::NotStarted("its process ended in a way that is not known".to_owned()),
    }
}

/// Ends what is left of the group of a task that was stopped; its main process has ended already. Returns what a person
/// should know.
///
/// `give_up` is set where nobody else asked for it and so nobody else gives it up: then it is a kill from the start.
fn clear_group(
    leader: Pid,
    control: &Control,
    table: Option<&ProcessTable>,
    waker: &Waker,
    give_up: Option<Instant>,
) -> Option<String> {
    let Some(table) = table else {
        control.signal(&[Signal::TERM, Signal::KILL]);
        return None;
    };
    let mut terminated = false;
    let mut seen_empty = false;
    loop {
        // Before looking at what was asked for: what comes later wakes the wait.
        waker.clear();
        let kill = give_up.is_some() || control.is_killed();
        if control.is_reported() {
            return None;
        }
        let members = table.members(leader);
        if members.as_ref().is_ok_and(Vec::is_empty) {
            // Twice: a process can hide from one look by handing over to a child.
            if seen_empty {
                return None;
            }
            seen_empty = true;
            continue;
        }
        seen_empty = false;
        if give_up.is_some_and(|give_up| Instant::now() >= give_up) {
            return Some(not_killed(Some(table), &members.unwrap_or_default()));
        }
        if kill {
            control.signal(&[Signal::KILL]);
        } else if !terminated {
            // The children that a shell starts with `&` ignore an interrupt.
            control.signal(&[Signal::TERM, Signal::CONT]);
            terminated = true;
        }
        match members {
            Ok(members) => table.wait_for_exits(leader, &members, waker.as_fd(), kill.then_some(LOOK_AGAIN)),
            // No descriptors left: what can't be seen may still use its grace.
            Err(_) => wait_for_wake(waker.as_fd(), Instant::now() + LOOK_AGAIN),
        }
    }
}

/// Says what lives in spite of all.
fn not_killed(table: Option<&ProcessTable>, processes: &[Pid]) -> String {
    let mut names: Vec<String> = processes
        .iter()
        .take(NAMED)
        .map(|&process| match table {
            Some(table) => table.describe(process),
            None => format!("process {}", process.as_raw_nonzero()),
        })
        .collect();
    if processes.len() > NAMED {
        names.push(format!("{} more", processes.len() - NAMED));
    }
    if names.is_empty() {
        return "could not be killed".to_owned();
    }
    format!("could not be killed: {}", names.join(", "))
}
