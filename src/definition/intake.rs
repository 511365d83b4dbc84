//! What a pipeline says about the requests for its jobs: which variables they bring, and what else becomes of one than
//! a job of its own.
//!
//! Unaware of jobs and of where they wait.

use std::sync::Arc;

use crate::definition::Queue;
use crate::definition::complaint::shown;
use crate::definition::fields::{Reader, field};
use crate::definition::keys::{AMONG, MERGES, Place, QUEUE_STRATEGIES, THEN};
use crate::definition::parse::Node;
use crate::definition::variables::{Declared, VariableKind};
use crate::template::is_reserved;

/// What happens to a request before it is a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intake {
    /// Shared, for clients are shown it too.
    pub declared: Arc<Declared>,
    pub deduplicate: Option<Deduplicate>,
    /// What a job takes over from the waiting one that it replaces, by variable.
    pub merge: Vec<(String, Merging)>,
    /// A job that would have to wait stops the oldest that runs.
    pub interrupt_running: bool,
}

/// How the values of a variable become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merging {
    /// Lists: the old items, then the new ones, each once.
    Append,
    /// Objects: all entries; the new ones win.
    Merge,
    /// The old one.
    Keep,
}

impl Merging {
    /// In the order of [`MERGES`].
    const ALL: [Merging; 3] = [Merging::Append, Merging::Merge, Merging::Keep];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Merging::Append => "append",
            Merging::Merge => "merge",
            Merging::Keep => "keep",
        }
    }

    /// The type of the variables that it is for; `None`: any.
    fn needs(self) -> Option<VariableKind> {
        match self {
            Merging::Append => Some(VariableKind::List),
            Merging::Merge => Some(VariableKind::Object),
            Merging::Keep => None,
        }
    }
}

/// When a request equals a job, and what follows from that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deduplicate {
    /// Jobs that run don't count.
    pub among_waiting: bool,
    /// The variables that must be equal; `None`: all.
    pub by: Option<Vec<String>>,
    /// The request is refused; else it is answered with the job.
    pub refuses: bool,
}

impl Reader<'_> {
    pub(super) fn intake(&mut self, entries: &[(String, Node)], queue: Queue) -> Intake {
        let declared = self.declared(entries);
        Intake {
            deduplicate: self.deduplicate(entries, &declared),
            merge: self.merge_variables(entries, &declared),
            interrupt_running: self.interrupt_running(entries, queue),
            declared: Arc::new(declared),
        }
    }

    fn deduplicate(&mut self, entries: &[(String, Node)], declared: &Declared) -> Option<Deduplicate> {
        let node = field(entries, "deduplicate")?;
        let keys = self.mapping(
            node,
            "`deduplicate`",
            "a mapping such as `{among: active, by: [release], then: join}`; `{}` is with all defaults",
        )?;
        self.unknown_keys(keys, Place::Deduplicate);
        let by = field(keys, "by").map(|_| self.names(keys, "by"));
        for name in by.iter().flatten() {
            self.known_variable(declared, name, "`by` of `deduplicate`");
        }
        Some(Deduplicate {
            among_waiting: self.word(keys, "among", &AMONG) == Some(1),
            by: by.map(|names| names.into_iter().map(str::to_owned).collect()),
            refuses: self.word(keys, "then", &THEN) == Some(1),
        })
    }

    fn merge_variables(&mut self, entries: &[(String, Node)], declared: &Declared) -> Vec<(String, Merging)> {
        let mut merges = Vec::new();
        let Some(node) = field(entries, "merge_variables") else {
            return merges;
        };
        self.replaces(entries, "merge_variables");
        let expected = "a mapping of variables to `append`, `merge` or `keep`, such as `{pages: append}`";
        let Some(nodes) = self.mapping(node, "`merge_variables`", expected) else {
            return merges;
        };
        for (name, node) in nodes.iter().filter(|(_, node)| !node.is_null()) {
            if name.is_empty() || name.contains('\0') || is_reserved(name) {
                self.error(format!(
                    "names `{}` in `merge_variables`, which no job can be given; remove it",
                    shown(name)
                ));
                continue;
            }
            let place = format!("`{}` of `merge_variables`", shown(name));
            let Some(index) = self.word_of(node, &place, &MERGES) else {
                continue;
            };
            let merge = Merging::ALL[index];
            self.known_variable(declared, name, "`merge_variables`");
            if let (Some(needed), Some(variable)) = (merge.needs(), declared.find(name))
                && variable.kind != needed
            {
                self.error(format!(
                    "has `{}` for the variable `{}` in `merge_variables`, whose type is `{}`; expected the type `{needed}`",
                    merge.as_str(),
                    shown(name),
                    variable.kind
                ));
            }
            merges.push((name.clone(), merge));
        }
        merges
    }

    fn interrupt_running(&mut self, entries: &[(String, Node)], queue: Queue) -> bool {
        if self.boolean(entries, "interrupt_running") != Some(true) {
            return false;
        }
        self.replaces(entries, "interrupt_running");
        if queue == (Queue::Replace { limit: 0 }) {
            self.error(
                "has both `interrupt_running` and `queue_limit: 0`, but a job has to wait until the one that it stops has \
                 ended; remove one or raise the limit",
            );
        }
        true
    }

    /// Complains of a key that is for pipelines whose waiting jobs are replaced.
    fn replaces(&mut self, entries: &[(String, Node)], key: &str) {
        let is_appending = match field(entries, "queue_strategy") {
            None => true,
            Some(Node::Scalar { text, .. }) => text == QUEUE_STRATEGIES[0],
            Some(Node::List(_) | Node::Mapping(_)) => false,
        };
        if is_appending {
            self.error(format!(
                "has `{key}` without `queue_strategy: replace` or `partitioned_replace`, which alone replace jobs; set one of \
                 them or remove the key"
            ));
        }
    }

    /// Complains of a variable that no request may bring.
    fn known_variable(&mut self, declared: &Declared, name: &str, place: &str) {
        if declared.is_strict && declared.find(name).is_none() {
            let known = declared.variables.iter().map(|variable| variable.name.as_str());
            let meant = self.findings.did_you_mean(name, known);
            self.error(format!(
                "names `{}` in {place}, which is none of its `variables`, and `strict_variables` refuses others{meant}",
                shown(name)
            ));
        }
    }
}
