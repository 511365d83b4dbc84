//! The first instant after another at which a cron expression is due in a time zone.
//!
//! Times that a clock change skips are due right after it, all of them at once. Of times that it repeats the first one
//! counts, but for expressions of every hour, which go by the clock and not by its name: they have both.

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Timestamp, ToSpan};

use super::{Cron, Zone};

/// Days and weekdays begin to repeat after so many years: what is not due by then never is.
const YEARS: i16 = 400;

/// Milliseconds since 1970.
impl Cron {
    /// `None`: not before the end of time, which is the year 9999.
    pub(crate) fn due_after(&self, zone: &Zone, after_ms: i64) -> Option<i64> {
        // Due times are whole seconds: the first one behind a fraction is the first one behind its second.
        let after = Timestamp::from_second(after_ms.div_euclid(1000)).ok()?;
        let today = zone.time_zone().to_datetime(after).date();
        // A time of yesterday may be due today: where it was skipped, or comes again.
        let mut date = today.yesterday().unwrap_or(today);
        let mut earliest = None;
        while let Some(day) = self.day_from(date) {
            // The day behind one that has something may have something earlier, where an hour around midnight is repeated.
            let is_last_look = earliest.is_some();
            let found = self.due_on(zone, day, after);
            earliest = earliest.into_iter().chain(found).min();
            if is_last_look {
                break;
            }
            match day.tomorrow() {
                Ok(tomorrow) if earliest.is_none() || self.fits_day(tomorrow) => date = tomorrow,
                Ok(_) | Err(_) => break,
            }
        }
        earliest.map(|due: Timestamp| due.as_second() * 1000)
    }

    /// The first day from this one on that fits.
    fn day_from(&self, from: Date) -> Option<Date> {
        let mut date = from;
        loop {
            if !self.fits_month(date.month()) {
                date = date.first_of_month().checked_add(1.month()).ok()?;
            } else if self.fits_day(date) {
                return Some(date);
            } else {
                date = date.tomorrow().ok()?;
            }
            if date.year() - from.year() > YEARS {
                return None;
            }
        }
    }

    fn due_on(&self, zone: &Zone, date: Date, after: Timestamp) -> Option<Timestamp> {
        let time_zone = zone.time_zone();
        if let Some(offset) = only_offset(time_zone, date) {
            let midnight = offset.to_timestamp(date.at(0, 0, 0, 0)).ok()?;
            let elapsed = after.as_second() - midnight.as_second();
            // Most days are like this one, so those that are over cost nothing.
            return (elapsed < DAY_SECONDS)
                .then(|| self.times().map(seconds_of).find(|seconds| *seconds > elapsed))
                .flatten()
                .and_then(|seconds| midnight.checked_add(seconds.seconds()).ok());
        }
        let mut earliest: Option<Timestamp> = None;
        for (hour, minute) in self.times() {
            let time = Time::new(hour, minute, 0, 0).expect("hours and minutes of a day");
            let civil = date.to_datetime(time);
            let instants = match time_zone.to_ambiguous_timestamp(civil).offset() {
                AmbiguousOffset::Unambiguous { offset } => [offset.to_timestamp(civil).ok(), None],
                // By the old offset it lies behind the change, and nothing changes in between.
                AmbiguousOffset::Gap { before, .. } => [
                    before.to_timestamp(civil).ok().and_then(|instant| {
                        let behind = instant.checked_add(1.second()).ok()?;
                        time_zone.preceding(behind).next().map(|change| change.timestamp())
                    }),
                    None,
                ],
                AmbiguousOffset::Fold { before, after } => [
                    before.to_timestamp(civil).ok(),
                    after.to_timestamp(civil).ok().filter(|_| self.repeats_with_the_clock()),
                ],
            };
            for instant in instants.into_iter().flatten() {
                if instant > after && earliest.is_none_or(|earliest| instant < earliest) {
                    earliest = Some(instant);
                }
            }
        }
        earliest
    }
}

const DAY_SECONDS: i64 = 86_400;

fn seconds_of((hour, minute): (i8, i8)) -> i64 {
    i64::from(hour) * 3_600 + i64::from(minute) * 60
}

/// The offset of a day that no change of the clock is near; `None` where one may be.
fn only_offset(time_zone: &TimeZone, date: Date) -> Option<Offset> {
    // No offset is as long as a day and two hours.
    let noon = Offset::UTC.to_timestamp(date.at(12, 0, 0, 0)).ok()?;
    let before = noon.checked_sub(38.hours()).ok()?;
    let behind = noon.checked_add(38.hours()).ok()?;
    let change = time_zone.following(before).next();
    change
        .is_none_or(|change| change.timestamp() > behind)
        .then(|| time_zone.to_offset(noon))
}
