//! The keys of time limits, stops and further attempts.

use super::{check_pipeline, check_task, with_keys, with_task};
use crate::definition::bounds::{Bounds, NO_LIMIT, Retry, StopSignal, TimeLimit};

fn limit(ms: i64, text: &str) -> TimeLimit {
    TimeLimit {
        ms,
        text: text.to_owned(),
    }
}

#[test]
fn without_them_nothing_changes() {
    for keys in [
        "",
        "timeout: ~, stop_signal: ~, kill_grace: ~, interruptible: ~, retry: ~, log_limit: ~",
        "interruptible: true, stop_signal: SIGINT",
    ] {
        assert_eq!(with_task(keys).bounds, Bounds::default(), "{keys}");
    }
    assert_eq!(Bounds::default().stop_signal, StopSignal::for_tests(2));
}

#[test]
fn the_keys_of_a_task_win_over_the_pipelines() {
    let pipeline = with_keys(
        "timeout: 1h\nstop_signal: SIGTERM\nkill_grace: 30s\nlog_limit: 50MB\n\
         tasks: {a: {}, b: {timeout: 600s, stop_signal: SIGHUP, kill_grace: 0, interruptible: false, log_limit: 1KiB}}\n\
         on_error: {timeout: 1m}",
    );
    assert_eq!(pipeline.timeout, Some(limit(3_600_000, "1h")));
    let shared = Bounds {
        stop_signal: StopSignal::for_tests(15),
        kill_grace_ms: Some(30_000),
        log_limit: Some(50_000_000),
        ..Bounds::default()
    };
    assert_eq!(pipeline.tasks[0].bounds, shared);
    let own = Bounds {
        timeout: Some(limit(600_000, "600s")),
        stop_signal: StopSignal::for_tests(1),
        kill_grace_ms: Some(0),
        uninterruptible: true,
        retry: None,
        log_limit: Some(1_024),
    };
    assert_eq!(pipeline.tasks[1].bounds, own);
    let on_error = Bounds {
        timeout: Some(limit(60_000, "1m")),
        ..shared
    };
    assert_eq!(pipeline.on_error.unwrap().bounds, on_error);
}

#[test]
fn attempts() {
    let retry = |keys: &str| with_task(&format!("retry: {keys}")).bounds.retry.unwrap();
    assert_eq!((retry("2").max, retry("0").max), (2, 0));
    assert_eq!(retry("{max: 2}"), retry("2"));
    assert_eq!(
        retry("{max: 2, delay: 5000ms, backoff: 2, max_delay: 1m, exit_codes: [75, 193]}"),
        Retry::for_tests(2, 5_000, 2, Some(60_000), Some(vec![75, 193]))
    );
    assert_eq!(retry("{max: 1, exit_codes: 75}"), retry("{max: 1, exit_codes: [75]}"));
    assert_eq!(retry("{max: 9, delay: 1s, backoff: 1.5}").delay_ms(3), 2_250);
}

#[test]
fn wrong_time_limits() {
    check_task(
        "timeout: 10",
        &["E has the `timeout` `10`, which has no unit behind `10`; expected `ms`, `s`, `m`, `h` or `d`, as in `10s`"],
    );
    check_task(
        "timeout: 0",
        &["E has the `timeout` `0`; expected a duration longer than 0, or no `timeout` for none"],
    );
    check_task(
        "timeout: [1m]",
        &["E has a list as `timeout`; expected a duration such as `10s`, `1h30m` or `2d`"],
    );
    check_pipeline(
        "timeout: 0s",
        &["E has the `timeout` `0s`; expected a duration longer than 0, or no `timeout` for none"],
    );
    check_task(
        "time_out: 1m",
        &["W has the unknown key `time_out`, which is ignored; did you mean `timeout`?"],
    );
}

#[test]
fn wrong_stops() {
    const ALL: &str = "expected one of `SIGHUP`, `SIGINT`, `SIGQUIT`, `SIGUSR1`, `SIGUSR2`, `SIGTERM`, `SIGWINCH`";
    for (found, described, meant) in [
        ("SIGTREM", "the text `SIGTREM`", "; did you mean `SIGTERM`?"),
        ("TERM", "the text `TERM`", "; did you mean `SIGTERM`?"),
        ("sigusr1", "the text `sigusr1`", "; did you mean `SIGUSR1`?"),
        ("15", "the number `15`", "; did you mean `SIGTERM`?"),
        ("SIGKILL", "the text `SIGKILL`", ""),
        ("[SIGTERM]", "a list", ""),
    ] {
        check_task(
            &format!("stop_signal: {found}"),
            &[&format!("E has {described} as `stop_signal`; {ALL}{meant}")],
        );
    }
    check_pipeline(
        "stop_signal: TERM",
        &[&format!(
            "E has the text `TERM` as `stop_signal`; {ALL}; did you mean `SIGTERM`?"
        )],
    );
    check_pipeline(
        "kill_grace: -1s",
        &["E has the `kill_grace` `-1s`; expected a duration that is not negative"],
    );
    check_task(
        "interruptible: no",
        &["E has the text `no` as `interruptible`; expected `true` or `false`"],
    );
    check_pipeline(
        "interruptible: false",
        &[
            "W has the unknown key `interruptible`, which is ignored; expected one of `tasks`, `concurrency`, `queue_limit`, \
           `queue_strategy`, `queue_partition_limit`, `start_delay`, `continue_running_tasks_after_failure`, \
           `retention_period`, `retention_count`, `env`, `on_error`, `shell`, `delimiters`, `timeout`, `stop_signal`, \
           `kill_grace`, `log_limit`, `variables`, `strict_variables`, `deduplicate`, `merge_variables`, `interrupt_running`, `schedules`",
        ],
    );
}

