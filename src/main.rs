//! prunner

mod api;
mod definition;
mod http;
mod job;
mod scheduler;
mod template;
mod timestamp;
mod waker;

fn main() {}
