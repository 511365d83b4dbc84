//! The pool of workers, the threads that run one task each.
//!
//! The pool never queues: whoever launches tasks limits their number, and a task that was launched runs. A worker keeps its
//! two reader threads from task to task, because making threads would cost as much as making processes. Unaware of
//! what a task is. The surprise: the last idle worker stays for ever, without any wake-up; others end when they have been
//! idle for a second.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never};

use super::follow::Followers;
use super::group::{LOOK_AGAIN, ProcessTable};
use super::output::{Output, Starts, append_line};
use super::process::{self, Context, Control};
use super::{Settings, lock};
use crate::definition::Pipeline;
use crate::job::TaskRef;
use crate::reason::reason;
use crate::scheduler::{Outcome, TaskExit, TaskStart};
use crate::waker::Waker;

/// Longer than the pause between the tasks of a busy server, short enough that a burst leaves no threads behind.
const LINGER: Duration = Duration::from_secs(1);

type Report = Box<dyn Fn(TaskRef, TaskExit) + Send + Sync>;

/// Runs tasks, and stops them. Dropped, it lets the tasks that run end by themselves.
pub(crate) struct Workers {
    shared: Arc<Shared>,
}

/// A task that can be stopped already and does not run yet.
pub(crate) struct PreparedTask {
    /// `None` once it is launched: from then on the registration ends with the report.
    assignment: Option<Assignment>,
    shared: Arc<Shared>,
}

struct Shared {
    context: Context,
    report: Report,
    /// Every task that was prepared and is not reported.
    tasks: Mutex<HashMap<TaskRef, Arc<Control>>>,
    pool: Mutex<Pool>,
    /// Lines between two attempts that are not written yet.
    lines: Mutex<HashMap<TaskRef, Arc<Line>>>,
}

/// How long what was killed may take to end, where nobody waits for it in an orderly way.
const PATIENCE_AFTER_KILL: Duration = Duration::from_secs(5);

/// What is said in a task's log before its next attempt. Whoever comes first writes it: a worker at once, so that it can be
/// read while the task waits, or the one that has the next attempt, so that it stands before that one's output.
struct Line {
    task: TaskRef,
    task_name: Arc<str>,
    text: String,
    is_written: Mutex<bool>,
}

struct Pool {
    /// Those behind the first end after [`LINGER`].
    idle: Vec<IdleWorker>,
    next_number: u64,
    is_closed: bool,
}

struct IdleWorker {
    number: u64,
    /// `None`: end.
    orders: Sender<Option<Work>>,
}

/// What a worker does next.
#[derive(Clone)]
enum Work {
    Run(Assignment),
    Write(Arc<Line>),
}

#[derive(Clone)]
struct Assignment {
    start: TaskStart,
    control: Arc<Control>,
    /// To be written before it starts.
    line: Option<Arc<Line>>,
}

impl Workers {
    /// `report` is called once for every task that is launched or abandoned, from any thread; it must not block.
    pub(crate) fn new(settings: Settings, followers: Arc<Followers>, report: Report) -> Workers {
        Workers::with_table(settings, followers, report, ProcessTable::open())
    }

    pub(super) fn with_table(
        settings: Settings,
        followers: Arc<Followers>,
        report: Report,
        table: Option<ProcessTable>,
    ) -> Workers {
        Workers {
            shared: Arc::new(Shared {
                context: Context {
                    settings,
                    followers,
                    table,
                    starts: Starts::default(),
                },
                report,
                tasks: Mutex::default(),
                lines: Mutex::default(),
                pool: Mutex::new(Pool {
                    idle: Vec::new(),
                    next_number: 1,
                    is_closed: false,
                }),
            }),
        }
    }

