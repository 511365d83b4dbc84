//! What the jobs of the kill loop are made of: pipelines with everything that a definition file can say about time, places
//! and requests. Unaware of servers and clients.

use std::time::Duration;

/// What is kept of the log of `chatty`'s task `b`, which says nothing about it.
pub(super) const LOG_LIMIT: usize = 2_000;
/// How many ended jobs are kept of pipelines that say nothing about it, which is `brief`.
pub(super) const RETENTION_COUNT: usize = 4;
pub(super) const RETENTION_COUNTS: [(&str, usize); 2] = [("large", 2), ("brief", RETENTION_COUNT)];
/// How long those of `brief` are kept.
pub(super) const RETENTION_PERIOD: Duration = Duration::from_secs(2);

/// The first line of every task says that it runs, and looks whether processes of before the last kill live still: each
/// line of `old` has a process and when that started, which stands in the 22nd field of its `stat`. A task that stands there
/// itself is of that time too, and so is one that another server started: it stood between two programs when the list was made.
///
/// A pipeline without a retention of its own has the server's; `kept` stands for one that forgets nothing.
const PIPELINES: &str = r#"
pipelines:
  quick:
    concurrency: 2
    queue_limit: 30
    kept
    tasks:
      a: {script: [". ./begin"]}
      b: {script: [". ./begin"], depends_on: a}
  serial: {queue_limit: 20, kept, tasks: {a: {script: [". ./begin"]}}}
  long: {queue_limit: 3, kept, tasks: {a: {script: [". ./begin", exec sleep 1000]}}}
  stubborn: {queue_limit: 3, kept, tasks: {a: {script: ["trap '' INT TERM HUP", ". ./begin", sleep 1000 & sleep 1000]}}}
  failing: {kept, tasks: {a: {script: [". ./begin", exit 3]}}, on_error: {script: [". ./begin"]}}
  delayed: {start_delay: 30ms, queue_limit: 1, queue_strategy: replace, kept, tasks: {a: {script: [". ./begin"]}}}
  large: {concurrency: 2, queue_limit: 5, retention_count: 2, tasks: {a: {script: [". ./begin"]}}}
  brief: {queue_limit: 20, retention_period: 2s, tasks: {a: {script: [". ./begin"]}}}
  timed:
    concurrency: 2
    queue_limit: 5
    kept
    tasks:
      a: {timeout: 30ms, stop_signal: SIGTERM, kill_grace: 20ms, script: ["trap '' TERM", ". ./begin", sleep 1000 & sleep 1000]}
  limited:
    concurrency: 2
    queue_limit: 5
    timeout: 40ms
    kept
    tasks: {a: {script: [". ./begin", exec sleep 1000]}}
    on_error: {script: [". ./begin"]}
  spared:
    concurrency: 2
    queue_limit: 5
    stop_signal: SIGTERM
    kept
    tasks:
      a: {script: [". ./begin", exit 3]}
      b: {interruptible: false, kill_grace: 30ms, script: [". ./begin", exec sleep 0.02]}
  retried:
    concurrency: 3
    queue_limit: 10
    kept
    tasks:
      a:
        retry: {max: 2, delay: 5ms, backoff: 2, max_delay: 8ms, exit_codes: [75]}
        script: ['read -r attempt < "tries/$PRUNNER_JOB_ID" || attempt=0', attempt=$((attempt + 1))
          , 'echo $attempt > "tries/$PRUNNER_JOB_ID"', ". ./begin", test $attempt = 3 || exit 75]
  interrupting:
    queue_strategy: partitioned_replace
    queue_partition_limit: 1
    interrupt_running: true
    kept
    tasks: {a: {script: [". ./begin", exec sleep 1000]}}
  merging:
    queue_strategy: replace
    queue_limit: 1
    start_delay: 60ms
    merge_variables: {pages: append, flags: merge, since: keep}
    kept
    tasks: {a: {script: [". ./begin"]}}
  joining: {queue_limit: 20, deduplicate: {by: [release]}, kept, tasks: {a: {script: [". ./begin", exec sleep 0.2]}}}
  refusing:
    queue_limit: 20
    deduplicate: {among: waiting, by: [release], then: refuse}
    kept
    tasks: {a: {script: [". ./begin", exec sleep 0.2]}}
  typed:
    queue_limit: 20
    strict_variables: true
    variables:
      mark: {required: true}
      release: {required: true, pattern: "[0-9]+"}
      count: {type: integer, default: 7}
      target: {one_of: [staging, production], default: staging}
    kept
    tasks: {a: {script: [". ./begin", 'test "<< .count >> << .target >>" = "7 staging"']}}
  chatty:
    concurrency: 2
    queue_limit: 5
    kept
    tasks:
      a: {log_limit: 1kB, script: [". ./begin", seq 30000]}
      b: {script: [". ./begin", seq 30000]}
  beat:
    schedules:
      - {every: 1s, variables: {of: missed}}
      - {every: 1s, variables: {of: made up for}, catch_up: one}
      - {cron: "* * * * *", timezone: Europe/Berlin, partition: cron}
    kept
    tasks: {a: {script: [". ./begin"]}}
  due: {kept, tasks: {a: {script: [". ./begin"]}}}
"#;
const KEPT: &str = "retention_count: 100000";

/// A task's second and third attempt are no second run of it.
pub(super) const BEGIN: &str = r#"echo "$PRUNNER_TASK${attempt:+.$attempt} $PRUNNER_JOB_ID" >> ran
others=
while read -r pid started; do
  if read -r _ name state _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ since _ < "/proc/$pid/stat"; then
    case "$state $since" in "Z $started" | "X $started") ;; *" $started") others="$others $pid $name $state" ;; esac
  fi 2>/dev/null
  if test "$pid" = $$; then others=; break; fi
done < old
if test "$others"; then echo "$others, seen by $PRUNNER_TASK of $PRUNNER_JOB_ID, a child of $PPID" >> overlap; fi
"#;

/// What clients ask for; of some more than one request must come while a server lives.
pub(super) const NAMES: [&str; 22] = [
    "quick",
    "serial",
    "long",
    "stubborn",
    "failing",
    "delayed",
    "large",
    "brief",
    "timed",
    "limited",
    "spared",
    "retried",
    "interrupting",
    "interrupting",
    "merging",
    "merging",
    "joining",
    "joining",
    "joining",
    "refusing",
    "typed",
    "chatty",
];

pub(super) fn pipelines() -> String {
    PIPELINES.replace("kept", KEPT)
}

/// Its jobs run until they are stopped.
pub(super) fn is_endless(pipeline: &str) -> bool {
    matches!(pipeline, "long" | "stubborn" | "interrupting")
}

pub(super) fn can_succeed(pipeline: &str) -> bool {
    !is_endless(pipeline) && !can_fail(pipeline)
}

pub(super) fn can_fail(pipeline: &str) -> bool {
    matches!(pipeline, "failing" | "timed" | "limited" | "spared")
}

pub(super) fn can_be_replaced(pipeline: &str) -> bool {
    matches!(pipeline, "delayed" | "interrupting" | "merging")
}
