//! Tables and durations for people.
//!
//! Unaware of what is in them. Surprise: on a terminal long names are shortened where a row has its place on a line then; a
//! pipe gets them whole.

use crate::cli::columns;
use crate::log::one_line;

/// Two blanks between columns; each is as wide as its widest cell.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Which column has names.
    names: usize,
}

/// Of a name that is shortened: less does not tell it from others.
const LEAST_NAME: usize = 12;
/// Of the last column, which may have a text that breaks by itself.
const LAST_COLUMN: usize = 16;

impl Table {
    pub(crate) fn new(titles: &[&str], names: usize) -> Table {
        Table {
            names,
            rows: vec![titles.iter().map(|title| title.to_uppercase()).collect()],
        }
    }

    pub(crate) fn add(&mut self, cells: &[String]) {
        self.rows.push(cells.iter().map(|cell| one_line(cell)).collect());
    }

    /// `terminal`: its columns, where it is shown on one.
    pub(crate) fn print(&self, terminal: Option<usize>) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(columns::width(cell));
            }
        }
        if let Some(terminal) = terminal {
            let last = widths.last().copied().unwrap_or(0);
            let used = widths.iter().sum::<usize>() + 2 * (widths.len() - 1) - last.saturating_sub(LAST_COLUMN);
            let names = &mut widths[self.names];
            let left = (*names + terminal).saturating_sub(used);
            if left >= LEAST_NAME {
                *names = left.min(*names);
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (index, (width, cell)) in widths.iter().zip(row).enumerate() {
                let cell = if index == self.names {
                    &columns::shorten(cell, *width)
                } else {
                    cell
                };
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
        let mut table = Table::new(&["name", "status", "user"], 0);
        table.add(&["a".to_owned(), "succeeded".to_owned(), String::new()]);
        table.add(&["größer\n".to_owned(), "x".to_owned(), "anna".to_owned()]);
        let expected = "\
NAME      STATUS     USER
a         succeeded
größer\\n  x          anna
";
        assert_eq!(table.print(None), expected);
        assert_eq!(table.print(Some(25)), expected);
    }

    #[test]
    fn long_names_are_shortened_where_a_row_fits_then() {
        let mut table = Table::new(&["id", "task", "note"], 1);
        table.add(&["1".to_owned(), "build-the-frontend".to_owned(), "x".repeat(40)]);
        let whole = format!(
            "ID  TASK                NOTE\n1   build-the-frontend  {}\n",
            "x".repeat(40)
        );
        for (columns, expected) in [
            (None, "build-the-frontend"),
            (Some(40), "build-the-frontend"),
            (Some(35), "build-…ontend"),
            (Some(34), "build-…ntend"),
            (Some(33), "build-the-frontend"),
        ] {
            let title = columns::padded("TASK", columns::width(expected));
            let shown = whole.replace("build-the-frontend", expected);
            let shown = shown.replace("TASK              ", &title);
            assert_eq!(table.print(columns), shown, "{columns:?}");
        }
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