#[test]
fn wrong_attempts() {
    const EXPECTED: &str = "expected an integer of at least 0, or a mapping such as `{max: 2, delay: 5s}`";
    check_task(
        "retry: twice",
        &[&format!("E has the text `twice` as `retry`; {EXPECTED}")],
    );
    check_task("retry: [2]", &[&format!("E has a list as `retry`; {EXPECTED}")]);
    check_task(
        "retry: -1",
        &["E has the number `-1` as `retry`; expected an integer of at least 0"],
    );
    check_task(
        "retry: {delay: 5s}",
        &["E has a `retry` without `max`; expected the number of further attempts, as in `{max: 2, delay: 5s}`"],
    );
    check_task(
        "retry: {max: 1, delay: 5, dely: 1s}",
        &[
            "E has the `delay` `5`, which has no unit behind `5`; expected `ms`, `s`, `m`, `h` or `d`, as in `5s`",
            "W has the unknown key `dely`, which is ignored; did you mean `delay`?",
        ],
    );
    for factor in ["0.5", "fast", "1e3", "[2]", "'2'", "1000000.1"] {
        let described = match factor {
            "fast" => "the text `fast`".to_owned(),
            "'2'" => "the text `2`".to_owned(),
            "[2]" => "a list".to_owned(),
            number => format!("the number `{number}`"),
        };
        check_task(
            &format!("retry: {{max: 1, backoff: {factor}}}"),
            &[&format!(
                "E has {described} as `backoff`; expected a number from 1 to 1000000, such as `2` or `1.5`: each delay is so \
                 many times the one before"
            )],
        );
    }
    check_task(
        "retry: {max: 1, exit_codes: [0, 75, 256, x, -2]}",
        &[
            "E has the number `0` in `exit_codes`; expected an exit code from 1 to 255, or -1 for a task that could not be started",
            "E has the number `256` in `exit_codes`; expected an exit code from 1 to 255, or -1 for a task that could not be started",
            "E has the text `x` in `exit_codes`; expected an exit code from 1 to 255, or -1 for a task that could not be started",
            "E has the number `-2` in `exit_codes`; expected an exit code from 1 to 255, or -1 for a task that could not be started",
        ],
    );
    check_task(
        "retry: {max: 1, exit_codes: []}",
        &[
            "E has an empty list as `exit_codes`; expected a list of exit codes from 1 to 255, or -1 for a task that could not be started",
        ],
    );
    check_task(
        "retry: 1, allow_failure: true",
        &[
            "W has both `retry` and `allow_failure`, but a failure that is allowed is no reason to try again; `retry` is ignored, remove one of them",
        ],
    );
}

#[test]
fn log_limits() {
    for (text, expected) in [
        ("50000000", 50_000_000),
        ("50MB", 50_000_000),
        ("'2KiB'", 2_048),
        ("none", NO_LIMIT),
    ] {
        assert_eq!(
            with_task(&format!("log_limit: {text}")).bounds.log_limit,
            Some(expected),
            "{text}"
        );
    }
    let pipeline = with_keys("log_limit: 1MB\ntasks: {a: {log_limit: none}}\non_error: {log_limit: 3}");
    assert_eq!(pipeline.tasks[0].bounds.log_limit, Some(NO_LIMIT));
    assert_eq!(pipeline.on_error.unwrap().bounds.log_limit, Some(3));
}

#[test]
fn wrong_log_limits() {
    check_task(
        "log_limit: 50M",
        &[
            "E has the `log_limit` `50M`, whose unit `M` is not known; expected a number of bytes, also with `kB`, `MB`, \
           `GB` (powers of 1000), `KiB`, `MiB` or `GiB` (of 1024), as in `50MB`",
        ],
    );
    check_task(
        "log_limit: 0",
        &["E has the `log_limit` `0`; expected a size of at least 1 byte, or `none`"],
    );
    check_task(
        "log_limit: [1MB]",
        &["E has a list as `log_limit`; expected a size such as `50MB` or `64KiB`, or `none`"],
    );
    check_pipeline(
        "log_limit: true",
        &["E has the boolean `true` as `log_limit`; expected a size such as `50MB` or `64KiB`, or `none`"],
    );
}
