//! Time limits, stop signals, graces and further attempts, and where they meet.

use super::{LIMITS, Limits, check, check_with};

#[test]
fn a_task_that_is_over_its_time_is_stopped_and_has_failed() {
    check(
        "p: {tasks: {a: {script: x, timeout: 10m}, b: {script: x, depends_on: a}}, on_error: {script: x}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > at 599999
        > at 600000
            stop 1/a
        > exit 1/a 130 stopped
            1/a error 124 (timed out after 10m), fails the job
            1/b canceled
            start 1/on_error, for a failed with 124 (timed out after 10m)
        > exit 1/on_error 0
            1/on_error done
            1 failed
        > deadline
            None
        ",
    );
}

#[test]
fn a_time_limit_holds_whatever_the_task_makes_of_its_stop() {
    for exit in [
        "0 stopped",
        "143 stopped",
        "signal 9 stopped",
        "unstarted stopped",
        "130",
    ] {
        check(
            "p: {tasks: {a: {script: x, timeout: 1s}}}",
            &format!(
                "
                > schedule p
                    1 runs
                    start 1/a after the save
                > at 1000
                    stop 1/a
                > exit 1/a {exit}
                    1/a error 124 (timed out after 1s), fails the job
                    1 failed
                "
            ),
        );
    }
}

#[test]
fn a_task_that_ends_by_itself_before_the_signal_reaches_it_ended_in_time() {
    check(
        "p: {tasks: {a: {script: x, timeout: 1s}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > at 1000
            stop 1/a
        > exit 1/a 0
            1/a done
            1 succeeded
        ",
    );
}

#[test]
fn an_allowed_failure_may_also_be_one_of_time() {
    check(
        "p: {tasks: {a: {script: x, timeout: 1s, allow_failure: true}, b: {script: x, depends_on: a}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > at 1000
            stop 1/a
        > exit 1/a 130 stopped
            1/a done 124: timed out after 1s
            start 1/b
        ",
    );
}

#[test]
fn a_job_that_is_over_its_time_has_failed() {
    check(
        "p: {timeout: 1h, tasks: {a: {script: x}, b: {script: x}, c: {script: x, depends_on: a}}, on_error: {script: x}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > at 3600000
            1 fails: job timed out after 1h
            stop 1/a
            stop 1/b
            1/c canceled
        > exit 1/b 130 stopped
            1/b error 124 (timed out after 1h)
        > exit 1/a 130 stopped
            1/a error 124 (timed out after 1h)
            start 1/on_error, for b failed with 124 (timed out after 1h)
        > at 9999999
        > exit 1/on_error 0
            1/on_error done
            1 failed
        > jobs
            1 failed, errored
        ",
    );
}

#[test]
fn where_nothing_runs_no_task_failed_when_the_job_did() {
    check(
        "p: {timeout: 1s, tasks: {a: {script: x, retry: {max: 1, delay: 1h}}, b: {script: x, depends_on: a}}, \
         on_error: {script: x}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > exit 1/a 7
            1/a: attempt 1 ended with exit status 7; attempt 2 starts in 1h
        > at 1000
            1 fails: job timed out after 1s
            1/a canceled -1
            1/b canceled
            start 1/on_error, for  failed with 124 (job timed out after 1s)
        > exit 1/on_error 0
            1/on_error done
            1 failed
        > deadline
            None
        ",
    );
}

#[test]
fn a_job_keeps_its_first_failure() {
    check(
        "p: {timeout: 1s, continue_running_tasks_after_failure: true, tasks: {a: {script: x}, b: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > exit 1/a 7
            1/a error 7 (exit status 7), fails the job
        > at 1000
            stop 1/b
        > exit 1/b signal 2 stopped
            1/b error 124 (timed out after 1s)
            1 failed
        ",
    );
}

#[test]
fn the_limit_of_a_job_counts_from_its_start_and_ends_with_it() {
    check(
        "p: {timeout: 1s, start_delay: 5s, tasks: {a: {script: x}}}",
        "
        > schedule p
            1 waits until 5000
        > at 5000
            1 is due
            1 runs
            start 1/a after the save
        > deadline
            Some(6000)
        > exit 1/a 0
            1/a done
            1 succeeded
        > deadline
            None
        ",
    );
}

#[test]
fn a_stopped_task_ends_in_the_way_of_its_own_signal() {
    for (exit, end) in [
        ("143 stopped", "canceled -1"),
        ("137 stopped", "canceled -1"),
        ("signal 15 stopped", "canceled -1"),
        ("143", "canceled -1"),
        ("130 stopped", "error 130 (exit status 130)"),
        ("130", "error 130 (exit status 130)"),
        ("0 stopped", "done"),
    ] {
        check(
            "p: {stop_signal: SIGTERM, tasks: {a: {script: x}}}",
            &format!(
                "
                > schedule p
                    1 runs
                    start 1/a after the save
                > cancel 1
                    1 is told to stop: canceled
                    stop 1/a
                > exit 1/a {exit}
                    1/a {end}
                    1 canceled: canceled
                "
            ),
        );
    }
}

