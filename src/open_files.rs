//! Whether the limit of open files leaves enough for the tasks that may run at once.
//!
//! The limit is never raised: tasks would inherit that, and some programs close every file that the limit allows. What
//! would surprise: what is counted is what is likely at the worst, not what is possible. A client that follows an output
//! holds three files instead of one; but a client that is refused can come again, a task that does not start has failed.

use rustix::process::{Resource, getrlimit};

use crate::{http, task};

/// The standard streams, the journal, the lock, listeners and signals, and room for what is opened for a moment, such as
/// definitions and logs that are read.
const OTHERS: u64 = 64;

/// A sentence about a limit that is too low for so many tasks.
pub(crate) fn complaint(max_tasks: usize) -> Option<String> {
    // None is no limit.
    complain(getrlimit(Resource::Nofile).current?, max_tasks)
}

fn complain(limit: u64, max_tasks: usize) -> Option<String> {
    let tasks = (max_tasks as u64).saturating_mul(task::OPEN_FILES);
    let needed = tasks.saturating_add(http::CONNECTIONS as u64 + OTHERS);
    (limit < needed).then(|| {
        format!(
            "the limit of open files is {limit}, too low for {max_tasks} tasks at once: some may not start; expected at \
             least {needed}, raise it with `ulimit -n` or lower `--max-tasks`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(limit: u64, max_tasks: usize, expected: Option<u64>) {
        let expected = expected.map(|needed| {
            format!(
                "the limit of open files is {limit}, too low for {max_tasks} tasks at once: some may not start; expected \
                 at least {needed}, raise it with `ulimit -n` or lower `--max-tasks`"
            )
        });
        assert_eq!(complain(limit, max_tasks), expected);
    }

    #[test]
    fn the_usual_limit_is_enough_for_the_usual_tasks() {
        check(1024, 64, None);
        check(832, 64, None);
        check(831, 64, Some(832));
        check(328, 1, None);
        check(1024, 100, Some(1120));
        check(u64::MAX, usize::MAX, None);
        check(1024, usize::MAX, Some(u64::MAX));
    }
}
