//! Tables and durations for people.
//!
//! Unaware of what is in them. Surprise: nothing is cut to the width of the terminal, so that a pipe gets the same text.

use crate::cli::columns;
use crate::log::one_line;

/// Two blanks between columns; each is as wide as its widest cell.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(titles: &[&str]) -> Table {
        Table {
            rows: vec![titles.iter().map(|title| title.to_uppercase()).collect()],
        }
    }

    pub(crate) fn add(&mut self, cells: &[String]) {
        self.rows.push(cells.iter().map(|cell| one_line(cell)).collect());
    }

    pub(crate) fn print(&self) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(columns::width(cell));
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(row) {
                line.push_str(&columns::padded(cell, *width));
                line.push_str("  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// `0.4s`, `12s`, `3m05s`, `2h03m`, `4d05h`.
pub(crate) fn duration(duration_ms: u64) -> String {
    let tenths = duration_ms.saturating_add(50) / 100;
    if tenths < 100 {
        return format!("{}.{}s", tenths / 10, tenths % 10);
    }
    // What is ten seconds by tenths is not nine by seconds.
    let seconds = (duration_ms / 1000).max(10);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if minutes == 0 {
        format!("{seconds}s")
    } else if hours == 0 {
        format!("{minutes}m{:02}s", seconds % 60)
    } else if days == 0 {
        format!("{hours}h{:02}m", minutes % 60)
    } else {
        format!("{days}d{:02}h", hours % 24)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["name", "status", "user"]);
        table.add(&["a".to_owned(), "succeeded".to_owned(), String::new()]);
        table.add(&["größer\n".to_owned(), "x".to_owned(), "anna".to_owned()]);
        let expected = "\
NAME      STATUS     USER
a         succeeded
größer\\n  x          anna
";
        assert_eq!(table.print(), expected);
    }

    #[test]
    fn durations_have_two_units_at_most() {
        for (duration_ms, expected) in [
            (0, "0.0s"),
            (449, "0.4s"),
            (450, "0.5s"),
            (9_949, "9.9s"),
            (9_950, "10s"),
            (10_000, "10s"),
            (59_999, "59s"),
            (185_000, "3m05s"),
            (7_380_000, "2h03m"),
            (363_600_000, "4d05h"),
        ] {
            assert_eq!(duration(duration_ms), expected, "{duration_ms}");
        }
    }
}
