//! The values of single keys, read from nodes with a complaint for each that is not as expected.
//!
//! Unaware of how the keys of a pipeline belong together.
//!
//! Surprise: whoever reads gets `None` both for a key that is missing and for one that is wrong. That something was wrong
//! is known from the number of errors alone, so that reading goes on and finds the other mistakes.

use std::path::Path;

use crate::definition::complaint::{Complaint, shown};
use crate::definition::keys::{KEYS, Place};
use crate::definition::parse::{Kind, Mapping, Node};
use crate::definition::{duration, names};
use crate::template::{Delimiters, Template};

/// Names that are compared to find near ones, which takes a microsecond for each; of thousands of complaints a person
/// reads the first.
const MAX_COMPARISONS: usize = 50_000;

/// All complaints so far, of all files.
#[derive(Debug)]
pub(crate) struct Findings {
    pub errors: Vec<Complaint>,
    pub warnings: Vec<Complaint>,
    comparisons_left: usize,
}

impl Findings {
    pub(crate) fn new() -> Findings {
        Findings {
            errors: Vec::new(),
            warnings: Vec::new(),
            comparisons_left: MAX_COMPARISONS,
        }
    }

    /// The end of a message about a name that is not known.
    pub(crate) fn did_you_mean<'n>(&mut self, name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
        let comparisons_left = &mut self.comparisons_left;
        names::did_you_mean(
            name,
            known.into_iter().take_while(|_| {
                *comparisons_left = comparisons_left.saturating_sub(1);
                *comparisons_left > 0
            }),
        )
    }
}

/// What is read at the moment, and where complaints about it go.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pub findings: &'a mut Findings,
    pub file: &'a Path,
    pub pipeline: Option<&'a str>,
    pub task: Option<&'a str>,
}

