//! YAML text → [`Node`]s that keep the text of every scalar as it was written, with merge keys (`<<:`) applied.
//!
//! Knows nothing of pipelines. What is wrong with a mapping's keys is kept in the mapping, for those who look at it know
//! where in the file they are.
//!
//! Surprise: the text is read twice. `serde_yaml` tells either what a scalar is (`1.10` is a number) or how it is written
//! (not `1.1`), so that the first pass notes the kinds and the second one collects the texts.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::definition::complaint::shown;

/// A file that is larger is refused: the parser holds some hundred bytes for each scalar. 10,000 tasks take some 2 MiB.
pub(crate) const MAX_FILE_BYTES: usize = 8 * 1024 * 1024;

/// Scalars, lists and mappings that a file may hold once its aliases are replaced by what they stand for: a few lines of
/// aliases of aliases would be billions. 10,000 tasks have some 100,000.
const MAX_NODES: usize = 1_000_000;

/// Bytes of all scalars together once aliases are replaced.
const MAX_TEXT_BYTES: usize = 64 * 1024 * 1024;

/// Brackets open at the same time: the parser's time grows with their square, and 128 levels are its limit anyway. The
/// count can't tell brackets in texts, thus the wide margin.
const MAX_OPEN_BRACKETS: usize = 5_000;

/// What a file says, with aliases and merge keys resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Scalar { kind: Kind, text: String },
    List(Vec<Node>),
    Mapping(Mapping),
}

/// What YAML takes a scalar for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Number,
    Text,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Mapping {
    /// In the order of the file, each key once. What a merge key brings in stands where the merge key stood.
    pub entries: Vec<(String, Node)>,
    /// What is wrong with the keys, as phrases that follow a name: "has the key `a` twice".
    pub faults: Vec<String>,
}

impl Node {
    const NULL: Node = Node::Scalar {
        kind: Kind::Null,
        text: String::new(),
    };

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Node::Scalar { kind: Kind::Null, .. })
    }
}

/// The only document of a file; null for a file without one. The error is a phrase with line and column, as far as they
/// are known.
pub(crate) fn parse(bytes: &[u8]) -> Result<Node, String> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(format!(
            "larger than {} MiB, the most that is read",
            MAX_FILE_BYTES >> 20
        ));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error.valid_up_to()))?;
    // The parser would take the byte order mark for a column and the first line for an indented one.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if opens_too_many_brackets(text) {
        return Err(format!(
            "not valid YAML: more than {MAX_OPEN_BRACKETS} brackets are opened and not closed"
        ));
    }
    let kinds = survey(text).map_err(|error| explain(&error))?;
    if matches!(kinds.as_slice(), [Noted::Scalar(Kind::Null)]) {
        return Ok(Node::NULL);
    }
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let document = documents.next().expect("the first pass has found a document");
    Build {
        noted: &mut kinds.iter(),
    }
    .deserialize(document)
    .map_err(|error| explain(&error))
}

fn not_utf8(bytes: &[u8], position: usize) -> String {
    let before = std::str::from_utf8(&bytes[..position]).expect("all before the position is UTF-8");
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
    format!("not valid YAML: what stands at line {line} column {column} is not UTF-8; save the file as UTF-8")
}

/// The parser's words, but for those that only its makers understand.
fn explain(error: &serde_yaml::Error) -> String {
    let text = error
        .to_string()
        .replace("recursion limit exceeded", "more than 128 levels inside each other")
        .replace("repetition limit exceeded", "aliases stand for too much");
    format!("not valid YAML: {text}")
}

fn opens_too_many_brackets(text: &str) -> bool {
    let mut open = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_OPEN_BRACKETS {
            return true;
        }
    }
    false
}

/// What the first pass notes for each node, in the order in which the second one meets them again.
#[derive(Clone, Copy, Debug)]
enum Noted {
    Scalar(Kind),
    List,
    Mapping,
}

