//! What a task finds in its environment, layer by layer, and what it never does.

use std::collections::BTreeMap;
use std::net::TcpListener;

use serde_json::json;

use crate::space::{Server, TestSpace};
use crate::tools::task;

/// What the last task of this pipeline wrote with `env -0`.
fn written(space: &TestSpace, name: &str) -> BTreeMap<String, String> {
    let text = space.read(name);
    text.split_terminator('\0')
        .map(|entry| entry.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// `env` is a program of the system, so that nothing but the environment of a process is seen.
const DUMP: &str = "env -0 > dump";

fn dumping(pipeline_keys: &str, task_keys: &str) -> TestSpace {
    TestSpace::new(&format!(
        "pipelines: {{p: {{{pipeline_keys}tasks: {{a: {{{task_keys}script: [{DUMP}]}}}}}}}}"
    ))
}

/// The environment of a task of a server that is started so.
fn environment(space: &TestSpace, arguments: &[&str], variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    let server = space.serve_with(arguments, variables);
    let job = server.run_job("p");
    assert_eq!(job["status"], "succeeded", "{job}");
    written(space, "dump")
}

const FLAGS: [&str; 2] = ["--address", "127.0.0.1:0"];

#[test]
fn later_layers_win() {
    let space = dumping(
        "env: {ALL: pipeline, TO_PIPELINE: pipeline, TASK_NAME: pipeline, PRUNNER_TASK: pipeline, PRUNNER_VAR_x: pipeline}, ",
        "env: {ALL: task, PRUNNER_VAR_y: task, PRUNNER_PIPELINE: task}, ",
    );
    space.write(".env", "ALL=file\nTO_PIPELINE=file\nTO_FILE=file\nTO_LOCAL=file\n");
    space.write(".env.local", "TO_LOCAL=local\n");
    let own = [
        ("ALL", "own"),
        ("TO_PIPELINE", "own"),
        ("TO_FILE", "own"),
        ("TO_LOCAL", "own"),
        ("OWN", "own"),
    ];
    let server = space.serve_with(&FLAGS, &own);
    let id = server.schedule_with("p", &json!({"x": "job", "y": "job"}));
    server.ended(&id);
    let found = written(&space, "dump");
    for (name, expected) in [
        ("ALL", "task"),
        ("TO_PIPELINE", "pipeline"),
        ("TO_FILE", "file"),
        ("TO_LOCAL", "local"),
        ("OWN", "own"),
        ("PRUNNER_JOB_ID", id.as_str()),
        ("PRUNNER_TASK", "a"),
        ("TASK_NAME", "a"),
        ("PRUNNER_VAR_x", "job"),
        ("PRUNNER_VAR_y", "task"),
        ("PRUNNER_PIPELINE", "task"),
        ("PRUNNER_ADDRESS", server.address.as_str()),
    ] {
        assert_eq!(found.get(name).map(String::as_str), Some(expected), "{name}");
    }
}

#[test]
fn variables_of_the_job_are_there_as_they_print() {
    let space = dumping("", "");
    let server = space.serve();
    let longest = "x".repeat(64 * 1024);
    let variables = json!({
        "text": "a 'b'\n$HOME", "number": 1e6, "yes": true, "nil": null, "list": [1, "a"], "object": {"z": 1, "a": 2},
        "_1": "_", "a-b": "no", "größe": "no", "1a": "no", "longest": longest, "too_long": format!("{longest}x"),
    });
    server.ended(&server.schedule_with("p", &variables));
    let found: BTreeMap<String, String> = written(&space, "dump")
        .into_iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("PRUNNER_VAR_")?.to_owned(), value)))
        .collect();
    let expected = [
        ("_1", "_"),
        ("list", r#"[1,"a"]"#),
        ("longest", &longest),
        ("nil", ""),
        ("number", "1000000"),
        ("object", r#"{"z":1,"a":2}"#),
        ("text", "a 'b'\n$HOME"),
        ("yes", "true"),
    ];
    let expected: BTreeMap<String, String> = expected
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn nothing_that_configures_the_server_reaches_a_task() {
    let secret = "a-secret-of-enough-length";
    let own = [
        ("PRUNNER_ADDRESS", "127.0.0.1:0"),
        ("PRUNNER_PATH", "."),
        ("PRUNNER_PATTERN", "*.yml"),
        ("PRUNNER_DATA", "data"),
        ("PRUNNER_CONFIG", "config.yml"),
        ("PRUNNER_JWT_SECRET", secret),
        ("PRUNNER_ENV_FILES", "tasks.env"),
        ("PRUNNER_WATCH", "true"),
        ("PRUNNER_POLL_INTERVAL", "1h"),
        ("PRUNNER_MAX_TASKS", "3"),
        ("PRUNNER_KILL_GRACE", "1s"),
        ("PRUNNER_SHELL", "sh"),
        ("PRUNNER_VERBOSE", "true"),
        ("PRUNNER_DISABLE_ANSI", "true"),
        ("PRUNNER_TOKEN", "a-token"),
        ("PRUNNER_FOO", "mine"),
    ];
    let space = dumping("", "");
    // Nor by way of a file for tasks.
    space.write(
        "tasks.env",
        "PRUNNER_JWT_SECRET=from-a-file-with-length\nPRUNNER_TOKEN=t\nPRUNNER_DATA=d\nFROM_FILE=1\n",
    );
    let server = space.serve_with(&[], &own);
    let id = server.schedule_with("p", &json!({}));
    server.ended(&id);
    let found = written(&space, "dump");
    let ours: Vec<&str> = found
        .keys()
        .map(String::as_str)
        .filter(|name| name.starts_with("PRUNNER_"))
        .collect();
    assert_eq!(
        ours,
        [
            "PRUNNER_ADDRESS",
            "PRUNNER_FOO",
            "PRUNNER_JOB_ID",
            "PRUNNER_MARK",
            "PRUNNER_PIPELINE",
            "PRUNNER_TASK"
        ]
    );
    assert_eq!(
        (found["PRUNNER_FOO"].as_str(), found["FROM_FILE"].as_str()),
        ("mine", "1")
    );
    assert_eq!(found["PRUNNER_ADDRESS"], server.address);
    let dump = space.read("dump");
    for hidden in [secret, "a-token", "from-a-file"] {
        assert!(!dump.contains(hidden) && !server.log().contains(hidden), "{hidden}");
    }
}

#[test]
fn a_task_is_told_where_to_reach_the_server() {
    let v6 = TcpListener::bind("[::1]:0").is_ok();
    for address in [":0", "0.0.0.0:0", "localhost:0"]
        .into_iter()
        .chain(v6.then_some("[::]:0"))
    {
        let space = dumping("", "");
        let server = space.serve_with(&["--address", address], &[]);
        server.run_job("p");
        let port = server.address.rsplit_once(':').unwrap().1;
        // What listens to v6 alone can't be reached by v4.
        let host = if address == "[::]:0" { "[::1]" } else { "127.0.0.1" };
        let expected = format!("{host}:{port}");
        assert_eq!(written(&space, "dump")["PRUNNER_ADDRESS"], expected, "{address}");
    }
}

#[test]
fn dotenv_files_in_every_form() {
    let space = dumping("", "");
    space.write(
        ".env",
        r#"# a comment
PLAIN=value
  export EXPORTED=value
SPACED = a b  # comment
HASH=a#b
SINGLE='a ${PLAIN} \n "b"'   # comment
DOUBLE="a ${PLAIN} \"b\" \n\t\\ $PLAIN"
BARE=${PLAIN}/x
OWN_TOO=${OWN}
EMPTY=
MISSING=[${NOT_THERE}]
LINES="first
second"
ALSO='first
second'
PASSWORD=pa$word
"#,
    );
    let found = environment(&space, &FLAGS, &[("OWN", "mine")]);
    for (name, expected) in [
        ("PLAIN", "value"),
        ("EXPORTED", "value"),
        ("SPACED", "a b"),
        ("HASH", "a#b"),
        ("SINGLE", r#"a ${PLAIN} \n "b""#),
        ("DOUBLE", "a value \"b\" \n\t\\ $PLAIN"),
        ("BARE", "value/x"),
        ("OWN_TOO", "mine"),
        ("EMPTY", ""),
        ("MISSING", "[]"),
        ("LINES", "first\nsecond"),
        ("ALSO", "first\nsecond"),
        ("PASSWORD", "pa$word"),
    ] {
        assert_eq!(found.get(name).map(String::as_str), Some(expected), "{name}");
    }
}

#[test]
fn dotenv_files_are_those_that_are_named() {
    let space = dumping("", "");
    space.write(".env", "A=env\nPRUNNER_SHELL=/nonexistent\n");
    space.write("one", "B=one\nC=one\n");
    space.write("two", "C=two\n");
    let found = environment(&space, &FLAGS, &[]);
    // They don't configure prunner itself: the shell is found.
    assert_eq!(
        (found.get("A").map(String::as_str), found.get("B")),
        (Some("env"), None)
    );
    let named = [FLAGS[0], FLAGS[1], "--env-files", "one,missing,two"];
    let found = environment(&space, &named, &[]);
    assert_eq!(
        (found.get("A"), found["B"].as_str(), found["C"].as_str()),
        (None, "one", "two")
    );
    let found = environment(&space, &[FLAGS[0], FLAGS[1], "--env-files", ""], &[]);
    assert_eq!((found.get("A"), found.get("B")), (None, None));
    let found = environment(&space, &FLAGS, &[("PRUNNER_ENV_FILES", "")]);
    assert_eq!(found.get("A"), None);
}

#[test]
fn a_dotenv_line_that_does_not_parse_stops_the_start() {
    let space = dumping("", "");
    for (text, line) in [
        ("A=b\nhunter2\n", 2),
        ("A=b\n\n1hunter2=b\n", 3),
        ("A='hunter2\n", 1),
        ("A=\"hunter2\n\n", 1),
    ] {
        space.write(".env.local", text);
        let output = space.run(&FLAGS);
        assert_eq!(output.status.code(), Some(2), "{text}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        let expected = format!("prunner: error: `.env.local`, line {line}: ");
        assert!(stderr.contains(&expected), "{stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}

fn failing(script: &str) -> (TestSpace, Server, String) {
    let pipeline = json!({"pipelines": {"p": {
        "tasks": {"bad": {"script": [script]}},
        "on_error": {"script": [
            "env -0 > dump",
            "printf '%s' << .failedTaskStdout | quote >> > out",
            "echo << .failedTaskName >> << .failedTaskExitCode >> << .failedTaskError | quote >>",
        ]},
    }}});
    let (space, server) = TestSpace::serving(&pipeline.to_string());
    let job = server.run_job("p");
    assert_eq!(task(&job, "on_error")["status"], "done", "{job}");
    let stdout = server.stdout_of(&job, "on_error");
    (space, server, stdout)
}

#[test]
fn on_error_knows_what_failed() {
    let (space, _server, stdout) = failing("printf 'a\\0b\\377c\\n'; echo err >&2; exit 9");
    assert_eq!(stdout, "bad 9 exit status 9\n");
    let found = written(&space, "dump");
    for (name, expected) in [
        ("PRUNNER_TASK", "on_error"),
        ("TASK_NAME", "on_error"),
        ("PRUNNER_VAR_failedTaskName", "bad"),
        ("PRUNNER_VAR_failedTaskExitCode", "9"),
        ("PRUNNER_VAR_failedTaskError", "exit status 9"),
        ("PRUNNER_VAR_failedTaskStdout", "a\u{fffd}b\u{fffd}c\n"),
        ("PRUNNER_VAR_failedTaskStderr", "err\n"),
    ] {
        assert_eq!(found.get(name).map(String::as_str), Some(expected), "{name}");
    }
    assert_eq!(space.read("out"), "a\u{fffd}b\u{fffd}c\n");
}

#[test]
fn on_error_gets_the_last_32_kib_of_an_output() {
    // 4000 lines of 10 bytes: the last 3276 fit.
    let (space, ..) = failing("seq -f 'line %04g' 1 4000; exit 1");
    let text = space.read("out");
    assert_eq!((text.len(), text.lines().next()), (32_760, Some("line 0725")));
    assert_eq!(written(&space, "dump")["PRUNNER_VAR_failedTaskStdout"], text);
    // One line that is longer is cut at a character.
    let (space, ..) = failing("printf x; yes ä | head -n 20000 | tr -d '\\n'; echo; exit 1");
    let text = space.read("out");
    assert_eq!(text, format!("{}\n", "ä".repeat(16 * 1024 - 1)));
}