impl Reader<'_> {
    /// The same for a part of what is read.
    pub(crate) fn inside<'b>(&'b mut self, pipeline: &'b str, task: Option<&'b str>) -> Reader<'b> {
        Reader {
            findings: self.findings,
            file: self.file,
            pipeline: Some(pipeline),
            task,
        }
    }

    pub(crate) fn error(&mut self, message: impl Into<String>) {
        let complaint = self.complaint(message.into());
        self.findings.errors.push(complaint);
    }

    pub(crate) fn warning(&mut self, message: impl Into<String>) {
        let complaint = self.complaint(message.into());
        self.findings.warnings.push(complaint);
    }

    fn complaint(&self, message: String) -> Complaint {
        Complaint {
            file: self.file.to_owned(),
            pipeline: self.pipeline.map(str::to_owned),
            task: self.task.map(str::to_owned),
            message,
        }
    }

    pub(super) fn unexpected(&mut self, node: &Node, key: &str, expected: &str) {
        // A phrase is not a key of the file.
        let place = if key.contains(' ') {
            key.to_owned()
        } else {
            format!("`{key}`")
        };
        self.error(format!("has {} as {place}; expected {expected}", described(node)));
    }

    /// The mapping that a node is, given what it stands for; null is an empty one, and what is none is `None`. Says what is
    /// wrong with its keys.
    pub(crate) fn mapping<'n>(&mut self, node: &'n Node, role: &str, expected: &str) -> Option<&'n [(String, Node)]> {
        match node {
            Node::Mapping(mapping) => {
                self.faults(mapping);
                Some(&mapping.entries)
            }
            Node::Scalar { kind: Kind::Null, .. } => Some(&[]),
            Node::Scalar { .. } | Node::List(_) => {
                self.error(format!("has {} as {role}; expected {expected}", described(node)));
                None
            }
        }
    }

    fn faults(&mut self, mapping: &Mapping) {
        for fault in &mapping.faults {
            self.error(fault);
        }
    }

    /// Warns of keys that are not known, and proposes some of those that are. What stands below them is looked at only for
    /// keys that are there twice.
    pub(crate) fn unknown_keys(&mut self, entries: &[(String, Node)], place: Place) {
        for (key, value) in entries {
            if place.knows(key) {
                continue;
            }
            let proposed: Vec<&str> = place.keys().map(|key| key.name).collect();
            let mut meant = self.findings.did_you_mean(key, proposed.iter().copied());
            if meant.is_empty() {
                meant = format!("; expected one of `{}`", proposed.join("`, `"));
            }
            self.warning(format!("has the unknown key `{}`, which is ignored{meant}", shown(key)));
            self.faults_below(value);
        }
    }

    /// Recurses as deep as YAML may be nested, which the parser limits.
    pub(super) fn faults_below(&mut self, node: &Node) {
        match node {
            Node::Scalar { .. } => {}
            Node::List(items) => {
                for item in items {
                    self.faults_below(item);
                }
            }
            Node::Mapping(mapping) => {
                self.faults(mapping);
                for (_, value) in &mapping.entries {
                    self.faults_below(value);
                }
            }
        }
    }

    pub(crate) fn boolean(&mut self, entries: &[(String, Node)], key: &str) -> Option<bool> {
        let node = field(entries, key)?;
        if let Node::Scalar {
            kind: Kind::Boolean,
            text,
        } = node
        {
            match text.as_str() {
                "true" => return Some(true),
                "false" => return Some(false),
                _ => {}
            }
        }
        self.unexpected(node, key, "`true` or `false`");
        None
    }

    pub(crate) fn integer(&mut self, entries: &[(String, Node)], key: &str, least: usize) -> Option<usize> {
        let node = field(entries, key)?;
        let number = match node {
            Node::Scalar {
                kind: Kind::Number,
                text,
            } => unsigned(text),
            Node::Scalar { .. } | Node::List(_) | Node::Mapping(_) => None,
        };
        // One more than each of these still is a number, here and for those who read the API.
        let most = u128::from(i64::MAX.unsigned_abs());
        if let Some(number) = number
            && number > most
        {
            self.unexpected(node, key, &format!("an integer of at most {most}"));
            return None;
        }
        if let Some(number) = number.and_then(|number| usize::try_from(number).ok())
            && number >= least
        {
            return Some(number);
        }
        let quoted = matches!(node, Node::Scalar { kind: Kind::Text, text } if unsigned(text).is_some());
        let hint = if quoted { ", without quotes" } else { "" };
        self.unexpected(node, key, &format!("an integer of at least {least}{hint}"));
        None
    }

    /// Milliseconds.
    pub(crate) fn duration(&mut self, entries: &[(String, Node)], key: &str) -> Option<i64> {
        let node = field(entries, key)?;
        let Node::Scalar {
            kind: Kind::Number | Kind::Text,
            text,
        } = node
        else {
            self.unexpected(node, key, "a duration such as `10s`, `1h30m` or `2d`");
            return None;
        };
        match duration::parse(text) {
            Ok(milliseconds) => Some(milliseconds),
            Err(found_and_expected) => {
                self.error(format!("has the `{key}` {found_and_expected}"));
                None
            }
        }
    }

    /// One of several words; the index of the one that was found.
    pub(crate) fn word(&mut self, entries: &[(String, Node)], key: &str, known: &[&str]) -> Option<usize> {
        self.word_of(field(entries, key)?, key, known)
    }

    /// The same of a value whose place is a key or a phrase.
    pub(super) fn word_of(&mut self, node: &Node, place: &str, known: &[&str]) -> Option<usize> {
        let mut meant = String::new();
        if let Node::Scalar { kind: Kind::Text, text } = node {
            let found = known.iter().position(|word| word == text);
            if found.is_some() {
                return found;
            }
            meant = self.findings.did_you_mean(text, known.iter().copied());
        }
        self.unexpected(node, place, &format!("one of `{}`{meant}", known.join("`, `")));
        None
    }

    pub(crate) fn environment(&mut self, entries: &[(String, Node)]) -> Vec<(String, String)> {
        let Some(node) = field(entries, "env") else {
            return Vec::new();
        };
        let Some(variables) = self.mapping(node, "`env`", "a mapping of names to values") else {
            return Vec::new();
        };
        let mut environment = Vec::with_capacity(variables.len());
        for (name, value) in variables {
            if name.is_empty() || name.contains(['=', '\0']) {
                self.error(format!(
                    "has the name `{}` in `env`; expected one that is not empty and holds neither `=` nor NUL",
                    shown(name)
                ));
                continue;
            }
            let text = match value {
                Node::Scalar { kind: Kind::Null, .. } => "",
                Node::Scalar { text, .. } => text,
                Node::List(_) | Node::Mapping(_) => {
                    self.error(format!(
                        "has {} as `{}` in `env`; expected a string, a number or a boolean: quote it if it is a text",
                        described(value),
                        shown(name)
                    ));
                    continue;
                }
            };
            if text.contains('\0') {
                self.error(format!(
                    "has a NUL in the value of `{}` in `env`; expected a text without, for no process can be given one",
                    shown(name)
                ));
                continue;
            }
            environment.push((name.clone(), text.to_owned()));
        }
        environment
    }

    pub(crate) fn shell(&mut self, entries: &[(String, Node)]) -> Option<Vec<String>> {
        let node = field(entries, "shell")?;
        let words = self.strings(node, "shell", Scalars::Texts)?;
        if words.iter().any(|word| word.contains('\0')) {
            self.error("has a NUL in `shell`; expected a text without");
            return None;
        }
        if words.first().is_none_or(|program| program.trim().is_empty()) {
            self.error("names no program in `shell`; expected one such as `bash` or `[bash, -o, pipefail]`");
            return None;
        }
        Some(words.into_iter().map(str::to_owned).collect())
    }

    pub(crate) fn delimiters(&mut self, entries: &[(String, Node)]) -> Option<Delimiters> {
        let node = field(entries, "delimiters")?;
        if let Node::List(items) = node
            && let [
                Node::Scalar {
                    kind: Kind::Text,
                    text: left,
                },
                Node::Scalar {
                    kind: Kind::Text,
                    text: right,
                },
            ] = items.as_slice()
        {
            match (left.as_str(), right.as_str()) {
                ("<<", ">>") => return Some(Delimiters::Angle),
                ("{{", "}}") => return Some(Delimiters::Curly),
                (left, right) => {
                    self.error(format!(
                        "has `[\"{}\", \"{}\"]` as `delimiters`; expected `[\"<<\", \">>\"]` or `[\"{{{{\", \"}}}}\"]`",
                        shown(left),
                        shown(right)
                    ));
                    return None;
                }
            }
        }
        self.unexpected(node, "delimiters", r#"`["<<", ">>"]` or `["{{", "}}"]`"#);
        None
    }

    /// The names in `depends_on`, in order, some perhaps twice.
    pub(crate) fn depends_on<'n>(&mut self, entries: &'n [(String, Node)]) -> Vec<&'n str> {
        self.names(entries, "depends_on")
    }

    /// A name or a list of names.
    pub(crate) fn names<'n>(&mut self, entries: &'n [(String, Node)], key: &str) -> Vec<&'n str> {
        let Some(node) = field(entries, key) else {
            return Vec::new();
        };
        // A task may be named `1`, and a key of a mapping is written without quotes too.
        self.strings(node, key, Scalars::Names).unwrap_or_default()
    }

    /// The lines of a script as they are written. Complaints about them are `script`'s to make.
    pub(crate) fn source(&mut self, entries: &[(String, Node)]) -> Vec<String> {
        let errors = self.findings.errors.len();
        let node = field(entries, "script");
        let lines = node
            .and_then(|node| self.strings(node, "script", Scalars::Texts))
            .unwrap_or_default();
        self.findings.errors.truncate(errors);
        lines.into_iter().map(std::string::ToString::to_string).collect()
    }

    /// The lines of a script; none for a marker, whatever blank and comment lines it is made of.
    pub(crate) fn script(&mut self, entries: &[(String, Node)], delimiters: Delimiters) -> Vec<Template> {
        let Some(node) = field(entries, "script") else {
            return Vec::new();
        };
        let Some(lines) = self.strings(node, "script", Scalars::Texts) else {
            return Vec::new();
        };
        if lines.iter().all(|line| does_nothing(line)) {
            return Vec::new();
        }
        let mut script = Vec::with_capacity(lines.len());
        for (index, line) in lines.into_iter().enumerate() {
            let place = if matches!(node, Node::List(_)) {
                format!("line {} of its script", index + 1)
            } else {
                "its script".to_owned()
            };
            if line.contains('\0') {
                self.error(format!("has a NUL in {place}; expected a text without"));
            }
            if line.trim_end_matches(['\n', '\r']).ends_with('\\') {
                self.error(format!(
                    "has a backslash at the end of {place}, but each line runs by itself; to go on in the next, write both \
                     as one with `|` or `>`"
                ));
            }
            match Template::parse(line, delimiters) {
                Ok(template) => {
                    for warning in template.warnings() {
                        self.warning(format!("has something doubtful in {place}: {warning}"));
                    }
                    script.push(template);
                }
                Err(error) => self.error(format!("has a mistake in {place}: {}", error.message)),
            }
        }
        script
    }

    /// A string or a list of strings.
    fn strings<'n>(&mut self, node: &'n Node, key: &str, accepted: Scalars) -> Option<Vec<&'n str>> {
        let quote = match accepted {
            Scalars::Texts => ": quote the line",
            Scalars::Names => "",
        };
        match node {
            Node::Scalar { kind, text } if accepted.accepts(*kind) => Some(vec![text]),
            Node::List(items) => {
                let mut texts = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    match item {
                        Node::Scalar { kind, text } if accepted.accepts(*kind) => texts.push(text.as_str()),
                        Node::Scalar { .. } | Node::List(_) | Node::Mapping(_) => self.error(format!(
                            "has {} as item {} of `{key}`; expected a string{quote}",
                            described(item),
                            index + 1
                        )),
                    }
                }
                (texts.len() == items.len()).then_some(texts)
            }
            Node::Scalar { .. } | Node::Mapping(_) => {
                self.unexpected(node, key, &format!("a string or a list of strings{quote}"));
                None
            }
        }
    }
}

