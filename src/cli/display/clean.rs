//! What a task printed, made fit for a terminal: it can color its own line and do nothing else.
//!
//! Unaware of lines and terminals. Surprise: a bare carriage return begins the text anew, as a terminal would show it, so
//! that of a progress bar its last state is seen.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// The text of a line without anything that moves the cursor, changes the terminal or turns the direction of what follows.
/// With `colors`, what only colors stays, and ends with the line.
pub(super) fn clean(line: &[u8], colors: bool) -> String {
    let text = String::from_utf8_lossy(line);
    let mut cleaned = String::with_capacity(text.len());
    let mut is_colored = false;
    let mut starts_anew = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\r' => starts_anew = true,
            '\x1b' => match characters.next_if(|next| *next != '\x1b') {
                Some('[') => {
                    if let Some(parameters) = control_sequence(&mut characters).filter(|_| colors) {
                        write!(cleaned, "\x1b[{parameters}m").expect("writing to a String does not fail");
                        is_colored = true;
                    }
                }
                // Texts for the terminal itself, such as its title.
                Some(']' | 'P' | 'X' | '^' | '_') => skip_text(&mut characters),
                Some(' '..='/') => {
                    characters.next_if(|next| matches!(next, ' '..='~'));
                }
                Some(_) | None => {}
            },
            '\u{9b}' => {
                control_sequence(&mut characters);
            }
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_text(&mut characters),
            '\t' => begin(&mut cleaned, &mut starts_anew, &mut is_colored).push('\t'),
            _ if character.is_control() || turns_direction(character) => {}
            _ => begin(&mut cleaned, &mut starts_anew, &mut is_colored).push(character),
        }
    }
    if is_colored {
        cleaned.push_str("\x1b[0m");
    }
    cleaned
}

/// The text to push to, empty if a carriage return came before.
fn begin<'t>(cleaned: &'t mut String, starts_anew: &mut bool, is_colored: &mut bool) -> &'t mut String {
    if *starts_anew {
        *starts_anew = false;
        let reset = if *is_colored { "\x1b[0m" } else { "" };
        reset.clone_into(cleaned);
    }
    cleaned
}

/// Reads to the end of a sequence that began with `ESC [`. Its parameters if it does nothing but color.
fn control_sequence(characters: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut parameters = String::new();
    while let Some(character) = characters.next_if(|next| matches!(next, ' '..='?')) {
        parameters.push(character);
    }
    let end = characters.next_if(|next| matches!(next, '@'..='~'))?;
    let is_plain = parameters
        .chars()
        .all(|character| character.is_ascii_digit() || matches!(character, ';' | ':'));
    (end == 'm' && is_plain).then_some(parameters)
}

/// Reads to the end of a text that the terminal would keep to itself.
fn skip_text(characters: &mut impl Iterator<Item = char>) {
    let mut last = ' ';
    for character in characters {
        if matches!(character, '\x07' | '\u{9c}') || (last == '\x1b' && character == '\\') {
            return;
        }
        last = character;
    }
}

fn turns_direction(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, plain: &str, colored: &str) {
        assert_eq!(clean(line.as_bytes(), false), plain);
        assert_eq!(clean(line.as_bytes(), true), colored);
    }

    #[test]
    fn what_is_only_text_stays() {
        check("a\tb ä 世界 🎉", "a\tb ä 世界 🎉", "a\tb ä 世界 🎉");
        assert_eq!(clean(b"a\xffb", true), "a\u{fffd}b");
    }

    #[test]
    fn colors_stay_where_they_may_and_end_with_the_line() {
        check("\x1b[31mred\x1b[0m.", "red.", "\x1b[31mred\x1b[0m.\x1b[0m");
        check("\x1b[38:2:1:2:3mx", "x", "\x1b[38:2:1:2:3mx\x1b[0m");
        // It looks like one, and sets how the keyboard behaves.
        check("\x1b[>4;2mx", "x", "x");
        check("\x1b[?1mx", "x", "x");
    }

    #[test]
    fn nothing_moves_the_cursor_or_changes_the_terminal() {
        check("a\x1b[2J\x1b[Hb\x1b[1Ac\x1b[?25ld\x1b[6ne", "abcde", "abcde");
        check("a\x1bcb\x1b7c\x1b(0d\x1bMe", "abcde", "abcde");
        check("a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c\x1bPq\x1b\\d", "abcd", "abcd");
        check("a\u{9b}2Jb\u{9d}0;title\u{9c}c\u{85}d", "abcd", "abcd");
        check("a\x08\x08b\x0b\x0cc\x07d\0e\x7ff", "abcdef", "abcdef");
        check("a\u{202e}b\u{2028}c", "abc", "abc");
        for unfinished in ["a\x1b", "a\x1b[", "a\x1b[3", "a\x1b]0;t", "a\x1b("] {
            check(unfinished, "a", "a");
        }
    }

    #[test]
    fn of_a_progress_bar_the_last_state_is_shown() {
        check("10%\r50%\r100%\r", "100%", "100%");
        check("crlf\r", "crlf", "crlf");
        check("\x1b[32m10%\r20%", "20%", "\x1b[0m20%\x1b[0m");
        check("gone\rx\x1b[Ky", "xy", "xy");
    }
}
