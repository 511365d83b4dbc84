//! A body in chunks (`Transfer-Encoding: chunked`) → its bytes, piece by piece, within bounds.
//!
//! Unaware of sockets: it is given what has arrived and says how much of it was used.

use super::Limits;
use crate::api::exchange::BadRequest;

/// The line before a chunk is a number of at most 16 digits, and extensions, which nobody sends.
const SIZE_LINE_BYTES: usize = 256;

#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    /// How much the body may still grow.
    body_left: usize,
    trailers_left: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the line with the size of a chunk.
    Size,
    /// So many bytes of a chunk are to come.
    Data(usize),
    /// Before the line end behind a chunk.
    DataEnd,
    /// Behind the last chunk: headers, which are ignored, up to an empty line.
    Trailers,
    Complete,
}

impl Chunked {
    pub(super) fn new(limits: &Limits) -> Chunked {
        Chunked {
            state: State::Size,
            body_left: limits.body_bytes,
            trailers_left: limits.head_bytes,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Appends to `body` what stands in `input` and says how much of that is used. What is left is the start of a line
    /// (shorter than `Limits::head_bytes`), to be given again with more behind it, or belongs to the next request.
    pub(super) fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize, BadRequest> {
        let mut rest = input;
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = take_line(&mut rest, SIZE_LINE_BYTES, SIZE_TOO_LONG)? else {
                        break;
                    };
                    let size = parse_size(line)?;
                    if size > self.body_left as u64 {
                        return Err(BadRequest::BodyTooLarge);
                    }
                    let size = usize::try_from(size).expect("a size within the bound of a body fits");
                    self.body_left -= size;
                    self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                }
                State::Data(left) => {
                    let (data, behind) = rest.split_at(left.min(rest.len()));
                    body.extend_from_slice(data);
                    rest = behind;
                    self.state = if data.len() == left {
                        State::DataEnd
                    } else {
                        State::Data(left - data.len())
                    };
                    if rest.is_empty() {
                        break;
                    }
                }
                State::DataEnd => {
                    let Some(line) = take_line(&mut rest, 2, CHUNK_TOO_LONG)? else {
                        break;
                    };
                    if !line.is_empty() {
                        return Err(CHUNK_TOO_LONG);
                    }
                    self.state = State::Size;
                }
                State::Trailers => {
                    let Some(line) = take_line(&mut rest, self.trailers_left, BadRequest::HeadTooLarge)? else {
                        break;
                    };
                    self.trailers_left -= line.len() + 2;
                    if line.is_empty() {
                        self.state = State::Complete;
                    }
                }
                State::Complete => break,
            }
        }
        Ok(input.len() - rest.len())
    }
}

const SIZE_TOO_LONG: BadRequest = BadRequest::Malformed("the size of a chunk is not a short line");
const CHUNK_TOO_LONG: BadRequest = BadRequest::Malformed("a chunk is longer than its size");

/// Takes a line, of at most `limit` bytes with its end, off `rest`; `None` where it is not complete.
fn take_line<'a>(rest: &mut &'a [u8], limit: usize, too_long: BadRequest) -> Result<Option<&'a [u8]>, BadRequest> {
    let Some(end) = rest.iter().take(limit).position(|byte| *byte == b'\n') else {
        return if rest.len() < limit { Ok(None) } else { Err(too_long) };
    };
    let (line, behind) = rest.split_at(end + 1);
    // Neither a bare line feed nor a carriage return elsewhere: others may see other lines there.
    let line = line
        .strip_suffix(b"\r\n")
        .ok_or(BadRequest::Malformed("a line end is broken"))?;
    if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(BadRequest::Malformed("there is a control character between chunks"));
    }
    *rest = behind;
    Ok(Some(line))
}

fn parse_size(line: &[u8]) -> Result<u64, BadRequest> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (number, extensions) = line.split_at(digits);
    let extensions = extensions.trim_ascii();
    if !extensions.is_empty() && !extensions.starts_with(b";") {
        return Err(NO_SIZE);
    }
    let number = str::from_utf8(number).map_err(|_| NO_SIZE)?;
    if number.len() > 16 {
        return Err(BadRequest::BodyTooLarge);
    }
    u64::from_str_radix(number, 16).map_err(|_| NO_SIZE)
}

