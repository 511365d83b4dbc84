//! `GET /metrics`: what it counts, and that its text is what Prometheus reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::WAIT_FOR_GO;
use crate::space::{Answer, Server, TestSpace, eventually};
use crate::tools::{say_skipped, text};

const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Labels by their names.
type Labels = BTreeMap<String, String>;

/// A page that was read, each family in its place.
#[derive(Debug)]
struct Page {
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    name: String,
    kind: String,
    /// The name behind that of the family, the labels, and the value.
    samples: Vec<(String, Labels, f64)>,
}

fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    !text.is_empty()
        && text.bytes().next().is_some_and(letter)
        && text.bytes().all(|byte| letter(byte) || byte.is_ascii_digit())
}

/// Reads `{one="x",two="y"}` or nothing, and returns what stands behind it.
fn parse_labels(text: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    let Some(mut rest) = text.strip_prefix('{') else {
        return Ok((labels, text));
    };
    loop {
        let (name, value) = rest.split_once("=\"").ok_or("a label without a value")?;
        if !is_name(name) {
            return Err(format!("the label `{name}`"));
        }
        let mut found = String::new();
        let mut characters = value.chars();
        loop {
            match characters.next().ok_or("a value without an end")? {
                '"' => break,
                '\\' => found.push(match characters.next() {
                    Some('n') => '\n',
                    Some(escaped @ ('\\' | '"')) => escaped,
                    other => return Err(format!("the escape {other:?}")),
                }),
                other => found.push(other),
            }
        }
        if labels.insert(name.to_owned(), found).is_some() {
            return Err(format!("the label `{name}` twice"));
        }
        rest = characters.as_str();
        if let Some(behind) = rest.strip_prefix('}') {
            return Ok((labels, behind));
        }
        rest = rest.strip_prefix(',').ok_or("a label without an end")?;
    }
}

impl Page {
    /// Stricter than Prometheus is: each family once, with its help and its type before its samples.
    fn parse(text: &str) -> Result<Page, String> {
        let mut families: Vec<Family> = Vec::new();
        let mut help: Option<&str> = None;
        for line in text.strip_suffix('\n').ok_or("no newline at the end")?.split('\n') {
            let in_line = |what: String| format!("{what} in `{line}`");
            if let Some(comment) = line.strip_prefix("# HELP ") {
                let (name, what) = comment.split_once(' ').ok_or_else(|| in_line("no help".into()))?;
                if help.is_some() || what.is_empty() || families.iter().any(|family| family.name == name) {
                    return Err(in_line("a help that is not wanted".into()));
                }
                help = Some(name);
            } else if let Some(comment) = line.strip_prefix("# TYPE ") {
                let (name, kind) = comment.split_once(' ').ok_or_else(|| in_line("no type".into()))?;
                if help.take() != Some(name) || !is_name(name) {
                    return Err(in_line("a type without its help".into()));
                }
                families.push(Family {
                    name: name.to_owned(),
                    kind: kind.to_owned(),
                    samples: Vec::new(),
                });
            } else {
                let family = families.last_mut().filter(|_| help.is_none());
                let family = family.ok_or_else(|| in_line("a sample of no family".into()))?;
                let rest = line.strip_prefix(&*family.name);
                let rest = rest.ok_or_else(|| in_line("a sample of another family".into()))?;
                let (suffix, rest) = rest.split_at(rest.find(['{', ' ']).unwrap_or(rest.len()));
                let (labels, rest) = parse_labels(rest).map_err(in_line)?;
                let value = rest.strip_prefix(' ').and_then(|value| value.parse().ok());
                let value = value.ok_or_else(|| in_line("no value".into()))?;
                family.samples.push((suffix.to_owned(), labels, value));
            }
        }
        families.iter().try_for_each(Family::check)?;
        Ok(Page { families })
    }

