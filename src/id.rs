//! How ids are read: those of jobs and of schedules are UUIDs.

use uuid::Uuid;

/// The usual form alone: 32 digits in five groups. The other forms of a UUID would be other names of the same thing.
pub(crate) fn parse_id(text: &str) -> Option<Uuid> {
    if text.len() != 36 {
        return None;
    }
    Uuid::try_parse(text).ok()
}
