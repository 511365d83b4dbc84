//! A body that is one JSON object.
//!
//! Unaware of which fields there are. Surprise: neither keys that are not known nor absent ones are errors, and null is as
//! good as none; a field that is there twice is one.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor};

use super::guard;

/// What a body holds; without a field, its default.
pub(super) trait Fields: Default {
    /// Takes the value of this key with [`field`]; false: there is no such field.
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, entries: &mut A) -> Result<bool, A::Error>;
}

/// # Errors
/// What is wrong and where, for the message.
pub(super) fn parse<F: Fields>(body: &[u8]) -> Result<F, String> {
    // The JSON parser does not look into strings that are skipped.
    let text = std::str::from_utf8(body).map_err(|error| not_utf8(body, error.valid_up_to()))?;
    guard::check(text)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let mut fields = F::default();
    let read = deserializer
        .deserialize_map(Object(&mut fields))
        .and_then(|()| deserializer.end());
    read.map_err(|error| error.to_string())?;
    Ok(fields)
}

fn not_utf8(body: &[u8], position: usize) -> String {
    let before = &body[..position];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let column = position - line_start + 1;
    format!("expected UTF-8 at line {line} column {column}")
}

/// A derived implementation would take an array for an object.
struct Object<'f, F>(&'f mut F);

impl<'de, F: Fields> Visitor<'de> for Object<'_, F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            if !self.0.take(&key, &mut entries)? {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            if seen.contains(&key) {
                return Err(A::Error::custom(format_args!("field `{key}` is there twice")));
            }
            seen.push(key);
        }
        Ok(())
    }
}

/// The value of the field of that name; `None`: it is null.
pub(super) fn field<'de, A: MapAccess<'de>, T: DeserializeOwned>(
    entries: &mut A,
    name: &str,
) -> Result<Option<T>, A::Error> {
    entries
        .next_value()
        // The parser takes the line and column that end this text for its own.
        .map_err(|error| A::Error::custom(format_args!("field `{name}`: {error}")))
}
