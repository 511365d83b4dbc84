//! What happens, for people: one line on standard error for each thing.
//!
//! Nothing here decides what is worth a line. Callers never pass a secret or a token. Surprise: whatever is in a value,
//! it can't begin a line of its own nor reach the terminal as an escape sequence.

use std::env;
use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal, Write as _};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::timestamp::rfc3339;

/// Names and values that belong to a line.
pub(crate) type Fields<'a> = &'a [(&'a str, &'a dyn Display)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `time=… level=… msg="…" name=value`
    Logfmt,
    /// For people at a terminal.
    Colored,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    form: Form,
    verbose: bool,
}

/// Set once, before the first thread starts.
static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Takes the lines where something else than them is written to standard error.
type Redirection = Box<dyn Fn(&str) + Send + Sync>;

static REDIRECTION: OnceLock<Redirection> = OnceLock::new();

/// From now on lines, without their end, go there instead. Later calls change nothing.
pub(crate) fn redirect(to: impl Fn(&str) + Send + Sync + 'static) {
    let _ = REDIRECTION.set(Box::new(to));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

/// Says how lines look, and whether those of `debug` are written. Later calls change nothing; until the first one,
/// lines are logfmt.
pub(crate) fn set_up(verbose: bool, disable_ansi: bool) {
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let form = choose_form(disable_ansi, no_color, io::stderr().is_terminal());
    let _ = SETTINGS.set(Settings { form, verbose });
}

fn choose_form(disable_ansi: bool, no_color: bool, terminal: bool) -> Form {
    if terminal && !disable_ansi && !no_color {
        Form::Colored
    } else {
        Form::Logfmt
    }
}

/// Written with `--verbose` alone.
pub(crate) fn debug(message: &str, fields: Fields<'_>) {
    write(Level::Debug, message, fields);
}

pub(crate) fn info(message: &str, fields: Fields<'_>) {
    write(Level::Info, message, fields);
}

pub(crate) fn warning(message: &str, fields: Fields<'_>) {
    write(Level::Warning, message, fields);
}

pub(crate) fn error(message: &str, fields: Fields<'_>) {
    write(Level::Error, message, fields);
}

fn write(level: Level, message: &str, fields: Fields<'_>) {
    let settings = SETTINGS.get().copied().unwrap_or(Settings {
        form: Form::Logfmt,
        verbose: false,
    });
    if level == Level::Debug && !settings.verbose {
        return;
    }
    let wall_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    let line = line(settings.form, wall_ms, level, message, fields);
    if let Some(redirection) = REDIRECTION.get() {
        return redirection(line.trim_end_matches('\n'));
    }
    // One call, so that lines of several threads or processes don't mix. Nobody can be told where it fails.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

fn line(form: Form, wall_ms: i64, level: Level, message: &str, fields: Fields<'_>) -> String {
    let time = rfc3339(wall_ms);
    let mut line = match form {
        Form::Logfmt => {
            let level = match level {
                Level::Debug => "debug",
                Level::Info => "info",
                Level::Warning => "warn",
                Level::Error => "error",
            };
            format!("time={time} level={level} msg={}", quote(message))
        }
        Form::Colored => {
            let level = match level {
                Level::Debug => "\x1b[35mdebug\x1b[0m",
                Level::Info => "\x1b[34minfo \x1b[0m",
                Level::Warning => "\x1b[33mwarn \x1b[0m",
                Level::Error => "\x1b[31merror\x1b[0m",
            };
            format!("\x1b[2m{time}\x1b[0m {level} {}", one_line(message))
        }
    };
    for (name, value) in fields {
        let value = value.to_string();
        let value = if needs_quotes(&value) { quote(&value) } else { value };
        let written = match form {
            Form::Logfmt => write!(line, " {name}={value}"),
            Form::Colored => write!(line, " \x1b[36m{name}=\x1b[0m{value}"),
        };
        written.expect("writing to a String does not fail");
    }
    line.push('\n');
    line
}

/// The text without anything that ends a line or commands a terminal: such characters show as `\n`, `\u001b`.
pub(crate) fn one_line(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        push_escaped(&mut escaped, character);
    }
    escaped
}

fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ => push_escaped(&mut quoted, character),
        }
    }
    quoted.push('"');
    quoted
}