    #[track_caller]
    fn family(&self, name: &str) -> &Family {
        let found = self.families.iter().find(|family| family.name == name);
        found.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// `name{one="x"}` without its quotes and braces: `name one=x`.
    #[track_caller]
    fn value(&self, sample: &str) -> f64 {
        let mut words = sample.split(' ');
        let name = words.next().unwrap();
        let labels: Labels = words
            .map(|label| label.split_once('=').unwrap())
            .map(|(label, value)| (label.to_owned(), value.to_owned()))
            .collect();
        let mut found = self.families.iter().flat_map(|family| {
            let suffix = name.strip_prefix(&*family.name);
            let samples = family.samples.iter();
            samples.filter(move |(sample, _, _)| Some(&**sample) == suffix)
        });
        let found = found.find(|(_, others, _)| *others == labels);
        found.unwrap_or_else(|| panic!("no {sample} in {self:?}")).2
    }

    #[track_caller]
    fn check(&self, expected: &[(&str, u32)]) {
        for (sample, value) in expected {
            let found = self.value(sample);
            assert!(
                found.total_cmp(&f64::from(*value)).is_eq(),
                "{sample} is {found}, expected {value}"
            );
        }
    }
}

impl Family {
    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let mut seen = BTreeSet::new();
        if let Some(twice) = self
            .samples
            .iter()
            .find(|(suffix, labels, _)| !seen.insert((suffix, labels)))
        {
            return Err(format!("{name} has {twice:?} twice"));
        }
        if self.samples.iter().any(|(_, _, value)| *value < 0.0) {
            return Err(format!("{name} is less than nothing"));
        }
        let is_plain = self.samples.iter().all(|(suffix, _, _)| suffix.is_empty());
        match &*self.kind {
            "counter" if is_plain && name.ends_with("_total") => Ok(()),
            "gauge" if is_plain && !name.ends_with("_total") => Ok(()),
            "histogram" if name.ends_with("_seconds") => self.check_histograms(),
            kind => Err(format!("{name} is no {kind}")),
        }
    }

    fn check_histograms(&self) -> Result<(), String> {
        let mut groups: BTreeMap<Labels, Vec<(&str, Option<String>, f64)>> = BTreeMap::new();
        for (suffix, labels, value) in &self.samples {
            let mut labels = labels.clone();
            let bound = labels.remove("le");
            groups.entry(labels).or_default().push((suffix, bound, *value));
        }
        for (labels, samples) in groups {
            let wrong = |what: &str| Err(format!("{} of {labels:?} has {what}", self.name));
            let [buckets @ .., ("_sum", None, _), ("_count", None, count)] = &samples[..] else {
                return wrong("no sum and count at its end");
            };
            let mut last = (f64::NEG_INFINITY, 0.0);
            for bucket in buckets {
                let ("_bucket", Some(bound), value) = bucket else {
                    return wrong("something else among its buckets");
                };
                let bound = if bound == "+Inf" {
                    f64::INFINITY
                } else {
                    bound.parse().map_err(|_| format!("the bound `{bound}`"))?
                };
                if bound <= last.0 || *value < last.1 {
                    return wrong("buckets that do not grow");
                }
                last = (bound, *value);
            }
            if !last.0.is_infinite() || last.1.total_cmp(count).is_ne() {
                return wrong("no last bucket with all of it");
            }
        }
        Ok(())
    }
}

