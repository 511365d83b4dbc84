//! Responses from what they hold.

use std::io::{Cursor, Read};

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
