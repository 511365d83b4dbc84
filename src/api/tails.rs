//! The ends of the two logs of a task as one JSON object, made while it is sent.
//!
//! Unaware of jobs and of paths. Surprise: it is made twice, for a byte of a log can become six of the answer, whose
//! length is told first; in memory there is never more than a piece of it, however many clients read slowly.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// The most that is shown of a log.
const MAX_STREAM_BYTES: u64 = 8 << 20;

/// What is read at once; a whole character fits in.
const PIECE_BYTES: usize = 8 << 10;

/// `{"stdout":…,"stderr":…}`, with `"truncated":true` where one of them is longer than what is shown.
#[derive(Clone)]
pub(super) struct Tails {
    parts: std::vec::IntoIter<Part>,
    /// Of the part that is under way.
    tail: Option<Tail>,
    /// What can be sent, from `sent` on.
    ready: Vec<u8>,
    sent: usize,
}

#[derive(Clone)]
enum Part {
    Text(&'static str),
    Log(Tail),
}

/// Where a log is read. What is written to it meanwhile is not for this answer.
#[derive(Clone)]
struct Tail {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Tails {
    /// A log that is missing is an empty one.
    ///
    /// # Errors
    /// Where a log can't be read.
    pub(super) fn new(stdout: Option<File>, stderr: Option<File>) -> io::Result<Tails> {
        let (stdout, stdout_is_cut) = Tail::new(stdout)?;
        let (stderr, stderr_is_cut) = Tail::new(stderr)?;
        let end = if stdout_is_cut || stderr_is_cut {
            r#"","truncated":true}"#
        } else {
            r#""}"#
        };
        let parts = [
            Some(Part::Text(r#"{"stdout":""#)),
            stdout.map(Part::Log),
            Some(Part::Text(r#"","stderr":""#)),
            stderr.map(Part::Log),
            Some(Part::Text(end)),
        ];
        Ok(Tails {
            parts: parts.into_iter().flatten().collect::<Vec<Part>>().into_iter(),
            tail: None,
            ready: Vec::new(),
            sent: 0,
        })
    }

    /// The bytes of all of it. Only what is in the logs now counts, so that it is the same when it is sent.
    ///
    /// # Errors
    /// Where a log can't be read.
    pub(super) fn length(&self) -> io::Result<usize> {
        let mut tails = self.clone();
        let mut length = 0;
        while tails.advance()? {
            length += tails.ready.len();
        }
        Ok(length)
    }

    /// Makes more of the answer; false at its end.
    fn advance(&mut self) -> io::Result<bool> {
        self.ready.clear();
        self.sent = 0;
        if let Some(tail) = &mut self.tail {
            if !tail.escape_piece(&mut self.ready)? {
                self.tail = None;
            }
            return Ok(true);
        }
        match self.parts.next() {
            Some(Part::Text(text)) => self.ready.extend_from_slice(text.as_bytes()),
            Some(Part::Log(tail)) => self.tail = Some(tail),
            None => return Ok(false),
        }
        Ok(true)
    }
}

impl Read for Tails {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.sent == self.ready.len() {
            if !self.advance()? {
                return Ok(0);
            }
        }
        let ready = &self.ready[self.sent..];
        let count = ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ready[..count]);
        self.sent += count;
        Ok(count)
    }
}

impl Tail {
    /// The end of a log, and whether there is something before it.
    fn new(file: Option<File>) -> io::Result<(Option<Tail>, bool)> {
        let Some(file) = file else { return Ok((None, false)) };
        let end = file.metadata()?.len();
        let start = end.saturating_sub(MAX_STREAM_BYTES);
        let mut tail = Tail {
            file: Arc::new(file),
            position: start,
            end,
        };
        if start > 0 {
            // The rest of a character whose first byte is cut off.
            let mut first = [0; 3];
            let count = tail.read(&mut first)?;
            let rest = first[..count].iter().take_while(|byte| **byte & 0xC0 == 0x80).count();
            tail.position += rest as u64;
        }
        Ok((Some(tail), start > 0))
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let room = buffer.len().min(left);
        loop {
            match self.file.read_at(&mut buffer[..room], self.position) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Appends the next piece; false where there is none.
    fn escape_piece(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        let mut piece = [0; PIECE_BYTES];
        let count = self.read(&mut piece)?;
        if count == 0 {
            return Ok(false);
        }
        // A character that goes on behind the piece is left for the next one.
        let may_go_on = self.position + (count as u64) < self.end && count >= LONGEST_CHARACTER;
        self.position += escape(&piece[..count], may_go_on, out) as u64;
        Ok(true)
    }
}

/// In UTF-8.
const LONGEST_CHARACTER: usize = 4;

/// Appends the text as it stands in a JSON string, with U+FFFD for what is no UTF-8. Returns how much of it was used: not
/// a character whose beginning it ends in, where it may go on.
fn escape(bytes: &[u8], may_go_on: bool, out: &mut Vec<u8>) -> usize {
    let mut used = 0;
    while used < bytes.len() {
        let rest = &bytes[used..];
        let (valid, bad) = match std::str::from_utf8(rest) {
            Ok(text) => (text, None),
            Err(error) => {
                let valid = &rest[..error.valid_up_to()];
                let text = std::str::from_utf8(valid).expect("it is valid up to there");
                (text, Some(error.error_len()))
            }
        };
        let quoted = serde_json::to_string(valid).expect("a text is JSON");
        out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
        used += valid.len();
        match bad {
            None => {}
            Some(None) if may_go_on => break,
            Some(length) => {
                out.extend_from_slice("\u{fffd}".as_bytes());
                used += length.unwrap_or(rest.len() - valid.len());
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    use super::*;
    use crate::testing::TestDirectory;

    fn log(path: &Path, bytes: &[u8]) -> File {
        File::create(path).unwrap().write_all(bytes).unwrap();
        File::open(path).unwrap()
    }

    /// All of the answer, and the most that was held of it.
    fn read(mut tails: Tails) -> (String, usize) {
        let length = tails.length().unwrap();
        let mut text = Vec::new();
        let mut held = 0;
        let mut buffer = [0; 1000];
        loop {
            let count = tails.read(&mut buffer).unwrap();
            held = held.max(tails.ready.capacity());
            if count == 0 {
                assert_eq!(text.len(), length);
                return (String::from_utf8(text).unwrap(), held);
            }
            text.extend_from_slice(&buffer[..count]);
        }
    }

    /// What is sent is what would be made of the whole in memory.
    #[track_caller]
    fn check(bytes: &[u8]) {
        let directory = TestDirectory::new();
        let path = directory.path().join("log");
        let (text, _) = read(Tails::new(Some(log(&path, bytes)), None).unwrap());
        let expected = serde_json::json!({ "stdout": String::from_utf8_lossy(bytes), "stderr": "" });
        assert!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap() == expected,
            "{} bytes",
            bytes.len()
        );
    }

    #[test]
    fn pieces_make_the_same_text_as_the_whole() {
        check(b"");
        check(b"a \"b\" \\ \n\r\t\x08\x0c\x00\x1f\x7f");
        check(b"\xff\xc3(\xe2\x82");
        check("\u{2028}ä€😀".as_bytes());
        for bad in ["ä", "€", "😀"] {
            for shift in 0..LONGEST_CHARACTER {
                let mut bytes = vec![b'a'; shift];
                bytes.extend(bad.as_bytes().repeat(PIECE_BYTES / 2));
                check(&bytes);
                // Cut within a character, at the end and where a piece ends.
                bytes.truncate(PIECE_BYTES + 1);
                check(&bytes);
                bytes.extend_from_slice(b"b");
                check(&bytes);
            }
        }
        let odd: Vec<u8> = (0..=255).flat_map(|byte: u8| [byte, 0xe2, 0x82, byte]).collect();
        check(&odd.repeat(20));
    }

    #[test]
    fn no_more_than_a_piece_is_held() {
        let directory = TestDirectory::new();
        let both = ["out", "err"].map(|name| Some(log(&directory.path().join(name), &vec![1; 1 << 20])));
        let [stdout, stderr] = both;
        let (text, held) = read(Tails::new(stdout, stderr).unwrap());
        assert_eq!(text.len(), 2 * 6 * (1 << 20) + r#"{"stdout":"","stderr":""}"#.len());
        assert!(held <= 2 * 6 * PIECE_BYTES, "{held}");
    }

    #[test]
    fn what_is_written_meanwhile_is_left_out() {
        let directory = TestDirectory::new();
        let path = directory.path().join("log");
        let tails = Tails::new(Some(log(&path, b"one")), None).unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"two").unwrap();
        assert_eq!(read(tails).0, r#"{"stdout":"one","stderr":""}"#);
    }
}
