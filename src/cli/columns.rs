//! How many columns of a terminal a text takes, which may be more or fewer than it has characters.
//!
//! Unaware of what else is on a line.

use unicode_width::UnicodeWidthChar;

/// Of a text that has no controls.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

pub(crate) fn width_of(character: char) -> usize {
    character.width().unwrap_or(0)
}

/// The text with blanks behind it, so that it takes at least so many columns.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    let blanks = " ".repeat(columns.saturating_sub(width(text)));
    format!("{text}{blanks}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_and_combining_characters_count_as_they_are_shown() {
        for (text, columns) in [("", 0), ("build", 5), ("世界", 4), ("e\u{301}", 1), ("ä🎉", 3)] {
            assert_eq!(width(text), columns, "{text}");
            assert_eq!(width(&padded(text, 6)), 6, "{text}");
        }
        assert_eq!(padded("世界", 3), "世界");
    }
}
