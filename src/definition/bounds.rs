//! How long a task may run, how it is stopped, how often it is tried, how much of its output is kept: the types, and the
//! keys that say so.
//!
//! Unaware of clocks and processes. Surprise: a time limit keeps its text, for a message says `timed out after 600s` where
//! the file says `600s`.

use std::fmt;

use crate::definition::complaint::shown;
use crate::definition::fields::{Reader, described, field};
use crate::definition::keys::Place;
use crate::definition::parse::{Kind, Node};
use crate::definition::{duration, size};

const RETRY_EXAMPLE: &str = "`{max: 2, delay: 5s}`";

/// Finer steps of `backoff` are not told apart.
const BACKOFF_DIGITS: usize = 3;
const BACKOFF_ONE: u128 = 1_000;
/// Beyond this one step reaches the longest delay anyway.
const MAX_BACKOFF: u128 = 1_000_000 * BACKOFF_ONE;

/// What a task says about its course, or its pipeline for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Of each attempt, from its start.
    pub timeout: Option<TimeLimit>,
    pub stop_signal: StopSignal,
    /// From the signal to the kill; `None`: prunner's own.
    pub kill_grace_ms: Option<i64>,
    /// A failure elsewhere in its job lets it end.
    pub uninterruptible: bool,
    pub retry: Option<Retry>,
    /// Bytes that are kept of the beginning of each stream; `None`: as many as prunner's own limit says.
    pub log_limit: Option<u64>,
}

/// What a log limit is where there is none.
pub(crate) const NO_LIMIT: u64 = u64::MAX;

/// Reads a log limit; the error goes behind "has the `log_limit` …".
pub(crate) fn log_limit(text: &str) -> Result<u64, String> {
    match size::parse(text) {
        Ok(0) => Err(format!(
            "`{}`; expected a size of at least 1 byte, or `none`",
            shown(text)
        )),
        Err(_) if text.trim() == "none" => Ok(NO_LIMIT),
        other => other,
    }
}

/// A duration, printed as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimeLimit {
    pub ms: i64,
    pub text: String,
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// What asks a task to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StopSignal {
    /// As a shell's `trap` knows it: `INT`.
    pub name: &'static str,
    pub number: i32,
}

impl StopSignal {
    /// A shell must be able to catch it and end; SIGKILL comes with the end of the grace.
    const ALL: [StopSignal; 7] = [
        StopSignal::new("HUP", 1),
        StopSignal::new("INT", 2),
        StopSignal::new("QUIT", 3),
        StopSignal::new("USR1", 10),
        StopSignal::new("USR2", 12),
        StopSignal::new("TERM", 15),
        StopSignal::new("WINCH", 28),
    ];

    const fn new(name: &'static str, number: i32) -> StopSignal {
        StopSignal { name, number }
    }

    /// What a shell that ends because of it ends with.
    pub(crate) fn exit_code(self) -> i32 {
        128 + self.number
    }
}

impl Default for StopSignal {
    fn default() -> StopSignal {
        StopSignal::new("INT", 2)
    }
}

/// When a task that fails is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    /// Attempts behind the first.
    pub max: usize,
    pub delay: TimeLimit,
    /// In thousandths; at least 1,000.
    backoff: u128,
    max_delay_ms: Option<i64>,
    /// `None`: with any.
    exit_codes: Option<Vec<i32>>,
}

impl Retry {
    /// Whether a task is tried again whose attempt, counted from 1, failed with this exit code.
    pub(crate) fn follows(&self, attempt: usize, exit_code: i32) -> bool {
        attempt <= self.max && self.exit_codes.as_ref().is_none_or(|codes| codes.contains(&exit_code))
    }