    /// Registers the task, so that it can be stopped from now on. Drop what this returns, and it was never there.
    pub(crate) fn prepare(&self, start: TaskStart) -> PreparedTask {
        let control = Arc::new(Control::new());
        lock(&self.shared.tasks).insert(start.task, Arc::clone(&control));
        let line = lock(&self.shared.lines).get(&start.task).cloned();
        PreparedTask {
            assignment: Some(Assignment { start, control, line }),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Starts the task, on an idle worker or a new one. If it was stopped since it was prepared, it is reported as not
    /// started instead, before this returns.
    pub(crate) fn launch(&self, mut task: PreparedTask) {
        let assignment = task
            .assignment
            .take()
            .expect("only `launch` takes it, together with the task");
        if assignment.control.is_called_off() {
            let exit = TaskExit {
                outcome: Outcome::NotStarted(process::CALLED_OFF.to_owned()),
                stopped: true,
                note: String::new(),
            };
            self.shared.end(&assignment, exit);
            return;
        }
        self.shared.hand_over(Work::Run(assignment));
    }

    /// Says in the log of the task's standard error what comes between the attempt that has ended and the next one.
    pub(crate) fn tell_retry(&self, task: TaskRef, pipeline: &Pipeline, text: &str) {
        let line = Arc::new(Line {
            task,
            task_name: Arc::clone(&pipeline.task(task.index).name),
            text: format!("prunner: {text}"),
            is_written: Mutex::new(false),
        });
        lock(&self.shared.lines).insert(task, Arc::clone(&line));
        self.shared.hand_over(Work::Write(line));
    }

    /// The task's stop signal, then SIGCONT, to all its processes. Nothing happens if it has ended.
    pub(crate) fn interrupt(&self, task: TaskRef) {
        if let Some(control) = self.shared.control(task) {
            control.interrupt();
        }
    }

    /// The grace is over: SIGKILL to all processes of the task, again and again until nothing is left.
    pub(crate) fn kill(&self, task: TaskRef) {
        if let Some(control) = self.shared.control(task) {
            control.kill();
        }
    }

    /// The kill had no effect: reports the task as ended, before this returns. Its worker goes on to wait for the main
    /// process.
    pub(crate) fn abandon(&self, task: TaskRef) {
        let Some(control) = self.shared.control(task) else {
            return;
        };
        if let Some(exit) = control.abandon(self.shared.context.table.as_ref()) {
            self.shared.forget(task, &control);
            (self.shared.report)(task, exit);
        }
    }

    /// For when nobody decides any more: interrupts every task, kills what is left after the grace, and returns when
    /// nothing runs, or some time after the kill.
    pub(crate) fn stop_all(&self, grace: Duration) {
        for control in self.controls() {
            control.interrupt();
        }
        self.wait_for_the_last(grace);
        for control in self.controls() {
            control.kill();
        }
        self.wait_for_the_last(PATIENCE_AFTER_KILL);
    }

    fn controls(&self) -> Vec<Arc<Control>> {
        lock(&self.shared.tasks).values().cloned().collect()
    }

    fn wait_for_the_last(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while !lock(&self.shared.tasks).is_empty() && Instant::now() < deadline {
            let _ = never::<()>().recv_timeout(LOOK_AGAIN);
        }
    }
}

#[cfg(test)]
impl Workers {
    /// Tasks that are prepared or run.
    pub(super) fn known(&self) -> usize {
        lock(&self.shared.tasks).len()
    }

    pub(super) fn kill_all(&self) {
        for control in self.controls() {
            control.kill();
        }
    }

    pub(super) fn idle(&self) -> usize {
        lock(&self.shared.pool).idle.len()
    }

    /// Workers so far.
    pub(super) fn made(&self) -> u64 {
        lock(&self.shared.pool).next_number - 1
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut pool = lock(&self.shared.pool);
        pool.is_closed = true;
        for worker in pool.idle.drain(..) {
            // It is idle, so there is room; one that is gone needs no word.
            let _ = worker.orders.send(None);
        }
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Workers").finish_non_exhaustive()
    }
}

impl Drop for PreparedTask {
    fn drop(&mut self) {
        if let Some(assignment) = &self.assignment {
            self.shared.forget(assignment.start.task, &assignment.control);
        }
    }
}

impl fmt::Debug for PreparedTask {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.assignment.as_ref().map(|assignment| &assignment.start);
        formatter
            .debug_struct("PreparedTask")
            .field("start", &start)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn control(&self, task: TaskRef) -> Option<Arc<Control>> {
        lock(&self.tasks).get(&task).cloned()
    }

    /// Only if it is still this one: a later attempt of the same task has a control of its own.
    fn forget(&self, task: TaskRef, control: &Arc<Control>) {
        let mut tasks = lock(&self.tasks);
        if tasks.get(&task).is_some_and(|known| Arc::ptr_eq(known, control)) {
            tasks.remove(&task);
        }
    }

    /// Forgets first: whoever hears of the end may prepare the same task again.
    fn end(&self, assignment: &Assignment, exit: TaskExit) {
        if assignment.control.claim_report() {
            self.forget(assignment.start.task, &assignment.control);
            (self.report)(assignment.start.task, exit);
        }
    }

    fn write(&self, line: &Arc<Line>) {
        {
            let mut is_written = lock(&line.is_written);
            if !*is_written {
                let Context {
                    settings, followers, ..
                } = &self.context;
                append_line(line.task, &line.task_name, settings, followers, &line.text);
                *is_written = true;
            }
        }
        let mut lines = lock(&self.lines);
        if lines.get(&line.task).is_some_and(|known| Arc::ptr_eq(known, line)) {
            lines.remove(&line.task);
        }
    }

    fn hand_over(self: &Arc<Self>, work: Work) {
        let mut pool = lock(&self.pool);
        if let Some(worker) = pool.idle.pop() {
            drop(pool);
            worker
                .orders
                .send(Some(work))
                .expect("an idle worker waits until it is taken out of the list");
            return;
        }
        let number = pool.next_number;
        pool.next_number += 1;
        drop(pool);
        // The thread takes its own along also where it can't be made.
        let for_worker = work.clone();
        let shared = Arc::clone(self);
        let spawned = thread::Builder::new()
            .name(format!("worker {number}"))
            .spawn(move || live(&shared, number, for_worker));
        if let Err(error) = spawned {
            self.refuse(&work, &error);
        }
    }

    /// There is no worker for it. A line is left to the next attempt.
    fn refuse(&self, work: &Work, error: &io::Error) {
        match work {
            Work::Run(assignment) => self.end(assignment, no_worker(error)),
            Work::Write(_) => {}
        }
    }

    /// Whether there will be more to do.
    fn join_idle(&self, number: u64, orders: &Sender<Option<Work>>) -> bool {
        let mut pool = lock(&self.pool);
        if !pool.is_closed {
            pool.idle.push(IdleWorker {
                number,
                orders: orders.clone(),
            });
        }
        !pool.is_closed
    }

    /// Returns what to do next, or `None`: end.
    fn wait_for_work(&self, number: u64, orders: &Receiver<Option<Work>>) -> Option<Work> {
        match orders.recv_timeout(LINGER) {
            Ok(order) => return order,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
        {
            let mut pool = lock(&self.pool);
            let position = pool.idle.iter().position(|worker| worker.number == number);
            if pool.idle.len() > 1
                && let Some(position) = position
            {
                pool.idle.remove(position);
                return None;
            }
        }
        // It is the only idle one, or not in the list any more: then an order is on its way.
        orders.recv().ok().flatten()
    }
}

fn no_worker(error: &io::Error) -> TaskExit {
    TaskExit {
        outcome: Outcome::NotStarted(format!("failed to make a thread for it: {}", reason(error))),
        stopped: false,
        note: String::new(),
    }
}

/// The life of a worker.
fn live(shared: &Arc<Shared>, number: u64, first: Work) {
    let tools = Output::new(number).and_then(|output| Ok((output, Arc::new(Waker::new()?))));
    let (mut output, waker) = match tools {
        Ok(tools) => tools,
        Err(error) => return shared.refuse(&first, &error),
    };
    let (sender, orders) = bounded(1);
    let mut next = Some(first);
    while let Some(work) = next {
        let assignment = match work {
            Work::Run(assignment) => assignment,
            Work::Write(line) => {
                shared.write(&line);
                next = shared
                    .join_idle(number, &sender)
                    .then(|| shared.wait_for_work(number, &orders))
                    .flatten();
                continue;
            }
        };
        let Assignment { start, control, line } = &assignment;
        if let Some(line) = line {
            shared.write(line);
        }
        let run = AssertUnwindSafe(|| {
            let _running = shared.context.settings.meters.task_runs();
            process::run(start, control, &shared.context, &mut output, &waker)
        });
        let Ok(exit) = catch_unwind(run) else {
            // A bug, which the panic has told of. A task without an end would keep its job, and prunner, for ever.
            control.give_up();
            let exit = TaskExit {
                outcome: Outcome::NotStarted("its worker broke down: a bug in prunner, see its log".to_owned()),
                stopped: false,
                note: String::new(),
            };
            return shared.end(&assignment, exit);
        };
        // Before the report: the task that follows is to find this worker, not to make another.
        let stays = shared.join_idle(number, &sender);
        shared.end(&assignment, exit);
        // What the task held must not be held while idle.
        drop(assignment);
        next = if stays {
            shared.wait_for_work(number, &orders)
        } else {
            None
        };
    }
}
