//! The API: requests in, answers out, without sockets.

pub(crate) mod exchange;
