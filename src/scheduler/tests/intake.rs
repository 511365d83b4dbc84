//! Requests that come again, that equal others, or that change what waits.

use super::check;

#[test]
fn a_request_that_is_known_by_its_key_makes_no_job() {
    check(
        "p: {retention_count: 1, tasks: {a: {script: x}}}, q: {}",
        "
        > schedule p key=k/1
            1 runs
            start 1/a after the save
        > schedule p key=k/1
            known: 1
        > schedule p key=k/2
            refused: the idempotency key was given to a request with another body; give each its own
        > schedule q key=k/2
            4 runs
            4 succeeded
        > restart
        > schedule p key=k/1
            known: 1
        > schedule p key=l/1
            6 runs
            start 6/a after the save
        > exit 6/a 0
            6/a done
            6 succeeded
            forget 1
        > schedule p key=k/2
            7 runs
            start 7/a after the save
        ",
    );
}

#[test]
fn a_request_that_equals_a_job_joins_it() {
    check(
        "p: {deduplicate: {}, tasks: {a: {script: x}}}",
        "
        > schedule p x=1
            1 runs
            start 1/a after the save
        > schedule p x=1
            joined: 1
        > schedule p x=2
            3 waits
        > schedule p x=2 key=k
            joined: 3
            3 has the key k too
        > schedule p x=2 partition=b
            5 waits
        > cancel 1
            1 is told to stop: canceled
            stop 1/a
        > schedule p x=1
            6 waits
        > restart
            3 runs
            start 3/a after the save
        > schedule p x=2 key=k
            joined: 3
        > schedule p x=2
            joined: 3
        > schedule p x=1
            joined: 6
        ",
    );
}

#[test]
fn only_what_waits_or_what_is_named_may_have_to_be_equal() {
    check(
        "p: {deduplicate: {among: waiting, by: [x]}, tasks: {a: {script: x}}}",
        "
        > schedule p x=1
            1 runs
            start 1/a after the save
        > schedule p x=1 y=1
            2 waits
        > schedule p x=1 y=2
            joined: 2
        > reload p: {deduplicate: {by: [x, y], then: refuse}, tasks: {a: {script: x}}}
        > schedule p x=1 y=2
            4 waits
        > schedule p x=1
            refused: an equal job waits or runs already: 1
        > schedule p x=1 y=2
            refused: an equal job waits or runs already: 4
        > reload p: {tasks: {a: {script: x}}}
        > schedule p x=1
            7 waits
        ",
    );
}

#[test]
fn a_job_that_would_have_to_wait_stops_the_oldest() {
    check(
        "p: {interrupt_running: true, queue_strategy: replace, queue_limit: 1, concurrency: 2, tasks: {a: {script: x}},
             on_error: {script: x}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p
            2 runs
            start 2/a after the save
        > schedule p
            3 waits
            1 is told to stop: replaced by job 3
            stop 1/a
        > schedule p
            4 waits
            3 replaced: replaced by job 4
        > exit 1/a 130 stopped
            1/a canceled -1
            1 replaced: replaced by job 3
            4 runs
            start 4/a after the save
        > exit 2/a 1
            2/a error 1 (exit status 1), fails the job
            start 2/on_error, for a failed with 1 (exit status 1)
        > schedule p
            5 waits
        > exit 2/on_error 0
            2/on_error done
            2 failed
            5 runs
            start 5/a after the save
        > schedule p
            6 waits
            4 is told to stop: replaced by job 6
            stop 4/a
        > cancel 4 anna
            4 is told to stop: canceled by anna
        > exit 4/a 130 stopped
            4/a canceled -1
            4 canceled: canceled by anna
            6 runs
            start 6/a after the save
        ",
    );
}

#[test]
fn a_job_that_fails_is_neither_joined_nor_replaced() {
    check(
        "p: {deduplicate: {}, interrupt_running: true, queue_strategy: replace, queue_limit: 1,
             tasks: {a: {script: x}, b: {script: x}}, on_error: {script: x}},
         q: {deduplicate: {}, continue_running_tasks_after_failure: true, tasks: {a: {script: x}}, on_error: {script: x}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > exit 1/a 1
            1/a error 1 (exit status 1), fails the job
            stop 1/b
        > schedule p
            2 waits
        > exit 1/b 130 stopped
            1/b canceled -1
            start 1/on_error, for a failed with 1 (exit status 1)
        > schedule p
            joined: 2
        > exit 1/on_error 0
            1/on_error done
            1 failed
            2 runs
            start 2/a after the save
            start 2/b after the save
        > schedule q
            4 runs
            start 4/a after the save
        > exit 4/a 1
            4/a error 1 (exit status 1), fails the job
            start 4/on_error, for a failed with 1 (exit status 1)
        > schedule q
            5 waits
        ",
    );
}

#[test]
fn one_that_waits_behind_others_lets_these_run() {
    check(
        "p: {interrupt_running: true, queue_strategy: replace, queue_limit: 2, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > schedule p
            2 waits
            1 is told to stop: replaced by job 2
            stop 1/a
        > schedule p
            3 waits
        > exit 1/a 130 stopped
            1/a canceled -1
            1 replaced: replaced by job 2
            2 runs
            start 2/a after the save
        > restart
            3 runs
            start 3/a after the save
        ",
    );
}

#[test]
fn a_delayed_job_interrupts_when_its_delay_is_over() {
    check(
        "p: {interrupt_running: true, queue_strategy: replace, queue_limit: 1, start_delay: 1s, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 waits until 1000
        > at 1000
            1 is due
            1 runs
            start 1/a after the save
        > schedule p
            2 waits until 2000
        > at 2000
            2 is due
            1 is told to stop: replaced by job 2
            stop 1/a
        ",
    );
}

#[test]
fn what_must_be_let_end_is_and_within_its_limits() {
    check(
        "p: {interrupt_running: true, queue_strategy: replace, queue_limit: 1, timeout: 1m,
             tasks: {a: {script: x, interruptible: false, retry: 1}, b: {script: x}, c: {script: x, depends_on: a}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > schedule p
            2 waits
            1 is told to stop: replaced by job 2
            stop 1/b
            1/c canceled
        > exit 1/b 130 stopped
            1/b canceled -1
        > exit 1/a 1
            1/a: attempt 1 ended with exit status 1; attempt 2 starts now
            start 1/a
        > at 60000
            stop 1/a
        > exit 1/a 130 stopped
            1/a error 124 (timed out after 1m)
            1 replaced: replaced by job 2
            2 runs
            start 2/a after the save
            start 2/b after the save
        ",
    );
}

#[test]
fn partitions_interrupt_their_own() {
    check(
        "p: {interrupt_running: true, queue_strategy: partitioned_replace, queue_partition_limit: 1, concurrency: 2,
             tasks: {a: {script: x}}}",
        "
        > schedule p partition=a
            1 runs
            start 1/a after the save
        > schedule p partition=b
            2 runs
            start 2/a after the save
        > schedule p partition=c
            3 waits
        > schedule p partition=b
            4 waits
            2 is told to stop: replaced by job 4
            stop 2/a
        ",
    );
}
