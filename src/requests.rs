//! What the API asks of the main loop, and how the main loop answers. Plain data and channels.

use crossbeam_channel::Sender;

use crate::definition::Pipelines;
use crate::definition::schedules::Schedule;
use crate::job::JobId;
use crate::schedule::{Added, ScheduleId, ScheduleView};
use crate::scheduler::{Accepted, AddError, ForgetError, NotLive, RemoveError, ScheduleError, ScheduleRequest};

/// Where the answer goes: a channel for one message, on whose other end the connection's thread waits.
pub(crate) type Reply<T> = Sender<T>;

/// A request that changes something.
#[derive(Debug)]
pub(crate) enum Request {
    /// Answered when the job is on disk, also one that is there already.
    Schedule {
        request: ScheduleRequest,
        reply: Reply<Result<Accepted, ScheduleError>>,
    },
    /// Answered when the decision is on disk. For a job that is not live: when its end is on disk.
    Cancel {
        job: JobId,
        by: String,
        reply: Reply<Result<(), NotLive>>,
    },
    /// Answered when it is on disk.
    Forget {
        job: JobId,
        reply: Reply<Result<(), ForgetError>>,
    },
    /// Answered at once, also with what is not on disk yet.
    Schedules { reply: Reply<Vec<ScheduleView>> },
    /// Answered when the schedule is on disk.
    AddSchedule {
        added: Box<Added>,
        schedule: Box<Schedule>,
        reply: Reply<Result<ScheduleId, AddError>>,
    },
    /// Answered when it is gone from the disk.
    RemoveSchedule {
        schedule: ScheduleId,
        reply: Reply<Result<(), RemoveError>>,
    },
    /// The files were read and are right. Answered when the new set holds, and can be seen.
    Reload {
        pipelines: Pipelines,
        reply: Option<Reply<()>>,
    },
}
