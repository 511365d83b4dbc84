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
