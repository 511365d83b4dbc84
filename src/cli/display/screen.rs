//! What is shown of each piece of news, and where.
//!
//! Unaware of threads and clocks: the time comes in. Surprise: what a task prints is changed only on its way to a terminal;
//! a pipe gets its bytes.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::clean::clean;
use super::held::Held;
use super::lines::Lines;
use super::progress::Progress;
use super::summary::{Job, Style, Task};
use super::terminal::{Channel, Kind, Outputs, Surroundings};
use super::{Content, Manner, Shown};
use crate::cli::columns::{shorten, width};
use crate::clock::wall_ms;
use crate::definition::ON_ERROR;
use crate::task::StreamKind;
use crate::timestamp::parse_rfc3339;

/// Lines of a failed task that are shown again at the end.
const LAST_LINES: usize = 10;
/// Bytes of each of them.
const LAST_LINE_BYTES: usize = 500;
/// Columns that names take at most where lines have an end.
const NAME_COLUMNS: (usize, usize) = (8, 40);

pub(super) struct Screen {
    manner: Manner,
    around: Surroundings,
    outputs: Box<dyn Outputs>,
    unread: Box<dyn Fn() + Send>,
    begin: Instant,
    tasks: Vec<ShownTask>,
    places: HashMap<String, usize>,
    /// For a name that may come later.
    least_name_columns: usize,
    progress: Progress,
    /// Why standard output takes nothing any more.
    trouble: Option<io::Error>,
}

struct ShownTask {
    name: String,
    state: State,
    lines: [Lines; 2],
    /// As they were printed.
    last_lines: VecDeque<Vec<u8>>,
    held: Held,
    /// What stands before its lines on each output, once that is known.
    prefixes: [Option<String>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running { since: Instant },
    Ended,
}

impl Screen {
    pub(super) fn new(
        manner: Manner,
        around: Surroundings,
        outputs: Box<dyn Outputs>,
        unread: Box<dyn Fn() + Send>,
        now: Instant,
    ) -> Screen {
        Screen {
            manner,
            around,
            outputs,
            unread,
            begin: now,
            tasks: Vec::new(),
            places: HashMap::new(),
            least_name_columns: 0,
            progress: Progress::new(now),
            trouble: None,
        }
    }

    pub(super) fn tasks(&mut self, names: &[String], has_on_error: bool) {
        for name in names {
            self.place(name);
        }
        if has_on_error {
            self.least_name_columns = width(ON_ERROR);
        }
    }

    pub(super) fn started(&mut self, now: Instant, value: &Value) {
        let task = Task::of(value);
        let place = self.place(&task.name);
        let since = begin_of(now, task.start.as_deref());
        self.tasks[place].state = State::Running { since };
        self.progress.changed();
        self.event(now, "started", value);
        if self.tells_everything() {
            let style = self.style(Channel::Stderr);
            let name = style.name(place, &task.name);
            self.write_line(
                now,
                Channel::Stderr,
                &Task::begin_line(style, self.elapsed_ms(now), &name),
            );
        }
    }

    pub(super) fn ended(&mut self, now: Instant, value: &Value) {
        let task = Task::of(value);
        let place = self.place(&task.name);
        for stream in StreamKind::BOTH {
            let mut lines = std::mem::take(&mut self.tasks[place].lines[stream as usize]);
            let mut written = Vec::new();
            lines.end(|line| self.take_line(place, stream, line, &mut written));
            self.write_output(now, stream, &written);
        }
        self.release(now, place, task.has_failed());
        let has_run = self.tasks[place].state != State::Waiting;
        self.tasks[place].state = State::Ended;
        self.progress.changed();
        self.event(now, "ended", value);
        if self.tells_everything() && has_run {
            let style = self.style(Channel::Stderr);
            let name = style.name(place, &task.name);
            let line = task.end_line(style, self.elapsed_ms(now), &name);
            self.write_line(now, Channel::Stderr, &line);
        }
    }

