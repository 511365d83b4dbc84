//! The API: requests in, answers out, without sockets.

pub(crate) mod auth;
pub(crate) mod exchange;
