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
