//! A value as a file has it, as the JSON that a request would bring instead.
//!
//! Unaware of what the value is for.

use serde_json::{Number, Value};

use crate::definition::parse::{Kind, Node};

/// A number that JSON does not have, such as `.inf`, is its text.
pub(super) fn json(node: &Node) -> Value {
    match node {
        Node::Scalar { kind, text } => match kind {
            Kind::Null => Value::Null,
            // YAML has `True` and `TRUE` too.
            Kind::Boolean => Value::Bool(text.eq_ignore_ascii_case("true")),
            Kind::Number => number(text).map_or_else(|| Value::String(text.clone()), Value::Number),
            Kind::Text => Value::String(text.clone()),
        },
        Node::List(items) => Value::Array(items.iter().map(json).collect()),
        Node::Mapping(mapping) => {
            let entries = mapping.entries.iter();
            Value::Object(entries.map(|(name, value)| (name.clone(), json(value))).collect())
        }
    }
}

/// As it is written where JSON writes it so too.
fn number(text: &str) -> Option<Number> {
    if let Ok(number) = serde_json::from_str(text) {
        return Some(number);
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match digits.get(..2) {
        Some("0x") => (&digits[2..], 16),
        Some("0o") => (&digits[2..], 8),
        Some("0b") => (&digits[2..], 2),
        _ => (digits, 10),
    };
    match u128::from_str_radix(digits, radix) {
        Ok(number) => serde_json::from_str(&format!("{sign}{number}")).ok(),
        Err(_) => text.parse().ok().and_then(Number::from_f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::parse::parse;

    #[track_caller]
    fn check(yaml: &str, expected: &str) {
        assert_eq!(json(&parse(yaml.as_bytes()).unwrap()).to_string(), expected, "{yaml}");
    }

    #[test]
    fn values_are_what_a_request_would_say() {
        check(
            "[true, True, TRUE, false, False, FALSE]",
            "[true,true,true,false,false,false]",
        );
        check("[~, null, '', yes, '1']", r#"[null,null,"","yes","1"]"#);
        check(
            "[1.10, -7, 0.50, 100000000000000000000]",
            "[1.10,-7,0.50,100000000000000000000]",
        );
        check(
            "[0x1F, -0x1F, 0o17, 0b11, +5, .5, 5., +1.5]",
            "[31,-31,15,3,5,0.5,5.0,1.5]",
        );
        check(
            "[.inf, -.inf, .nan, {a: [.inf]}]",
            r#"[".inf","-.inf",".nan",{"a":[".inf"]}]"#,
        );
    }
}