#[track_caller]
fn read(answer: &Answer) -> Page {
    assert_eq!((answer.status, answer.header("Content-Type")), (200, TYPE));
    Page::parse(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
}

#[track_caller]
fn scrape(server: &Server) -> Page {
    read(&server.get("/metrics"))
}

/// `ok` and `bad` end by themselves, `slow` when it may, and none of it waits; `late` waits.
fn pipelines() -> String {
    json!({"pipelines": {
        "ok": {"tasks": {"a": {"script": "echo hello; echo bad >&2"}}},
        "bad": {"tasks": {"a": {"script": "exit 3"}}},
        "slow": {"queue_limit": 0, "tasks": {"a": {"script": WAIT_FOR_GO}}},
        "late": {"queue_limit": 1, "start_delay": "1h", "tasks": {"a": {"script": "true"}}},
    }})
    .to_string()
}

#[test]
fn the_parser_of_this_test_is_strict() {
    let histogram = "# HELP a_seconds x\n# TYPE a_seconds histogram\na_seconds_bucket{le=\"1\"} 1\n\
                     a_seconds_bucket{le=\"+Inf\"} 2\na_seconds_sum 3\na_seconds_count 2\n";
    let counter = "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"c \\\"d\\\"\\n\"} 1\n";
    for text in [histogram, counter] {
        assert!(Page::parse(text).is_ok(), "{text}");
    }
    for (text, old, new) in [
        (counter, "# HELP a_total x\n", ""),
        (counter, "# TYPE a_total counter\n", ""),
        (counter, "a_total counter", "a_total gauge"),
        (counter, "} 1\n", "} 1"),
        (counter, "} 1", "} x"),
        (counter, "} 1", "} -1"),
        (counter, "\\n", "\\t"),
        (counter, "c \\\"", "c \""),
        (counter, "b=\"", "b-=\""),
        (counter, "\na_total{", "\nb_total{"),
        (histogram, "_bucket{le=\"1\"} 1", "_bucket{le=\"1\"} 3"),
        (histogram, "le=\"+Inf\"", "le=\"2\""),
        (histogram, "_count 2", "_count 3"),
        (histogram, "a_seconds_sum 3\n", ""),
    ] {
        let broken = text.replacen(old, new, 1);
        assert_ne!(broken, text, "`{old}` is not in it");
        assert!(Page::parse(&broken).is_err(), "{broken}");
    }
    assert!(Page::parse(&format!("{counter}{counter}")).is_err());
    assert!(Page::parse(&format!("{counter}a_total 1\na_total 1\n")).is_err());
}

#[test]
fn it_needs_a_token_and_has_what_is_documented() {
    let (_space, server) = TestSpace::serving(&pipelines());
    assert_eq!(server.request("GET", "/metrics", "", "").status, 401);
    let answer = server.request("HEAD", "/metrics", &server.authorization(), "");
    assert_eq!((answer.status, answer.header("Content-Type")), (200, TYPE));
    let page = scrape(&server);
    assert_eq!(page.families[0].name, "prunner_jobs_total");
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let document = fs::read_to_string(document).unwrap();
    let mut documented = Vec::new();
    for row in document.lines().filter(|line| line.starts_with("| `prunner_")) {
        let mut cells = row.split('|').map(|cell| cell.trim().replace('`', "")).skip(1);
        documented.push([0; 3].map(|_| cells.next().unwrap()));
    }
    let shown: Vec<[String; 3]> = page
        .families
        .iter()
        .map(|family| {
            let labels: BTreeSet<&str> = family
                .samples
                .iter()
                .flat_map(|(_, labels, _)| labels.keys().map(String::as_str))
                .filter(|label| *label != "le")
                .collect();
            let labels: Vec<&str> = labels.into_iter().collect();
            [family.name.clone(), family.kind.clone(), labels.join(", ")]
        })
        .collect();
    assert_eq!(documented, shown);
    // What was never there can't be seen to grow.
    assert_eq!(page.family("prunner_jobs_total").samples.len(), 4 * 5);
    page.check(&[
        ("prunner_jobs_total pipeline=slow status=replaced", 0),
        ("prunner_requests_refused_total code=queue_full", 0),
        ("prunner_requests_refused_total code=unauthorized", 1),
        (&format!("prunner_build_info version={}", env!("CARGO_PKG_VERSION")), 1),
    ]);
}

#[test]
fn it_counts_what_happens_as_soon_as_that_is_shown() {
    let (space, server) = TestSpace::serving(&pipelines());
    for pipeline in ["ok", "ok", "bad"] {
        server.run_job(pipeline);
    }
    let slow = server.schedule("slow");
    let late = server.schedule("late");
    assert_eq!(server.try_schedule("slow").status, 400);
    assert_eq!(server.try_schedule("nobody").status, 400);
    assert_eq!(server.get("/job/detail?id=x").status, 400);
    assert_eq!(
        server
            .get("/job/detail?id=0193aaaa-0000-7000-8000-000000000000&wait=1s")
            .status,
        404
    );
    let page = eventually("the task runs", || {
        let page = scrape(&server);
        (page.value("prunner_tasks_running") > 0.0).then_some(page)
    });
    page.check(&[
        ("prunner_jobs_total pipeline=ok status=succeeded", 2),
        ("prunner_jobs_total pipeline=ok status=failed", 0),
        ("prunner_jobs_total pipeline=bad status=failed", 1),
        ("prunner_jobs_total pipeline=slow status=canceled", 0),
        ("prunner_jobs_running pipeline=slow", 1),
        ("prunner_jobs_running pipeline=ok", 0),
        ("prunner_jobs_waiting pipeline=late", 1),
        ("prunner_job_duration_seconds_count pipeline=ok", 2),
        ("prunner_job_duration_seconds_count pipeline=slow", 0),
        ("prunner_job_queue_duration_seconds_count pipeline=slow", 1),
        ("prunner_job_queue_duration_seconds_count pipeline=late", 0),
        ("prunner_tasks_running", 1),
        ("prunner_log_bytes_total stream=stdout", 12),
        ("prunner_log_bytes_total stream=stderr", 8),
        ("prunner_requests_refused_total code=queue_disabled", 1),
        ("prunner_requests_refused_total code=unknown_pipeline", 1),
        ("prunner_requests_refused_total code=invalid_job_id", 1),
        ("prunner_requests_refused_total code=job_not_found", 1),
    ]);
    // Each of the five was accepted, and three ended.
    assert!(
        page.value("prunner_journal_sync_duration_seconds_count") >= 8.0,
        "{page:?}"
    );
    server.cancel_job(&slow);
    server.ended(&slow);
    server.cancel_job(&late);
    server.ended(&late);
    space.write("go", "");
    server.run_job("slow");
    scrape(&server).check(&[
        ("prunner_jobs_total pipeline=slow status=canceled", 1),
        ("prunner_jobs_total pipeline=slow status=succeeded", 1),
        ("prunner_jobs_total pipeline=late status=canceled", 1),
        ("prunner_jobs_running pipeline=slow", 0),
        ("prunner_jobs_waiting pipeline=late", 0),
        ("prunner_job_duration_seconds_count pipeline=slow", 2),
        ("prunner_job_duration_seconds_count pipeline=late", 0),
        ("prunner_tasks_running", 0),
    ]);
    // What is forgotten has happened all the same.
    assert_eq!(server.post(&format!("/job/forget?id={slow}"), "").status, 200);
    scrape(&server).check(&[("prunner_jobs_total pipeline=slow status=canceled", 1)]);
}

#[test]
fn numbers_begin_with_the_start_and_interrupted_jobs_are_among_them() {
    let (space, server) = TestSpace::serving(&pipelines());
    server.run_job("ok");
    server.schedule("late");
    let slow = server.schedule("slow");
    eventually("the job runs", || {
        (server.job(&slow)["status"] == "running").then_some(())
    });
    server.kill();
    let server = space.serve();
    scrape(&server).check(&[
        ("prunner_jobs_total pipeline=ok status=succeeded", 0),
        ("prunner_jobs_total pipeline=slow status=interrupted", 1),
        ("prunner_jobs_running pipeline=slow", 0),
        ("prunner_jobs_waiting pipeline=late", 1),
        ("prunner_job_duration_seconds_count pipeline=ok", 0),
        // When it ended, nobody knows.
        ("prunner_job_duration_seconds_count pipeline=slow", 0),
    ]);
    assert_eq!(server.stop(), Some(0));
    let server = space.serve();
    scrape(&server).check(&[("prunner_jobs_total pipeline=slow status=interrupted", 0)]);
}

#[test]
fn pipelines_that_are_in_no_file_any_more_have_no_name() {
    let (space, server) = TestSpace::serving(&pipelines());
    let slow = server.schedule("slow");
    server.run_job("ok");
    space.write("pipelines.yml", "pipelines: {other: {}}");
    assert_eq!(server.post("/pipelines/reload", "").status, 200);
    let page = scrape(&server);
    page.check(&[
        ("prunner_jobs_running pipeline=", 1),
        ("prunner_jobs_total pipeline=other status=succeeded", 0),
    ]);
    let names: BTreeSet<&str> = page
        .families
        .iter()
        .flat_map(|family| &family.samples)
        .filter_map(|(_, labels, _)| labels.get("pipeline").map(String::as_str))
        .collect();
    assert_eq!(names, BTreeSet::from(["", "other"]));
    server.cancel_job(&slow);
    server.ended(&slow);
    scrape(&server).check(&[
        ("prunner_jobs_running pipeline=", 0),
        ("prunner_jobs_total pipeline= status=canceled", 1),
        ("prunner_jobs_total pipeline= status=succeeded", 0),
    ]);
}

/// Prints what Prometheus' own reader makes of standard input: one line for each sample.
const READER: &str = r"
import sys
from prometheus_client.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation and family.type != 'unknown', family
    for sample in family.samples:
        print(repr((sample.name, sorted(sample.labels.items()), float(sample.value))))
";

#[test]
fn the_reader_of_prometheus_reads_it() {
    let name = r#"a "b" \ é"#;
    let (_space, server) = TestSpace::serving(&json!({"pipelines": {name: {}}}).to_string());
    let job = server.run_job(name);
    assert_eq!(text(&job["status"]), "succeeded");
    let answer = server.get("/metrics");
    let page = read(&answer);
    let samples: usize = page.families.iter().map(|family| family.samples.len()).sum();
    let has_reader = |python: &&str| {
        let import = ["-c", "import prometheus_client.parser"];
        let output = Command::new(python).args(import).output();
        output.is_ok_and(|output| output.status.success())
    };
    // The first in PATH may be another than the one that packages of the system are for.
    let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(has_reader) else {
        return say_skipped(
            "prometheus_client of python3",
            "the metrics are read by our own parser alone",
        );
    };
    let mut reader = Command::new(python)
        .args(["-c", READER])
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    reader.stdin.take().unwrap().write_all(answer.body.as_bytes()).unwrap();
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success());
    let read = String::from_utf8(output.stdout).unwrap();
    assert_eq!(read.lines().count(), samples, "{read}");
    let expected = r#"('prunner_jobs_total', [('pipeline', 'a "b" \\ é'), ('status', 'succeeded')], 1.0)"#;
    assert!(read.lines().any(|line| line == expected), "{read}");
}
