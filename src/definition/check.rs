//! Nodes → [`Pipeline`]s, with a complaint for each mistake, not only for the first.
//!
//! Knows neither files nor YAML. What single keys may hold is in `fields`; here is how they belong together.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use crate::definition::bounds::Bounds;
use crate::definition::complaint::shown;
use crate::definition::fields::{Findings, Reader, field};
use crate::definition::keys::{Place, QUEUE_STRATEGIES};
use crate::definition::order;
use crate::definition::parse::Node;
use crate::definition::{ON_ERROR, Pipeline, Queue, Task};
use crate::template::Delimiters;

/// A log is named after its task, with an ending: file names have at most 255 bytes.
const MAX_TASK_NAME_BYTES: usize = 200;

/// Circles that are named; who mends these and asks again sees others.
const MAX_CIRCLES: usize = 20;

/// Tasks of one circle that are named: a circle may have thousands.
const SHOWN_OF_CIRCLE: usize = 20;

/// One pipeline of a file.
#[derive(Debug)]
pub(crate) struct Checked {
    pub name: String,
    /// `None`: there are errors in it.
    pub pipeline: Option<Pipeline>,
}

/// What a file says, in its order.
pub(crate) fn check(file: &Path, root: &Node, findings: &mut Findings) -> Vec<Checked> {
    let mut reader = Reader {
        findings,
        file,
        pipeline: None,
        task: None,
    };
    let Some(entries) = reader.mapping(root, "the file", "a mapping with the key `pipelines`") else {
        return Vec::new();
    };
    reader.unknown_keys(entries, Place::File);
    let Some(pipelines) = field(entries, "pipelines") else {
        return Vec::new();
    };
    let Some(pipelines) = reader.mapping(pipelines, "`pipelines`", "a mapping of names to pipelines") else {
        return Vec::new();
    };
    let mut checked = Vec::with_capacity(pipelines.len());
    for (name, node) in pipelines {
        let mut reader = reader.inside(name, None);
        let errors_before = reader.findings.errors.len();
        let pipeline = pipeline(&mut reader, name, node);
        let is_good = reader.findings.errors.len() == errors_before;
        checked.push(Checked {
            name: name.clone(),
            pipeline: pipeline.filter(|_| is_good),
        });
    }
    checked
}

fn pipeline(reader: &mut Reader<'_>, name: &str, node: &Node) -> Option<Pipeline> {
    if name.is_empty() || name.chars().any(char::is_control) {
        reader.error("has a name that can't be used; expected one that is not empty and has no control characters");
    }
    let entries = reader.mapping(node, "its definition", "a mapping with the key `tasks`")?;
    reader.unknown_keys(entries, Place::Pipeline);
    let concurrency = reader.integer(entries, "concurrency", 1).unwrap_or(1);
    let start_delay_ms = reader.duration(entries, "start_delay").unwrap_or(0);
    let queue = queue(reader, entries, start_delay_ms);
    let continue_running_tasks_after_failure = reader
        .boolean(entries, "continue_running_tasks_after_failure")
        .unwrap_or(false);
    let intake = reader.intake(entries, queue);
    let timeout = reader.time_limit(entries, "timeout");
    let retention_period_ms = reader.duration(entries, "retention_period");
    if retention_period_ms == Some(0) {
        // Whoever waits for the end of a job would be told that it never was.
        reader.error("has `retention_period: 0`; expected some time, so that the end of a job can be seen");
    }
    let retention_count = reader.integer(entries, "retention_count", 1);
    let env = reader.environment(entries);
    let schedules = reader.schedules(entries);
    let shared = Shared {
        shell: reader.shell(entries),
        delimiters: reader.delimiters(entries).unwrap_or(Delimiters::Both),
        bounds: reader.shared_bounds(entries),
    };
    let on_error = field(entries, ON_ERROR).and_then(|node| on_error(reader, name, node, &shared));
    let (tasks, file_order) = tasks(reader, name, entries, &shared);
    Some(Pipeline {
        name: Arc::from(name),
        concurrency,
        queue,
        intake,
        start_delay_ms,
        continue_running_tasks_after_failure,
        timeout,
        retention_period_ms,
        retention_count,
        schedules,
        env,
        dependents: dependents(&tasks),
        tasks,
        file_order,
        on_error,
    })
}

