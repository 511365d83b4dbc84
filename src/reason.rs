//! Why an operation on a file failed, in the wording of our messages.

use std::io;

/// The cause in lower case and without its number: `permission denied`.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().expect("a split has a first part");
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => "unknown error".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: &io::Error, expected: &str) {
        assert_eq!(reason(error), expected);
    }

    #[test]
    fn causes_are_lower_case_and_without_a_number() {
        check(&io::Error::from_raw_os_error(13), "permission denied");
        check(&io::Error::other("Odd"), "odd");
        check(&io::Error::other(""), "unknown error");
    }
}
