//! From the parts of a script line and the variables of a job to text.
//!
//! Unaware of marks and syntax. Surprise: numbers are printed from their digits, not from the floating-point number that
//! most programs would read, because JSON here keeps what the request said: `1e6`, `1.50`, thirty digits.

use std::borrow::Cow;
use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

use super::{Branch, Condition, Filter, Insert, Part, Path, Scope, Undefined};

/// A hint repeats an action up to this many bytes; a longer one would bury what it says.
const MAX_HINTED_ACTION: usize = 100;
/// A whole number with an exponent is written out to as many digits as the largest one that floating point knows has,
/// or as its own text has. Beyond that, `1e1000000` would be a megabyte.
const MAX_WRITTEN_OUT: usize = 309;

pub(super) fn render(parts: &[Part], scope: &Scope<'_>) -> Result<String, Undefined> {
    let mut output = String::new();
    render_into(&mut output, parts, &Scope { later: &[], ..*scope })?;
    Ok(output)
}

fn render_into(output: &mut String, parts: &[Part], scope: &Scope<'_>) -> Result<(), Undefined> {
    for part in parts {
        match part {
            Part::Text(text) => output.push_str(text),
            Part::Insert(insert) => insert_into(output, insert, scope)?,
            Part::If(branches) => {
                for Branch { condition, parts } in branches {
                    let holds = match condition {
                        None => true,
                        Some(condition) => holds(condition, scope)?.expect("no text is due later while rendering"),
                    };
                    if holds {
                        render_into(output, parts, scope)?;
                        break;
                    }
                }
            }
        }
    }
    Ok(())
}

pub(super) fn check(parts: &[Part], scope: &Scope<'_>) -> Result<(), Undefined> {
    for part in parts {
        match part {
            Part::Text(_) => {}
            Part::Insert(insert) => {
                let defaults = matches!(insert.filters.first(), Some(Filter::Default(_)));
                if !defaults && matches!(find(&insert.path, scope), Found::Nothing) {
                    return Err(undefined_insert(insert));
                }
            }
            Part::If(branches) => {
                for Branch { condition, parts } in branches {
                    let holds = match condition {
                        None => Some(true),
                        Some(condition) => holds(condition, scope)?,
                    };
                    // Not known yet: this branch may be taken, and so may the next.
                    if holds != Some(false) {
                        check(parts, scope)?;
                    }
                    if holds == Some(true) {
                        break;
                    }
                }
            }
        }
    }
    Ok(())
}

/// What a path leads to.
#[derive(Clone, Copy)]
enum Found<'a> {
    Nothing,
    /// A text that is not known yet.
    Later,
    Value(&'a Value),
}

fn find<'a>(path: &Path, scope: &Scope<'a>) -> Found<'a> {
    let mut names = path.0.split('.');
    let first = names.next().expect("a path has at least one name");
    let start = match scope.given.get(first) {
        Some(value) => Some(value),
        // A text has nothing inside that a longer path could lead to.
        None if scope.later.contains(&first) => {
            return if names.next().is_none() {
                Found::Later
            } else {
                Found::Nothing
            };
        }
        None => scope.variables.get(first),
    };
    match start.and_then(|value| names.try_fold(value, |value, name| step(value, name))) {
        Some(value) => Found::Value(value),
        None => Found::Nothing,
    }
}

fn step<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(object) => object.get(name),
        Value::Array(list) if name == "0" || !name.starts_with('0') => list.get(name.parse::<usize>().ok()?),
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Whether a condition holds; None where that depends on a text that is not known yet.
fn holds(condition: &Condition, scope: &Scope<'_>) -> Result<Option<bool>, Undefined> {
    match find(&condition.path, scope) {
        Found::Nothing => Err(undefined_condition(condition)),
        Found::Later => Ok(None),
        Found::Value(value) => Ok(Some(is_true(value) != condition.negated)),
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        // `0.0`, `-0` and `0e5` are 0 as well; `1e-999` is not.
        Value::Number(number) => {
            let mantissa = number.as_str().split(['e', 'E']).next().unwrap_or_default();
            mantissa.contains(|digit| matches!(digit, '1'..='9'))
        }
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => !is_missing(value),
    }
}

/// Whether `default` replaces the value.
fn is_missing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}

