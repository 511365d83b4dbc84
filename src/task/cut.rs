//! What is kept of a stream that has a limit: its beginning and its end.
//!
//! Unaware of files. Surprise: the end is held back in memory until the stream is over, for nobody knows before that what
//! the end is; so a log only ever grows, and whoever has read a part of it has read what stays.

use std::collections::VecDeque;

/// Kept of the end of a stream: some hundred lines, which tell how something failed.
pub(super) const TAIL_BYTES: usize = 64 * 1024;

pub(super) struct Cut {
    /// Bytes of the beginning that are still to come.
    head_left: u64,
    /// The last bytes behind the beginning.
    tail: VecDeque<u8>,
    /// Bytes between both.
    left_out: u64,
}

impl Cut {
    /// Of a limit of so many bytes, some are used by what was printed before.
    pub(super) fn new(limit: u64, used: u64) -> Cut {
        Cut {
            head_left: limit.saturating_sub(used),
            tail: VecDeque::new(),
            left_out: 0,
        }
    }

    /// What of it belongs to the beginning. The rest is held back.
    pub(super) fn take<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let room = usize::try_from(self.head_left).unwrap_or(usize::MAX);
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.head_left -= head.len() as u64;
        if !rest.is_empty() {
            self.hold_back(rest);
        }
        head
    }

    fn hold_back(&mut self, bytes: &[u8]) {
        let (passing, kept) = bytes.split_at(bytes.len().saturating_sub(TAIL_BYTES));
        let excess = (self.tail.len() + kept.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
        self.tail.extend(kept);
        self.left_out += (passing.len() + excess) as u64;
    }

    /// The end, in two parts, behind a line that says how much is left out before it, if anything is.
    pub(super) fn end(&self) -> (Option<String>, [&[u8]; 2]) {
        let marker = (self.left_out > 0).then(|| {
            let verb = if self.left_out == 1 { "byte is" } else { "bytes are" };
            format!("prunner: {} {verb} left out here, by the log limit\n", self.left_out)
        });
        let (first, second) = self.tail.as_slices();
        (marker, [first, second])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of a stream that comes in such pieces.
    fn kept(limit: u64, used: u64, stream: &[u8], piece: usize) -> (Vec<u8>, Option<String>, Vec<u8>) {
        let mut cut = Cut::new(limit, used);
        let mut head = Vec::new();
        for piece in stream.chunks(piece) {
            head.extend_from_slice(cut.take(piece));
            assert!(cut.tail.len() <= TAIL_BYTES);
            // Bounded, however much comes.
            assert!(cut.tail.capacity() <= 4 * TAIL_BYTES);
        }
        let (marker, parts) = cut.end();
        (head, marker, parts.concat())
    }

    #[track_caller]
    fn check(limit: u64, used: u64, length: usize, head: usize, left_out: &str) {
        let stream: Vec<u8> = (0..=250).cycle().take(length).collect();
        for piece in [1, 7, 1_000, TAIL_BYTES, 2 * TAIL_BYTES + 1, length.max(1)] {
            let (beginning, marker, end) = kept(limit, used, &stream, piece);
            assert!(beginning == stream[..head], "{length} in pieces of {piece}");
            let end_length = (length - head).min(TAIL_BYTES);
            assert!(end == stream[length - end_length..], "{length} in pieces of {piece}");
            let expected =
                (!left_out.is_empty()).then(|| format!("prunner: {left_out} left out here, by the log limit\n"));
            assert_eq!(marker, expected, "{length} in pieces of {piece}");
        }
    }

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        check(1_000, 0, 0, 0, "");
        check(1_000, 0, 999, 999, "");
        check(1_000, 0, 1_000, 1_000, "");
        check(1_000, 0, 1_001, 1_000, "");
        check(1_000, 0, 1_000 + TAIL_BYTES, 1_000, "");
        check(1_000, 0, 1_001 + TAIL_BYTES, 1_000, "1 byte is");
        check(1_000, 0, 1_002 + TAIL_BYTES, 1_000, "2 bytes are");
        check(1_000, 0, 1_000 + 3 * TAIL_BYTES, 1_000, "131072 bytes are");
    }

    #[test]
    fn what_was_printed_before_counts() {
        check(1_000, 400, 700, 600, "");
        check(1_000, 1_000, 700, 0, "");
        check(1_000, 5_000, 7 + TAIL_BYTES, 0, "7 bytes are");
    }
}
