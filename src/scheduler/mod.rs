//! Decides what runs.

mod orders;

pub(crate) use orders::{Accepted, Failure, Order, Outcome, ScheduleRequest, TaskExit, TaskStart};
