//! When a schedule is due: cron expressions, time zones, and the instants that come of them.
//!
//! Plain data and functions: nothing here reads a clock. Unaware of pipelines and of files other than those of the
//! machine's own time zone.
//!
//! Surprise: a day may lack times, have some of them twice, or not exist at all. What is made of that stands in `due`.

mod cron;
mod due;
#[cfg(test)]
mod tests;
mod zone;

pub(crate) use cron::Cron;
pub(crate) use zone::Zone;

/// The shortest interval: a schedule is no loop.
pub(crate) const LEAST_INTERVAL_MS: i64 = 1_000;

/// What makes a schedule due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// The wall clock, in a time zone.
    Cron(Cron),
    /// The monotonic clock, again and again.
    Every {
        ms: i64,
        /// As it is written.
        text: String,
    },
    /// The wall clock, once.
    At { wall_ms: i64 },
}

impl When {
    /// The key that says so, and its value.
    pub(crate) fn key_and_text(&self) -> (&'static str, String) {
        match self {
            When::Cron(cron) => ("cron", cron.to_string()),
            When::Every { text, .. } => ("every", text.clone()),
            When::At { wall_ms } => ("at", crate::timestamp::rfc3339(*wall_ms)),
        }
    }

    /// The first due times, beginning with one that is known, in milliseconds since 1970.
    pub(crate) fn due_from(&self, zone: &Zone, first_ms: i64, count: usize) -> Vec<i64> {
        let following = |due_ms: &i64| match self {
            When::Cron(cron) => cron.due_after(zone, *due_ms),
            When::Every { ms, .. } => due_ms.checked_add(*ms),
            When::At { .. } => None,
        };
        std::iter::successors(Some(first_ms), following).take(count).collect()
    }
}
