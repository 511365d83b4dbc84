//! What the definition files say, checked: the types that everything else works with.
//!
//! `find` looks for the files, `load` reads them, `parse` turns YAML into nodes that keep the text of every scalar,
//! `check` turns the nodes into [`Pipelines`] (`fields`, `bounds`, `intake` and `variables` read the single keys, `order`
//! the dependencies) and collects every complaint. `keys` is the table of all keys, `schema` tells editors what it holds.
//! Nothing here knows of jobs, processes or the state on disk.
//!
//! Surprise: the tasks of a [`Pipeline`] are not kept in file order but in the order in which jobs list them, in
//! which every task stands behind all that it depends on. `file_order` remembers the other one.

pub(crate) mod bounds;
mod check;
mod complaint;
pub(crate) mod duration;
mod fields;
mod find;
pub(crate) mod intake;
mod keys;
mod load;
mod names;
mod order;
mod parse;
pub(crate) mod schedules;
mod schema;
pub(crate) mod size;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod value;
pub(crate) mod variables;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::bounds::{Bounds, TimeLimit};
pub(crate) use self::complaint::{Complaint, shown};
pub(crate) use self::find::{Search, find};
use self::intake::Intake;
pub(crate) use self::keys::ON_ERROR;
pub(crate) use self::load::{Loaded, load, load_files};
pub(crate) use self::names::did_you_mean;
use self::schedules::Schedule;
pub(crate) use self::schema::schema;
use crate::template::Template;

/// All pipelines that can be scheduled, by name.
pub(crate) type Pipelines = BTreeMap<Arc<str>, Arc<Pipeline>>;

/// One pipeline, checked: dependencies exist and hold no cycle, values are in range.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub name: Arc<str>,
    /// Jobs of this pipeline that run at once, at least 1.
    pub concurrency: usize,
    pub queue: Queue,
    pub intake: Intake,
    /// How long a job waits at least before it starts; 0: not at all.
    pub start_delay_ms: i64,
    /// True: after a failure, tasks that do not depend on the failed one still run.
    pub continue_running_tasks_after_failure: bool,
    /// Of a job, from its start; `on_error` is outside of it.
    pub timeout: Option<TimeLimit>,
    pub retention_period_ms: Option<i64>,
    pub retention_count: Option<usize>,
    /// When it runs by itself; each once.
    pub schedules: Vec<Schedule>,
    /// Environment of every task; a task's own wins.
    pub env: Vec<(String, String)>,
    /// In listing order: each task behind all that it depends on, else in file order.
    pub tasks: Vec<Task>,
    /// Indices into `tasks`, in the order of the file: ready tasks start in this order.
    pub file_order: Vec<usize>,
    /// For each task the indices of those that depend on it.
    pub dependents: Vec<Vec<usize>>,
    pub on_error: Option<Task>,
}

/// What happens to a request that can't start at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// Waits while fewer than `limit` jobs wait, else it is refused. `Some(0)`: never waits.
    Append { limit: Option<usize> },
    /// As `Append`, but where the list is full the newest waiting job makes room.
    Replace { limit: usize },
    /// As `Replace`, counted among the waiting jobs of the same partition.
    PartitionedReplace { limit: usize },
}

/// One task of a pipeline, or its `on_error`.
#[derive(Debug)]
pub(crate) struct Task {
    pub name: Arc<str>,
    /// The lines of the script. Empty: a marker, which ends at once without a process.
    pub script: Vec<Template>,
    /// The same lines as they are written.
    pub source: Vec<String>,
    /// Indices into the pipeline's `tasks`, in the order in which they are written, without doubles.
    pub depends_on: Vec<usize>,
    pub allow_failure: bool,
    /// Wins over the pipeline's.
    pub env: Vec<(String, String)>,
    /// The task's or else the pipeline's shell with its arguments; `None`: prunner's default shell.
    pub shell: Option<Vec<String>>,
    pub bounds: Bounds,
}

impl Task {
    /// A marker gives others one name to depend on, and costs nothing.
    pub(crate) fn is_marker(&self) -> bool {
        self.script.is_empty()
    }
}

impl Pipeline {
    /// Stands for one that is not defined, of which jobs are remembered: it limits nothing and forgets nothing.
    pub(crate) fn unknown(name: Arc<str>) -> Pipeline {
        Pipeline {
            name,
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
            tasks: Vec::new(),
            file_order: Vec::new(),
            dependents: Vec::new(),
            on_error: None,
        }
    }

    /// The task at `index` as jobs count them: `on_error` stands behind all others.
    pub(crate) fn task(&self, index: usize) -> &Task {
        if index == self.tasks.len() {
            return self
                .on_error
                .as_ref()
                .expect("only pipelines with on_error have a task behind the last");
        }
        &self.tasks[index]
    }
}
