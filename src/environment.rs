//! The environment that all tasks start from: prunner's own, with the dotenv files over it.
//!
//! Unaware of pipelines, jobs and what they add. Surprise: no message quotes a line of a dotenv file, because such
//! files hold passwords.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use crate::config::{ADDRESS_VARIABLE, OWN_VARIABLES};
use crate::{service_manager, small_file};

/// What is larger can't be passed to a process anyway.
const MAXIMUM_FILE_BYTES: u64 = 1024 * 1024;

/// Names and values.
type Environment = BTreeMap<OsString, OsString>;

/// The environment of tasks before pipeline, job and task add theirs, by name.
///
/// `own` is the environment of this process. `address` is where the tasks can reach the server; `None`: there is none.
/// Whatever configures prunner itself is left out: neither its secret nor the paths of the server are for tasks.
///
/// # Errors
/// Where a file can't be read, or a line of it isn't understood. A file that doesn't exist is skipped.
pub(crate) fn of_tasks(
    own: impl IntoIterator<Item = (OsString, OsString)>,
    dotenv_files: &[PathBuf],
    address: Option<&str>,
) -> Result<Vec<(OsString, OsString)>> {
    let mut environment: Environment = own.into_iter().collect();
    for path in dotenv_files {
        if let Some(text) = read(path)? {
            Parser::new(&text)
                .apply(&mut environment)
                .map_err(|SyntaxError { line, message }| anyhow!("`{}`, line {line}: {message}", path.display()))?;
        }
    }
    for name in OWN_VARIABLES.into_iter().chain(service_manager::VARIABLES) {
        environment.remove(OsStr::new(name));
    }
    if let Some(address) = address {
        environment.insert(ADDRESS_VARIABLE.into(), address.into());
    }
    Ok(environment.into_iter().collect())
}

fn read(path: &Path) -> Result<Option<String>> {
    let Some(bytes) = small_file::read(path, MAXIMUM_FILE_BYTES)? else {
        return Ok(None);
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text.replace("\r\n", "\n"))),
        Err(error) => {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = line_after(valid);
            bail!("`{}`, line {line}: not UTF-8", path.display())
        }
    }
}

/// The line, counted from 1, that follows these bytes or that they end in.
fn line_after(bytes: &[u8]) -> usize {
    bytes.split(|&byte| byte == b'\n').count()
}

#[derive(Debug, PartialEq, Eq)]
struct SyntaxError {
    /// Counted from 1.
    line: usize,
    message: String,
}

