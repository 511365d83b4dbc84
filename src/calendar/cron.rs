//! Cron expressions, as crontab(5) has them.
//!
//! Surprise: a day must fit both the day of the month and the day of the week, but where both are restricted, one of them.
//! A field that begins with `*` is not restricted, also `*/2`.

use std::fmt;

use jiff::civil::Date;

/// An expression, with its text.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Cron {
    text: String,
    /// One bit for each number that fits, here and below.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Sunday is 0.
    weekdays: u64,
    days_are_restricted: bool,
    weekdays_are_restricted: bool,
    /// Any hour fits, or the field begins with `*`: in an hour that a clock change repeats it fits twice.
    hours_are_free: bool,
}

struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    /// Of the numbers from `least` on.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field::new("minute", 0, 59, &[]),
    Field::new("hour", 0, 23, &[]),
    Field::new("day of month", 1, 31, &[]),
    Field::new(
        "month",
        1,
        12,
        &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    ),
    Field::new("day of week", 0, 7, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

const SHORT_FORMS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// Longer than any list that a person writes; an error shows what it is about.
const MAX_BYTES: usize = 1_000;

/// The numbers of a field, as bits, and whether it begins with `*`.
struct Numbers {
    bits: u64,
    is_star: bool,
}

impl Cron {
    /// The error says which field is wrong, what was found and what is expected, as the end of a sentence:
    /// "`61` as the minute; expected 0 to 59".
    pub(crate) fn parse(text: &str) -> Result<Cron, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let text = words.join(" ");
        if text.len() > MAX_BYTES || text.chars().any(char::is_control) {
            return Err(format!(
                "an expression of more than {MAX_BYTES} bytes, or with a control character; expected five fields such \
                 as `30 3 * * 1-5`"
            ));
        }
        let expression = if text.starts_with('@') {
            let known = SHORT_FORMS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text));
            known.map(|(_, meaning)| *meaning).ok_or_else(|| {
                let names = SHORT_FORMS.map(|(name, _)| name);
                format!("the short form `{text}`; expected one of `{}`", names.join("`, `"))
            })?
        } else {
            &text
        };
        let fields: Vec<&str> = expression.split(' ').filter(|field| !field.is_empty()).collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!(
                "{} fields in `{text}`; expected five: minute, hour, day of month, month, day of week",
                fields.len()
            ));
        };
        let minutes = FIELDS[0].parse(minute)?;
        let hours = FIELDS[1].parse(hour)?;
        let days = FIELDS[2].parse(day)?;
        let months = FIELDS[3].parse(month)?;
        let weekdays = FIELDS[4].parse(weekday)?;
        let cron = Cron {
            text: text.clone(),
            minutes: minutes.bits,
            hours: hours.bits,
            days: days.bits,
            months: months.bits,
            // 7 is Sunday too.
            weekdays: (weekdays.bits | weekdays.bits >> 7) & 0x7f,
            days_are_restricted: !days.is_star,
            weekdays_are_restricted: !weekdays.is_star,
            hours_are_free: hours.is_star || hours.bits == (1 << 24) - 1,
        };
        if !cron.fits_some_day() {
            return Err(format!(
                "`{day}` as the day of month with `{month}` as the month, which never come together; expected a day that \
                 there is"
            ));
        }
        Ok(cron)
    }

    pub(super) fn fits_day(&self, date: Date) -> bool {
        let weekday = date.weekday().to_sunday_zero_offset();
        let (day, weekday) = (has(self.days, date.day()), has(self.weekdays, weekday));
        let fits = if self.days_are_restricted && self.weekdays_are_restricted {
            day || weekday
        } else {
            day && weekday
        };
        fits && self.fits_month(date.month())
    }

    pub(super) fn fits_month(&self, month: i8) -> bool {
        has(self.months, month)
    }

    /// The times of a day, as hours and minutes.
    pub(super) fn times(&self) -> impl Iterator<Item = (i8, i8)> {
        let hours = (0..24).filter(|hour| has(self.hours, *hour));
        hours.flat_map(|hour| {
            (0..60)
                .filter(|minute| has(self.minutes, *minute))
                .map(move |minute| (hour, minute))
        })
    }

    pub(super) fn repeats_with_the_clock(&self) -> bool {
        self.hours_are_free
    }

    fn fits_some_day(&self) -> bool {
        // Where any weekday will do, each month that fits has one; else each day of the month meets each weekday at last.
        let by_weekday = self.days_are_restricted && self.weekdays_are_restricted && self.weekdays != 0;
        let longest = |month| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        (1..=12).filter(|month| self.fits_month(*month)).any(|month| {
            let days = (1_u64 << (longest(month) + 1)) - 1;
            by_weekday || self.days & days != 0
        })
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

fn has(bits: u64, number: i8) -> bool {
    bits >> number & 1 == 1
}

impl Field {
    const fn new(name: &'static str, least: u32, most: u32, names: &'static [&'static str]) -> Field {
        Field {
            name,
            least,
            most,
            names,
        }
    }

    fn parse(&self, text: &str) -> Result<Numbers, String> {
        let mut bits = 0;
        for part in text.split(',') {
            bits |= self.part(part).ok_or_else(|| {
                let names = match self.names {
                    [first, .., last] => format!(" or `{first}` to `{last}`"),
                    _ => String::new(),
                };
                format!(
                    "`{part}` as the {}; expected {} to {}{names}, a range such as `{}-{}`, a step such as `*/2`, or a list of \
                     these",
                    self.name,
                    self.least,
                    self.most,
                    self.least + 1,
                    self.least + 5
                )
            })?;
        }
        Ok(Numbers {
            bits,
            is_star: text.starts_with('*'),
        })
    }

    /// `3`, `1-5`, `*`, each perhaps with a step behind: `*/15`, `1-31/2`, and `5/10` for `5-59/10`.
    fn part(&self, text: &str) -> Option<u64> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(unsigned(step).filter(|step| *step > 0)?)),
            None => (text, None),
        };
        let (first, last) = if range == "*" {
            (self.least, self.most)
        } else if let Some((first, last)) = range.split_once('-') {
            let (first, mut last) = (self.number(first)?, self.number(last)?);
            // Behind Saturday comes the other Sunday.
            if last == 0 && self.most == 7 && first > 0 {
                last = 7;
            }
            (first, last)
        } else {
            let first = self.number(range)?;
            (first, if step.is_some() { self.most } else { first })
        };
        if first > last {
            return None;
        }
        let step = usize::try_from(step.unwrap_or(1)).ok()?;
        Some((first..=last).step_by(step).map(|number| 1_u64 << number).sum())
    }

    fn number(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let number = match named {
            Some(index) => self.least + u32::try_from(index).ok()?,
            None => unsigned(text)?,
        };
        (self.least..=self.most).contains(&number).then_some(number)
    }
}

/// Digits alone: `+5` is no number here.
fn unsigned(text: &str) -> Option<u32> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}
