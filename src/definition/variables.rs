//! The variables that a pipeline declares: their types, and which values fit.
//!
//! Unaware of jobs. Surprise: no message quotes a value that a request brings, for it may be a secret.

use std::fmt;
use std::sync::Arc;

use regex_lite::{Regex, RegexBuilder};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Number, Value};

use crate::definition::complaint::shown;
use crate::definition::fields::{Reader, field};
use crate::definition::keys::{Place, VARIABLE_TYPES};
use crate::definition::names::did_you_mean;
use crate::definition::parse::{Kind, Node};
use crate::definition::value::json;
use crate::template::{Variables, is_reserved};

/// What is longer is no sensible pattern, and takes long to match.
const MAX_PATTERN_BYTES: usize = 1_000;
/// Of a compiled pattern. Together with the longest value that is matched it bounds the time that this takes.
const MAX_COMPILED_BYTES: usize = 64 * 1024;
/// A longer value fits no pattern.
const MAX_MATCHED_BYTES: usize = 16 * 1024;

/// Names of one request that are said to be unknown; a request may bring thousands.
const MAX_UNKNOWN: usize = 20;

/// What a pipeline says about the variables of its jobs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    /// In the order of the file.
    pub variables: Vec<Variable>,
    /// All others are refused.
    pub is_strict: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    pub name: String,
    pub kind: VariableKind,
    pub required: bool,
    pub default: Option<Value>,
    one_of: Option<Vec<Value>>,
    pattern: Option<Pattern>,
    description: Option<String>,
}

/// The type of a variable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum VariableKind {
    #[default]
    String,
    Integer,
    Number,
    Boolean,
    /// Also an object with the keys `0` to `n`, as PHP sends lists.
    List,
    Object,
}

