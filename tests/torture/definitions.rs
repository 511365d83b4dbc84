//! Files that are damaged or made to break who reads them: each is judged soon and within bounds, and a server that is to
//! load one keeps what it has.

use std::process::{Command, Output};

use crate::random::Random;
use crate::space::{TestSpace, sample};
use crate::{rounds, seed};

/// Of address space, so that it holds for all that is allocated.
const MOST_KIB: u64 = 768 << 10;
const DEADLINE_SECONDS: &str = "30";

fn samples() -> Vec<String> {
    let mut samples: Vec<String> = ["broken.yml", "content-release.yml", "deploy.yml"].map(sample).into();
    samples.push(sample("../../pipelines.example.yml"));
    samples
}

/// Pieces that mean something to YAML, to templates, or to numbers.
const PIECES: [&str; 40] = [
    "&a ",
    "*a",
    "*a : ",
    "<<: *a\n",
    "<<: [*a, *a]\n",
    "!!binary ",
    "!!set ",
    "!x ",
    "? ",
    ": ",
    "- ",
    "|\n",
    ">+9\n",
    "{",
    "}",
    "[",
    "]",
    "[[[[[[[[[[",
    "\"",
    "'",
    "\\",
    "#",
    "%YAML 9.9\n",
    "---\n",
    "...\n",
    "\t",
    "\r",
    "\u{0}",
    "\u{feff}",
    "\u{2028}",
    "{{",
    "}}",
    "{{range .x}}",
    "{{if}}",
    "-9223372036854775809",
    "1e999",
    ".nan",
    "0x",
    "99999999999999999999h",
    "~",
];

/// What a line of a definition may become.
fn mutation(random: &mut Random, samples: &[String]) -> Vec<u8> {
    let mut bytes = samples[random.below(samples.len())].clone().into_bytes();
    for _ in 0..=random.below(8) {
        let place = random.below(bytes.len() + 1);
        let length = random.below(40).min(bytes.len() - place);
        match random.below(9) {
            0 => drop(bytes.drain(place..place + length)),
            1 => {
                let again = bytes[place..place + length].to_vec();
                bytes.splice(place..place, again);
            }
            2 | 3 => {
                let piece = random.pick(&PIECES);
                bytes.splice(place..place, piece.bytes());
            }
            4 => bytes.insert(place, u8::try_from(random.below(256)).unwrap()),
            5 if place < bytes.len() => bytes[place] ^= 1 << random.below(8),
            6 => bytes.truncate(place.max(10).min(bytes.len())),
            7 => {
                let other = samples[random.below(samples.len())].as_bytes();
                let from = random.below(other.len());
                let to = (from + random.below(300)).min(other.len());
                bytes.splice(place..place, other[from..to].iter().copied());
            }
            _ => {
                let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                let (one, other) = (random.below(lines.len()), random.below(lines.len()));
                lines.swap(one, other);
                let shift = random.below(4);
                lines[one].splice(0..0, std::iter::repeat_n(b' ', shift));
                bytes = lines.join(&b'\n');
            }
        }
    }
    bytes
}

