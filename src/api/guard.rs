//! Refuses JSON that can't be kept as it is, before it is parsed.
//!
//! Unaware of what the text means, and of whether it is JSON: a text that is none passes, the parser refuses it.
//! Surprise: the parser gives a meaning of its own to some keys. An object with such a key would become another value, one
//! that may be nested deeper than anything that can be read back.

/// Levels of objects and lists. The journal wraps what is accepted in a few more; its reader stops at 128.
const MAX_DEPTH: usize = 100;
/// How the keys begin by which the parser hands numbers and raw texts to itself.
const RESERVED: &str = "$serde_json::private::";

/// # Errors
/// What is wrong, for the message.
pub(super) fn check(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut position = 0;
    while let Some(byte) = bytes.get(position) {
        position += 1;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("nested more than {MAX_DEPTH} levels deep"));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let start = position - 1;
                position = end_of_string(bytes, position);
                if is_followed_by_a_colon(bytes, position) && is_reserved(&text[start..position]) {
                    return Err(format!("a key must not begin with `{RESERVED}`"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Behind the quote that closes it.
fn end_of_string(bytes: &[u8], mut position: usize) -> usize {
    while let Some(byte) = bytes.get(position) {
        position += 1;
        match byte {
            b'"' => break,
            // What is escaped may be a quote. Both are ASCII, so the end lies between characters.
            b'\\' if bytes.get(position).is_some_and(u8::is_ascii) => position += 1,
            _ => {}
        }
    }
    position
}

fn is_followed_by_a_colon(bytes: &[u8], position: usize) -> bool {
    let rest = bytes.get(position..).unwrap_or_default();
    rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
}

/// Of a string with its quotes; its characters may be escaped.
fn is_reserved(quoted: &str) -> bool {
    if !quoted.contains('\\') {
        return quoted[1..].starts_with(RESERVED);
    }
    serde_json::from_str::<String>(quoted).is_ok_and(|key| key.starts_with(RESERVED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(text: &str, expected: Result<(), &str>) {
        assert_eq!(check(text), expected.map_err(ToOwned::to_owned));
    }

    #[test]
    fn keys_that_mean_something_to_the_parser_are_refused() {
        let refused = Err("a key must not begin with `$serde_json::private::`");
        check_text(r#"{"a":{"$serde_json::private::RawValue":"[1]"}}"#, refused);
        check_text(r#"[[{"$serde_json::private::Number" : "1"}]]"#, refused);
        check_text(r#"{"\u0024serde_json::private::Number":"1"}"#, refused);
        check_text(r#"{"a":"\"","$serde_json\u003a:private::Number":"1"}"#, refused);
        check_text(r#"{"a":"$serde_json::private::Number"}"#, Ok(()));
        check_text(r#"{"a":"\"$serde_json::private::Number\": 1"}"#, Ok(()));
        check_text(r#"{"$serde":1,"é\\":"{","b":[[]]}"#, Ok(()));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        check_text(&nested(100), Ok(()));
        check_text(&nested(101), Err("nested more than 100 levels deep"));
        check_text(&"[],".repeat(200), Ok(()));
    }

    #[test]
    fn what_is_no_json_passes() {
        for text in ["", "\"", "\"\\", "\"\\é", "]]", "\"a\"", "{\"a\":", "\"\\u12\":"] {
            check_text(text, Ok(()));
        }
    }
}
