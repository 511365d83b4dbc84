//! What happens, for people: one line on standard error for each thing.
//!
//! Nothing here decides what is worth a line. Callers never pass a secret or a token. Where `start` was called, a thread
//! writes the lines, so that a reader that went to sleep keeps nobody waiting. Surprise: whatever is in a value, it can't
//! begin a line of its own nor reach the terminal as an escape sequence.

use std::env;
use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::clock::wall_ms;
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

/// Set once, where a thread writes.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Bytes of lines that wait for the thread at most: some tens of thousands of lines, far more than come at once.
const MAX_QUEUED_BYTES: usize = 4 << 20;

/// How long the end of the program waits for what is not written yet.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

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

/// From now on a thread writes the lines: for a program that must go on whatever becomes of its standard error.
///
/// # Errors
/// Where the thread can't be had.
pub(crate) fn start() -> io::Result<()> {
    let (queue, messages) = Queue::new(MAX_QUEUED_BYTES);
    let counts = Arc::clone(&queue.counts);
    thread::Builder::new()
        .name("log".to_owned())
        .stack_size(256 * 1024)
        .spawn(move || write_all(&messages, &counts, &mut io::stderr()))?;
    let _ = QUEUE.set(queue);
    Ok(())
}

/// Waits until all lines so far are written, but not for ever; false: standard error takes no more.
pub(crate) fn finish() -> bool {
    QUEUE.get().is_none_or(|queue| queue.finish(LAST_PATIENCE))
}

/// Lines on their way to the thread that writes them.
struct Queue {
    sender: Sender<Message>,
    counts: Arc<Counts>,
    max_bytes: usize,
}

#[derive(Default)]
struct Counts {
    queued_bytes: AtomicUsize,
    /// Lines that found no room, and were not told of yet.
    left_out: AtomicU64,
}

enum Message {
    Line {
        /// So many lines before it were left out.
        left_out: u64,
        line: String,
    },
    /// Answered when all before it is written.
    Finish(Sender<()>),
}

impl Queue {
    fn new(max_bytes: usize) -> (Queue, Receiver<Message>) {
        let (sender, messages) = unbounded();
        let queue = Queue {
            sender,
            counts: Arc::default(),
            max_bytes,
        };
        (queue, messages)
    }

    /// Never waits.
    fn push(&self, line: String) {
        let Counts { queued_bytes, left_out } = &*self.counts;
        if queued_bytes.fetch_add(line.len(), Ordering::SeqCst) + line.len() > self.max_bytes {
            queued_bytes.fetch_sub(line.len(), Ordering::SeqCst);
            left_out.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let left_out = left_out.swap(0, Ordering::SeqCst);
        // The thread ends only with the program.
        let _ = self.sender.send(Message::Line { left_out, line });
    }

    fn finish(&self, patience: Duration) -> bool {
        let (sender, written) = bounded(1);
        let _ = self.sender.send(Message::Finish(sender));
        written.recv_timeout(patience).is_ok()
    }
}

/// Writes what comes, until nobody can send more. Blocks where there is nothing.
fn write_all(messages: &Receiver<Message>, counts: &Counts, to: &mut impl Write) {
    for message in messages {
        let (left_out, line) = match message {
            Message::Line { left_out, line } => (left_out, line),
            Message::Finish(written) => {
                tell_left_out(counts.left_out.swap(0, Ordering::SeqCst), to);
                let _ = written.send(());
                continue;
            }
        };
        tell_left_out(left_out, to);
        // One call, so that lines of several processes don't mix. Nobody can be told where it fails.
        let _ = to.write_all(line.as_bytes());
        counts.queued_bytes.fetch_sub(line.len(), Ordering::SeqCst);
        if messages.is_empty() {
            tell_left_out(counts.left_out.swap(0, Ordering::SeqCst), to);
        }
    }
}

fn tell_left_out(lines: u64, to: &mut impl Write) {
    if lines > 0 {
        let message = "lines were left out here, for standard error took no more";
        let line = line(
            settings().form,
            wall_ms(),
            Level::Warning,
            message,
            &[("lines", &lines)],
        );
        let _ = to.write_all(line.as_bytes());
    }
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
    let settings = settings();
    if level == Level::Debug && !settings.verbose {
        return;
    }
    let line = line(settings.form, wall_ms(), level, message, fields);
    if let Some(redirection) = REDIRECTION.get() {
        return redirection(line.trim_end_matches('\n'));
    }
    match QUEUE.get() {
        Some(queue) => queue.push(line),
        // One call, so that lines of several threads or processes don't mix. Nobody can be told where it fails.
        None => drop(io::stderr().lock().write_all(line.as_bytes())),
    }
}

fn settings() -> Settings {
    SETTINGS.get().copied().unwrap_or(Settings {
        form: Form::Logfmt,
        verbose: false,
    })
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
    use std::sync::Mutex;

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

    /// A reader that takes nothing before it may, and then all.
    struct Stuck {
        has_begun: Sender<()>,
        may_go_on: Receiver<()>,
        written: Arc<Mutex<String>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.has_begun.try_send(());
            // An error: from now on it may always.
            let _ = self.may_go_on.recv();
            self.written
                .lock()
                .unwrap()
                .push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_sleeps_keeps_nobody_waiting() {
        let (queue, messages) = Queue::new(4);
        let counts = Arc::clone(&queue.counts);
        let (has_begun, begun) = bounded(1);
        let (wake, may_go_on) = bounded::<()>(0);
        let written = Arc::new(Mutex::new(String::new()));
        let mut stuck = Stuck {
            has_begun,
            may_go_on,
            written: Arc::clone(&written),
        };
        let writer = thread::Builder::new().spawn(move || write_all(&messages, &counts, &mut stuck));
        let push = |line: &str| queue.push(format!("{line}\n"));
        push("a");
        begun.recv().unwrap();
        // What is being written counts until it is.
        ["b", "c", "d"].into_iter().for_each(push);
        assert!(!queue.finish(Duration::from_millis(1)), "it can't be written yet");
        drop(wake);
        assert!(queue.finish(Duration::from_secs(30)));
        let text = written.lock().unwrap().clone();
        assert!(text.starts_with("a\nb\ntime="), "{text}");
        assert!(text.ends_with("standard error took no more\" lines=2\n"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");

        ["e", "f"].into_iter().for_each(push);
        assert!(queue.finish(Duration::from_secs(30)));
        let text = written.lock().unwrap().clone();
        assert!(text.ends_with("lines=2\ne\nf\n"), "{text}");
        drop(queue);
        writer.unwrap().join().unwrap();
    }
}
