//! Arguments that several commands read alike.

use crate::cli::output::Failure;
use crate::definition::duration;

/// The milliseconds of a duration, at least 1.
///
/// # Errors
/// Wrong usage; says which flag it is.
pub(crate) fn duration_ms(flag: &str, text: &str) -> Result<i64, Failure> {
    match duration::parse(text) {
        Ok(0) => Err(Failure::usage(format!(
            "`{flag}` is `{text}`, expected a duration of at least 1ms"
        ))),
        Ok(milliseconds) => Ok(milliseconds),
        Err(complaint) => Err(Failure::usage(format!("`{flag}` is {complaint}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration_ms("--timeout", "1m30s"), Ok(90_000));
        for (text, expected) in [
            (
                "10",
                "`--timeout` is `10`, which has no unit behind `10`; expected `ms`, `s`, `m`, `h` or `d`, as in `10s`",
            ),
            ("0", "`--timeout` is `0`, expected a duration of at least 1ms"),
            (
                "soon",
                "`--timeout` is `soon`; expected numbers with units, such as `10s`, `1h30m` or `2d`",
            ),
        ] {
            assert_eq!(duration_ms("--timeout", text), Err(Failure::usage(expected)));
        }
    }
}