/// Reads `KEY=value` lines. Not a shell: a value without quotes may hold blanks and quotes, and only `${NAME}` is
/// replaced, never `$NAME`, so that a password with a `$` needs no care.
struct Parser<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Parser<'a> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Parser { text, position: 0 }
    }

    fn apply(mut self, environment: &mut Environment) -> Result<(), SyntaxError> {
        loop {
            self.take_while(char::is_whitespace);
            if self.rest().is_empty() {
                return Ok(());
            }
            if self.rest().starts_with('#') {
                self.take_while(|character| character != '\n');
                continue;
            }
            let start = self.position;
            let name = self.name()?;
            let value = self.value(name, environment)?;
            if value.contains(&0) {
                return Err(self.error_at(
                    start,
                    format!("the value of `{name}` holds a NUL, which no process can be given"),
                ));
            }
            environment.insert(name.into(), OsString::from_vec(value));
        }
    }

    /// The name up to and with the `=`, and what was before: `export`.
    fn name(&mut self) -> Result<&'a str, SyntaxError> {
        let start = self.position;
        let mut name = self.take_while(is_of_name);
        let mut blanks = self.take_while(is_blank);
        if name == "export" && !blanks.is_empty() && !self.rest().starts_with('=') {
            name = self.take_while(is_of_name);
            blanks = self.take_while(is_blank);
        }
        let _ = blanks;
        if !is_name(name) || !self.rest().starts_with('=') {
            return Err(self.error_at(start, "expected `KEY=value`, a comment or an empty line".to_owned()));
        }
        self.position += 1;
        Ok(name)
    }

    fn value(&mut self, name: &str, environment: &Environment) -> Result<Vec<u8>, SyntaxError> {
        let start = self.position;
        self.take_while(is_blank);
        let value = match self.rest().as_bytes().first() {
            Some(b'\'') => self.single_quoted(name)?,
            Some(b'"') => self.double_quoted(name, environment)?,
            Some(_) | None => {
                self.position = start;
                return self.bare(name, environment);
            }
        };
        self.take_while(is_blank);
        if self.rest().starts_with('#') {
            self.take_while(|character| character != '\n');
        }
        if self.rest().starts_with('\n') || self.rest().is_empty() {
            Ok(value)
        } else {
            Err(self.error_at(
                self.position,
                format!("found text behind the closing quote of `{name}`, expected the end of the line or a comment"),
            ))
        }
    }

    fn single_quoted(&mut self, name: &str) -> Result<Vec<u8>, SyntaxError> {
        let quoted = &self.rest()[1..];
        let Some(length) = quoted.find('\'') else {
            return Err(self.not_closed(self.position, name));
        };
        self.position += length + 2;
        Ok(quoted.as_bytes()[..length].to_vec())
    }

    fn double_quoted(&mut self, name: &str, environment: &Environment) -> Result<Vec<u8>, SyntaxError> {
        let start = self.position;
        self.position += 1;
        let mut value = Vec::new();
        loop {
            value.extend_from_slice(
                self.take_while(|character| !matches!(character, '"' | '\\' | '$'))
                    .as_bytes(),
            );
            let mut characters = self.rest().chars();
            match characters.next() {
                Some('"') => {
                    self.position += 1;
                    return Ok(value);
                }
                Some('\\') => {
                    value.push(match characters.next() {
                        Some('n') => b'\n',
                        Some('r') => b'\r',
                        Some('t') => b'\t',
                        Some(character @ ('\\' | '"' | '\'' | '$' | '`')) => character as u8,
                        Some(_) => {
                            return Err(self.error_at(
                                self.position,
                                format!(
                                    "the value of `{name}` has a backslash before a character that needs none; write \
                                     `\\\\` for a backslash, or use single quotes"
                                ),
                            ));
                        }
                        None => return Err(self.not_closed(start, name)),
                    });
                    self.position += 2;
                }
                Some(_) => self.dollar(name, environment, &mut value)?,
                None => return Err(self.not_closed(start, name)),
            }
        }
    }

    fn bare(&mut self, name: &str, environment: &Environment) -> Result<Vec<u8>, SyntaxError> {
        let start = self.position;
        let line = self.take_while(|character| character != '\n');
        let end = self.position;
        // A comment has white space before it: `#fff` is a color, and `a#b` a password.
        let length = line
            .match_indices('#')
            .map(|(index, _)| index)
            .find(|&index| line[..index].ends_with(is_blank))
            .unwrap_or(line.len());
        let text = line[..length].trim_end();
        self.position = start + (text.len() - text.trim_start().len());
        let text_end = start + text.len();
        let mut value = Vec::new();
        while self.position < text_end {
            let rest = &self.text[self.position..text_end];
            let length = rest.find('$').unwrap_or(rest.len());
            value.extend_from_slice(&rest.as_bytes()[..length]);
            self.position += length;
            if self.position < text_end {
                self.dollar(name, environment, &mut value)?;
            }
        }
        self.position = end;
        Ok(value)
    }

    /// At a `$`: appends the value of `${NAME}`, empty where it isn't set; or the `$` itself.
    fn dollar(&mut self, name: &str, environment: &Environment, value: &mut Vec<u8>) -> Result<(), SyntaxError> {
        let Some(reference) = self.rest().strip_prefix("${") else {
            self.position += 1;
            value.push(b'$');
            return Ok(());
        };
        let length = reference
            .find(|character| !is_of_name(character))
            .unwrap_or(reference.len());
        let referenced = &reference[..length];
        if !is_name(referenced) || !reference[length..].starts_with('}') {
            return Err(self.error_at(
                self.position,
                format!("the value of `{name}` has a `${{` that is no `${{NAME}}`; to have the text itself, use single quotes"),
            ));
        }
        if let Some(found) = environment.get(OsStr::new(referenced)) {
            value.extend_from_slice(found.as_bytes());
        }
        self.position += length + 3;
        Ok(())
    }

    fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|character| !wanted(character)).unwrap_or(rest.len());
        self.position += length;
        &rest[..length]
    }

    fn not_closed(&self, position: usize, name: &str) -> SyntaxError {
        self.error_at(
            position,
            format!("the quote that opens the value of `{name}` is not closed"),
        )
    }

    fn error_at(&self, position: usize, message: String) -> SyntaxError {
        SyntaxError {
            line: line_after(&self.text.as_bytes()[..position]),
            message,
        }
    }
}

fn is_blank(character: char) -> bool {
    character != '\n' && character.is_whitespace()
}

fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '.')
}

