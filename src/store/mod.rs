//! Keeps what happened on disk, and shows it once it is there.

pub(crate) use crate::job::Change;