/// Each with what the complaint about it says; `None` where it is a good one.
fn made_to_break() -> Vec<(&'static str, String, Option<&'static str>)> {
    let laughs = |of_mappings: bool| {
        let mut text = "x0: &x0 {a: lol}\n".to_owned();
        for level in 1..30 {
            let names = (0..10)
                .map(|place| format!("k{place}: *x{}", level - 1))
                .collect::<Vec<_>>()
                .join(", ");
            let all = if of_mappings {
                format!("{{{names}}}")
            } else {
                format!("[{}]", vec![format!("*x{}", level - 1); 10].join(", "))
            };
            text += &format!("x{level}: &x{level} {all}\n");
        }
        text + "pipelines: {p: {env: *x29, tasks: {a: {script: *x29}}}}\n"
    };
    let tasks = |one: &dyn Fn(usize) -> String| {
        let tasks: String = (0..10_000)
            .map(|number| format!("      t{number}: {}\n", one(number)))
            .collect();
        format!("pipelines:\n  p:\n    tasks:\n{tasks}")
    };
    let script = |text: &str| format!("pipelines: {{p: {{tasks: {{a: {{script: ['{text}']}}}}}}}}\n");
    let nested = |open: &str, close: &str, depth: usize| {
        format!(
            "pipelines: {{p: {{env: {}1{}}}}}",
            open.repeat(depth),
            close.repeat(depth)
        )
    };
    let long_text = "x".repeat(1 << 20);
    let aliases_of_text = {
        let aliases = vec!["*x"; 5_000].join(", ");
        format!("x: &x '{long_text}'\npipelines: {{p: {{tasks: {{a: {{script: [{aliases}]}}}}}}}}\n")
    };
    vec![
        ("laughs of lists", laughs(false), Some("not valid YAML")),
        ("laughs of mappings", laughs(true), Some("not valid YAML")),
        ("a long text, often", aliases_of_text, Some("not valid YAML")),
        (
            "an alias of itself",
            "pipelines: &a {p: *a}".to_owned(),
            Some("not valid YAML"),
        ),
        (
            "a merge of itself",
            "pipelines: &a {<<: *a}".to_owned(),
            Some("not valid YAML"),
        ),
        ("10,000 tasks", tasks(&|_| "{script: [echo a]}".to_owned()), None),
        (
            "a chain of 10,000",
            tasks(&|number| {
                if number == 0 {
                    "{}".to_owned()
                } else {
                    format!("{{depends_on: t{}}}", number - 1)
                }
            }),
            None,
        ),
        (
            "a circle of 10,000",
            tasks(&|number| format!("{{depends_on: t{}}}", (number + 9_999) % 10_000)),
            Some("depend"),
        ),
        (
            "10,000 that do not exist",
            tasks(&|number| format!("{{depends_on: x{number}}}")),
            Some("depend"),
        ),
        (
            "10,000 wrong keys",
            tasks(&|number| format!("{{scripd{number}: 1}}")),
            Some("unknown key"),
        ),
        ("lists, 100 deep", nested("[", "]", 100), Some("env")),
        ("lists, 100,000 deep", nested("[", "]", 100_000), Some("not valid YAML")),
        ("lists, 4,000 deep", nested("[", "]", 4_000), Some("not valid YAML")),
        (
            "mappings, 4,000 deep",
            nested("{a: ", "}", 4_000),
            Some("not valid YAML"),
        ),
        (
            "blocks, 2,000 deep",
            (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(),
            Some("not valid YAML"),
        ),
        ("dashes, 100,000 deep", "- ".repeat(100_000), Some("not valid YAML")),
        ("keys, 100,000 deep", "? ".repeat(100_000), Some("not valid YAML")),
        ("a text of 7 MiB", script(&"x".repeat(7 << 20)), None),
        (
            "a file of 9 MiB",
            script(&"x".repeat(9 << 20)),
            Some("larger than 8 MiB"),
        ),
        (
            "a key of 1 MiB",
            format!("pipelines: {{p: {{{long_text}: 1}}}}"),
            Some("not valid YAML"),
        ),
        (
            "a name of 1 MiB",
            format!("pipelines: {{{long_text}: {{}}}}"),
            Some("not valid YAML"),
        ),
        (
            "templates, 20,000 deep",
            script(&"{{if .a}}".repeat(20_000)),
            Some("nested in 100 others"),
        ),
        (
            "parentheses, 100,000 deep",
            script(&format!("{{{{ {}", "(".repeat(100_000))),
            Some("not supported"),
        ),
        ("50,000 templates", script(&"{{.a}}".repeat(50_000)), None),
        ("comments alone", "#\n".repeat(1 << 18), None),
        (
            "documents",
            "--- {pipelines: {}}\n".repeat(1000),
            Some("not valid YAML"),
        ),
        ("zeros", "\0".repeat(1000), Some("not valid YAML")),
        (
            "a number of 100,000 digits",
            format!("pipelines: {{p: {{concurrency: {}}}}}", "9".repeat(100_000)),
            Some("concurrency"),
        ),
    ]
}

fn validate(space: &TestSpace) -> Output {
    let mut command = space.command_by(Command::new("sh"), &[]);
    let script = format!("ulimit -v {MOST_KIB}; exec timeout {DEADLINE_SECONDS} \"$@\"");
    command.args([
        "-c",
        &script,
        "sh",
        env!("CARGO_BIN_EXE_prunner"),
        "validate",
        "pipelines.yml",
    ]);
    command.output().unwrap()
}

/// Whether there are errors; what is printed is a list of complaints, when what is due, and a sum, nothing else, and of a
/// size to be read.
#[track_caller]
fn judge(space: &TestSpace, what: &str) -> (bool, String) {
    let output = validate(space);
    let (out, errors) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr),
    );
    let beginning: String = out.chars().take(2000).collect();
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{what}: {}, {errors}, {beginning}",
        output.status
    );
    assert_eq!(errors, "", "{what}");
    let lines: Vec<&str> = out.lines().collect();
    let (sum, lines) = lines.split_last().unwrap();
    let is_due = |line: &&str| line.starts_with("pipeline `") && line.contains(" is due by `");
    let (due, complaints): (Vec<&str>, Vec<&str>) = lines.iter().partition(|line| is_due(line));
    assert!(due.iter().all(|line| line.len() < 2000), "{what}: {beginning}");
    assert!(sum.contains(" in 1 file: "), "{what}: {sum:?}");
    assert_eq!(complaints.is_empty(), output.status.success(), "{what}: {beginning}");
    for complaint in &complaints {
        let is_clear =
            complaint.starts_with("error: pipelines.yml: ") || complaint.starts_with("warning: pipelines.yml: ");
        assert!(is_clear && complaint.len() < 2000, "{what}: {complaint:.3000}");
    }
    (complaints.iter().any(|complaint| complaint.starts_with("error: ")), out)
}