const NO_SIZE: BadRequest = BadRequest::Malformed("the size of a chunk is not a hexadecimal number");

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            body_bytes: 20,
            head_bytes: 30,
            ..Limits::default()
        }
    }

    /// Decodes what arrives in pieces of that size; gives the body and what is left over.
    fn decode(input: &str, piece: usize) -> Result<Option<(String, String)>, BadRequest> {
        let mut chunked = Chunked::new(&limits());
        let mut body = Vec::new();
        let mut buffer: Vec<u8> = Vec::new();
        for piece in input.as_bytes().chunks(piece) {
            buffer.extend_from_slice(piece);
            let used = chunked.decode(&buffer, &mut body)?;
            buffer.drain(..used);
        }
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ok(chunked.is_complete().then(|| (text(body), text(buffer))))
    }

    #[track_caller]
    fn check(input: &str, body: &str, rest: &str) {
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(
                decode(input, piece),
                Ok(Some((body.to_owned(), rest.to_owned()))),
                "{input:?} by {piece}"
            );
        }
    }

    #[track_caller]
    fn check_error(input: &str, expected: &BadRequest) {
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(decode(input, piece).as_ref(), Err(expected), "{input:?} by {piece}");
        }
    }

    #[test]
    fn decodes() {
        check("0\r\n\r\n", "", "");
        check("5\r\nhello\r\n0\r\n\r\n", "hello", "");
        check(
            "5\r\nhello\r\n00A\r\n, you all.\r\n0000\r\n\r\nGET",
            "hello, you all.",
            "GET",
        );
        check("2;a=\"b\"\r\n\r\n\r\n0 ; x\r\nA: b\r\nC: d\r\n\r\n", "\r\n", "");
        check("14\r\n01234567890123456789\r\n0\r\n\r\n", "01234567890123456789", "");
        for piece in [1, 100] {
            assert_eq!(decode("5\r\nhello\r\n0\r\n", piece), Ok(None));
            assert_eq!(decode("5\r\nhel", piece), Ok(None));
        }
    }

    #[test]
    fn keeps_bounds() {
        check_error("15\r\n", &BadRequest::BodyTooLarge);
        check_error("10\r\n0123456789012345\r\n5\r\n", &BadRequest::BodyTooLarge);
        check_error("ffffffffffffffff\r\n", &BadRequest::BodyTooLarge);
        check_error("10000000000000000\r\n", &BadRequest::BodyTooLarge);
        check_error(&format!("1;{}\r\n", "x".repeat(SIZE_LINE_BYTES)), &SIZE_TOO_LONG);
        check_error(&"1".repeat(SIZE_LINE_BYTES), &SIZE_TOO_LONG);
        check_error(&format!("0\r\n{}\r\n", "x".repeat(30)), &BadRequest::HeadTooLarge);
        check_error(&format!("0\r\n{}", "A: b\r\n".repeat(6)), &BadRequest::HeadTooLarge);
    }

    #[test]
    fn refuses_what_can_be_misunderstood() {
        for size in ["", " 1", "-1", "+1", "0x1", "g", "1 1", ";a"] {
            check_error(&format!("{size}\r\na\r\n0\r\n\r\n"), &NO_SIZE);
        }
        check_error("1\na\r\n0\r\n\r\n", &BadRequest::Malformed("a line end is broken"));
        check_error("0\r\n\n", &BadRequest::Malformed("a line end is broken"));
        check_error(
            "1;\ra\r\n",
            &BadRequest::Malformed("there is a control character between chunks"),
        );
        check_error(
            "1;\0\r\n",
            &BadRequest::Malformed("there is a control character between chunks"),
        );
        check_error("1\r\nab\r\n", &CHUNK_TOO_LONG);
        check_error("1\r\nabc", &CHUNK_TOO_LONG);
        check_error("1\r\na\n", &BadRequest::Malformed("a line end is broken"));
    }
}
