//! Responses from what they hold.

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use serde::Serialize;
use tiny_http::{Header, StatusCode};

use super::exchange::Response;

pub(super) const JSON: &str = "application/json";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

pub(super) fn json(status: u16, value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("answers are made of what JSON can hold");
    json_bytes(status, body)
}

/// The body is JSON already.
pub(super) fn json_bytes(status: u16, body: impl AsRef<[u8]> + Send + 'static) -> Response {
    let length = body.as_ref().len();
    new(status, JSON, Cursor::new(body), Some(length))
}

pub(super) fn text(status: u16, body: &'static str) -> Response {
    new(status, TEXT, body.as_bytes(), Some(body.len()))
}

pub(super) fn empty(status: u16) -> Response {
    tiny_http::Response::new(StatusCode(status), Vec::new(), std::io::empty(), Some(0), None).boxed()
}

/// A body of `length` bytes, or of unknown length.
pub(super) fn new(
    status: u16,
    content_type: &str,
    body: impl Read + Send + 'static,
    length: Option<usize>,
) -> Response {
    let headers = vec![header("Content-Type", content_type)];
    tiny_http::Response::new(StatusCode(status), headers, body, length, None).boxed()
}

pub(super) fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).expect("headers are made of ASCII")
}

/// Texts one behind the other, which answers share: none of them is copied.
pub(super) struct Chain {
    texts: std::vec::IntoIter<Arc<str>>,
    current: Option<Arc<str>>,
    /// How much of the current one has been read.
    position: usize,
}

impl Chain {
    /// The texts, and how long they are together.
    pub(super) fn new(texts: Vec<Arc<str>>) -> (Chain, usize) {
        let length = texts.iter().map(|text| text.len()).sum();
        let chain = Chain {
            texts: texts.into_iter(),
            current: None,
            position: 0,
        };
        (chain, length)
    }
}

impl Read for Chain {
    /// Fills the buffer where there is enough: texts may be short and many.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let Some(text) = &self.current else {
                self.current = self.texts.next();
                self.position = 0;
                if self.current.is_none() {
                    break;
                }
                continue;
            };
            let left = &text.as_bytes()[self.position..];
            let count = left.len().min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&left[..count]);
            filled += count;
            self.position += count;
            if self.position == text.len() {
                self.current = None;
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_read_whole_in_pieces_of_any_size() {
        for size in 1..12 {
            let texts: Vec<Arc<str>> = ["ab", "", "c", "defg", ""].map(Arc::from).into();
            let shared = Arc::clone(&texts[3]);
            let (mut chain, length) = Chain::new(texts);
            assert_eq!(length, 7);
            let mut buffer = vec![0; size];
            let mut read = Vec::new();
            loop {
                let count = chain.read(&mut buffer).unwrap();
                if count == 0 {
                    break;
                }
                assert!(count == size || read.len() + count == length, "{count} of {size}");
                read.extend_from_slice(&buffer[..count]);
            }
            assert_eq!(read, b"abcdefg");
            assert_eq!(Arc::strong_count(&shared), 1);
        }
    }
}