fn dependents(tasks: &[Task]) -> Vec<Vec<usize>> {
    let mut dependents = vec![Vec::new(); tasks.len()];
    for (index, task) in tasks.iter().enumerate() {
        for &dependency in &task.depends_on {
            dependents[dependency].push(index);
        }
    }
    dependents
}

fn queue(reader: &mut Reader<'_>, entries: &[(String, Node)], start_delay_ms: i64) -> Queue {
    let limit = reader.integer(entries, "queue_limit", 0);
    let partition_limit = reader.integer(entries, "queue_partition_limit", 1);
    let has_limit = field(entries, "queue_limit").is_some();
    let has_partition_limit = field(entries, "queue_partition_limit").is_some();
    if limit == Some(0) && start_delay_ms > 0 {
        reader.error(
            "has both a `start_delay` and `queue_limit: 0`, but a job that is delayed has to wait; remove one or raise \
             the limit",
        );
    }
    let strategy = match field(entries, "queue_strategy") {
        Some(_) => reader.word(entries, "queue_strategy", &QUEUE_STRATEGIES),
        None => Some(0),
    };
    if has_partition_limit && matches!(strategy, Some(0 | 1)) {
        reader.error(
            "has a `queue_partition_limit` without `queue_strategy: partitioned_replace`, and only that knows partitions; \
             set it or remove the limit",
        );
    }
    match strategy {
        None | Some(0) => Queue::Append { limit },
        Some(1) => {
            if !has_limit {
                reader.warning(
                    "has `queue_strategy: replace` without `queue_limit`, which means 1; write `queue_limit: 1`",
                );
            }
            Queue::Replace {
                limit: limit.unwrap_or(1),
            }
        }
        Some(_) => {
            if has_limit {
                reader.error(
                    "has a `queue_limit` with `queue_strategy: partitioned_replace`, which counts by partition; \
                     use `queue_partition_limit` alone",
                );
            }
            if !has_partition_limit {
                reader.error(
                    "has `queue_strategy: partitioned_replace` without `queue_partition_limit`; expected an integer of at \
                     least 1, the places of a partition",
                );
            }
            Queue::PartitionedReplace {
                limit: partition_limit.unwrap_or(1),
            }
        }
    }
}

/// What the tasks of a pipeline have from it.
struct Shared {
    shell: Option<Vec<String>>,
    delimiters: Delimiters,
    bounds: Bounds,
}

fn on_error(reader: &mut Reader<'_>, pipeline: &str, node: &Node, shared: &Shared) -> Option<Task> {
    let mut reader = reader.inside(pipeline, Some(ON_ERROR));
    let entries = reader.mapping(node, "its definition", "a mapping with the key `script`")?;
    for key in ["depends_on", "allow_failure"] {
        if field(entries, key).is_some() {
            reader.error(format!(
                "has the key `{key}`, but it runs after all others, and its own failure changes nothing; remove it"
            ));
        }
    }
    reader.unknown_keys(entries, Place::OnError);
    Some(Task {
        name: Arc::from(ON_ERROR),
        script: reader.script(entries, shared.delimiters),
        source: reader.source(entries),
        depends_on: Vec::new(),
        allow_failure: false,
        env: reader.environment(entries),
        shell: reader.shell(entries).or_else(|| shared.shell.clone()),
        bounds: reader.bounds(entries, &shared.bounds),
    })
}

