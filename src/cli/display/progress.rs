//! The line at the bottom of a terminal that tells which tasks run, and for how long.
//!
//! Unaware of terminals: it says what the line holds and when it is drawn. Surprise: it is taken away before anything else
//! is written, and drawn again when nothing more is there to be written.

use std::time::{Duration, Instant};

use crate::cli::columns::{fit, width};
use crate::cli::table::duration;

/// A job that is over in no time shows no line at all: it would only flicker.
const BEFORE_FIRST: Duration = Duration::from_millis(100);
/// The times have no fraction.
const BETWEEN: Duration = Duration::from_secs(1);
/// While there is always something to write, the line is to be seen now and then.
const WHILE_BUSY: Duration = Duration::from_millis(100);
/// Time enough for who reads standard output to show it, on our terminal too.
const AFTER_PIPED: Duration = Duration::from_millis(200);

/// When the line is drawn.
#[derive(Debug)]
pub(super) struct Progress {
    begin: Instant,
    not_before: Instant,
    last: Option<Instant>,
    pub is_drawn: bool,
    is_stale: bool,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Progress {
        Progress {
            begin: now,
            not_before: now + BEFORE_FIRST,
            last: None,
            is_drawn: false,
            is_stale: false,
        }
    }

    /// What it tells has changed.
    pub(super) fn changed(&mut self) {
        self.is_stale = true;
    }

    /// Something was written to a pipe whose reader may show it here.
    pub(super) fn wait_for_reader(&mut self, now: Instant) {
        self.not_before = self.not_before.max(now + AFTER_PIPED);
    }

    pub(super) fn drawn(&mut self, now: Instant) {
        self.last = Some(now);
        self.is_drawn = true;
        self.is_stale = false;
    }

    pub(super) fn next(&self) -> Instant {
        match self.last {
            Some(last) if self.is_drawn => last + BETWEEN,
            Some(_) | None => self.not_before,
        }
    }

    /// `is_idle`: nothing else is there to be written.
    pub(super) fn is_due(&self, now: Instant, is_idle: bool) -> bool {
        if self.is_drawn && !self.is_stale {
            return now >= self.next();
        }
        let is_time = is_idle || self.last.is_none_or(|last| now >= last + WHILE_BUSY);
        now >= self.not_before && is_time
    }

    /// The text of the line. `running`: names, and since when.
    pub(super) fn text(
        &self,
        now: Instant,
        (done, all): (usize, usize),
        running: &[(&str, Instant)],
        columns: usize,
    ) -> String {
        let since = |begin| duration_text(now, begin);
        let mut text = format!("[{}] {done}/{all} done", since(self.begin));
        for (place, (name, begin)) in running.iter().enumerate() {
            let separator = if place == 0 { ", running: " } else { ", " };
            let item = format!("{separator}{name} {}", since(*begin));
            let behind = running.len() - place - 1;
            let rest = if behind > 0 {
                format!(", +{behind}")
            } else {
                String::new()
            };
            if width(&text) + width(&item) + width(&rest) > columns {
                let left = running.len() - place;
                text.push_str(&if place == 0 {
                    format!(", {left} running")
                } else {
                    format!(", +{left}")
                });
                break;
            }
            text.push_str(&item);
        }
        fit(&text, columns)
    }
}

/// In whole seconds: tenths would have to be drawn as often.
fn duration_text(now: Instant, begin: Instant) -> String {
    let seconds = now.saturating_duration_since(begin).as_secs();
    if seconds < 10 {
        return format!("{seconds}s");
    }
    duration(seconds.saturating_mul(1000))
}
