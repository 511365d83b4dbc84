//! `1h30m` → milliseconds: durations as Go writes them, and days.
//!
//! Surprise: what is finer than a millisecond is rounded up, for a duration is the least time to wait.

use crate::definition::complaint::shown;

const NANOSECONDS_PER_MILLISECOND: u128 = 1_000_000;

const UNITS: [(&str, u128); 5] = [
    ("ms", NANOSECONDS_PER_MILLISECOND),
    ("s", 1_000 * NANOSECONDS_PER_MILLISECOND),
    ("m", 60_000 * NANOSECONDS_PER_MILLISECOND),
    ("h", 3_600_000 * NANOSECONDS_PER_MILLISECOND),
    ("d", 86_400_000 * NANOSECONDS_PER_MILLISECOND),
];

/// Go's longest duration, 292 years: a moment this far from now still is a moment.
const MAX_NANOSECONDS: u128 = i64::MAX.unsigned_abs() as u128;

/// The same in milliseconds, rounded up as every duration is.
pub(crate) const MAX_MILLISECONDS: i64 = i64::MAX / 1_000_000 + 1;

/// Fractions are exact to this many digits, finer than a nanosecond in every unit.
const FRACTION_DIGITS: usize = 15;

/// The milliseconds of a duration. The error says what was found and expected; it goes behind "has a duration that …".
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(0);
    }
    if text.starts_with('-') {
        return Err(format!("`{}`; expected a duration that is not negative", shown(text)));
    }
    let mut nanoseconds = 0_u128;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after_number) = split_where(rest, |character| !character.is_ascii_digit() && character != '.');
        let (unit, after_unit) = split_where(after_number, |character| character.is_ascii_digit() || character == '.');
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(unknown_form(text));
        }
        if unit.is_empty() {
            return Err(format!(
                "`{}`, which has no unit behind `{number}`; expected `ms`, `s`, `m`, `h` or `d`, as in `{number}s`",
                shown(text),
            ));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!(
                "`{}`, whose unit `{}` is not known; expected `ms`, `s`, `m`, `h` or `d`",
                shown(text),
                shown(unit)
            ));
        };
        nanoseconds = amount(whole, fraction, *scale)
            .and_then(|more| nanoseconds.checked_add(more))
            .filter(|sum| *sum <= MAX_NANOSECONDS)
            .ok_or_else(|| format!("`{}`, which is too long; expected at most `106751d`", shown(text)))?;
        rest = after_unit;
    }
    if text.is_empty() {
        return Err(unknown_form(text));
    }
    let milliseconds = nanoseconds.div_ceil(NANOSECONDS_PER_MILLISECOND);
    Ok(i64::try_from(milliseconds).expect("the longest duration has fewer milliseconds than an i64 holds"))
}

/// The shortest way to write so many milliseconds: `1m30s`, `1.5s`.
pub(crate) fn print(milliseconds: i64) -> String {
    let mut text = String::new();
    let mut rest = milliseconds;
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)] {
        if rest >= length {
            text.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    let (seconds, fraction) = (rest / 1_000, rest % 1_000);
    if rest == 0 && !text.is_empty() {
        return text;
    }
    if seconds == 0 && text.is_empty() && fraction > 0 {
        return format!("{fraction}ms");
    }
    text.push_str(&seconds.to_string());
    if fraction > 0 {
        text.push_str(format!(".{fraction:03}").trim_end_matches('0'));
    }
    text.push('s');
    text
}

fn unknown_form(text: &str) -> String {
    format!(
        "`{}`; expected numbers with units, such as `10s`, `1h30m` or `2d`",
        shown(text)
    )
}

/// `None` where it is more than can be counted.
pub(super) fn amount(whole: &str, fraction: &str, scale: u128) -> Option<u128> {
    let whole = if whole.is_empty() {
        0
    } else {
        whole.parse::<u128>().ok()?
    };
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let part = if fraction.is_empty() {
        0
    } else {
        fraction.parse::<u128>().ok()?
    };
    let parts_of_one = 10_u128.pow(u32::try_from(fraction.len()).expect("the fraction was cut"));
    whole
        .checked_mul(scale)?
        .checked_add((part * scale).div_ceil(parts_of_one))
}

pub(super) fn split_where(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: i64) {
        assert_eq!(parse(text), Ok(expected), "{text}");
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        assert_eq!(parse(text).unwrap_err(), expected, "{text}");
    }

    #[test]
    fn durations() {
        check("0", 0);
        check("0s", 0);
        check("10s", 10_000);
        check("250ms", 250);
        check("5m", 300_000);
        check("48h", 172_800_000);
        check("2d", 172_800_000);
        check("1h30m", 5_400_000);
        check("1d2h3m4s5ms", 93_784_005);
        check("1.5s", 1_500);
        check(".5s", 500);
        check("1.s", 1_000);
        check("0.1d", 8_640_000);
        check("1.5h1.5m", 5_490_000);
        check("1m1m", 120_000);
        check("0.0000000000000000000000000001s", 0);
        check("0.5ms", 1);
        check("0.1ms", 1);
        check("0.0001s", 1);
        check("0.333333333333333333s", 334);
        check("106751d", 9_223_286_400_000);
        check("007s", 7_000);
    }

    #[test]
    fn milliseconds_print_as_durations() {
        for (milliseconds, expected) in [
            (0, "0s"),
            (1, "1ms"),
            (250, "250ms"),
            (1_500, "1.5s"),
            (1_050, "1.05s"),
            (5_000, "5s"),
            (60_000, "1m"),
            (90_000, "1m30s"),
            (60_250, "1m0.25s"),
            (5_400_000, "1h30m"),
            (90_000_000, "1d1h"),
        ] {
            assert_eq!(print(milliseconds), expected);
            assert_eq!(parse(expected), Ok(milliseconds));
        }
        assert_eq!(parse("106751d23h47m16.854775807s"), Ok(MAX_MILLISECONDS));
    }

    #[test]
    fn a_number_without_a_unit_is_named() {
        check_error(
            "10",
            "`10`, which has no unit behind `10`; expected `ms`, `s`, `m`, `h` or `d`, as in `10s`",
        );
        check_error(
            "1h30",
            "`1h30`, which has no unit behind `30`; expected `ms`, `s`, `m`, `h` or `d`, as in `30s`",
        );
        check_error(
            "0.5",
            "`0.5`, which has no unit behind `0.5`; expected `ms`, `s`, `m`, `h` or `d`, as in `0.5s`",
        );
    }

    #[test]
    fn other_mistakes_are_named() {
        check_error(
            "5us",
            "`5us`, whose unit `us` is not known; expected `ms`, `s`, `m`, `h` or `d`",
        );
        check_error(
            "5 s",
            "`5 s`, whose unit ` s` is not known; expected `ms`, `s`, `m`, `h` or `d`",
        );
        check_error(
            "1S",
            "`1S`, whose unit `S` is not known; expected `ms`, `s`, `m`, `h` or `d`",
        );
        check_error("-5s", "`-5s`; expected a duration that is not negative");
        for text in ["", "s", "soon", ".s", "1..5s", "1.2.3s", "1e3s.", "+5s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        check_error("106752d", "`106752d`, which is too long; expected at most `106751d`");
        check_error(
            "106751d24h",
            "`106751d24h`, which is too long; expected at most `106751d`",
        );
        let digits = "9".repeat(100);
        check_error(
            &format!("{digits}s"),
            &format!("`{digits}s`, which is too long; expected at most `106751d`"),
        );
    }
}
