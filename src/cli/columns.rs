//! How many columns of a terminal a text takes, which may be more or fewer than it has characters.
//!
//! Unaware of what else is on a line.

use std::io;

use rustix::termios::{isatty, tcgetwinsize};
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

/// The text in at most so many columns; an ellipsis stands for what is left out.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut fitted = String::new();
    let mut left = columns.saturating_sub(1);
    for character in text.chars() {
        let Some(rest) = left.checked_sub(width_of(character)) else {
            break;
        };
        left = rest;
        fitted.push(character);
    }
    if columns > 0 {
        fitted.push('…');
    }
    fitted
}

/// A name in at most so many columns: its end tells as much as its beginning, so an ellipsis stands between the two.
pub(crate) fn shorten(name: &str, columns: usize) -> String {
    if width(name) <= columns {
        return name.to_owned();
    }
    let mut left = columns.saturating_sub(1) / 2;
    let mut end = name.len();
    for (place, character) in name.char_indices().rev() {
        let Some(rest) = left.checked_sub(width_of(character)) else {
            break;
        };
        left = rest;
        end = place;
    }
    let end = &name[end..];
    fit(name, columns.saturating_sub(width(end))) + end
}

/// Of standard output, where it is a terminal that knows them.
pub(crate) fn of_standard_output() -> Option<usize> {
    if !isatty(io::stdout()) {
        return None;
    }
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then(|| size.ws_col.into())
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

    #[track_caller]
    fn check_fit(text: &str, columns: usize, expected: &str) {
        assert_eq!(fit(text, columns), expected);
        assert!(width(&fit(text, columns)) <= columns);
    }

    #[track_caller]
    fn check_short(name: &str, columns: usize, expected: &str) {
        assert_eq!(shorten(name, columns), expected);
        assert!(width(&shorten(name, columns)) <= columns);
    }

    #[test]
    fn of_a_name_both_ends_are_kept() {
        check_short("task-number-059", 15, "task-number-059");
        check_short("task-number-059", 13, "task-n…er-059");
        check_short("task-number-059", 8, "task…059");
        check_short("世界世界", 6, "世…界");
        check_short("ab", 1, "…");
        check_short("ab", 0, "");
    }

    #[test]
    fn texts_are_fit_by_their_columns() {
        check_fit("build", 5, "build");
        check_fit("build", 4, "bui…");
        check_fit("build", 1, "…");
        check_fit("build", 0, "");
        check_fit("世界", 4, "世界");
        check_fit("世界", 3, "世…");
        check_fit("世界x", 4, "世…");
        check_fit("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…");
    }
}
