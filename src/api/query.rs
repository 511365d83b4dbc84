//! Query parameters, decoded.
//!
//! Unaware of what they mean. Surprise: of a name that is there more than once, the first value counts where one is
//! expected, as clients know it.

use super::error::Error;
use crate::definition::shown;
use crate::job::JobId;

/// The parameters in the order in which they stand.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// # Errors
    /// Where an escape is broken, or the text behind the escapes is not UTF-8.
    pub(super) fn parse(query: &str) -> Result<Query, Error> {
        query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((decode(name)?, decode(value)?))
            })
            .collect::<Result<_, _>>()
            .map(Query)
    }

    /// The first value of that name.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        pairs.find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// The job that `id` names.
    pub(super) fn job_id(&self) -> Result<JobId, Error> {
        parse_job_id(self.first("id").unwrap_or_default())
    }

    /// The task that `task` names.
    pub(super) fn task_name(&self) -> Result<&str, Error> {
        self.first("task")
            .filter(|name| !name.is_empty())
            .ok_or(Error::TaskName)
    }
}

pub(super) fn parse_job_id(text: &str) -> Result<JobId, Error> {
    text.parse().map_err(|()| Error::JobId)
}

fn decode(text: &str) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = rest.next().and_then(hex_digit);
                let low = rest.next().and_then(hex_digit);
                high.zip(low).map(|(high, low)| high << 4 | low).ok_or_else(|| {
                    Error::Parameter(format!(
                        "the query holds `{}`, expected two hexadecimal digits behind each `%`",
                        shown(text)
                    ))
                })?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| Error::Parameter(format!("the query holds `{}`, expected UTF-8", shown(text))))
}

fn hex_digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: &[(&str, &str)]) {
        let expected = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        assert_eq!(Query::parse(query), Ok(Query(expected.collect())));
    }

    #[track_caller]
    fn check_error(query: &str, expected: &str) {
        assert_eq!(Query::parse(query), Err(Error::Parameter(expected.to_owned())));
    }

    #[test]
    fn parameters_are_decoded() {
        check("", &[]);
        check("&&", &[]);
        check("a=1&b=2&a=3", &[("a", "1"), ("b", "2"), ("a", "3")]);
        check("a", &[("a", "")]);
        check("a=", &[("a", "")]);
        check("=a", &[("", "a")]);
        check("a=b=c", &[("a", "b=c")]);
        check("a+b=c+d%2B%20e", &[("a b", "c d+ e")]);
        check("%61=%C3%a4%26%3D", &[("a", "ä&=")]);
        check("a=ä", &[("a", "ä")]);
        check("a=%00", &[("a", "\0")]);
    }

    #[test]
    fn broken_escapes_are_refused() {
        for broken in ["%", "%4", "%zz", "%4g", "%+1", "%%41"] {
            check_error(
                &format!("a={broken}"),
                &format!("the query holds `{broken}`, expected two hexadecimal digits behind each `%`"),
            );
        }
        check_error("%ff=1", "the query holds `%ff`, expected UTF-8");
        check_error("a=%c3", "the query holds `%c3`, expected UTF-8");
    }

    #[test]
    fn the_first_value_counts_where_one_is_expected() {
        let query = Query::parse("a=1&b=2&a=3").unwrap();
        assert_eq!(query.first("a"), Some("1"));
        assert_eq!(query.first("c"), None);
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "3"]);
    }
}
