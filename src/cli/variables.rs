//! `--var` and `--vars`: the variables of a job, as they are given on the command line.
//!
//! Unaware of what a pipeline needs, but for the types of its variables. Surprise: no message quotes a value, for it may be a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use serde_json::Value;

use crate::cli::client::{Client, ClientError};
use crate::definition::shown;
use crate::definition::variables::VariableKind;
use crate::reason::reason;
use crate::template::Variables;

/// No server takes a larger body.
const MAX_FILE_BYTES: u64 = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct VariableArguments {
    /// A variable of the job: `name=value` is a string, or what its type in the pipeline says, `name:=json` any JSON; may be
    /// given again and again
    #[arg(long = "var", value_name = "NAME=VALUE")]
    pub given: Vec<String>,
    /// A file that holds the variables as one JSON object, `-`: standard input; what `--var` gives wins
    #[arg(long = "vars", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Variables as they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    variables: Variables,
    /// Names of those that were given as `name=value`.
    texts: BTreeSet<String>,
}

impl Given {
    /// The variables as a pipeline of a server takes them, which is asked for their types where they matter.
    pub(crate) fn read_for(self, client: &Client, pipeline: &str) -> Result<Variables, ClientError> {
        let kinds = if self.texts.is_empty() {
            BTreeMap::new()
        } else {
            client.variable_kinds(pipeline)?
        };
        Ok(self.read_as(|name| kinds.get(name).copied()))
    }

    /// The variables, with what was given as a text read as the type says that the pipeline declares. A text that can't be
    /// read so stays one: it is refused with all that is wrong besides.
    pub(crate) fn read_as(mut self, kind_of: impl Fn(&str) -> Option<VariableKind>) -> Variables {
        for name in &self.texts {
            if let Some(Value::String(text)) = self.variables.get(name)
                && let Some(value) = kind_of(name).and_then(|kind| kind.read(text))
            {
                self.variables.insert(name.clone(), value);
            }
        }
        self.variables
    }
}

impl VariableArguments {
    /// The variables of the file, then those that were given one by one: the last of a name counts.
    ///
    /// # Errors
    /// Where one can't be read; that is wrong usage.
    pub(crate) fn read(&self) -> Result<Given> {
        self.read_from(&mut io::stdin().lock())
    }

    fn read_from(&self, standard_input: &mut dyn Read) -> Result<Given> {
        let mut texts = BTreeSet::new();
        let mut variables = match &self.file {
            None => Variables::new(),
            Some(path) if path.as_os_str() == "-" => read_object("standard input", standard_input)?,
            Some(path) => read_file(path)?,
        };
        for text in &self.given {
            let (name, value, is_text) = parse(text)?;
            if is_text {
                texts.insert(name.clone());
            } else {
                texts.remove(&name);
            }
            variables.insert(name, value);
        }
        Ok(Given { variables, texts })
    }
}

/// `name=value` or `name:=json`; the first `=` ends the name. True: the former.
fn parse(text: &str) -> Result<(String, Value, bool)> {
    let Some((name, value)) = text.split_once('=') else {
        bail!(
            "`--var` is `{}`, expected `name=value`, or `name:=json` for other values than strings",
            shown(text)
        );
    };
    let (name, value, is_text) = match name.strip_suffix(':') {
        Some(name) => {
            let value = serde_json::from_str(value).map_err(|error| {
                anyhow!(
                    "`--var` gives `{}` no JSON: {error}; `name=value` takes any text as a string",
                    shown(name)
                )
            })?;
            (name, value, false)
        }
        None => (name, Value::String(value.to_owned()), true),
    };
    if name.is_empty() {
        bail!("`--var` has no name before `=`, expected `name=value` or `name:=json`");
    }
    Ok((name.to_owned(), value, is_text))
}

fn read_file(path: &Path) -> Result<Variables> {
    let name = format!("`{}`", path.display());
    let mut file = File::open(path).map_err(|error| anyhow!("failed to read {name}: {}", reason(&error)))?;
    read_object(&name, &mut file)
}