/// The tasks in listing order, and their indices in file order.
fn tasks(
    reader: &mut Reader<'_>,
    pipeline: &str,
    entries: &[(String, Node)],
    shared: &Shared,
) -> (Vec<Task>, Vec<usize>) {
    let nothing = (Vec::new(), Vec::new());
    let Some(node) = field(entries, "tasks") else {
        return nothing;
    };
    let Some(nodes) = reader.mapping(node, "`tasks`", "a mapping of names to tasks") else {
        return nothing;
    };
    let has_on_error = field(entries, ON_ERROR).is_some();
    let index_of: HashMap<&str, usize> = nodes
        .iter()
        .enumerate()
        .map(|(index, (name, _))| (name.as_str(), index))
        .collect();
    let mut tasks = Vec::with_capacity(nodes.len());
    let mut depends_on = Vec::with_capacity(nodes.len());
    for (index, (name, node)) in nodes.iter().enumerate() {
        let mut reader = reader.inside(pipeline, Some(name));
        task_name(&mut reader, name, has_on_error);
        let (task, needed) = task(&mut reader, name, node, shared).unzip();
        depends_on.push(dependencies(
            &mut reader,
            index,
            &needed.unwrap_or_default(),
            nodes,
            &index_of,
        ));
        tasks.push(task);
    }
    for circle in order::circles(&depends_on, MAX_CIRCLES) {
        let mut names: Vec<String> = circle
            .iter()
            .take(SHOWN_OF_CIRCLE)
            .map(|task| shown(&nodes[*task].0))
            .collect();
        if circle.len() > SHOWN_OF_CIRCLE {
            names.push(format!("… {} more …", circle.len() - SHOWN_OF_CIRCLE));
        }
        names.push(names[0].clone());
        reader.error(format!(
            "has tasks that depend on each other in a circle, so that none can start first: `{}`",
            names.join(" -> ")
        ));
    }
    let listing = order::listing(&depends_on);
    if listing.len() < tasks.len() || tasks.iter().any(Option::is_none) {
        return nothing;
    }
    let mut place = vec![0; listing.len()];
    for (listed, index) in listing.iter().enumerate() {
        place[*index] = listed;
    }
    let listed = listing
        .iter()
        .map(|index| {
            let mut task = tasks[*index].take().expect("each task is listed once");
            task.depends_on = depends_on[*index].iter().map(|needed| place[*needed]).collect();
            task
        })
        .collect();
    (listed, place)
}

fn task_name(reader: &mut Reader<'_>, name: &str, has_on_error: bool) {
    if name == ON_ERROR && has_on_error {
        reader.error("has the name of the task that runs after a failure, which the pipeline has too; rename it");
    }
    let found = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > MAX_TASK_NAME_BYTES {
        format!("has {} bytes", name.len())
    } else if matches!(name, "." | "..") {
        format!("is `{name}`")
    } else if name.contains('/') {
        "holds a `/`".to_owned()
    } else if name.chars().any(char::is_control) {
        "holds a control character".to_owned()
    } else {
        return;
    };
    reader.error(format!(
        "has a name that {found}, but its logs are named after it; expected a file name of at most {MAX_TASK_NAME_BYTES} \
         bytes without `/` and control characters"
    ));
}

/// The task without its dependencies, and their names.
fn task<'n>(reader: &mut Reader<'_>, name: &str, node: &'n Node, shared: &Shared) -> Option<(Task, Vec<&'n str>)> {
    let entries = reader.mapping(node, "its definition", "a mapping with the key `script`")?;
    reader.unknown_keys(entries, Place::Task);
    let task = Task {
        name: Arc::from(name),
        script: reader.script(entries, shared.delimiters),
        source: reader.source(entries),
        depends_on: Vec::new(),
        allow_failure: reader.boolean(entries, "allow_failure").unwrap_or(false),
        env: reader.environment(entries),
        shell: reader.shell(entries).or_else(|| shared.shell.clone()),
        bounds: reader.bounds(entries, &shared.bounds),
    };
    Some((task, reader.depends_on(entries)))
}

/// The indices of the tasks that one depends on, as far as they exist.
fn dependencies(
    reader: &mut Reader<'_>,
    task: usize,
    needed: &[&str],
    nodes: &[(String, Node)],
    index_of: &HashMap<&str, usize>,
) -> Vec<usize> {
    let mut seen = HashSet::with_capacity(needed.len());
    let mut indices = Vec::with_capacity(needed.len());
    for name in needed {
        if !seen.insert(*name) {
            continue;
        }
        match index_of.get(name) {
            Some(index) if *index == task => reader.error("depends on itself; remove that from `depends_on`"),
            Some(index) => indices.push(*index),
            None => {
                let others = nodes.iter().enumerate().filter(|(index, _)| *index != task);
                let meant = reader
                    .findings
                    .did_you_mean(name, others.map(|(_, (name, _))| name.as_str()));
                reader.error(format!("depends on `{}`, which is not defined{meant}", shown(name)));
            }
        }
    }
    indices
}