fn is_name(text: &str) -> bool {
    text.starts_with(|character: char| character.is_ascii_alphabetic() || character == '_')
        && text.chars().all(is_of_name)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;
    use crate::testing::TestDirectory;

    fn pairs(list: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        list.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    /// What a file with this text adds to an environment of HOME=/root and X=outer, but for these two.
    #[track_caller]
    fn check(text: &str, expected: Result<&[(&str, &str)], (usize, &str)>) {
        let mut environment: Environment = pairs(&[("HOME", "/root"), ("X", "outer")]).into_iter().collect();
        let result = Parser::new(text).apply(&mut environment);
        environment.remove(OsStr::new("HOME"));
        if environment.get(OsStr::new("X")) == Some(&"outer".into()) {
            environment.remove(OsStr::new("X"));
        }
        match expected {
            Ok(expected) => {
                assert_eq!(result, Ok(()));
                assert_eq!(environment.into_iter().collect::<Vec<_>>(), pairs(expected));
            }
            Err((line, message)) => {
                let error = result.expect_err("the text must be refused");
                assert_eq!(error.line, line, "{}", error.message);
                assert!(error.message.contains(message), "{}", error.message);
            }
        }
    }

    #[test]
    fn plain_lines() {
        check(
            "A=1\nB=two words\n\n  C=3",
            Ok(&[("A", "1"), ("B", "two words"), ("C", "3")]),
        );
        check("A = 1 ", Ok(&[("A", "1")]));
        check("A=", Ok(&[("A", "")]));
        check("A=\nB=1", Ok(&[("A", ""), ("B", "1")]));
        check("A=b=c", Ok(&[("A", "b=c")]));
        check("A=1\nA=2", Ok(&[("A", "2")]));
        check("a.b_C9=x", Ok(&[("a.b_C9", "x")]));
        check("\u{feff}A=1", Ok(&[("A", "1")]));
        check("", Ok(&[]));
    }

    #[test]
    fn export_is_skipped_and_may_be_a_name() {
        check("export A=1\nexport\tB=2", Ok(&[("A", "1"), ("B", "2")]));
        check("export=1", Ok(&[("export", "1")]));
        check("export =1", Ok(&[("export", "1")]));
        check("exported=1", Ok(&[("exported", "1")]));
    }

    #[test]
    fn comments_begin_a_line_or_follow_white_space() {
        check("# A=1\n  # more\nB=1 # one\nC=2\t#two", Ok(&[("B", "1"), ("C", "2")]));
        check("A=#fff\nB=a#b", Ok(&[("A", "#fff"), ("B", "a#b")]));
        check("A= # none", Ok(&[("A", "")]));
        check("A='x' # c\nB=\"y\"# c", Ok(&[("A", "x"), ("B", "y")]));
        check("A='x # y'\nB=\"x # y\"", Ok(&[("A", "x # y"), ("B", "x # y")]));
    }

    #[test]
    fn single_quotes_keep_everything() {
        check(r#"A='${X} \n "q" $X'"#, Ok(&[("A", r#"${X} \n "q" $X"#)]));
        check("A=''", Ok(&[("A", "")]));
        check("A= ' x '", Ok(&[("A", " x ")]));
    }

    #[test]
    fn double_quotes_know_escapes() {
        check(r#"A="a\nb\tc\rd""#, Ok(&[("A", "a\nb\tc\rd")]));
        check(r#"A="\"q\" \\ \$ \${X} \' \`""#, Ok(&[("A", "\"q\" \\ $ ${X} ' `")]));
        check(r#"A="it's""#, Ok(&[("A", "it's")]));
        check("A=\" x \"", Ok(&[("A", " x ")]));
        check(r#"A="C:\Users""#, Err((1, "write `\\\\` for a backslash")));
    }

    #[test]
    fn other_values_are_taken_as_they_are() {
        check("A=it's", Ok(&[("A", "it's")]));
        check(r#"A={"a": "b\n"}"#, Ok(&[("A", r#"{"a": "b\n"}"#)]));
        check("A=pa$$word$1", Ok(&[("A", "pa$$word$1")]));
    }

    #[test]
    fn references_are_replaced_outside_single_quotes() {
        check("A=${X}/bin", Ok(&[("A", "outer/bin")]));
        check("A=\"<${X}>\"", Ok(&[("A", "<outer>")]));
        check("X=inner\nA=${X}", Ok(&[("A", "inner"), ("X", "inner")]));
        check("A=${X}\nX=inner", Ok(&[("A", "outer"), ("X", "inner")]));
        check("X=${X}:more", Ok(&[("X", "outer:more")]));
        check("A=[${NONE}]", Ok(&[("A", "[]")]));
        check("A=$X \"$X\"\nB=\"$X\"", Ok(&[("A", "$X \"$X\""), ("B", "$X")]));
        check("A='${X}'\nB=${A}", Ok(&[("A", "${X}"), ("B", "${X}")]));
        check("A=${X} # ${", Ok(&[("A", "outer")]));
    }

    #[test]
    fn bad_references_are_refused() {
        check("A=${X", Err((1, "is no `${NAME}`")));
        check("A=1\nB=${X:-y}", Err((2, "value of `B`")));
        check("A=\"${}\"", Err((1, "is no `${NAME}`")));
        check("A=${X #}", Err((1, "is no `${NAME}`")));
    }

    #[test]
    fn quoted_values_may_have_several_lines() {
        check("A='x\ny'\nB=1", Ok(&[("A", "x\ny"), ("B", "1")]));
        check("A=\"x\n# no comment\n${X}\"\n", Ok(&[("A", "x\n# no comment\nouter")]));
        check("A='x\ny'\nnonsense", Err((3, "expected `KEY=value`")));
        check("A=\"x\n\n\\q\"", Err((3, "backslash")));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        check("A=1\nnonsense\n", Err((2, "expected `KEY=value`")));
        check("1A=1", Err((1, "expected `KEY=value`")));
        check("=1", Err((1, "expected `KEY=value`")));
        check("A-B=1", Err((1, "expected `KEY=value`")));
        check("export A", Err((1, "expected `KEY=value`")));
        check("export", Err((1, "expected `KEY=value`")));
        check(
            "\nA='x\ny",
            Err((2, "the quote that opens the value of `A` is not closed")),
        );
        check(
            "\nA=\"x\ny",
            Err((2, "the quote that opens the value of `A` is not closed")),
        );
        check("A=\"x\\", Err((1, "not closed")));
        check("A='x'y", Err((1, "behind the closing quote")));
        check("A=\"x\ny\" z", Err((2, "behind the closing quote")));
        check("A=a\0b", Err((1, "NUL")));
    }

    #[test]
    fn no_message_quotes_a_value() {
        for text in [
            "hunter2",
            "A='hunter2",
            "A=\"hunter2",
            "A='x'hunter2",
            "A=${hunter2",
            "A=\"\\hunter2\"",
        ] {
            let error = Parser::new(text).apply(&mut Environment::new()).unwrap_err();
            assert!(!error.message.contains("hunter2"), "{}", error.message);
        }
    }

    fn file(directory: &TestDirectory, name: &str, text: &[u8]) -> PathBuf {
        let path = directory.path().join(name);
        File::create(&path).unwrap().write_all(text).unwrap();
        path
    }

    #[test]
    fn later_files_win_and_missing_ones_are_skipped() {
        let directory = TestDirectory::new();
        let first = file(&directory, ".env", b"A=1\r\nB=\"x\r\ny\"\r\nHOME=/new\r\n");
        let second = file(&directory, ".env.local", b"A=${A}2\n");
        let missing = directory.path().join("missing");
        let own = pairs(&[("HOME", "/root"), ("TERM", "dumb")]);
        assert_eq!(
            of_tasks(own, &[first, missing, second], None).unwrap(),
            pairs(&[("A", "12"), ("B", "x\ny"), ("HOME", "/new"), ("TERM", "dumb")])
        );
    }

    #[test]
    fn values_of_the_environment_need_not_be_text() {
        let directory = TestDirectory::new();
        let path = file(&directory, ".env", b"A=<${ODD}>\n");
        let odd = OsString::from_vec(vec![0xff]);
        let environment = of_tasks([("ODD".into(), odd.clone())], &[path], None).unwrap();
        assert_eq!(
            environment,
            [
                ("A".into(), OsString::from_vec(vec![b'<', 0xff, b'>'])),
                ("ODD".into(), odd)
            ]
        );
    }

    #[test]
    fn what_configures_prunner_is_left_out() {
        let directory = TestDirectory::new();
        let path = file(&directory, ".env", b"PRUNNER_JWT_SECRET=x\nPRUNNER_BAR=2\n");
        let mut own = pairs(&[("PRUNNER_FOO", "1"), ("PRUNNER_VAR_a", "1")]);
        own.extend(service_manager::VARIABLES.map(|name| (name.into(), "x".into())));
        own.extend(OWN_VARIABLES.map(|name| (name.into(), "x".into())));
        let kept = [("PRUNNER_BAR", "2"), ("PRUNNER_FOO", "1"), ("PRUNNER_VAR_a", "1")];
        assert_eq!(
            of_tasks(own.clone(), std::slice::from_ref(&path), None).unwrap(),
            pairs(&kept)
        );
        let with_address = of_tasks(own, &[path], Some("127.0.0.1:9009")).unwrap();
        assert_eq!(with_address[0], ("PRUNNER_ADDRESS".into(), "127.0.0.1:9009".into()));
        assert_eq!(with_address[1..], pairs(&kept));
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let directory = TestDirectory::new();
        let name = directory.path().display();
        let message = |path: PathBuf| of_tasks([], &[path], None).unwrap_err().to_string();
        assert_eq!(
            message(file(&directory, "a", b"A=1\nB='")),
            format!("`{name}/a`, line 2: the quote that opens the value of `B` is not closed")
        );
        assert_eq!(
            message(file(&directory, "b", b"A=1\n\xff")),
            format!("`{name}/b`, line 2: not UTF-8")
        );
        assert_eq!(
            message(directory.path().to_owned()),
            format!("failed to read `{name}`: is a directory")
        );
    }
}
