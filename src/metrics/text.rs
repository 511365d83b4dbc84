//! The text format of Prometheus, version 0.0.4. Unaware of what the numbers mean.

use std::fmt::Write;

use super::Histogram;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A page that is being written: each family once, with all its samples behind it.
#[derive(Debug, Default)]
pub(crate) struct Text {
    page: String,
    family: &'static str,
}

impl Text {
    pub(crate) const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// What comes next are samples of this.
    pub(crate) fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.family = name;
        for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"] {
            self.page.push_str(part);
        }
    }

    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.line("", labels, None, &value.to_string());
    }

    pub(crate) fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut count = 0;
        let bounds = histogram.bounds_us.iter().map(|bound| seconds(*bound));
        for (bound, more) in bounds.chain(["+Inf".to_owned()]).zip(histogram.counts) {
            count += more;
            self.line("_bucket", labels, Some(&bound), &count.to_string());
        }
        self.line("_sum", labels, None, &seconds(histogram.sum_us));
        self.line("_count", labels, None, &count.to_string());
    }

    pub(crate) fn finish(self) -> String {
        self.page
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>, value: &str) {
        self.page.push_str(self.family);
        self.page.push_str(suffix);
        let mut before = '{';
        for (name, text) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            self.page.push(before);
            self.page.push_str(name);
            self.page.push_str("=\"");
            for character in text.chars() {
                match character {
                    '\\' => self.page.push_str("\\\\"),
                    '"' => self.page.push_str("\\\""),
                    '\n' => self.page.push_str("\\n"),
                    other => self.page.push(other),
                }
            }
            self.page.push('"');
            before = ',';
        }
        if before == ',' {
            self.page.push('}');
        }
        self.page.push(' ');
        self.page.push_str(value);
        self.page.push('\n');
    }
}

/// In the shortest form, without an exponent.
fn seconds(microseconds: u64) -> String {
    let mut text = (microseconds / 1_000_000).to_string();
    let rest = microseconds % 1_000_000;
    if rest > 0 {
        let _ = write!(text, ".{rest:06}");
        text.truncate(text.trim_end_matches('0').len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::BUCKETS;

    #[test]
    fn times_are_seconds_in_their_shortest_form() {
        for (microseconds, expected) in [
            (0, "0"),
            (1, "0.000001"),
            (250, "0.00025"),
            (2_500_000, "2.5"),
            (10_000_000, "10"),
            (14_400_000_001, "14400.000001"),
        ] {
            assert_eq!(seconds(microseconds), expected);
        }
    }

    #[test]
    fn a_page_is_as_the_format_says() {
        const BOUNDS: [u64; BUCKETS] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1_000_000, 2_000_000, 3_000_000];
        let mut text = Text::default();
        text.family("a_total", Kind::Counter, "What it is.");
        text.sample(&[], 1);
        text.sample(&[("one", "x"), ("two", "a \"b\" \\ c\nd é {}")], 2);
        text.family("b_seconds", Kind::Histogram, "How long.");
        let mut histogram = Histogram::new(&BOUNDS);
        for took_us in [1, 1_000_000, 1_500_000, 9_000_000] {
            histogram.observe(took_us);
        }
        text.histogram(&[("one", "x")], &histogram);
        let page = text.finish();
        let (counters, histograms) = page.split_once("# HELP b_seconds").unwrap();
        assert_eq!(
            counters,
            "# HELP a_total What it is.\n# TYPE a_total counter\na_total 1\n\
             a_total{one=\"x\",two=\"a \\\"b\\\" \\\\ c\\nd é {}\"} 2\n"
        );
        let (_, tail) = histograms.split_once("le=\"0.000009\"} 1\n").unwrap();
        assert_eq!(
            tail,
            "b_seconds_bucket{one=\"x\",le=\"1\"} 2\n\
             b_seconds_bucket{one=\"x\",le=\"2\"} 3\n\
             b_seconds_bucket{one=\"x\",le=\"3\"} 3\n\
             b_seconds_bucket{one=\"x\",le=\"+Inf\"} 4\n\
             b_seconds_sum{one=\"x\"} 11.500001\n\
             b_seconds_count{one=\"x\"} 4\n"
        );
    }
}
