//! A moment, on both clocks: the wall clock for people and files, the monotonic one for deadlines.
//!
//! Plain data: nothing here reads a clock.

use jiff::Timestamp as Instant;

/// A moment. Only `mono_ms` is ever compared with a deadline, so that a wall clock that is set can't move one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timestamp {
    /// Milliseconds since 1970 in UTC.
    pub wall_ms: i64,
    /// Milliseconds since prunner started; negative for what happened before.
    pub mono_ms: i64,
}

impl Timestamp {
    /// When something that was recorded at `wall_ms` happened, as seen from this moment, in monotonic milliseconds.
    /// Never later than this moment: the wall clock may have been set back since.
    pub(crate) fn mono_of(self, wall_ms: i64) -> i64 {
        self.mono_ms.saturating_sub(self.wall_ms.saturating_sub(wall_ms).max(0))
    }
}

/// RFC 3339 in UTC without a fraction, which clients of the API rely on. Years out of range become the nearest that is
/// known.
pub(crate) fn rfc3339(wall_ms: i64) -> String {
    let second = wall_ms.div_euclid(1000);
    let instant = Instant::from_second(second).unwrap_or(if second < 0 { Instant::MIN } else { last_whole_second() });
    instant.to_string()
}

/// `Instant::MAX` has a fraction.
fn last_whole_second() -> Instant {
    Instant::from_second(Instant::MAX.as_second()).expect("it is in range")
}

/// Milliseconds since 1970 of an RFC 3339 text; `None` where it is none.
pub(crate) fn parse_rfc3339(text: &str) -> Option<i64> {
    text.parse::<Instant>().ok().map(Instant::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wall_ms: i64, expected: &str) {
        assert_eq!(rfc3339(wall_ms), expected);
    }

    #[test]
    fn times_are_printed_without_a_fraction() {
        check(0, "1970-01-01T00:00:00Z");
        check(1_795_491_267_999, "2026-11-24T03:34:27Z");
        check(-1, "1969-12-31T23:59:59Z");
        check(i64::MAX, "9999-12-30T22:00:00Z");
    }

    #[test]
    fn times_are_read_with_and_without_a_fraction() {
        assert_eq!(parse_rfc3339("2026-11-24T03:34:27Z"), Some(1_795_491_267_000));
        assert_eq!(parse_rfc3339("2026-11-24T04:34:27.5+01:00"), Some(1_795_491_267_500));
        assert_eq!(parse_rfc3339("yesterday"), None);
    }
}
