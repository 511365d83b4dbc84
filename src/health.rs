//! Whether new jobs are taken: what the threads that answer requests need to know before they ask anybody.

use std::sync::{Mutex, PoisonError};

/// Shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct Health {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_stopping: bool,
    is_ending: bool,
    storage_trouble: Option<String>,
}

/// Why new jobs are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Stopping,
    /// What the store can't do, for a person.
    Storage(String),
}

impl Health {
    /// `None`: all is well.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_stopping {
            return Some(Refusal::Stopping);
        }
        state.storage_trouble.clone().map(Refusal::Storage)
    }

    /// Nothing runs any more: who waits for a change is answered with what there is.
    pub(crate) fn set_ending(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_ending = true;
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_ending
    }

    pub(crate) fn set_stopping(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_stopping = true;
    }

    /// `None`: it is over.
    pub(crate) fn set_storage_trouble(&self, trouble: Option<String>) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .storage_trouble = trouble;
    }
}
