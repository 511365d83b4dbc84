//! The two clocks of the system, read in one place.

use std::time::{Duration, Instant, SystemTime};

use crate::timestamp::Timestamp;

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    pub(crate) fn now(self) -> Timestamp {
        let mono_ms = i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp {
            wall_ms: wall_ms(),
            mono_ms,
        }
    }

    /// When the monotonic clock shows this, which counts from the clock's making.
    pub(crate) fn instant(self, mono_ms: i64) -> Instant {
        self.start + Duration::from_millis(u64::try_from(mono_ms).unwrap_or(0))
    }
}

/// Milliseconds since 1970; 0 where the clock stands before that.
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
