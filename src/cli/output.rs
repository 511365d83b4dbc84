//! How commands end and what they print: results on standard output, complaints on standard error.
//!
//! Surprise: a reader of standard output that went away (`| head -1`) is no failure; the command ends quietly.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use crate::log::one_line;
use crate::reason::reason;

/// The status that the process ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub u8);

impl Status {
    pub(crate) const DONE: Status = Status(0);
    /// The job failed, or something was found.
    pub(crate) const FAILED: Status = Status(1);
    /// Wrong usage, or the configuration or a pipeline file is wrong.
    pub(crate) const USAGE: Status = Status(2);
    /// Refused, such as a data directory that is in use.
    pub(crate) const REFUSED: Status = Status(3);
    /// The job was canceled, replaced or interrupted.
    pub(crate) const CANCELED: Status = Status(4);
    /// The server can't be reached, broke off, or has a bug.
    pub(crate) const UNREACHABLE: Status = Status(5);
    /// The time that was given is over.
    pub(crate) const TIMED_OUT: Status = Status(124);

    /// Of what is done to several things the first status that is not 0 counts.
    pub(crate) fn or(self, next: Status) -> Status {
        if self == Status::DONE { next } else { self }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status.0)
    }
}

/// Why a command ended before it was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub status: Status,
    /// `None`: there is nothing to say, or nobody who listens.
    pub message: Option<String>,
}

impl Failure {
    /// For wrong usage, and for whatever keeps a command from beginning.
    pub(crate) fn usage(message: impl Display) -> Failure {
        Failure {
            status: Status::USAGE,
            // The alternate form of an error has its causes too.
            message: Some(format!("{message:#}")),
        }
    }

    /// Says on standard error what is wrong, in one line.
    pub(crate) fn report(self) -> Status {
        if let Some(message) = self.message {
            let line = error_line(&message);
            // Nobody can be told where it fails.
            let _ = io::stderr().lock().write_all(line.as_bytes());
        }
        self.status
    }
}

fn error_line(message: &str) -> String {
    format!("prunner: error: {}\n", one_line(message))
}

/// Says something on standard error, in one line.
pub(crate) fn tell(message: &str) {
    let line = format!("prunner: {}\n", one_line(message));
    // Nobody can be told where it fails.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Prints all of a result on standard output.
///
/// # Errors
/// Where it can't be written; quiet where its reader has gone.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_to(&mut io::stdout().lock(), text)
}

fn print_to(output: &mut dyn Write, text: &str) -> Result<(), Failure> {
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .map_err(|error| write_failure(&error))
}

/// What it means that standard output can't be written: nothing to speak of where its reader has gone.
pub(crate) fn write_failure(error: &io::Error) -> Failure {
    if error.kind() == ErrorKind::BrokenPipe {
        return Failure {
            status: Status::DONE,
            message: None,
        };
    }
    Failure::usage(format!("failed to write to standard output: {}", reason(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(i32);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(self.0))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_ends_the_command_quietly() {
        let broken_pipe = print_to(&mut Broken(32), "x");
        assert_eq!(
            broken_pipe,
            Err(Failure {
                status: Status::DONE,
                message: None
            })
        );
        let disk_full = print_to(&mut Broken(28), "x");
        assert_eq!(
            disk_full,
            Err(Failure::usage(
                "failed to write to standard output: no space left on device"
            ))
        );
    }

    #[test]
    fn output_is_written_and_flushed() {
        let mut written = Vec::new();
        assert_eq!(print_to(&mut io::LineWriter::new(&mut written), "no line end"), Ok(()));
        assert_eq!(written, b"no line end");
    }

    #[test]
    fn an_error_is_one_line() {
        assert_eq!(error_line("a\nb\x1b[2J"), "prunner: error: a\\nb\\u001b[2J\n");
    }
}