    /// How long to wait behind this attempt, counted from 1, in milliseconds.
    pub(crate) fn delay_ms(&self, attempt: usize) -> i64 {
        let most_ms = self.max_delay_ms.unwrap_or(duration::MAX_MILLISECONDS);
        if self.backoff == BACKOFF_ONE || self.delay.ms == 0 {
            return self.delay.ms.min(most_ms);
        }
        // In nanoseconds, so that small steps add up. It grows each time, so that this ends soon however many attempts.
        let nanoseconds = |ms: i64| u128::from(ms.unsigned_abs()) * 1_000_000;
        let (mut delay, most) = (nanoseconds(self.delay.ms), nanoseconds(most_ms));
        for _ in 1..attempt {
            delay = delay * self.backoff / BACKOFF_ONE;
            if delay >= most {
                return most_ms;
            }
        }
        i64::try_from(delay.div_ceil(1_000_000)).map_or(most_ms, |ms| ms.min(most_ms))
    }
}

impl Reader<'_> {
    /// `shared` is what the pipeline says for all its tasks.
    pub(super) fn bounds(&mut self, entries: &[(String, Node)], shared: &Bounds) -> Bounds {
        Bounds {
            timeout: self.time_limit(entries, "timeout"),
            stop_signal: self.stop_signal(entries).unwrap_or(shared.stop_signal),
            kill_grace_ms: self.duration(entries, "kill_grace").or(shared.kill_grace_ms),
            uninterruptible: self.boolean(entries, "interruptible") == Some(false),
            retry: self.retry(entries),
            log_limit: self.log_limit(entries).or(shared.log_limit),
        }
    }

    /// What a pipeline says for all its tasks.
    pub(super) fn shared_bounds(&mut self, entries: &[(String, Node)]) -> Bounds {
        Bounds {
            stop_signal: self.stop_signal(entries).unwrap_or_default(),
            kill_grace_ms: self.duration(entries, "kill_grace"),
            log_limit: self.log_limit(entries),
            ..Bounds::default()
        }
    }

    /// A duration that is not 0.
    pub(super) fn time_limit(&mut self, entries: &[(String, Node)], key: &str) -> Option<TimeLimit> {
        let limit = self.kept_duration(entries, key)?;
        if limit.ms == 0 {
            self.error(format!(
                "has the `{key}` `{}`; expected a duration longer than 0, or no `{key}` for none",
                shown(&limit.text)
            ));
            return None;
        }
        Some(limit)
    }

    /// A duration with its text.
    pub(super) fn kept_duration(&mut self, entries: &[(String, Node)], key: &str) -> Option<TimeLimit> {
        let ms = self.duration(entries, key)?;
        let Some(Node::Scalar { text, .. }) = field(entries, key) else {
            unreachable!("durations are scalars");
        };
        Some(TimeLimit {
            ms,
            text: text.trim().to_owned(),
        })
    }

    fn log_limit(&mut self, entries: &[(String, Node)]) -> Option<u64> {
        let node = field(entries, "log_limit")?;
        let Node::Scalar {
            kind: Kind::Number | Kind::Text,
            text,
        } = node
        else {
            self.unexpected(node, "log_limit", "a size such as `50MB` or `64KiB`, or `none`");
            return None;
        };
        log_limit(text)
            .map_err(|what| self.error(format!("has the `log_limit` {what}")))
            .ok()
    }

    fn stop_signal(&mut self, entries: &[(String, Node)]) -> Option<StopSignal> {
        let node = field(entries, "stop_signal")?;
        let names = StopSignal::ALL.map(|signal| format!("SIG{}", signal.name));
        let mut meant = String::new();
        if let Node::Scalar { kind, text } = node {
            if let Some(index) = names.iter().position(|name| name == text) {
                return Some(StopSignal::ALL[index]);
            }
            let name = text.to_uppercase();
            let name = name.strip_prefix("SIG").unwrap_or(&name);
            let known = StopSignal::ALL
                .iter()
                .find(|signal| signal.name == name || (*kind == Kind::Number && signal.number.to_string() == *text));
            meant = match known {
                Some(signal) => format!("; did you mean `SIG{}`?", signal.name),
                None => self.findings.did_you_mean(text, names.iter().map(String::as_str)),
            };
        }
        self.unexpected(node, "stop_signal", &format!("one of `{}`{meant}", names.join("`, `")));
        None
    }

    fn retry(&mut self, entries: &[(String, Node)]) -> Option<Retry> {
        let retry = match field(entries, "retry")? {
            Node::Scalar { kind: Kind::Number, .. } => Retry {
                max: self.integer(entries, "retry", 0)?,
                delay: TimeLimit {
                    ms: 0,
                    text: "0".to_owned(),
                },
                backoff: BACKOFF_ONE,
                max_delay_ms: None,
                exit_codes: None,
            },
            node @ Node::Mapping(_) => {
                let keys = self.mapping(node, "`retry`", "a mapping")?;
                self.retry_keys(keys)?
            }
            node @ (Node::Scalar { .. } | Node::List(_)) => {
                self.unexpected(
                    node,
                    "retry",
                    &format!("an integer of at least 0, or a mapping such as {RETRY_EXAMPLE}"),
                );
                return None;
            }
        };
        if matches!(field(entries, "allow_failure"), Some(Node::Scalar { text, .. }) if text == "true") {
            self.warning(
                "has both `retry` and `allow_failure`, but a failure that is allowed is no reason to try again; `retry` is \
                 ignored, remove one of them",
            );
        }
        Some(retry)
    }

    fn retry_keys(&mut self, keys: &[(String, Node)]) -> Option<Retry> {
        self.unknown_keys(keys, Place::Retry);
        let max = self.integer(keys, "max", 0);
        if field(keys, "max").is_none() {
            self.error(format!(
                "has a `retry` without `max`; expected the number of further attempts, as in {RETRY_EXAMPLE}"
            ));
        }
        let delay = self.kept_duration(keys, "delay");
        let backoff = self.backoff(keys);
        let max_delay_ms = self.duration(keys, "max_delay");
        let exit_codes = self.exit_codes(keys);
        Some(Retry {
            max: max?,
            delay: delay.unwrap_or(TimeLimit {
                ms: 0,
                text: "0".to_owned(),
            }),
            backoff: backoff.unwrap_or(BACKOFF_ONE),
            max_delay_ms,
            exit_codes,
        })
    }

    /// In thousandths.
    fn backoff(&mut self, keys: &[(String, Node)]) -> Option<u128> {
        let node = field(keys, "backoff")?;
        let thousandths = match node {
            Node::Scalar {
                kind: Kind::Number,
                text,
            } => thousandths(text),
            Node::Scalar { .. } | Node::List(_) | Node::Mapping(_) => None,
        };
        let backoff = thousandths.filter(|factor| (BACKOFF_ONE..=MAX_BACKOFF).contains(factor));
        if backoff.is_none() {
            self.unexpected(
                node,
                "backoff",
                "a number from 1 to 1000000, such as `2` or `1.5`: each delay is so many times the one before",
            );
        }
        backoff
    }

    fn exit_codes(&mut self, keys: &[(String, Node)]) -> Option<Vec<i32>> {
        const EXPECTED: &str = "from 1 to 255, or -1 for a task that could not be started";
        let node = field(keys, "exit_codes")?;
        let items = match node {
            Node::List(items) if !items.is_empty() => items.as_slice(),
            Node::Scalar { kind: Kind::Number, .. } => std::slice::from_ref(node),
            Node::Scalar { .. } | Node::List(_) | Node::Mapping(_) => {
                let found = match node {
                    Node::List(_) => "an empty list".to_owned(),
                    Node::Scalar { .. } | Node::Mapping(_) => described(node),
                };
                self.error(format!(
                    "has {found} as `exit_codes`; expected a list of exit codes {EXPECTED}"
                ));
                return None;
            }
        };
        let mut codes = Vec::with_capacity(items.len());
        for item in items {
            let code = match item {
                Node::Scalar {
                    kind: Kind::Number,
                    text,
                } => text.parse::<i32>().ok(),
                Node::Scalar { .. } | Node::List(_) | Node::Mapping(_) => None,
            };
            match code {
                Some(code @ (-1 | 1..=255)) => codes.push(code),
                _ => self.error(format!(
                    "has {} in `exit_codes`; expected an exit code {EXPECTED}",
                    described(item)
                )),
            }
        }
        Some(codes)
    }
}

