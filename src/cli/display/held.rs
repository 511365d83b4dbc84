//! The output of a task that is shown only if the task fails.
//!
//! Surprise: beyond a bound it goes to a file without a name, which the system removes whatever happens to us.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::mem;
use std::os::unix::fs::OpenOptionsExt;

use uuid::Uuid;

use crate::task::StreamKind;

/// Bytes in memory, for each task that runs.
const IN_MEMORY: usize = 256 * 1024;

/// Lines, in order.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Each line is one byte for its stream, four for its length, and its bytes.
    memory: Vec<u8>,
    file: Option<File>,
    /// Lines that no room was found for.
    pub lost: u64,
}

impl Held {
    pub(super) fn push(&mut self, stream: StreamKind, line: &[u8]) {
        let length = u32::try_from(line.len()).expect("lines are bounded");
        self.memory.push(stream as u8);
        self.memory.extend(length.to_ne_bytes());
        self.memory.extend_from_slice(line);
        if self.memory.len() > IN_MEMORY && self.spill().is_err() {
            // What was written of it ends the file for whoever reads it; the memory must not grow.
            self.memory.clear();
            self.lost += 1;
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(unnamed_file()?),
        };
        file.write_all(&self.memory)?;
        self.memory.clear();
        Ok(())
    }

    /// Calls `take` with each line, the oldest first.
    pub(super) fn drain(&mut self, mut take: impl FnMut(StreamKind, &[u8])) {
        if let Some(mut file) = self.file.take()
            && file.seek(SeekFrom::Start(0)).is_ok()
        {
            read_lines(&mut BufReader::new(file), &mut take);
        }
        read_lines(&mut &mem::take(&mut self.memory)[..], &mut take);
    }
}

/// Ends at the first line that is not whole.
fn read_lines(source: &mut impl Read, take: &mut impl FnMut(StreamKind, &[u8])) {
    let mut line = Vec::new();
    let mut head = [0; 5];
    while source.read_exact(&mut head).is_ok() {
        let [stream, length @ ..] = head;
        let length = u64::from(u32::from_ne_bytes(length));
        line.clear();
        if source.take(length).read_to_end(&mut line).is_err() || (line.len() as u64) < length {
            return;
        }
        let is_stdout = stream == StreamKind::Stdout as u8;
        take(
            if is_stdout {
                StreamKind::Stdout
            } else {
                StreamKind::Stderr
            },
            &line,
        );
    }
}

fn unnamed_file() -> io::Result<File> {
    let path = env::temp_dir().join(format!("prunner-output-{}", Uuid::now_v7()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[(StreamKind, String)]) -> bool {
        let mut held = Held::default();
        for (stream, line) in lines {
            held.push(*stream, line.as_bytes());
        }
        let has_file = held.file.is_some();
        let mut found = Vec::new();
        held.drain(|stream, line| found.push((stream, String::from_utf8(line.to_vec()).unwrap())));
        assert_eq!(found, lines);
        has_file
    }

    #[test]
    fn lines_come_back_in_order_from_memory_and_file() {
        assert!(!check(&[]));
        assert!(!check(&[
            (StreamKind::Stderr, "a".to_owned()),
            (StreamKind::Stdout, String::new()),
            (StreamKind::Stderr, "ä".to_owned()),
        ]));
        let many: Vec<(StreamKind, String)> = (0..30)
            .map(|number| {
                let line = number.to_string().repeat(20_000);
                (StreamKind::BOTH[number % 2], line)
            })
            .collect();
        assert!(check(&many));
    }
}