/// The first pass: what each node is. Here everything is refused that can be refused before anything is kept.
fn survey(text: &str) -> Result<Vec<Noted>, serde_yaml::Error> {
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let mut noted = Vec::new();
    let Some(document) = documents.next() else {
        return Ok(vec![Noted::Scalar(Kind::Null)]);
    };
    let mut text_bytes = 0;
    Survey {
        noted: &mut noted,
        text_bytes: &mut text_bytes,
    }
    .deserialize(document)?;
    if let Some(document) = documents.next() {
        // What the parser can't read is named first: the second document may come from it alone.
        IgnoredAny::deserialize(document)?;
        return Err(Error::custom(
            "the file holds several documents, separated by `---`; expected one",
        ));
    }
    Ok(noted)
}

struct Survey<'a> {
    noted: &'a mut Vec<Noted>,
    text_bytes: &'a mut usize,
}

impl Survey<'_> {
    fn again(&mut self) -> Survey<'_> {
        Survey {
            noted: self.noted,
            text_bytes: self.text_bytes,
        }
    }

    fn note<E: Error>(&mut self, noted: Noted, text_bytes: usize) -> Result<(), E> {
        *self.text_bytes += text_bytes;
        if self.noted.len() == MAX_NODES || *self.text_bytes > MAX_TEXT_BYTES {
            return Err(Error::custom(format!(
                "with its aliases replaced by what they stand for, the file holds more than {MAX_NODES} values or {} MiB \
                 of text, the most that is read",
                MAX_TEXT_BYTES >> 20
            )));
        }
        self.noted.push(noted);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Survey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Survey<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    // The texts of these four kinds are counted as their least: a null or a number of a megabyte can't be written but as
    // digits, and the file's own size bounds those.
    fn visit_none<E: Error>(mut self) -> Result<(), E> {
        self.note(Noted::Scalar(Kind::Null), 0)
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.note(Noted::Scalar(Kind::Null), 0)
    }

    fn visit_bool<E: Error>(mut self, _: bool) -> Result<(), E> {
        self.note(Noted::Scalar(Kind::Boolean), 0)
    }

    fn visit_u64<E: Error>(mut self, _: u64) -> Result<(), E> {
        self.note(Noted::Scalar(Kind::Number), 0)
    }

    fn visit_i64<E: Error>(mut self, _: i64) -> Result<(), E> {
        self.note(Noted::Scalar(Kind::Number), 0)
    }

    fn visit_u128<E: Error>(mut self, _: u128) -> Result<(), E> {
        self.note(Noted::Scalar(Kind::Number), 0)
    }

    fn visit_i128<E: Error>(mut self, _: i128) -> Result<(), E> {
        self.note(Noted::Scalar(Kind::Number), 0)
    }

    fn visit_f64<E: Error>(mut self, _: f64) -> Result<(), E> {
        self.note(Noted::Scalar(Kind::Number), 0)
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        self.note(Noted::Scalar(Kind::Text), text.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        self.note(Noted::List, 0)?;
        while list.next_element_seed(self.again())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut mapping: A) -> Result<(), A::Error> {
        self.note(Noted::Mapping, 0)?;
        while mapping.next_key_seed(self.again())?.is_some() {
            mapping.next_value_seed(self.again())?;
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<(), A::Error> {
        let (tag, _) = tagged.variant::<String>()?;
        Err(Error::custom(format!(
            "the tag `!{}` is not known; where a text begins with `!`, quote it",
            shown(tag.trim_start_matches('!'))
        )))
    }
}

/// The second pass: the node that comes next, with the texts.
struct Build<'a, 'b> {
    noted: &'a mut std::slice::Iter<'b, Noted>,
}

impl<'b> Build<'_, 'b> {
    fn again(&mut self) -> Build<'_, 'b> {
        Build { noted: self.noted }
    }
}

impl<'de> DeserializeSeed<'de> for Build<'_, '_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let noted = self.noted.next().expect("both passes meet the same nodes");
        match noted {
            Noted::Scalar(kind) => {
                let text = deserializer.deserialize_str(Text)?;
                Ok(Node::Scalar { kind: *kind, text })
            }
            Noted::List => deserializer.deserialize_seq(self),
            Noted::Mapping => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Build<'_, '_> {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list or a mapping")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self.again())? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut mapping: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = mapping.next_key_seed(self.again())? {
            entries.push((key, mapping.next_value_seed(self.again())?));
        }
        Ok(Node::Mapping(resolve(entries)))
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a scalar")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// Applies merge keys and notes what is wrong with the keys.
fn resolve(written: Vec<(Node, Node)>) -> Mapping {
    let mut faults = Vec::new();
    let mut keys = HashSet::new();
    let mut twice = HashSet::new();
    let mut named = Vec::with_capacity(written.len());
    for (key, value) in written {
        match key {
            Node::Scalar { text, .. } => {
                if keys.insert(text.clone()) {
                    named.push((text, value));
                } else if twice.insert(text.clone()) {
                    faults.push(key_twice(&text));
                }
            }
            Node::List(_) => faults.push("has a list as a key; expected a name: quote it if it is one".to_owned()),
            Node::Mapping(_) => {
                faults.push("has a mapping as a key; expected a name: quote the text if it begins with `{`".to_owned());
            }
        }
    }
    let mut entries = Vec::with_capacity(named.len());
    for (key, value) in named {
        if key != "<<" {
            entries.push((key, value));
            continue;
        }
        // The mapping's own keys win, then those of the first mapping that has them.
        for merged in merged_mappings(value, &mut faults) {
            faults.extend(merged.faults);
            for (key, value) in merged.entries {
                if keys.insert(key.clone()) {
                    entries.push((key, value));
                }
            }
        }
    }
    Mapping { entries, faults }
}

fn key_twice(key: &str) -> String {
    if key == "<<" {
        "has the key `<<` twice; merge several mappings as `<<: [*a, *b]`".to_owned()
    } else {
        format!("has the key `{}` twice; remove or rename one of them", shown(key))
    }
}

fn merged_mappings(value: Node, faults: &mut Vec<String>) -> Vec<Mapping> {
    let items = match value {
        Node::Scalar { kind: Kind::Null, .. } => return Vec::new(),
        Node::List(items) => items,
        Node::Mapping(_) | Node::Scalar { .. } => vec![value],
    };
    let mut mappings = Vec::new();
    for item in items {
        match item {
            Node::Mapping(mapping) => mappings.push(mapping),
            Node::Scalar { text, .. } => faults.push(format!(
                "merges `{}` with `<<`; expected a mapping or a list of mappings",
                shown(&text)
            )),
            Node::List(_) => {
                faults
                    .push("merges a list inside a list with `<<`; expected a mapping or a list of mappings".to_owned());
            }
        }
    }
    mappings
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[track_caller]
    fn check(yaml: &str, expected: &[(Kind, &str)]) {
        let expected = expected
            .iter()
            .map(|(kind, text)| Node::Scalar {
                kind: *kind,
                text: (*text).to_owned(),
            })
            .collect();
        assert_eq!(parse(yaml.as_bytes()), Ok(Node::List(expected)), "{yaml}");
    }

    #[test]
    fn scalars_keep_how_they_are_written() {
        check(
            "[~, null, Null, ]",
            &[(Kind::Null, "~"), (Kind::Null, "null"), (Kind::Null, "Null")],
        );
        check("- \n- a", &[(Kind::Null, ""), (Kind::Text, "a")]);
        check(
            "[true, False, yes]",
            &[(Kind::Boolean, "true"), (Kind::Boolean, "False"), (Kind::Text, "yes")],
        );
        check(
            "[1.10, 0x1F, 1e3]",
            &[(Kind::Number, "1.10"), (Kind::Number, "0x1F"), (Kind::Number, "1e3")],
        );
        let digits = "9".repeat(300);
        check(&format!("[-{digits}]"), &[(Kind::Number, &format!("-{digits}"))]);
        check(
            "['1', \"a\\tb\", !!str 1]",
            &[(Kind::Text, "1"), (Kind::Text, "a\tb"), (Kind::Text, "1")],
        );
        check("- &a x\n- *a", &[(Kind::Text, "x"), (Kind::Text, "x")]);
    }

    /// In a thread with the stack that threads have by default, so that the tests' own doesn't decide.
    #[track_caller]
    fn check_error(yaml: impl Into<Vec<u8>>, expected: &str) {
        let yaml = yaml.into();
        let thread = std::thread::Builder::new().name("parse".to_owned());
        let parsed = thread.spawn(move || parse(&yaml)).unwrap().join().unwrap();
        assert_eq!(parsed.unwrap_err(), expected);
    }

    #[test]
    fn nesting_is_bounded() {
        const TOO_DEEP: &str = "not valid YAML: more than 128 levels inside each other at";
        const BRACKETS: &str = "not valid YAML: more than 5000 brackets are opened and not closed";
        check_error("[".repeat(100_000), BRACKETS);
        check_error("{a: ".repeat(100_000), BRACKETS);
        check_error(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), BRACKETS);
        check_error("[".repeat(5_000), &format!("{TOO_DEEP} line 1 column 129"));
        check_error("- ".repeat(100_000), &format!("{TOO_DEEP} line 1 column 257"));
        check_error("? ".repeat(100_000), &format!("{TOO_DEEP} line 1 column 257"));
        let stairs: Vec<String> = (0..1_000).map(|depth| " ".repeat(depth) + "a:").collect();
        check_error(stairs.join("\n"), &format!("{TOO_DEEP} line 129 column 129"));
        let deepest = format!("{}{}", "[".repeat(128), "]".repeat(128));
        let thread = std::thread::Builder::new().name("parse".to_owned());
        let parsed = thread.spawn(move || parse(deepest.as_bytes())).unwrap().join().unwrap();
        assert!(parsed.is_ok());
    }

    #[test]
    fn aliases_are_bounded() {
        // Nine levels of nine would be 387 million values.
        let mut laughs = "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n".to_owned();
        for level in 1..9 {
            let below = level - 1;
            writeln!(
                laughs,
                "a{level}: &a{level} [{}]",
                vec![format!("*a{below}"); 9].join(", ")
            )
            .unwrap();
        }
        let error = parse(laughs.as_bytes()).unwrap_err();
        assert!(
            error.contains("more than 1000000 values") || error.contains("aliases stand for too much"),
            "{error}"
        );
        // Each alias stands for little, but there are many.
        let quadratic = format!("a: &a [{}]\nb: [{}]", "x,".repeat(10_000), "*a,".repeat(10_000));
        let error = parse(quadratic.as_bytes()).unwrap_err();
        assert!(error.contains("more than 1000000 values"), "{error}");
        let long = format!("a: &a {}\nb: [{}]", "x".repeat(1_000_000), "*a,".repeat(10_000));
        let error = parse(long.as_bytes()).unwrap_err();
        assert!(error.contains("64 MiB of text"), "{error}");
        check_error("&a [*a, *a]", "not valid YAML: more than 128 levels inside each other");
    }

    #[test]
    fn size_is_bounded() {
        check_error(
            " ".repeat(MAX_FILE_BYTES + 1),
            "larger than 8 MiB, the most that is read",
        );
    }

    #[test]
    fn what_is_no_text_is_refused() {
        check_error(
            b"a: b\nc: \xc3\xa4\xff".to_vec(),
            "not valid YAML: what stands at line 2 column 5 is not UTF-8; save the file as UTF-8",
        );
        check_error(
            "a: \u{1}",
            "not valid YAML: control characters are not allowed at position 3",
        );
    }
}
