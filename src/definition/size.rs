//! `50MB` → bytes: a number with a unit of a power of 1000 or of 1024, or without one.
//!
//! Surprise: a part of a byte is rounded up, so that what is not nothing stays something.

use crate::definition::complaint::shown;
use crate::definition::duration::{amount, split_where};

const UNITS: [(&str, u128); 8] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// No file is longer.
const MAX_BYTES: u128 = i64::MAX.unsigned_abs() as u128;

const EXPECTED: &str =
    "a number of bytes, also with `kB`, `MB`, `GB` (powers of 1000), `KiB`, `MiB` or `GiB` (of 1024), as in `50MB`";

/// The bytes of a size. The error says what was found and expected; it goes behind "has a size that …".
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (number, unit) = split_where(text, |character| !character.is_ascii_digit() && character != '.');
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(format!("`{}`; expected {EXPECTED}", shown(text)));
    }
    let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!(
            "`{}`, whose unit `{}` is not known; expected {EXPECTED}",
            shown(text),
            shown(unit)
        ));
    };
    amount(whole, fraction, *scale)
        .filter(|bytes| *bytes <= MAX_BYTES)
        .and_then(|bytes| u64::try_from(bytes).ok())
        .ok_or_else(|| format!("`{}`, which is too large; expected at most `{MAX_BYTES}`", shown(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: u64) {
        assert_eq!(parse(text), Ok(expected), "{text}");
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        assert_eq!(parse(text).unwrap_err(), expected, "{text}");
    }

    #[test]
    fn sizes() {
        check("0", 0);
        check("1000", 1_000);
        check("1000B", 1_000);
        check("50kB", 50_000);
        check("50MB", 50_000_000);
        check("2GB", 2_000_000_000);
        check("64KiB", 65_536);
        check("1MiB", 1_048_576);
        check("1GiB", 1_073_741_824);
        check("1.5kB", 1_500);
        check(".5KiB", 512);
        check(" 007MB ", 7_000_000);
        check("0.0001kB", 1);
        check("9223372036854775807", i64::MAX.unsigned_abs());
    }

    #[test]
    fn mistakes_are_named() {
        check_error(
            "50mb",
            "`50mb`, whose unit `mb` is not known; expected a number of bytes, also with `kB`, `MB`, `GB` (powers of 1000), \
             `KiB`, `MiB` or `GiB` (of 1024), as in `50MB`",
        );
        check_error(
            "much",
            "`much`; expected a number of bytes, also with `kB`, `MB`, `GB` (powers of 1000), `KiB`, `MiB` or `GiB` (of \
             1024), as in `50MB`",
        );
        for text in [
            "", "MB", "-1", "+1", "1 MB", "50M", "50KB", "1e6", "0x10", "1.2.3MB", "1MB2", ".",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        for text in ["9223372036854775808", "9223372037GB", &"9".repeat(100)] {
            check_error(
                text,
                &format!("`{text}`, which is too large; expected at most `9223372036854775807`"),
            );
        }
    }
}