    pub(super) fn output(&mut self, now: Instant, task: &str, stream: StreamKind, bytes: &[u8]) {
        let is_alone = self.manner.content == Content::OneOutput && !self.manner.json && !self.manner.quiet;
        if is_alone && !self.around.is_terminal(channel(stream)) {
            // Byte for byte, as it may be anything.
            self.write_output(now, stream, bytes);
            return;
        }
        let place = self.place(task);
        let mut lines = std::mem::take(&mut self.tasks[place].lines[stream as usize]);
        let mut written = Vec::new();
        let take = |line: &[u8]| self.take_line(place, stream, line, &mut written);
        if bytes.is_empty() {
            lines.end(take);
        } else {
            lines.push(bytes, take);
        }
        self.tasks[place].lines[stream as usize] = lines;
        self.write_output(now, stream, &written);
    }

    pub(super) fn line(&mut self, now: Instant, text: &str) {
        self.write_line(now, Channel::Stderr, text);
    }

    pub(super) fn job(&mut self, now: Instant, value: &Value, hint: &str) {
        self.event(now, "job", value);
        let job = Job::of(value);
        if self.manner.json || self.manner.content != Content::Everything || self.manner.quiet && job.has_succeeded() {
            return;
        }
        let style = self.style(Channel::Stderr);
        let mut text = String::new();
        if !self.manner.quiet {
            let place_of = |name: &str| self.places.get(name).copied().unwrap_or(0);
            let last_lines = |name: &str| self.last_lines(name);
            text.push('\n');
            let is_terminal = self.around.is_terminal(Channel::Stderr);
            let columns = is_terminal.then(|| self.outputs.columns());
            for line in job.task_lines(style, columns, place_of, last_lines) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        text.push_str(&job.line(style));
        text.push('\n');
        if !hint.is_empty() && job.has_failed() {
            text.push_str(&format!("  {hint}\n"));
        }
        self.write(now, Channel::Stderr, text.as_bytes());
    }

    /// Nothing more will come.
    pub(super) fn end(&mut self, now: Instant) -> Shown {
        // Those whose end was never told: what they began is not lost.
        for place in 0..self.tasks.len() {
            for stream in StreamKind::BOTH {
                let mut lines = std::mem::take(&mut self.tasks[place].lines[stream as usize]);
                let mut written = Vec::new();
                lines.end(|line| self.take_line(place, stream, line, &mut written));
                self.write_output(now, stream, &written);
            }
        }
        self.take_progress_away();
        match self.trouble.take() {
            None => Shown::All,
            Some(error) if error.kind() == ErrorKind::BrokenPipe => Shown::Unread,
            Some(error) => Shown::Failed(error),
        }
    }

    /// When the progress line must be drawn; `None`: no line is shown.
    pub(super) fn next_draw(&self) -> Option<Instant> {
        self.has_progress().then(|| self.progress.next())
    }

    pub(super) fn draw_if_due(&mut self, now: Instant, is_idle: bool) {
        if !self.has_progress() {
            self.take_progress_away();
        } else if self.progress.is_due(now, is_idle) {
            let columns = self.outputs.columns().saturating_sub(1);
            let running: Vec<(&str, Instant)> = self.running().collect();
            let done = self.tasks.iter().filter(|task| task.state == State::Ended).count();
            let text = self.progress.text(now, (done, self.tasks.len()), &running, columns);
            // A terminal that counts columns otherwise must not begin a second line: wrapping is off meanwhile. One that is
            // made narrower breaks the line in several; as the cursor stands at its beginning, all of them are behind it.
            let line = format!("\r\x1b[J\x1b[?7l{text}\x1b[?7h\r");
            let _ = self.outputs.write(Channel::Stderr, line.as_bytes());
            self.progress.drawn(now);
        }
    }

    fn running(&self) -> impl Iterator<Item = (&str, Instant)> {
        self.tasks.iter().filter_map(|task| match task.state {
            State::Running { since } => Some((&*task.name, since)),
            State::Waiting | State::Ended => None,
        })
    }

    fn has_progress(&self) -> bool {
        // JSON on a terminal is for a look at it; the line would only disturb that.
        let is_wanted = match self.manner.content {
            Content::Everything => !(self.manner.json && self.around.is_terminal(Channel::Stdout)),
            Content::Outputs | Content::OneOutput => false,
        };
        is_wanted && self.around.may_draw() && self.running().next().is_some()
    }

    fn take_progress_away(&mut self) {
        if self.progress.is_drawn {
            let _ = self.outputs.write(Channel::Stderr, b"\r\x1b[J");
            self.progress.is_drawn = false;
        }
    }

    /// Shows or drops what was held of a task that ended.
    fn release(&mut self, now: Instant, place: usize, has_failed: bool) {
        let mut held = std::mem::take(&mut self.tasks[place].held);
        if !has_failed {
            return;
        }
        held.drain(|stream, line| {
            let mut written = Vec::new();
            self.format_line(place, stream, line, &mut written);
            self.write_output(now, stream, &written);
        });
        if held.lost > 0 {
            let name = &self.tasks[place].name;
            let text = format!(
                "prunner: {} parts of the output of `{name}` were lost: no room for them",
                held.lost
            );
            self.write_line(now, Channel::Stderr, &text);
        }
    }

    fn take_line(&mut self, place: usize, stream: StreamKind, line: &[u8], written: &mut Vec<u8>) {
        let task = &mut self.tasks[place];
        if !self.manner.json && self.manner.content == Content::Everything && !self.manner.quiet {
            // The oldest lends its memory.
            let is_full = task.last_lines.len() == LAST_LINES;
            let oldest = if is_full { task.last_lines.pop_front() } else { None };
            let mut last = oldest.unwrap_or_default();
            last.clear();
            last.extend_from_slice(&line[..line.len().min(LAST_LINE_BYTES)]);
            task.last_lines.push_back(last);
        }
        if self.manner.quiet {
            task.held.push(stream, line);
        } else {
            self.format_line(place, stream, line, written);
        }
    }

    fn format_line(&mut self, place: usize, stream: StreamKind, line: &[u8], written: &mut Vec<u8>) {
        if self.manner.json {
            let name = &self.tasks[place].name;
            let event = serde_json::json!({
                "event": "output",
                "task": name,
                "stream": stream.as_str(),
                "line": String::from_utf8_lossy(line),
            });
            written.extend(event.to_string().into_bytes());
            written.push(b'\n');
            return;
        }
        let channel = channel(stream);
        if self.manner.content != Content::OneOutput {
            written.extend_from_slice(self.prefix(place, channel).as_bytes());
        }
        if self.around.is_terminal(channel) {
            written.extend(clean(line, self.around.has_color(channel)).into_bytes());
        } else {
            written.extend_from_slice(line);
        }
        written.push(b'\n');
    }

    /// The name of a task in front of its lines.
    fn prefix(&mut self, place: usize, channel: Channel) -> &str {
        if self.tasks[place].prefixes[channel as usize].is_none() {
            let prefix = self.make_prefix(place, channel);
            self.tasks[place].prefixes[channel as usize] = Some(prefix);
        }
        self.tasks[place].prefixes[channel as usize]
            .as_ref()
            .expect("it was made above")
    }

    fn make_prefix(&self, place: usize, channel: Channel) -> String {
        let widths = self.tasks.iter().map(|task| width(&task.name));
        let columns = widths.fold(self.least_name_columns, usize::max);
        // Where it goes to a file, no name is cut.
        let columns = if self.around.is_terminal(channel) {
            let (least, most) = NAME_COLUMNS;
            columns.min((self.outputs.columns() / 3).clamp(least, most))
        } else {
            columns
        };
        let name = shorten(&self.tasks[place].name, columns);
        let padding = " ".repeat(columns.saturating_sub(width(&name)));
        let style = self.style(channel);
        format!("{}{padding} | ", style.name(place, &name))
    }

    fn last_lines(&self, name: &str) -> Vec<String> {
        let place = self.places.get(name);
        let lines = place.map(|place| &self.tasks[*place].last_lines);
        lines.into_iter().flatten().map(|line| clean(line, false)).collect()
    }

    /// Where the name is not known, the task is listed from now on.
    fn place(&mut self, name: &str) -> usize {
        let name = clean(name.as_bytes(), false);
        if let Some(&place) = self.places.get(&name) {
            return place;
        }
        let place = self.tasks.len();
        self.places.insert(name.clone(), place);
        self.tasks.push(ShownTask {
            name,
            state: State::Waiting,
            lines: Default::default(),
            last_lines: VecDeque::new(),
            held: Held::default(),
            prefixes: [None, None],
        });
        // They are as wide as the longest name.
        for task in &mut self.tasks {
            task.prefixes = [None, None];
        }
        place
    }

    fn event(&mut self, now: Instant, event: &str, value: &Value) {
        if !self.manner.json {
            return;
        }
        let mut object = Map::new();
        object.insert("event".to_owned(), event.into());
        if event != "job" {
            object.insert("task".to_owned(), value.get("name").cloned().unwrap_or_default());
        }
        if let Value::Object(fields) = value {
            object.extend(fields.clone());
        }
        self.write_line(now, Channel::Stdout, &Value::Object(object).to_string());
    }

    fn tells_everything(&self) -> bool {
        self.manner.content == Content::Everything && !self.manner.json && !self.manner.quiet
    }

    fn style(&self, channel: Channel) -> Style {
        Style {
            has_color: self.around.has_color(channel),
            has_unicode: self.around.has_unicode,
        }
    }

    fn elapsed_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.begin).as_millis()).unwrap_or(u64::MAX)
    }

    fn write_output(&mut self, now: Instant, stream: StreamKind, bytes: &[u8]) {
        let channel = if self.manner.json {
            Channel::Stdout
        } else {
            channel(stream)
        };
        self.write(now, channel, bytes);
    }

    fn write_line(&mut self, now: Instant, channel: Channel, line: &str) {
        self.write(now, channel, format!("{line}\n").as_bytes());
    }

    fn write(&mut self, now: Instant, channel: Channel, bytes: &[u8]) {
        // Nobody reads any more: what follows from that needs no word.
        let is_unread = self
            .trouble
            .as_ref()
            .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe);
        if bytes.is_empty() || is_unread {
            return;
        }
        let is_shown_by_another = channel == Channel::Stdout && self.around.stdout == Kind::Pipe;
        if is_shown_by_another {
            self.progress.wait_for_reader(now);
        }
        if is_shown_by_another || self.around.is_terminal(channel) {
            self.take_progress_away();
        }
        match channel {
            // Nobody can be told where it fails.
            Channel::Stderr => drop(self.outputs.write(channel, bytes)),
            Channel::Stdout if self.trouble.is_some() => {}
            Channel::Stdout => {
                if let Err(error) = self.outputs.write(channel, bytes) {
                    self.trouble = Some(error);
                    (self.unread)();
                }
            }
        }
    }
}

fn channel(stream: StreamKind) -> Channel {
    match stream {
        StreamKind::Stdout => Channel::Stdout,
        StreamKind::Stderr => Channel::Stderr,
    }
}

/// When a task began. Its start has no fraction of a second, and may be by another clock.
fn begin_of(now: Instant, start: Option<&str>) -> Instant {
    let elapsed_ms = start
        .and_then(parse_rfc3339)
        .map_or(0, |start_ms| wall_ms().saturating_sub(start_ms));
    if elapsed_ms < 2000 {
        return now;
    }
    let elapsed = Duration::from_millis(elapsed_ms.unsigned_abs());
    now.checked_sub(elapsed).unwrap_or(now)
}
