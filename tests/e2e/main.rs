//! The real binary, from its start to its end, in directories of its own.
#![expect(clippy::disallowed_methods, reason = "tests start the real binary")]
#![expect(clippy::unwrap_used, reason = "a test ends where it can't go on")]

mod api;
mod beyond;
mod checks;
mod client;
mod contract;
mod data_directory;
mod definitions;
mod deployments;
mod documents;
mod empty_root;
mod environment;
mod examples;
#[path = "../../src/testing/inherited_signals.rs"]
mod inherited_signals;
mod install;
mod output;
mod packaging;
mod pipelines;
mod processes;
mod restart;
mod run;
mod schema;
mod server_flags;
mod service;
mod signals;
mod space;
mod templates;
mod tools;
mod wall_clock;