fn push_escaped(text: &mut String, character: char) {
    match character {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        _ if is_harmful(character) => {
            write!(text, "\\u{:04x}", u32::from(character)).expect("writing to a String does not fail");
        }
        _ => text.push(character),
    }
}

/// Controls, line separators, and marks that turn the direction of what follows.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}')
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn needs_quotes(text: &str) -> bool {
    text.is_empty()
        || text.chars().any(|character| {
            character.is_whitespace() || matches!(character, '"' | '=' | '\\') || is_harmful(character)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-24T03:27:47Z
    const NOW_MS: i64 = 1_795_490_867_000;

    #[track_caller]
    fn check(level: Level, message: &str, value: &str, logfmt: &str, colored: &str) {
        let fields: Fields<'_> = &[("job", &7), ("task", &value)];
        assert_eq!(
            line(Form::Logfmt, NOW_MS, level, message, fields),
            format!("time=2026-11-24T03:27:47Z {logfmt}\n")
        );
        assert_eq!(
            line(Form::Colored, NOW_MS, level, message, fields),
            format!("\x1b[2m2026-11-24T03:27:47Z\x1b[0m {colored}\n")
        );
    }

    #[test]
    fn lines_hold_level_message_and_fields() {
        check(
            Level::Info,
            "task ended",
            "lint",
            "level=info msg=\"task ended\" job=7 task=lint",
            "\x1b[34minfo \x1b[0m task ended \x1b[36mjob=\x1b[0m7 \x1b[36mtask=\x1b[0mlint",
        );
        check(
            Level::Debug,
            "",
            "",
            "level=debug msg=\"\" job=7 task=\"\"",
            "\x1b[35mdebug\x1b[0m  \x1b[36mjob=\x1b[0m7 \x1b[36mtask=\x1b[0m\"\"",
        );
        check(
            Level::Warning,
            "a \"b\" \\",
            "a b",
            "level=warn msg=\"a \\\"b\\\" \\\\\" job=7 task=\"a b\"",
            "\x1b[33mwarn \x1b[0m a \"b\" \\ \x1b[36mjob=\x1b[0m7 \x1b[36mtask=\x1b[0m\"a b\"",
        );
    }

    #[test]
    fn lines_stay_lines() {
        check(
            Level::Error,
            "a\nb\r\x1b[2J",
            "x\ny\t\u{2028}\u{202e}\u{9b}\0",
            "level=error msg=\"a\\nb\\r\\u001b[2J\" job=7 task=\"x\\ny\\t\\u2028\\u202e\\u009b\\u0000\"",
            "\x1b[31merror\x1b[0m a\\nb\\r\\u001b[2J \x1b[36mjob=\x1b[0m7 \
             \x1b[36mtask=\x1b[0m\"x\\ny\\t\\u2028\\u202e\\u009b\\u0000\"",
        );
    }

    #[test]
    fn values_are_quoted_where_they_would_be_read_wrongly() {
        for (value, expected) in [
            ("a=b", "\"a=b\""),
            ("a\"b", "\"a\\\"b\""),
            ("a\\b", "\"a\\\\b\""),
            ("ö/ü.yml", "ö/ü.yml"),
            ("a\u{a0}b", "\"a\u{a0}b\""),
        ] {
            let line = line(Form::Logfmt, NOW_MS, Level::Info, "m", &[("v", &value)]);
            assert_eq!(
                line,
                format!("time=2026-11-24T03:27:47Z level=info msg=\"m\" v={expected}\n")
            );
        }
    }

    #[test]
    fn color_is_for_terminals_that_want_it() {
        assert_eq!(choose_form(false, false, true), Form::Colored);
        assert_eq!(choose_form(true, false, true), Form::Logfmt);
        assert_eq!(choose_form(false, true, true), Form::Logfmt);
        assert_eq!(choose_form(false, false, false), Form::Logfmt);
    }
}
