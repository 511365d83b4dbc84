//! Cuts what a task prints into lines.
//!
//! Unaware of what becomes of them. Surprise: a line that is longer than [`LONGEST`] comes in pieces, so that a task that
//! prints no line end costs no more memory than others.

/// A piece of a line at most, in bytes. Longer than any line that a person reads.
pub(super) const LONGEST: usize = 64 * 1024;

/// The begun line of one stream.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    /// The line that goes on has had a piece already: its end alone is no line of its own.
    is_continued: bool,
}

impl Lines {
    /// Calls `take` with each line that is whole now, without its end.
    pub(super) fn push(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (line, ends, behind) = match rest.iter().position(|&byte| byte == b'\n') {
                Some(end) => (&rest[..end], true, &rest[end + 1..]),
                None => (rest, false, &rest[rest.len()..]),
            };
            rest = behind;
            if ends && self.begun.is_empty() && !self.is_continued && line.len() <= LONGEST {
                take(line);
                continue;
            }
            self.begun.extend_from_slice(line);
            while self.begun.len() > LONGEST {
                let piece = piece_length(&self.begun);
                take(&self.begun[..piece]);
                self.begun.drain(..piece);
                self.is_continued = true;
            }
            if ends {
                if !self.begun.is_empty() || !self.is_continued {
                    take(&self.begun);
                }
                self.begun.clear();
                self.is_continued = false;
            }
        }
    }

    /// There will be no more: what was begun is a line.
    pub(super) fn end(&mut self, mut take: impl FnMut(&[u8])) {
        if !self.begun.is_empty() {
            take(&self.begun);
        }
        // What a long line took is given back.
        *self = Lines::default();
    }
}

/// At most [`LONGEST`], and where the text is UTF-8, not within a character.
fn piece_length(bytes: &[u8]) -> usize {
    let is_inside = |place: usize| bytes[place] & 0xC0 == 0x80;
    (LONGEST - 3..=LONGEST)
        .rev()
        .find(|&place| !is_inside(place))
        .unwrap_or(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(parts: &[&str], expected: &[&str]) {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        let mut take = |line: &[u8]| found.push(String::from_utf8(line.to_vec()).unwrap());
        for part in parts {
            lines.push(part.as_bytes(), &mut take);
        }
        lines.end(&mut take);
        assert_eq!(found, expected);
        assert!(lines.begun.is_empty() && lines.begun.capacity() == 0);
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        check(&["a\nb\n", "", "c"], &["a", "b", "c"]);
        check(&["a", "b\n", "\n", "c\r\n"], &["ab", "", "c\r"]);
        check(&["ä\nö"], &["ä", "ö"]);
        check(&[], &[]);
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let long = "x".repeat(LONGEST);
        check(&[&long, "\n"], &[&long]);
        check(&[&format!("{long}\nb\n")], &[&long, "b"]);
        check(&[&format!("{long}yy\nb\n")], &[&long, "yy", "b"]);
        check(&[&long, &long, "y", "\nb"], &[&long, &long, "y", "b"]);
        check(&[&format!("{long}{long}"), "\n\n"], &[&long, &long, ""]);
    }

    #[test]
    fn a_piece_ends_between_characters() {
        let almost = "x".repeat(LONGEST - 1);
        check(&[&format!("{almost}äb")], &[&almost, "äb"]);
    }
}
