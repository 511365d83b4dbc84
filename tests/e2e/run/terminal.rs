//! A terminal to run prunner on, and what its screen shows.
//!
//! Surprise: it knows few commands on purpose, and panics at any other: none may come through.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use unicode_width::UnicodeWidthChar;

use super::PATIENCE;
use crate::space::{TestSpace, eventually};

/// Where prunner's outputs go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stdout {
    Terminal,
    Here,
}

pub(super) struct Terminal {
    keyboard: File,
    child: Child,
    seen: Arc<Seen>,
    /// How wide it is, each from so many bytes on.
    widths: Vec<(usize, usize)>,
}

#[derive(Default)]
struct Seen {
    bytes: Mutex<(Vec<u8>, bool)>,
    more: Condvar,
}

impl Terminal {
    pub(super) fn start(space: &TestSpace, columns: u16, variables: &[(&str, &str)], arguments: &[&str]) -> Terminal {
        Terminal::start_with(space, columns, variables, arguments, Stdout::Terminal)
    }

    pub(super) fn start_with(
        space: &TestSpace,
        columns: u16,
        variables: &[(&str, &str)],
        arguments: &[&str],
        stdout: Stdout,
    ) -> Terminal {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        set_size(&keyboard, columns);
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let open = || -> OwnedFd {
            rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap()
        };
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", env!("CARGO_BIN_EXE_prunner"), "run"])
            .args(arguments)
            .current_dir(&space.path)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("USER", "anna")
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .envs(variables.iter().copied())
            .stdin(open())
            .stdout(if stdout == Stdout::Terminal {
                Stdio::from(open())
            } else {
                Stdio::piped()
            })
            .stderr(open());
        let child = command.spawn().unwrap();
        drop(command);
        let keyboard = File::from(keyboard);
        let seen = Arc::<Seen>::default();
        let (mut screen, of_thread) = (keyboard.try_clone().unwrap(), Arc::clone(&seen));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It fails once the last process has closed the terminal.
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                of_thread.bytes.lock().unwrap().0.extend_from_slice(&buffer[..count]);
                of_thread.more.notify_all();
            }
            of_thread.bytes.lock().unwrap().1 = true;
            of_thread.more.notify_all();
        });
        Terminal {
            keyboard,
            child,
            seen,
            widths: vec![(0, columns.into())],
        }
    }

    /// The window is made wider or narrower.
    pub(super) fn resize(&mut self, columns: u16) {
        set_size(&self.keyboard, columns);
        let length = self.seen.bytes.lock().unwrap().0.len();
        self.widths.push((length, columns.into()));
    }

    pub(super) fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    pub(super) fn take_stdout(&mut self) -> std::process::ChildStdout {
        self.child.stdout.take().unwrap()
    }

    /// All bytes so far, as soon as `is_enough`.
    #[track_caller]
    fn bytes_when(&self, what: &str, is_enough: impl Fn(&[u8], bool) -> bool) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.seen.bytes.lock().unwrap();
        while !is_enough(&seen.0, seen.1) {
            let left = deadline.checked_duration_since(Instant::now());
            let left = left.unwrap_or_else(|| panic!("`{what}` never came: {}", String::from_utf8_lossy(&seen.0)));
            seen = self.seen.more.wait_timeout(seen, left).unwrap().0;
        }
        seen.0.clone()
    }

    /// The screen, as soon as this is on it.
    #[track_caller]
    pub(super) fn shows(&self, text: &str) -> Vec<String> {
        let is_shown = |bytes: &[u8]| picture(bytes, &self.widths).iter().any(|line| line.contains(text));
        let bytes = self.bytes_when(text, |bytes, _| {
            bytes.windows(text.len()).any(|part| part == text.as_bytes()) && is_shown(bytes)
        });
        picture(&bytes, &self.widths)
    }

    /// The last line of the screen, as soon as it is such a one.
    #[track_caller]
    pub(super) fn last_line(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let last = |bytes: &[u8]| picture(bytes, &self.widths).pop().unwrap_or_default();
        last(&self.bytes_when(what, |bytes, _| is_it(&last(bytes))))
    }

    /// What is left on the screen at the end, and the exit status.
    #[track_caller]
    pub(super) fn end(mut self) -> (Vec<String>, Option<i32>) {
        let (bytes, status) = self.end_bytes();
        (picture(&bytes, &self.widths), status)
    }

    #[track_caller]
    pub(super) fn end_bytes(&mut self) -> (Vec<u8>, Option<i32>) {
        let bytes = self.bytes_when("the end", |_, is_over| is_over);
        let status = eventually("it ends", || self.child.try_wait().unwrap()).code();
        (bytes, status)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(terminal: impl AsFd, columns: u16) {
    let size = Winsize {
        ws_row: 50,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}

/// The lines that a terminal shows after these bytes. Knows colors, the end of a line, wrapping, and widths from so many
/// bytes on: a line that has become too wide is still one, with the cursor where it was.
pub(crate) fn picture(bytes: &[u8], widths: &[(usize, usize)]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = vec![Vec::<char>::new()];
    let (mut column, mut wraps) = (0, true);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let place = text.len() - characters.as_str().len();
        let columns = widths.iter().rfind(|(from, _)| *from < place).unwrap().1;
        match character {
            '\r' => column = 0,
            '\n' => {
                lines.push(Vec::new());
                column = 0;
            }
            '\t' => column = (column / 8 + 1) * 8,
            '\x1b' => {
                assert_eq!(characters.next(), Some('['), "{text:?}");
                let mut sequence = String::new();
                for next in characters.by_ref() {
                    sequence.push(next);
                    if next.is_ascii_alphabetic() {
                        break;
                    }
                }
                match &*sequence {
                    // The cursor is on the last line, so nothing is below it.
                    "J" => lines.last_mut().unwrap().truncate(column),
                    "?7l" => wraps = false,
                    "?7h" => wraps = true,
                    // Cut off for now: the rest is on its way.
                    "" | "?" | "?7" => {}
                    color
                        if color
                            .trim_end_matches('m')
                            .bytes()
                            .all(|byte| byte.is_ascii_digit() || byte == b';') => {}
                    other => panic!("{other:?} came through: {text:?}"),
                }
            }
            _ => {
                let width = character.width().unwrap_or_else(|| panic!("a control: {text:?}"));
                if column + width > columns {
                    if !wraps {
                        continue;
                    }
                    lines.push(Vec::new());
                    column = 0;
                }
                let line = lines.last_mut().unwrap();
                for place in 0..width.max(1) {
                    let place = if width == 0 { line.len() } else { column + place };
                    if line.len() <= place {
                        line.resize(place + 1, ' ');
                    }
                }
                let place = if width == 0 { line.len() - 1 } else { column };
                line[place] = character;
                // The second column of a wide one is empty.
                if width == 2 {
                    line[column + 1] = '\0';
                }
                column += width;
            }
        }
    }
    lines
        .into_iter()
        .map(|line| {
            line.into_iter()
                .filter(|character| *character != '\0')
                .collect::<String>()
                .trim_end()
                .to_owned()
        })
        .collect()
}
