//! What a pipeline says about the requests for its jobs: which variables they bring.
//!
//! Unaware of jobs and of where they wait.

use std::sync::Arc;

use crate::definition::fields::Reader;
use crate::definition::parse::Node;
use crate::definition::variables::Declared;

/// What happens to a request before it is a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intake {
    /// Shared, for clients are shown it too.
    pub declared: Arc<Declared>,
}

impl Reader<'_> {
    pub(super) fn intake(&mut self, entries: &[(String, Node)]) -> Intake {
        Intake {
            declared: Arc::new(self.declared(entries)),
        }
    }
}
