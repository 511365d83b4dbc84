//! Every key that a definition file may have: where it is allowed, what it may hold, and what it is for.
//!
//! The one table that the parser's list of known keys and the schema for editors are made from. Unaware of both.
//! Surprise: of a value it says what a schema can say; `fields`, `bounds` and `check` hold each value against what only
//! they know, and the tests hold the two against each other.
//!
//! A new key is a line here. A new mapping of keys is a [`Place`], its lines, and a [`Value`] that leads to it.

/// A mapping that has keys with a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    File,
    Pipeline,
    Task,
    OnError,
    Retry,
    Variable,
    Deduplicate,
    Schedule,
}

use Place::{Deduplicate, File, OnError, Pipeline, Retry, Schedule, Task, Variable};

/// What a key may hold. Null is as if the key were missing, with each of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    Boolean,
    Integer {
        least: usize,
    },
    /// One of these.
    Word(&'static [&'static str]),
    /// One of [`SHAPES`], by its name.
    Shape(&'static str),
    /// In the words of JSON Schema, null included.
    Schema(&'static str),
    /// A mapping with the keys of that place.
    Mapping(Place),
    /// A mapping of names, of that one of [`SHAPES`], to mappings with the keys of that place.
    Named(&'static str, Place),
    /// A list of mappings with the keys of that place.
    List(Place),
    Either(&'static [Value]),
}

/// A key in the places where it means the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub name: &'static str,
    pub places: &'static [Place],
    pub value: Value,
    /// In JSON; empty: none that could be written down.
    pub default: &'static str,
    /// What an editor shows.
    pub about: &'static str,
}

const fn key(
    name: &'static str,
    places: &'static [Place],
    value: Value,
    default: &'static str,
    about: &'static str,
) -> Key {
    Key {
        name,
        places,
        value,
        default,
        about,
    }
}

/// The name of the key, and of the task that it makes in a job.
pub(crate) const ON_ERROR: &str = "on_error";

/// In the order of what they mean: not made up for, made up for.
pub(super) const CATCH_UP: [&str; 2] = ["none", "one"];

pub(super) const QUEUE_STRATEGIES: [&str; 3] = ["append", "replace", "partitioned_replace"];

pub(super) const MERGES: [&str; 3] = ["append", "merge", "keep"];
pub(super) const AMONG: [&str; 2] = ["active", "waiting"];
pub(super) const THEN: [&str; 2] = ["join", "refuse"];

/// In the order of their kinds.
pub(super) const VARIABLE_TYPES: [&str; 6] = ["string", "integer", "number", "boolean", "list", "object"];

const SIGNALS: [&str; 7] = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGWINCH",
];

/// In the order in which messages list them.
#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    key("pipelines", &[File], Value::Named("pipelineName", Pipeline), "",
        "The pipelines by name. All files together form one set."),

    key("tasks", &[Pipeline], Value::Named("taskName", Task), "{}",
        "The tasks by name. None: a job succeeds at once."),
    key("concurrency", &[Pipeline], Value::Integer { least: 1 }, "1",
        "How many jobs of this pipeline run at once."),
    key("queue_limit", &[Pipeline], Value::Integer { least: 0 }, "",
        "Places on the wait list. 0: a job is accepted only if it can start now. Default: unlimited."),
    key("queue_strategy", &[Pipeline], Value::Word(&QUEUE_STRATEGIES), "\"append\"",
        "What happens when the wait list is full: the request is refused, or the newest waiting job is replaced, of all or of its partition."),
    key("queue_partition_limit", &[Pipeline], Value::Integer { least: 1 }, "",
        "Places of each partition of the wait list. Goes with `partitioned_replace`, which needs it."),
    key("start_delay", &[Pipeline], Value::Shape("duration"), "0",
        "A job waits at least this long before it starts, so that bursts of requests become one job."),
    key("continue_running_tasks_after_failure", &[Pipeline], Value::Boolean, "false",
        "After a failure, tasks that don't depend on the failed one still run."),
    key("retention_period", &[Pipeline], Value::Shape("timeLimit"), "",
        "Ended jobs are forgotten, with their logs, after this time. Default: never."),
    key("retention_count", &[Pipeline], Value::Integer { least: 1 }, "",
        "So many ended jobs are kept, the newest. Default: all."),

    key("script", &[Task, OnError], Value::Shape("lines"), "[]",
        "The lines run in order in one shell; the first that fails ends the task. `<< .name >>` and `{{ .name }}` are variables of the job. None: a marker, which costs nothing."),
    key("depends_on", &[Task], Value::Shape("names"), "[]",
        "Tasks that must have ended well before this one starts."),
    key("allow_failure", &[Task], Value::Boolean, "false",
        "A failing line does not fail the task: the next line runs."),

    key("env", &[Pipeline], Value::Shape("environment"), "{}",
        "Environment of all tasks, as literal text."),
    key("env", &[Task, OnError], Value::Shape("environment"), "{}",
        "Environment of the task, as literal text; wins over the pipeline's."),
    key(ON_ERROR, &[Pipeline], Value::Mapping(OnError), "",
        "Runs once, after a task has failed and all others have ended."),
    key("shell", &[Pipeline], Value::Shape("shell"), "",
        "The POSIX shell of all scripts; a list has its arguments, as in `[bash, -o, pipefail]`. Default: `sh`, or what `--shell` says."),
    key("shell", &[Task, OnError], Value::Shape("shell"), "",
        "The POSIX shell of the script; wins over the pipeline's."),
    key("delimiters", &[Pipeline], Value::Schema(r#"{"enum":[["<<",">>"],["{{","}}"],null]}"#), "",
        "Restricts templates to one pair of marks. Default: both."),
    key("timeout", &[Pipeline], Value::Shape("timeLimit"), "",
        "A job that takes longer has failed; `on_error` is outside of it."),
    key("timeout", &[Task, OnError], Value::Shape("timeLimit"), "",
        "An attempt that takes longer has failed, with exit code 124."),
    key("stop_signal", &[Pipeline, Task, OnError], Value::Word(&SIGNALS), "\"SIGINT\"",
        "What asks a task to end."),
    key("kill_grace", &[Pipeline, Task, OnError], Value::Shape("duration"), "",
        "From that signal to the kill. Default: 2s, or what `--kill-grace` says."),
    key("log_limit", &[Pipeline, Task, OnError], Value::Shape("size"), "",
        "How much of each stream of a task is kept: so much of its beginning, and the last 64 KiB; or `none`. Default: what `--log-limit` says."),
    key("interruptible", &[Task, OnError], Value::Boolean, "true",
        "False: a failure elsewhere in the job lets the task end first."),
    key("retry", &[Task, OnError], Value::Either(&[Value::Integer { least: 0 }, Value::Mapping(Retry)]), "0",
        "How often a task that fails is tried again."),
    key("variables", &[Pipeline], Value::Named("variableName", Variable), "{}",
        "What is expected of the variables of a job, by their names."),
    key("strict_variables", &[Pipeline], Value::Boolean, "false",
        "Variables that are not declared are refused."),
    key("deduplicate", &[Pipeline], Value::Mapping(Deduplicate), "",
        "A request that equals a job makes no new one. `{}` is with all defaults."),
    key("merge_variables", &[Pipeline],
        Value::Schema(r##"{"type":["object","null"],"propertyNames":{"$ref":"#/$defs/variableName"},"additionalProperties":{"enum":["append","merge","keep",null]}}"##), "",
        "What a job takes over from the waiting one that it replaces, by variable: lists are joined, objects are joined, or the old value is kept."),
    key("interrupt_running", &[Pipeline], Value::Boolean, "false",
        "A job that would have to wait stops the oldest that runs, of all or of its partition; that ends as replaced, without `on_error`."),
    key("schedules", &[Pipeline], Value::List(Schedule), "[]",
        "When the pipeline runs by itself."),

    key("cron", &[Schedule], Value::Schema(r#"{"type":["string","null"],"examples":["30 3 * * 1-5","@daily"]}"#), "",
        "By the wall clock: minute, hour, day of month, month, day of week, as crontab(5) has them."),
    key("every", &[Schedule], Value::Shape("duration"), "",
        "Again and again, at least a second apart."),
    key("timezone", &[Schedule], Value::Schema(r#"{"type":["string","null"],"examples":["Europe/Berlin"]}"#), "",
        "The time zone of `cron`. Default: the machine's."),
    key("variables", &[Schedule], Value::Schema(r#"{"type":["object","null"]}"#), "{}",
        "The variables of the jobs."),
    key("partition", &[Schedule], Value::Schema(r#"{"type":["string","number","boolean","null"]}"#), "\"\"",
        "The partition of the wait list that the jobs belong to."),
    key("catch_up", &[Schedule], Value::Word(&CATCH_UP), "\"none\"",
        "What was missed while prunner was down is missed, or made up for once."),

    key("type", &[Variable], Value::Word(&VARIABLE_TYPES), "\"string\"",
        "What the value must be."),
    key("required", &[Variable], Value::Boolean, "false",
        "A job can't be without it."),
    key("default", &[Variable], Value::Schema("{}"), "",
        "The value where none is given."),
    key("one_of", &[Variable], Value::Schema(r#"{"type":["array","null"],"minItems":1}"#), "",
        "All values that are allowed."),
    key("pattern", &[Variable], Value::Schema(r#"{"type":["string","null"],"maxLength":1000,"examples":["[0-9]{8}"]}"#), "",
        "A regular expression that the whole value matches; strings alone have one."),
    key("description", &[Variable], Value::Schema(r#"{"type":["string","null"]}"#), "",
        "For those who start jobs."),

    key("among", &[Deduplicate], Value::Word(&AMONG), "\"active\"",
        "Which jobs count: those that wait or run, or those that wait alone."),
    key("by", &[Deduplicate], Value::Shape("names"), "",
        "The variables that must be equal. Default: all."),
    key("then", &[Deduplicate], Value::Word(&THEN), "\"join\"",
        "The request is answered with the job that it equals, or it is refused."),

    key("max", &[Retry], Value::Integer { least: 0 }, "",
        "Attempts after the first."),
    key("delay", &[Retry], Value::Shape("duration"), "0",
        "The pause before the second attempt."),
    key("backoff", &[Retry], Value::Schema(r#"{"type":["number","null"],"minimum":1,"maximum":1000000}"#), "1",
        "Each pause is so many times the one before."),
    key("max_delay", &[Retry], Value::Shape("duration"), "",
        "The longest pause."),
    key("exit_codes", &[Retry],
        Value::Schema(r##"{"type":["array","integer","null"],"items":{"type":"integer","$ref":"#/$defs/exitCode"},"minItems":1,"$ref":"#/$defs/exitCode"}"##), "",
        "Only failures with these exit codes are worth another attempt; -1: it could not be started. Default: all."),
];

/// What several keys may hold, in the words of JSON Schema.
pub(super) const SHAPES: &[(&str, &str)] = &[
    (
        "duration",
        r#"{"type":["string","integer","null"],"pattern":"^\\s*(0|(([0-9]+\\.?[0-9]*|\\.[0-9]+)(ms|[smhd]))+)\\s*$","minimum":0,"maximum":0,"examples":["10s","1h30m","2d"]}"#,
    ),
    (
        "timeLimit",
        r#"{"type":["string","null"],"pattern":"^\\s*(([0-9]+\\.?[0-9]*|\\.[0-9]+)(ms|[smhd]))+\\s*$","allOf":[{"pattern":"[1-9]"}],"examples":["10s","1h30m","2d"]}"#,
    ),
    (
        "size",
        r#"{"type":["string","number","null"],"exclusiveMinimum":0,"pattern":"^\\s*(none|([0-9]+\\.?[0-9]*|\\.[0-9]+)(B|[kMG]B|[KMG]iB)?)\\s*$","allOf":[{"pattern":"[1-9]|none"}],"examples":["50MB","64KiB","none"]}"#,
    ),
    // No line ends in a backslash, none has a NUL.
    (
        "lines",
        r#"{"type":["string","array","null"],"pattern":"^([^\\u0000]*[^\\\\\\u0000\\r\\n])?[\\r\\n]*$","items":{"type":"string","pattern":"^([^\\u0000]*[^\\\\\\u0000\\r\\n])?[\\r\\n]*$"}}"#,
    ),
    (
        "names",
        r#"{"type":["string","number","boolean","array","null"],"items":{"type":["string","number","boolean"]}}"#,
    ),
    (
        "environment",
        r#"{"type":["object","null"],"propertyNames":{"pattern":"^[^=\\u0000]+$"},"additionalProperties":{"type":["string","number","boolean","null"],"pattern":"^[^\\u0000]*$"}}"#,
    ),
    (
        "shell",
        r#"{"type":["string","array","null"],"pattern":"^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$","minItems":1,"prefixItems":[{"type":"string","pattern":"^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$"}],"items":{"type":"string","pattern":"^[^\\u0000]*$"}}"#,
    ),
    ("exitCode", r#"{"minimum":-1,"maximum":255,"not":{"const":0}}"#),
    ("pipelineName", r#"{"pattern":"^[^\\u0000-\\u001f\\u007f-\\u009f]+$"}"#),
    // Some are prunner's own.
    (
        "variableName",
        r#"{"pattern":"^[^\\u0000]+$","not":{"pattern":"^(__jobID$|failedTask)"}}"#,
    ),
    // They name files.
    (
        "taskName",
        r#"{"maxLength":200,"pattern":"^[^/\\u0000-\\u001f\\u007f-\\u009f]+$","not":{"enum":[".",".."]}}"#,
    ),
];

impl Place {
    pub(super) const ALL: [Place; 8] = [File, Pipeline, Task, OnError, Retry, Variable, Deduplicate, Schedule];

    pub(super) fn keys(self) -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(move |key| key.places.contains(&self))
    }

    /// Whether the parser has its own words for it there, be it that the key is refused.
    pub(super) fn knows(self, name: &str) -> bool {
        let place = if self == OnError { Task } else { self };
        place.keys().any(|key| key.name == name)
    }

    /// Of its definition in the schema.
    pub(super) fn name(self) -> &'static str {
        match self {
            File => "file",
            Pipeline => "pipeline",
            Task => "task",
            OnError => "onError",
            Retry => "retry",
            Variable => "variable",
            Deduplicate => "deduplicate",
            Schedule => "schedule",
        }
    }

    /// How the keys of a place belong together, as the members of a schema for it.
    pub(super) fn rules(self) -> &'static str {
        match self {
            File | OnError | Deduplicate => "{}",
            Pipeline => PIPELINE_RULES,
            // A failure that is allowed is no reason to try again.
            Task => {
                r#"{"if":{"required":["allow_failure"],"properties":{"allow_failure":{"const":true}}},"then":{"properties":{"retry":{"type":"null"}}}}"#
            }
            Variable => VARIABLE_RULES,
            Schedule => SCHEDULE_RULES,
            Retry => r#"{"required":["max"],"properties":{"max":{"type":"integer"}}}"#,
        }
    }
}

/// Partitions need their limit and no other; `replace` without a limit means 1, and is to say so; a job that is delayed
/// has to wait, and so does one that stops another; only what replaces waiting jobs merges and interrupts; two tasks of one name would share their logs.
const PIPELINE_RULES: &str = r#"{"allOf":[
{"if":{"required":["queue_strategy"],"properties":{"queue_strategy":{"const":"partitioned_replace"}}},
"then":{"required":["queue_partition_limit"],"properties":{"queue_partition_limit":{"type":"integer"},"queue_limit":{"type":"null"}}},
"else":{"properties":{"queue_partition_limit":{"type":"null"}}}},
{"if":{"required":["queue_strategy"],"properties":{"queue_strategy":{"const":"replace"}}},
"then":{"required":["queue_limit"],"properties":{"queue_limit":{"type":"integer"}}}},
{"if":{"required":["queue_limit"],"properties":{"queue_limit":{"const":0}}},
"then":{"properties":{"start_delay":{"pattern":"^[^1-9]*$"},"interrupt_running":{"enum":[false,null]}}}},
{"if":{"required":["queue_strategy"],"properties":{"queue_strategy":{"enum":["replace","partitioned_replace"]}}},
"then":{},"else":{"properties":{"merge_variables":{"type":"null"},"interrupt_running":{"enum":[false,null]}}}},
{"if":{"required":["on_error"],"properties":{"on_error":{"type":"object"}}},
"then":{"properties":{"tasks":{"propertyNames":{"not":{"const":"on_error"}}}}}}]}"#;

/// It is due either way, not both.
const SCHEDULE_RULES: &str = r#"{"oneOf":[
{"required":["cron"],"properties":{"cron":{"type":"string"},"every":{"type":"null"}}},
{"required":["every"],"properties":{"every":{"type":["string","integer"]},"cron":{"type":"null"}}}]}"#;

/// The values have the variable's type, of which only strings have a pattern. A list may be an object with the keys 0 to n.
const VARIABLE_RULES: &str = r#"{"allOf":[
{"if":{"properties":{"type":{"enum":["string",null]}}},
"then":{"properties":{"default":{"type":["string","null"]},"one_of":{"items":{"type":"string"}}}},
"else":{"properties":{"pattern":{"type":"null"}}}},
{"if":{"required":["type"],"properties":{"type":{"const":"integer"}}},
"then":{"properties":{"default":{"type":["integer","null"]},"one_of":{"items":{"type":"integer"}}}}},
{"if":{"required":["type"],"properties":{"type":{"const":"number"}}},
"then":{"properties":{"default":{"type":["number","null"]},"one_of":{"items":{"type":"number"}}}}},
{"if":{"required":["type"],"properties":{"type":{"const":"boolean"}}},
"then":{"properties":{"default":{"type":["boolean","null"]},"one_of":{"items":{"type":"boolean"}}}}},
{"if":{"required":["type"],"properties":{"type":{"const":"list"}}},
"then":{"properties":{"default":{"type":["array","object","null"]},"one_of":{"items":{"type":["array","object"]}}}}},
{"if":{"required":["type"],"properties":{"type":{"const":"object"}}},
"then":{"properties":{"default":{"type":["object","null"]},"one_of":{"items":{"type":"object"}}}}},
{"if":{"required":["required"],"properties":{"required":{"const":true}}},
"then":{"properties":{"default":{"type":"null"}}}}]}"#;