#[test]
fn files_made_to_break_the_reader_are_judged_within_bounds() {
    let space = TestSpace::new("pipelines: {good: {tasks: {a: {}}}}");
    let server = space.serve();
    let pipelines = || server.get("/pipelines/").body;
    let before = pipelines();
    for (what, text, complaint) in made_to_break() {
        space.write("pipelines.yml", &text);
        let (has_errors, out) = judge(&space, what);
        let beginning: String = out.chars().take(2000).collect();
        match complaint {
            None => assert!(!has_errors, "{what}: {beginning}"),
            Some(complaint) => assert!(out.contains(complaint), "{what}: {beginning}"),
        }
        if has_errors {
            let answer = server.post("/pipelines/reload", "");
            assert_eq!(answer.status, 400, "{what}");
            assert_eq!(answer.json()["code"], "bad_definition", "{what}");
            assert_eq!(pipelines(), before, "{what}");
        }
    }
    assert!(!server.log().contains("panicked"));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn damaged_files_are_judged_and_change_nothing_that_is_served() {
    let (seed, count) = (seed(), if rounds().is_some() { 5000 } else { 150 });
    let space = TestSpace::new("pipelines: {good: {tasks: {a: {}}}}");
    let server = space.serve();
    let pipelines = || server.get("/pipelines/").body;
    let before = pipelines();
    let samples = samples();
    let mut random = Random::new(seed);
    for number in 0..count {
        let bytes = mutation(&mut random, &samples);
        write(&space, &bytes);
        let what = format!("SEED={seed} number {number}");
        let (has_errors, _) = judge(&space, &what);
        if has_errors {
            assert_eq!(server.post("/pipelines/reload", "").status, 400, "{what}");
            assert_eq!(pipelines(), before, "{what}");
        }
    }
    assert!(!server.log().contains("panicked"), "SEED={seed}");
    assert_eq!(server.stop(), Some(0));
}

#[expect(clippy::disallowed_methods, reason = "nobody looks at the file meanwhile")]
fn write(space: &TestSpace, bytes: &[u8]) {
    std::fs::write(space.path.join("pipelines.yml"), bytes).unwrap();
}
