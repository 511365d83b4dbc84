//! What bounds tasks, jobs and what is kept of them, and more ways to queue, sentence by sentence.

mod duplicates;
mod history;
mod interrupts;
mod keys;
mod log_limits;
mod merges;
mod metrics;
mod retries;
mod schedules;
mod stopping;
mod timeouts;
mod variables;

use serde_json::{Value, json};

/// A script line that ends when there is a file `go`.
const WAIT_FOR_GO: &str = "until test -e go; do sleep 0.01; done";

/// Prints what `on_error` is told.
const TELL: &str =
    r#"echo "[$PRUNNER_VAR_failedTaskName] $PRUNNER_VAR_failedTaskExitCode: $PRUNNER_VAR_failedTaskError""#;

const FLAGS: [&str; 2] = ["--address", "127.0.0.1:0"];

/// A definition file with one pipeline `p`.
fn pipeline(keys: &Value) -> String {
    json!({"pipelines": {"p": keys}}).to_string()
}
