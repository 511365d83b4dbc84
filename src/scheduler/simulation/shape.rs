//! Random pipelines, in a form that the model understands by itself, and as the definitions that the scheduler gets.

use std::sync::Arc;

use super::intake::Rules;
use super::random::Random;
use crate::definition::bounds::{Bounds, Retry, StopSignal, TimeLimit};
use crate::definition::{Pipeline, Queue, Task};
use crate::template::{Delimiters, Template};

/// What a pipeline says, as far as it matters for what runs when.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub tasks: Vec<TaskShape>,
    /// Indices of tasks: ready ones start in this order.
    pub file_order: Vec<usize>,
    pub on_error: Option<OnError>,
    pub on_error_course: Course,
    pub timeout_ms: Option<i64>,
    pub keeps_going: bool,
    pub concurrency: usize,
    pub queue: Queue,
    pub delay_ms: i64,
    pub retention_count: Option<usize>,
    pub retention_period_ms: Option<i64>,
    pub rules: Rules,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TaskShape {
    pub is_marker: bool,
    pub allow_failure: bool,
    /// Earlier tasks.
    pub depends_on: Vec<usize>,
    pub course: Course,
}

/// How long a task may take, how it is stopped, how often it is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Course {
    pub timeout_ms: Option<i64>,
    pub signal: i32,
    pub grace_ms: Option<i64>,
    pub is_spared: bool,
    pub retry: Option<RetryShape>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RetryShape {
    pub max: usize,
    pub delay_ms: i64,
    pub backoff: i64,
    pub most_ms: Option<i64>,
    pub codes: Option<Vec<i32>>,
}

/// Few lengths, so that what is due meets in one millisecond.
const LENGTHS: [i64; 5] = [1, 100, 200, 200, 1_000];

impl Course {
    fn random(random: &mut Random) -> Course {
        Course {
            timeout_ms: random.chance(1, 5).then(|| random.pick(&LENGTHS)),
            signal: random.pick(&[2, 2, 2, 15, 10]),
            grace_ms: random.chance(1, 4).then(|| random.pick(&[0, 100, 200])),
            is_spared: random.chance(1, 4),
            retry: random.chance(1, 3).then(|| RetryShape {
                max: random.below(4),
                delay_ms: random.pick(&[0, 0, 1, 100, 200]),
                backoff: random.between(1, 3),
                most_ms: random.chance(1, 3).then(|| random.pick(&LENGTHS)),
                codes: random
                    .chance(1, 3)
                    .then(|| vec![7, 124, random.pick(&[1, 130, 143, -1])]),
            }),
        }
    }

    fn to_bounds(&self) -> Bounds {
        Bounds {
            log_limit: None,
            timeout: self.timeout_ms.map(TimeLimit::for_tests),
            stop_signal: StopSignal::for_tests(self.signal),
            kill_grace_ms: self.grace_ms,
            uninterruptible: self.is_spared,
            retry: self.retry.as_ref().map(|retry| {
                let backoff = u128::from(retry.backoff.unsigned_abs());
                Retry::for_tests(retry.max, retry.delay_ms, backoff, retry.most_ms, retry.codes.clone())
            }),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnError {
    Marker,
    Script,
}

impl Shape {
    pub(super) fn random(random: &mut Random) -> Shape {
        let mut shape = Shape {
            tasks: Vec::new(),
            file_order: Vec::new(),
            on_error: random.pick(&[
                None,
                None,
                Some(OnError::Marker),
                Some(OnError::Script),
                Some(OnError::Script),
            ]),
            on_error_course: Course::random(random),
            timeout_ms: random
                .chance(1, 3)
                .then(|| random.pick(&[1, 100, 200, 300, 1_000, 3_000])),
            keeps_going: random.chance(1, 2),
            concurrency: 1,
            queue: Queue::Append { limit: None },
            delay_ms: 0,
            retention_count: None,
            retention_period_ms: None,
            rules: Rules::default(),
        };
        for index in 0..random.below(7) {
            shape.tasks.push(TaskShape {
                is_marker: random.chance(1, 5),
                allow_failure: random.chance(1, 5),
                depends_on: (0..index).filter(|_| random.chance(1, 3)).collect(),
                course: Course::random(random),
            });
            let place = random.below(index + 1);
            shape.file_order.insert(place, index);
        }
        let needs_x = random.chance(1, 6) && shape.tasks.iter().any(|task| !task.is_marker);
        shape.rules = Rules::random(random, needs_x);
        shape.redraw_limits(random);
        shape
    }

    /// Other limits for the same tasks, as a reload may bring.
    pub(super) fn redraw_limits(&mut self, random: &mut Random) {
        self.concurrency = 1 + random.below(3);
        self.queue = match random.below(4) {
            0 => Queue::Append { limit: None },
            1 => Queue::Append {
                limit: Some(random.below(4)),
            },
            2 => Queue::Replace { limit: random.below(4) },
            _ => Queue::PartitionedReplace {
                limit: 1 + random.below(2),
            },
        };
        let never_waits = matches!(
            self.queue,
            Queue::Append { limit: Some(0) } | Queue::Replace { limit: 0 }
        );
        self.delay_ms = if never_waits || random.chance(1, 2) {
            0
        } else {
            random.between(1, 3_000)
        };
        self.retention_count = random.chance(1, 3).then(|| 1 + random.below(3));
        self.rules = Rules::random(random, self.rules.needs_x);
        self.retention_period_ms = random.chance(1, 3).then(|| random.between(1, 20_000));
    }

    pub(super) fn to_pipeline(&self, name: &str) -> Arc<Pipeline> {
        let mut unused_x = self.rules.needs_x;
        let mut tasks = Vec::new();
        for (index, task) in self.tasks.iter().enumerate() {
            let line = if !task.is_marker && unused_x {
                unused_x = false;
                "echo << .x >>"
            } else {
                "true"
            };
            tasks.push(Task {
                source: Vec::new(),
                name: format!("t{index}").into(),
                script: if task.is_marker {
                    Vec::new()
                } else {
                    vec![template(line)]
                },
                depends_on: task.depends_on.clone(),
                allow_failure: task.allow_failure,
                env: Vec::new(),
                shell: None,
                bounds: task.course.to_bounds(),
            });
        }
        let depends = |task: &Task, on: usize| task.depends_on.contains(&on);
        let dependents = (0..tasks.len())
            .map(|on| (0..tasks.len()).filter(|&index| depends(&tasks[index], on)).collect())
            .collect();
        let on_error = self.on_error.map(|on_error| Task {
            source: Vec::new(),
            name: "on_error".into(),
            script: match on_error {
                OnError::Marker => Vec::new(),
                OnError::Script => vec![template("echo << .failedTaskName >>")],
            },
            depends_on: Vec::new(),
            allow_failure: false,
            env: Vec::new(),
            shell: None,
            bounds: self.on_error_course.to_bounds(),
        });
        Arc::new(Pipeline {
            name: name.into(),
            concurrency: self.concurrency,
            queue: self.queue,
            intake: self.rules.to_intake(),
            start_delay_ms: self.delay_ms,
            continue_running_tasks_after_failure: self.keeps_going,
            timeout: self.timeout_ms.map(TimeLimit::for_tests),
            retention_period_ms: self.retention_period_ms,
            retention_count: self.retention_count,
            schedules: Vec::new(),
            env: Vec::new(),
            tasks,
            file_order: self.file_order.clone(),
            dependents,
            on_error,
        })
    }
}

fn template(line: &str) -> Template {
    Template::parse(line, Delimiters::Angle).unwrap()
}
