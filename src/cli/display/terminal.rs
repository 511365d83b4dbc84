//! The two outputs of the process, and what each can show.
//!
//! Unaware of jobs. Writes go straight to the descriptors, each with one call where possible: what was written is visible.
//! Surprise: where both outputs are the same terminal, the progress line on one of them is in the way of the other.

use std::env;
use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::termios::{isatty, tcgetwinsize};

/// One of the two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Stdout,
    Stderr,
}

/// What an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Terminal,
    /// Who reads it may show it on our terminal (`| tee log`), a moment later.
    Pipe,
    /// A file, or the like: nobody sees it now.
    File,
}

/// What may be sent to a terminal besides text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commands {
    None,
    /// A line may be taken away again.
    Lines,
    LinesAndColors,
}

/// What the outputs are, and what they can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Surroundings {
    pub stdout: Kind,
    pub stderr: Kind,
    pub commands: Commands,
    /// Marks beyond ASCII can be shown.
    pub has_unicode: bool,
}

impl Surroundings {
    pub(super) fn look(disable_ansi: bool) -> Surroundings {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let understands = variable("TERM").is_some_and(|term| term != "dumb");
        let locale = variable("LC_ALL")
            .or_else(|| variable("LC_CTYPE"))
            .or_else(|| variable("LANG"))
            .unwrap_or_default();
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        Surroundings {
            stdout: kind(io::stdout()),
            stderr: kind(io::stderr()),
            commands: if disable_ansi || !understands {
                Commands::None
            } else if variable("NO_COLOR").is_some() {
                Commands::Lines
            } else {
                Commands::LinesAndColors
            },
            has_unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    pub(super) fn is_terminal(self, channel: Channel) -> bool {
        let kind = match channel {
            Channel::Stdout => self.stdout,
            Channel::Stderr => self.stderr,
        };
        kind == Kind::Terminal
    }

    pub(super) fn has_color(self, channel: Channel) -> bool {
        self.commands == Commands::LinesAndColors && self.is_terminal(channel)
    }

    /// A line can be shown on standard error while it holds, and no longer.
    pub(super) fn may_draw(self) -> bool {
        self.commands != Commands::None && self.stderr == Kind::Terminal
    }
}

fn kind(output: impl AsFd) -> Kind {
    if isatty(&output) {
        return Kind::Terminal;
    }
    let stat = rustix::fs::fstat(output);
    let is_pipe =
        stat.is_ok_and(|stat| matches!(FileType::from_raw_mode(stat.st_mode), FileType::Fifo | FileType::Socket));
    if is_pipe { Kind::Pipe } else { Kind::File }
}

/// Where the display writes; tests have one of their own.
pub(super) trait Outputs: Send {
    /// # Errors
    /// Where not all could be written.
    fn write(&mut self, channel: Channel, bytes: &[u8]) -> io::Result<()>;

    /// Columns of the terminal that the progress line is on.
    fn columns(&self) -> usize;
}

/// Those of the process.
pub(super) struct RealOutputs;

impl Outputs for RealOutputs {
    fn write(&mut self, channel: Channel, bytes: &[u8]) -> io::Result<()> {
        match channel {
            Channel::Stdout => write_all(io::stdout(), bytes),
            Channel::Stderr => write_all(io::stderr(), bytes),
        }
    }

    fn columns(&self) -> usize {
        let size = tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
        // Terminals that do not know it say 0.
        if size == 0 { 80 } else { size.into() }
    }
}

fn write_all(output: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&output, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            // Whoever shares the terminal with us may have set it so.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&output, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