/// `1.5` → 1,500; further digits are cut off.
fn thousandths(text: &str) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.chars().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(BACKOFF_DIGITS)];
    let fraction: u128 = format!("{fraction:0<BACKOFF_DIGITS$}").parse().ok()?;
    whole
        .parse::<u128>()
        .ok()?
        .checked_mul(BACKOFF_ONE)?
        .checked_add(fraction)
}

#[cfg(test)]
impl Retry {
    pub(crate) fn for_tests(
        max: usize,
        delay_ms: i64,
        backoff: u128,
        max_delay_ms: Option<i64>,
        exit_codes: Option<Vec<i32>>,
    ) -> Retry {
        Retry {
            max,
            delay: TimeLimit::for_tests(delay_ms),
            backoff: backoff * BACKOFF_ONE,
            max_delay_ms,
            exit_codes,
        }
    }
}

#[cfg(test)]
impl TimeLimit {
    pub(crate) fn for_tests(ms: i64) -> TimeLimit {
        TimeLimit {
            ms,
            text: format!("{ms}ms"),
        }
    }
}

#[cfg(test)]
impl StopSignal {
    pub(crate) fn for_tests(number: i32) -> StopSignal {
        *StopSignal::ALL.iter().find(|signal| signal.number == number).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_delays(delay_ms: i64, backoff: &str, max_delay_ms: Option<i64>, expected: &[i64]) {
        let retry = Retry {
            backoff: thousandths(backoff).unwrap(),
            ..Retry::for_tests(9, delay_ms, 1, max_delay_ms, None)
        };
        let delays: Vec<i64> = (1..=expected.len()).map(|attempt| retry.delay_ms(attempt)).collect();
        assert_eq!(delays, expected);
    }

    #[test]
    fn delays_grow_by_their_factor_up_to_the_longest() {
        check_delays(5_000, "1", None, &[5_000, 5_000, 5_000]);
        check_delays(
            5_000,
            "2",
            Some(60_000),
            &[5_000, 10_000, 20_000, 40_000, 60_000, 60_000],
        );
        check_delays(1_000, "1.5", None, &[1_000, 1_500, 2_250, 3_375, 5_063]);
        check_delays(0, "2", None, &[0, 0, 0]);
        check_delays(5_000, "1", Some(1_000), &[1_000, 1_000]);
        check_delays(5_000, "3", Some(1_000), &[1_000, 1_000]);
    }

    #[test]
    fn many_attempts_are_not_counted_one_by_one() {
        let retry = Retry {
            backoff: thousandths("1.001").unwrap(),
            ..Retry::for_tests(usize::MAX, 1, 1, None, None)
        };
        assert_eq!(retry.delay_ms(usize::MAX), duration::MAX_MILLISECONDS);
        assert_eq!(retry.delay_ms(1_001), 3);
    }

    #[test]
    fn an_attempt_follows_where_some_are_left_and_the_code_is_named() {
        let retry = Retry::for_tests(2, 0, 1, None, None);
        assert!(retry.follows(1, 1) && retry.follows(2, -1) && !retry.follows(3, 1));
        let retry = Retry::for_tests(1, 0, 1, None, Some(vec![75, 193]));
        assert!(retry.follows(1, 193) && !retry.follows(1, 1) && !retry.follows(2, 75));
    }

    #[test]
    fn factors() {
        assert_eq!(thousandths("2"), Some(2_000));
        assert_eq!(thousandths("1.5"), Some(1_500));
        assert_eq!(thousandths("1.0019"), Some(1_001));
        assert_eq!(thousandths("1.-5"), None);
        assert_eq!(thousandths("1e3"), None);
        assert_eq!(thousandths(".5"), None);
    }
}
