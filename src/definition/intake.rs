//! What a pipeline says about the requests for its jobs: which variables they bring, and what else becomes of one than
//! a job of its own.
//!
//! Unaware of jobs and of where they wait.

use std::sync::Arc;

use crate::definition::complaint::shown;
use crate::definition::fields::{Reader, field};
use crate::definition::keys::{AMONG, Place, THEN};
use crate::definition::parse::Node;
use crate::definition::variables::Declared;

/// What happens to a request before it is a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intake {
    /// Shared, for clients are shown it too.
    pub declared: Arc<Declared>,
    pub deduplicate: Option<Deduplicate>,
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
    pub(super) fn intake(&mut self, entries: &[(String, Node)]) -> Intake {
        let declared = self.declared(entries);
        Intake {
            deduplicate: self.deduplicate(entries, &declared),
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