#[derive(Debug)]
struct Pattern {
    source: String,
    whole: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl VariableKind {
    pub(crate) const ALL: [VariableKind; 6] = [
        VariableKind::String,
        VariableKind::Integer,
        VariableKind::Number,
        VariableKind::Boolean,
        VariableKind::List,
        VariableKind::Object,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            VariableKind::String => "string",
            VariableKind::Integer => "integer",
            VariableKind::Number => "number",
            VariableKind::Boolean => "boolean",
            VariableKind::List => "list",
            VariableKind::Object => "object",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<VariableKind> {
        VariableKind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    fn with_article(self) -> &'static str {
        match self {
            VariableKind::String => "a string",
            VariableKind::Integer => "an integer",
            VariableKind::Number => "a number",
            VariableKind::Boolean => "a boolean",
            VariableKind::List => "a list",
            VariableKind::Object => "an object",
        }
    }

    /// Whether the value is of this type.
    pub(crate) fn holds(self, value: &Value) -> bool {
        match self {
            VariableKind::String => value.is_string(),
            VariableKind::Integer => matches!(value, Value::Number(number) if is_integer(number)),
            VariableKind::Number => value.is_number(),
            VariableKind::Boolean => value.is_boolean(),
            VariableKind::List => list_items(value).is_some(),
            VariableKind::Object => value.is_object(),
        }
    }

    /// A text as a value of this type; `None` where it is none.
    pub(crate) fn read(self, text: &str) -> Option<Value> {
        if self == VariableKind::String {
            return Some(Value::String(text.to_owned()));
        }
        serde_json::from_str(text).ok().filter(|value| self.holds(value))
    }
}

fn is_integer(number: &Number) -> bool {
    let digits = number.as_str();
    let digits = digits.strip_prefix('-').unwrap_or(digits);
    digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// The items of a list, or of an object with the keys `0` to `n`, which counts as one.
pub(crate) fn list_items(value: &Value) -> Option<Vec<&Value>> {
    match value {
        Value::Array(items) => Some(items.iter().collect()),
        Value::Object(object) => (0..object.len()).map(|index| object.get(&index.to_string())).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// What a value is, for a message.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// What a request says of a variable: null is as good as nothing.
pub(crate) fn given<'v>(variables: &'v Variables, name: &str) -> Option<&'v Value> {
    variables.get(name).filter(|value| !value.is_null())
}

impl Declared {
    pub(crate) fn find(&self, name: &str) -> Option<&Variable> {
        self.variables.iter().find(|variable| variable.name == name)
    }

    /// The variables with the defaults of those that are not given.
    pub(crate) fn complete(&self, variables: Arc<Variables>) -> Arc<Variables> {
        let mut completed = variables;
        for variable in &self.variables {
            if let Some(default) = &variable.default
                && given(&completed, &variable.name).is_none()
            {
                Arc::make_mut(&mut completed).insert(variable.name.clone(), default.clone());
            }
        }
        completed
    }

    /// Those that are not given and have a default.
    pub(crate) fn by_default(&self, variables: &Variables) -> Vec<String> {
        let names = self.variables.iter().filter(|variable| variable.default.is_some());
        names
            .map(|variable| &variable.name)
            .filter(|name| given(variables, name).is_none())
            .cloned()
            .collect()
    }

    /// What is wrong with these variables, and the names of those that are required and missing.
    pub(crate) fn complaints(&self, variables: &Variables) -> (Vec<String>, Vec<&str>) {
        let mut complaints = Vec::new();
        let mut missing = Vec::new();
        for variable in &self.variables {
            let name = shown(&variable.name);
            match given(variables, &variable.name) {
                Some(value) => {
                    if let Err(phrase) = variable.check(value) {
                        complaints.push(format!("variable `{name}` {phrase}"));
                    }
                }
                None if variable.required => {
                    missing.push(variable.name.as_str());
                    let described = variable.description.as_deref().map(shown);
                    let described = described.map_or_else(String::new, |text| format!(": {text}"));
                    complaints.push(format!("variable `{name}` is required{described}"));
                }
                None => {}
            }
        }
        if self.is_strict {
            let known = || self.variables.iter().map(|variable| variable.name.as_str());
            let unknown = variables.keys().filter(|name| self.find(name).is_none());
            for name in unknown.take(MAX_UNKNOWN) {
                complaints.push(format!(
                    "variable `{}` is none of this pipeline's{}",
                    shown(name),
                    did_you_mean(name, known())
                ));
            }
        }
        (complaints, missing)
    }
}

impl Variable {
    /// Whether the value fits.
    ///
    /// # Errors
    /// What is wrong, as a phrase that follows the variable's name.
    fn check(&self, value: &Value) -> Result<(), String> {
        if !self.kind.holds(value) {
            return Err(format!("is {}; expected {}", kind_of(value), self.kind.with_article()));
        }
        if let Some(one_of) = &self.one_of
            && !one_of.contains(value)
        {
            let words: Vec<&str> = one_of.iter().filter_map(Value::as_str).collect();
            let meant = value.as_str().map(|text| did_you_mean(text, words));
            return Err(format!("is none of {}{}", list(one_of), meant.unwrap_or_default()));
        }
        if let (Some(pattern), Value::String(text)) = (&self.pattern, value) {
            if text.len() > MAX_MATCHED_BYTES {
                return Err(format!(
                    "is longer than {} KiB, the most that is held against a pattern",
                    MAX_MATCHED_BYTES >> 10
                ));
            }
            if !pattern.whole.is_match(text) {
                return Err(format!("does not match the pattern `{}`", shown(&pattern.source)));
            }
        }
        Ok(())
    }
}

fn list(values: &[Value]) -> String {
    let texts: Vec<String> = values
        .iter()
        .map(|value| match value {
            Value::String(text) => format!("`{}`", shown(text)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                format!("`{}`", shown(&value.to_string()))
            }
        })
        .collect();
    texts.join(", ")
}

/// As the API shows them: names with what is said about each.
impl Serialize for Declared {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut variables = serializer.serialize_map(Some(self.variables.len()))?;
        for variable in &self.variables {
            variables.serialize_entry(&variable.name, &variable.shown())?;
        }
        variables.end()
    }
}

impl Variable {
    fn shown(&self) -> Variables {
        let mut keys = Variables::new();
        keys.insert("type".to_owned(), self.kind.as_str().into());
        keys.insert("required".to_owned(), self.required.into());
        if let Some(default) = &self.default {
            keys.insert("default".to_owned(), default.clone());
        }
        if let Some(one_of) = &self.one_of {
            keys.insert("oneOf".to_owned(), one_of.clone().into());
        }
        if let Some(pattern) = &self.pattern {
            keys.insert("pattern".to_owned(), pattern.source.clone().into());
        }
        if let Some(description) = &self.description {
            keys.insert("description".to_owned(), description.clone().into());
        }
        keys
    }
}

impl Reader<'_> {
    /// `variables` and `strict_variables`.
    pub(super) fn declared(&mut self, entries: &[(String, Node)]) -> Declared {
        let mut declared = Declared {
            variables: Vec::new(),
            is_strict: self.boolean(entries, "strict_variables") == Some(true),
        };
        let Some(node) = field(entries, "variables") else {
            return declared;
        };
        let expected = "a mapping of names to what is expected of each, such as `release: {required: true}`";
        let Some(nodes) = self.mapping(node, "`variables`", expected) else {
            return declared;
        };
        for (name, node) in nodes {
            if name.is_empty() || name.contains('\0') {
                self.error(
                    "has a variable with a name that can't be used; expected one that is not empty and holds no NUL",
                );
            }
            if is_reserved(name) {
                self.error(format!(
                    "has the variable `{}`, but that name is reserved for prunner; rename it",
                    shown(name)
                ));
            }
            let role = format!("the variable `{}`", shown(name));
            if let Some(keys) = self.mapping(node, &role, "a mapping such as `{required: true}`") {
                declared.variables.extend(self.variable(name, keys));
            }
        }
        declared
    }

    /// `None`: there are errors in it.
    fn variable(&mut self, name: &str, keys: &[(String, Node)]) -> Option<Variable> {
        let errors = self.findings.errors.len();
        self.unknown_keys(keys, Place::Variable);
        let of = |key: &str| format!("`{key}` of the variable `{}`", shown(name));
        let kind = match field(keys, "type") {
            Some(_) => VariableKind::ALL[self.word(keys, "type", &VARIABLE_TYPES)?],
            None => VariableKind::default(),
        };
        let description = match field(keys, "description") {
            None => None,
            Some(Node::Scalar { kind: Kind::Text, text }) => Some(text.clone()),
            Some(other) => {
                self.unexpected(other, &of("description"), "a text");
                None
            }
        };
        let mut variable = Variable {
            name: name.to_owned(),
            kind,
            required: self.boolean(keys, "required") == Some(true),
            default: None,
            one_of: self.one_of(keys, kind, &of("one_of")),
            pattern: self.pattern(keys, kind, &of("pattern")),
            description,
        };
        if let Some(node) = field(keys, "default") {
            if let Some(default) = self.value(node, kind, &of("default")) {
                if let Err(phrase) = variable.check(&default) {
                    self.error(format!("has a {} that {phrase}", of("default")));
                }
                variable.default = Some(default);
            }
            if variable.required {
                self.warning(format!(
                    "has both `required` and a `default` for the variable `{}`, which is never missing then; remove one of \
                     them",
                    shown(name)
                ));
            }
        }
        (self.findings.errors.len() == errors).then_some(variable)
    }

    fn one_of(&mut self, keys: &[(String, Node)], kind: VariableKind, place: &str) -> Option<Vec<Value>> {
        let node = field(keys, "one_of")?;
        let Node::List(items) = node else {
            self.unexpected(node, place, "a list of the values that are allowed");
            return None;
        };
        if items.is_empty() {
            self.error(format!(
                "has an empty list as {place}, which no value fits; expected some"
            ));
        }
        let values = items.iter().filter_map(|item| self.value(item, kind, place));
        Some(values.collect())
    }

    fn pattern(&mut self, keys: &[(String, Node)], kind: VariableKind, place: &str) -> Option<Pattern> {
        let node = field(keys, "pattern")?;
        let Node::Scalar { kind: Kind::Text, text } = node else {
            self.unexpected(node, place, "a regular expression in quotes");
            return None;
        };
        if kind != VariableKind::String {
            self.error(format!(
                "has a {place}, whose type is `{}`; only strings have one, remove it",
                kind.as_str()
            ));
            return None;
        }
        match Pattern::new(text) {
            Ok(pattern) => Some(pattern),
            Err(why) => {
                self.error(format!("has `{}` as {place}, which can't be used: {why}", shown(text)));
                None
            }
        }
    }

    /// A value as the file has it, of this type.
    fn value(&mut self, node: &Node, kind: VariableKind, place: &str) -> Option<Value> {
        let is_text_without_quotes = kind == VariableKind::String
            && matches!(
                node,
                Node::Scalar {
                    kind: Kind::Number | Kind::Boolean,
                    ..
                }
            );
        let value = Some(json(node)).filter(|value| kind.holds(value) && !is_text_without_quotes);
        if value.is_none() {
            let hint = if is_text_without_quotes {
                ": put it in quotes"
            } else {
                ""
            };
            self.unexpected(node, place, &format!("{}{hint}", kind.with_article()));
        }
        value
    }
}

impl Pattern {
    fn new(source: &str) -> Result<Pattern, String> {
        if source.len() > MAX_PATTERN_BYTES {
            return Err(format!("it is longer than {MAX_PATTERN_BYTES} bytes"));
        }
        let compile = |text: &str| RegexBuilder::new(text).size_limit(MAX_COMPILED_BYTES).build();
        // By itself first: `a)(b` must not become one by what is put around it.
        let whole = compile(source)
            .and_then(|_| compile(&format!("^(?:{source})$")))
            .map_err(|error| error.to_string())?;
        Ok(Pattern {
            source: source.to_owned(),
            whole,
        })
    }
}

impl fmt::Display for VariableKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
impl Variable {
    pub(crate) fn for_tests(name: &str, kind: VariableKind, required: bool, default: Option<Value>) -> Variable {
        Variable {
            name: name.to_owned(),
            kind,
            required,
            default,
            one_of: None,
            pattern: None,
            description: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(kind: VariableKind, text: &str, expected: impl Into<Option<Value>>) {
        assert_eq!(kind.read(text), expected.into(), "{kind} {text}");
    }

    #[test]
    fn texts_are_read_as_the_type_says() {
        check(VariableKind::String, "1", Some(json!("1")));
        check(VariableKind::Boolean, "true", Some(json!(true)));
        check(VariableKind::Boolean, "yes", None);
        check(VariableKind::Integer, "-7", Some(json!(-7)));
        check(VariableKind::Integer, "7.0", None);
        check(VariableKind::Integer, "1e3", None);
        check(VariableKind::Number, "1.5", Some(json!(1.5)));
        check(VariableKind::Number, "", None);
        check(VariableKind::List, r#"["a"]"#, Some(json!(["a"])));
        check(VariableKind::List, r#"{"0":"a"}"#, Some(json!({"0": "a"})));
        check(VariableKind::List, "a,b", None);
        check(VariableKind::Object, r#"{"a":1}"#, Some(json!({"a": 1})));
        check(VariableKind::Object, "[]", None);
    }

    #[test]
    fn objects_with_the_keys_of_a_list_are_lists() {
        let items = |value: Value| list_items(&value).map(|items| items.into_iter().cloned().collect::<Vec<_>>());
        assert_eq!(items(json!({"0": "a", "1": "b"})), Some(vec![json!("a"), json!("b")]));
        assert_eq!(items(json!({"1": "b", "0": "a"})), Some(vec![json!("a"), json!("b")]));
        assert_eq!(items(json!({})), Some(vec![]));
        assert_eq!(items(json!({"1": "a"})), None);
        assert_eq!(items(json!({"0": "a", "x": "b"})), None);
        assert_eq!(items(json!({"00": "a"})), None);
        assert_eq!(items(json!("a")), None);
    }

    #[test]
    fn patterns_match_the_whole_value() {
        let matches = |pattern: &str, text: &str| Pattern::new(pattern).unwrap().whole.is_match(text);
        assert!(matches("[0-9]{8}", "20261124"));
        assert!(!matches("[0-9]{8}", "20261124a") && !matches("[0-9]{8}", "a20261124"));
        assert!(!matches("[0-9]{8}", "20261124\n"));
        assert!(matches("a|bc", "bc") && !matches("a|bc", "ac"));
        assert!(matches("(?i)a", "A") && !matches("(?m)a", "b\na\nb"));
        for pattern in [
            "a)(b",
            "a)|(b",
            "(",
            "(?x)a #",
            &"a".repeat(1_001),
            "((a{100}){100}){100}",
        ] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
    }
}