fn read_object(name: &str, source: &mut dyn Read) -> Result<Variables> {
    let mut bytes = Vec::new();
    source
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| anyhow!("failed to read {name}: {}", reason(&error)))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        bail!("{name} is larger than 1 MiB, the most that a job can be given");
    }
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
        anyhow!("{name} is not JSON: {error}; expected an object such as `{{\"name\": \"value\"}}`")
    })?;
    let found = match value {
        Value::Object(variables) => return Ok(variables),
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
    };
    bail!("{name} holds {found}, expected a JSON object such as `{{\"name\": \"value\"}}`");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[&str], file: Option<&str>, standard_input: &str) -> Result<String, String> {
        let arguments = VariableArguments {
            given: given.iter().map(ToString::to_string).collect(),
            file: file.map(PathBuf::from),
        };
        arguments
            .read_from(&mut standard_input.as_bytes())
            .map(|given| Value::Object(given.variables).to_string())
            .map_err(|error| format!("{error:#}"))
    }

    #[track_caller]
    fn check(given: &[&str], file: Option<&str>, standard_input: &str, expected: &str) {
        assert_eq!(read(given, file, standard_input), Ok(expected.to_owned()));
    }

    #[track_caller]
    fn check_error(given: &[&str], file: Option<&str>, standard_input: &str, expected: &str) {
        assert_eq!(read(given, file, standard_input), Err(expected.to_owned()));
    }

    #[test]
    fn variables_are_strings_or_json() {
        check(&[], None, "", "{}");
        check(
            &["a=b", "c=", "d=1", "e=x=y"],
            None,
            "",
            r#"{"a":"b","c":"","d":"1","e":"x=y"}"#,
        );
        check(
            &["a:=1.10", r#"b:={"c": [true, null]}"#, "d:=\"x\"", "e=:=1"],
            None,
            "",
            r#"{"a":1.10,"b":{"c":[true,null]},"d":"x","e":":=1"}"#,
        );
    }

    #[test]
    fn texts_are_read_as_the_type_says() {
        let arguments = VariableArguments {
            given: ["a=1", "b=1", "c:=\"1\"", "d=x", "e=1", "e:=\"2\"", "f:=1", "f=2"]
                .map(str::to_owned)
                .to_vec(),
            file: Some(PathBuf::from("-")),
        };
        let given = arguments.read_from(&mut r#"{"g": "3"}"#.as_bytes()).unwrap();
        let kind = |name: &str| (name != "b").then_some(VariableKind::Integer);
        let expected = r#"{"g":"3","a":1,"b":"1","c":"1","d":"x","e":"2","f":2}"#;
        assert_eq!(Value::Object(given.read_as(kind)).to_string(), expected);
    }

    #[test]
    fn the_last_of_a_name_counts() {
        check(&["a=1", "a:=2"], None, "", r#"{"a":2}"#);
        check(&["b=3"], Some("-"), r#" {"a": 1, "b": 2} "#, r#"{"a":1,"b":"3"}"#);
        check(&["a=1"], None, r#"{"b": "is not read"}"#, r#"{"a":"1"}"#);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_value() {
        check_error(
            &["release"],
            None,
            "",
            "`--var` is `release`, expected `name=value`, or `name:=json` for other values than strings",
        );
        for text in ["=secret", ":=1"] {
            check_error(
                &[text],
                None,
                "",
                "`--var` has no name before `=`, expected `name=value` or `name:=json`",
            );
        }
        check_error(
            &["a:=secret"],
            None,
            "",
            "`--var` gives `a` no JSON: expected value at line 1 column 1; `name=value` takes any text as a string",
        );
        check_error(
            &[],
            Some("-"),
            "{",
            "standard input is not JSON: EOF while parsing an object at line 1 column 1; expected an object such as \
             `{\"name\": \"value\"}`",
        );
        for (text, found) in [
            ("null", "null"),
            ("true", "a boolean"),
            ("1", "a number"),
            (r#""secret""#, "a string"),
            ("[]", "an array"),
        ] {
            let expected =
                format!("standard input holds {found}, expected a JSON object such as `{{\"name\": \"value\"}}`");
            check_error(&[], Some("-"), text, &expected);
        }
        check_error(
            &[],
            Some("-"),
            &" ".repeat(1 + (1 << 20)),
            "standard input is larger than 1 MiB, the most that a job can be given",
        );
        check_error(
            &[],
            Some("/nonexistent/a.json"),
            "",
            "failed to read `/nonexistent/a.json`: no such file or directory",
        );
    }
}