/// Which scalars count as strings.
#[derive(Clone, Copy)]
enum Scalars {
    /// Those that YAML takes for texts.
    Texts,
    /// Numbers and booleans too, as they are written.
    Names,
}

impl Scalars {
    fn accepts(self, kind: Kind) -> bool {
        match kind {
            Kind::Text => true,
            Kind::Number | Kind::Boolean => matches!(self, Scalars::Names),
            Kind::Null => false,
        }
    }
}

/// The value of a key; null counts as missing.
pub(crate) fn field<'n>(entries: &'n [(String, Node)], key: &str) -> Option<&'n Node> {
    // Whatever is read is told to editors too.
    debug_assert!(
        KEYS.iter().any(|known| known.name == key),
        "`{key}` is not in the table of keys"
    );
    let (_, value) = entries.iter().find(|(name, _)| name == key)?;
    (!value.is_null()).then_some(value)
}

pub(super) fn described(node: &Node) -> String {
    match node {
        Node::Scalar { kind: Kind::Null, .. } => "null".to_owned(),
        Node::Scalar {
            kind: Kind::Boolean,
            text,
        } => format!("the boolean `{}`", shown(text)),
        Node::Scalar {
            kind: Kind::Number,
            text,
        } => format!("the number `{}`", shown(text)),
        Node::Scalar { kind: Kind::Text, text } => format!("the text `{}`", shown(text)),
        Node::List(_) => "a list".to_owned(),
        Node::Mapping(_) => "a mapping".to_owned(),
    }
}

/// An integer that is not negative, in one of YAML's notations; more than fits counts as the largest.
fn unsigned(text: &str) -> Option<u128> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let (digits, radix) = match digits.get(..2) {
        Some("0x") => (&digits[2..], 16),
        Some("0o") => (&digits[2..], 8),
        Some("0b") => (&digits[2..], 2),
        _ => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    Some(u128::from_str_radix(digits, radix).unwrap_or(u128::MAX))
}

fn does_nothing(line: &str) -> bool {
    line.lines()
        .map(str::trim_start)
        .all(|line| line.is_empty() || line.starts_with('#'))
}
