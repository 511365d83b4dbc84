//! What the API asks of the main loop, and how the main loop answers. Plain data and channels.

use crossbeam_channel::Sender;

use crate::definition::Pipelines;
use crate::job::JobId;
use crate::scheduler::{Accepted, ForgetError, NotLive, ScheduleError, ScheduleRequest};

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
    /// The files were read and are right. Answered when the new set holds, and can be seen.
    Reload {
        pipelines: Pipelines,
        reply: Option<Reply<()>>,
    },
}