#[test]
fn a_task_has_its_own_grace() {
    check(
        "p: {kill_grace: 30s, tasks: {a: {script: x}, b: {script: x, kill_grace: 1s}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > cancel 1
            1 is told to stop: canceled
            stop 1/a
            stop 1/b
        > at 1000
            kill 1/b
        > exit 1/b signal 9 stopped
            1/b canceled -1
        > at 29999
        > at 30000
            kill 1/a
        ",
    );
}

const SPARED: &str = "p: {tasks: {a: {script: x}, b: {script: x, interruptible: false}, c: {script: x}}, \
                      on_error: {script: x}}";

#[test]
fn fail_fast_lets_a_task_end_that_says_so() {
    check(
        SPARED,
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
            start 1/c after the save
        > exit 1/a 7
            1/a error 7 (exit status 7), fails the job
            stop 1/c
        > exit 1/c 130 stopped
            1/c canceled -1
        > exit 1/b 0
            1/b done
            start 1/on_error, for a failed with 7 (exit status 7)
        ",
    );
}

#[test]
fn a_cancel_a_shutdown_and_the_limit_of_the_job_stop_it() {
    check(
        SPARED,
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
            start 1/c after the save
        > exit 1/c 7
            1/c error 7 (exit status 7), fails the job
            stop 1/a
        > cancel 1 anna
            1 is told to stop: canceled by anna
            stop 1/b
        ",
    );
    check(
        SPARED,
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
            start 1/c after the save
        > stop
            1 is told to stop: prunner was stopped
            stop 1/a
            stop 1/b
            stop 1/c
        ",
    );
    check(
        "p: {timeout: 1s, tasks: {b: {script: x, interruptible: false}}}",
        "
        > schedule p
            1 runs
            start 1/b after the save
        > at 1000
            1 fails: job timed out after 1s
            stop 1/b
        ",
    );
}

#[test]
fn a_task_that_fails_is_tried_again() {
    check(
        "p: {tasks: {a: {script: x, retry: 2}, b: {script: x, depends_on: a}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > exit 1/a 193
            1/a: attempt 1 ended with exit status 193; attempt 2 starts now
            start 1/a
        > exit 1/a signal 9
            1/a: attempt 2 ended with signal: killed; attempt 3 starts now
            start 1/a
        > exit 1/a unstarted
            1/a error -1 (no such shell), fails the job
            1/b canceled
            1 failed
        ",
    );
}

#[test]
fn delays_between_attempts_grow() {
    check(
        "p: {tasks: {a: {script: x, retry: {max: 4, delay: 30s, backoff: 3, max_delay: 2m}}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > exit 1/a 1
            1/a: attempt 1 ended with exit status 1; attempt 2 starts in 30s
        > at 29999
        > at 30000
            start 1/a
        > exit 1/a 1
            1/a: attempt 2 ended with exit status 1; attempt 3 starts in 1m30s
        > at 120000
            start 1/a
        > exit 1/a 1
            1/a: attempt 3 ended with exit status 1; attempt 4 starts in 2m
        > at 240000
            start 1/a
        > exit 1/a 0
            1/a done
            1 succeeded
        > deadline
            None
        ",
    );
}

#[test]
fn only_the_named_exit_codes_are_tried_again() {
    check(
        "p: {tasks: {a: {script: x, retry: {max: 9, exit_codes: [75, 124]}, timeout: 1s}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > exit 1/a 75
            1/a: attempt 1 ended with exit status 75; attempt 2 starts now
            start 1/a
        > at 1000
            stop 1/a
        > exit 1/a 130 stopped
            1/a: attempt 2 ended with timed out after 1s; attempt 3 starts now
            start 1/a
        > exit 1/a 1
            1/a error 1 (exit status 1), fails the job
            1 failed
        ",
    );
}

#[test]
fn the_time_limit_is_one_of_each_attempt() {
    check(
        "p: {tasks: {a: {script: x, retry: {max: 1, delay: 2s}, timeout: 1s}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > at 900
        > exit 1/a 1
            1/a: attempt 1 ended with exit status 1; attempt 2 starts in 2s
        > at 3000
            start 1/a
        > at 3899
        > deadline
            Some(3900)
        ",
    );
}

#[test]
fn between_two_attempts_a_task_holds_no_place() {
    let one = Limits { max_tasks: 1, ..LIMITS };
    check_with(
        one,
        "p: {tasks: {a: {script: x, retry: {max: 1, delay: 1s}}, b: {script: x}, c: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > exit 1/a 1
            1/a: attempt 1 ended with exit status 1; attempt 2 starts in 1s
            start 1/b
        > at 1000
        > exit 1/b 0
            1/b done
            start 1/a
        > exit 1/a 0
            1/a done
            start 1/c
        ",
    );
}