fn insert_into(output: &mut String, insert: &Insert, scope: &Scope<'_>) -> Result<(), Undefined> {
    let value = match find(&insert.path, scope) {
        Found::Value(value) => Some(value),
        Found::Nothing | Found::Later => None,
    };
    let (mut text, filters) = match (value, insert.filters.split_first()) {
        (value, Some((Filter::Default(default), filters))) if value.is_none_or(is_missing) => {
            (Cow::Borrowed(&**default), filters)
        }
        (Some(value), Some((Filter::Default(_), filters))) => (printed(value), filters),
        (Some(value), _) => (printed(value), insert.filters.as_slice()),
        (None, _) => return Err(undefined_insert(insert)),
    };
    // A text is left, and a `default` behind another filter looks at that: behind `quote` it never applies.
    for filter in filters {
        match filter {
            Filter::Default(default) if text.is_empty() => text = Cow::Borrowed(default),
            Filter::Default(_) => {}
            Filter::Quote => text = Cow::Owned(quote(&text)),
        }
    }
    output.push_str(&text);
    Ok(())
}

fn undefined_insert(insert: &Insert) -> Undefined {
    let hint = insert.curly_source.as_ref().map(|source| {
        let literal = if source.len() <= MAX_HINTED_ACTION {
            source
        } else {
            "{{"
        };
        let literal = literal.replace('\\', r"\\").replace('"', "\\\"");
        format!(
            "if it is meant for another program, write `{{{{ \"{literal}\" }}}}`, or set `delimiters: [\"<<\", \">>\"]`"
        )
    });
    Undefined {
        variable: insert.path.0.to_string(),
        hint,
    }
}

fn undefined_condition(condition: &Condition) -> Undefined {
    let hint = condition.curly.then(|| {
        "if it is meant for another program, write `{{ \"{{\" }}` for `{{`, or set `delimiters: [\"<<\", \">>\"]`"
            .to_owned()
    });
    Undefined {
        variable: condition.path.0.to_string(),
        hint,
    }
}

/// The value as it prints where a template inserts it: a string as it is, null as nothing, a whole number without
/// exponent and fraction, another number in its shortest form, lists and objects as compact JSON with numbers as
/// everywhere.
pub(crate) fn print(value: &Value) -> String {
    printed(value).into_owned()
}

fn printed(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::Bool(true) => Cow::Borrowed("true"),
        Value::Bool(false) => Cow::Borrowed("false"),
        Value::Number(number) => print_number(number.as_str()),
        Value::String(text) => Cow::Borrowed(text),
        Value::Array(_) | Value::Object(_) => {
            let mut bytes = Vec::new();
            value
                .serialize(&mut Serializer::with_formatter(&mut bytes, CompactJson))
                .expect("a value can be serialized and a vector takes all of it");
            Cow::Owned(String::from_utf8(bytes).expect("JSON is UTF-8"))
        }
    }
}

/// Compact JSON in which a number prints as it does by itself.
struct CompactJson;

impl Formatter for CompactJson {
    fn write_number_str<W: ?Sized + io::Write>(&mut self, writer: &mut W, number: &str) -> io::Result<()> {
        writer.write_all(print_number(number).as_bytes())
    }
}

/// A JSON number as it prints. Too large to be written out, or too small for floating point: as it stands.
fn print_number(written: &str) -> Cow<'_, str> {
    if !written.contains(['.', 'e', 'E']) {
        return Cow::Borrowed(if written == "-0" { "0" } else { written });
    }
    let (sign, unsigned) = match written.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", written),
    };
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Cow::Borrowed("0");
    }

    // The number is `significant` times ten to the power of `zeros`; None: beyond all bounds.
    let zeros = exponent.parse::<i64>().ok().and_then(|exponent| {
        let dropped = i64::try_from(digits.len() - significant.len()).ok()?;
        exponent
            .checked_add(dropped)?
            .checked_sub(i64::try_from(fraction.len()).ok()?)
    });
    let significant = significant.trim_start_matches('0');
    match zeros.map(usize::try_from) {
        None => Cow::Borrowed(written),
        Some(Ok(zeros)) if significant.len().saturating_add(zeros) > MAX_WRITTEN_OUT.max(written.len()) => {
            Cow::Borrowed(written)
        }
        Some(Ok(zeros)) => Cow::Owned([sign, significant, &"0".repeat(zeros)].concat()),
        Some(Err(_)) => match written.parse::<f64>() {
            // From here on an exponent is shorter, as JavaScript has it too.
            Ok(number) if number.abs() >= 1e-6 && number.is_finite() => Cow::Owned(number.to_string()),
            Ok(number) if number != 0.0 && number.is_finite() => Cow::Owned(format!("{number:e}")),
            _ => Cow::Borrowed(written),
        },
    }
}

/// The text as one word for a POSIX shell, always in single quotes. Only a NUL can't be in it, for no word can hold one.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