#[test]
fn what_is_stopped_between_two_attempts_is_canceled() {
    let yaml = "p: {tasks: {a: {script: x, retry: {max: 1, delay: 1s}}, b: {script: x}}}";
    check(
        yaml,
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > exit 1/a 1
            1/a: attempt 1 ended with exit status 1; attempt 2 starts in 1s
        > cancel 1
            1 is told to stop: canceled
            stop 1/b
            1/a canceled -1
        > exit 1/b 130 stopped
            1/b canceled -1
            1 canceled: canceled
        > deadline
            None
        ",
    );
    check(
        yaml,
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > exit 1/a 1
            1/a: attempt 1 ended with exit status 1; attempt 2 starts in 1s
        > exit 1/b 7
            1/b error 7 (exit status 7), fails the job
            1/a canceled -1
            1 failed
        > deadline
            None
        ",
    );
}

#[test]
fn fail_fast_lets_the_attempts_of_a_spared_task_go_on() {
    check(
        "p: {tasks: {a: {script: x, retry: {max: 2, delay: 1s}, interruptible: false}, b: {script: x}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > exit 1/a 1
            1/a: attempt 1 ended with exit status 1; attempt 2 starts in 1s
        > exit 1/b 7
            1/b error 7 (exit status 7), fails the job
        > at 1000
            start 1/a
        > exit 1/a 1
            1/a: attempt 2 ended with exit status 1; attempt 3 starts in 1s
        > cancel 1
            1 is told to stop: canceled
            1/a canceled -1
            1 canceled: canceled
        ",
    );
}

#[test]
fn there_is_no_further_attempt_after_a_stop() {
    let yaml = "p: {tasks: {a: {script: x, retry: 1, timeout: 1s}, b: {script: x}}}";
    // The cancel comes first; the task fails by itself before the signal reaches it.
    check(
        yaml,
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > cancel 1
            1 is told to stop: canceled
            stop 1/a
            stop 1/b
        > exit 1/a 1
            1/a error 1 (exit status 1)
        ",
    );
    // The limit of the task comes first, then the cancel: it is over its time, and that was it.
    check(
        yaml,
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > at 1000
            stop 1/a
        > cancel 1
            1 is told to stop: canceled
            stop 1/b
        > exit 1/a 130 stopped
            1/a error 124 (timed out after 1s)
        > exit 1/b 130 stopped
            1/b canceled -1
            1 canceled: canceled
        > jobs
            1 canceled
        ",
    );
    check(
        yaml,
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > at 1000
            stop 1/a
        > exit 1/b 7
            1/b error 7 (exit status 7), fails the job
        > exit 1/a 130 stopped
            1/a error 124 (timed out after 1s)
            1 failed
        ",
    );
}

#[test]
fn a_drain_lets_the_attempts_go_on() {
    check(
        "p: {tasks: {a: {script: x, retry: {max: 1, delay: 1s}}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > drain
        > exit 1/a 1
            1/a: attempt 1 ended with exit status 1; attempt 2 starts in 1s
        > at 1000
            start 1/a
        > exit 1/a 0
            1/a done
            1 succeeded
            exit
        ",
    );
}

#[test]
fn what_can_not_be_killed_is_not_tried_again() {
    check(
        "p: {tasks: {a: {script: x, retry: 1, timeout: 1s}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > at 8000
            stop 1/a
            kill 1/a
            abandon 1/a
        > exit 1/a signal 9 stopped
            1/a error 124 (timed out after 1s), fails the job
            1 failed
        ",
    );
}

#[test]
fn on_error_has_attempts_and_a_limit_of_its_own() {
    check(
        "p: {tasks: {a: {script: x}}, on_error: {script: x, retry: 1, timeout: 1s}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > exit 1/a 7
            1/a error 7 (exit status 7), fails the job
            start 1/on_error, for a failed with 7 (exit status 7)
        > at 1000
            stop 1/on_error
        > exit 1/on_error 130 stopped
            1/on_error: attempt 1 ended with timed out after 1s; attempt 2 starts now
            start 1/on_error, for a failed with 7 (exit status 7)
        > exit 1/on_error 9
            1/on_error error 9 (exit status 9)
            1 failed
        ",
    );
}

#[test]
fn of_two_limits_in_one_millisecond_the_task_has_its_own() {
    check(
        "p: {timeout: 1s, tasks: {a: {script: x, timeout: 1s, retry: 9}, b: {script: x, timeout: 2s}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
            start 1/b after the save
        > at 1000
            stop 1/a
            1 fails: job timed out after 1s
            stop 1/b
        > exit 1/b 130 stopped
            1/b error 124 (timed out after 1s)
        > exit 1/a 130 stopped
            1/a error 124 (timed out after 1s)
            1 failed
        ",
    );
}

#[test]
fn with_allow_failure_there_is_no_further_attempt() {
    check(
        "p: {tasks: {a: {script: x, allow_failure: true, retry: 3}}}",
        "
        > schedule p
            1 runs
            start 1/a after the save
        > exit 1/a 1
            1/a done 1
            1 succeeded
        ",
    );
}
