//! What commands end with.

use std::io::Read;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{FREE, PIPELINES, check_refused, with};
use crate::space::TestSpace;
use crate::tools::send_signal;

#[track_caller]
fn check(space: &TestSpace, arguments: &[&str], status: i32, stdout: &str) {
    let output = space.run(arguments);
    let found = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
    let matches = match stdout.strip_suffix('…') {
        Some(start) => found.starts_with(start),
        None => found == stdout,
    };
    assert!(matches, "{arguments:?}: {found}");
}

#[test]
fn a_server_ends_with_0_whichever_signal_ends_it() {
    for signal in ["TERM", "INT", "HUP"] {
        let (_space, mut server) = TestSpace::serving(PIPELINES);
        server.run_job("p");
        send_signal(signal, &server.pid().to_string());
        let line = server.logged("shutting down");
        assert!(line.contains(&format!("signal=SIG{signal}")), "{line}");
        assert_eq!(server.end(), Some(0), "{signal}");
    }
}

#[test]
fn serve_is_the_default_and_flags_stand_before_or_behind() {
    let space = TestSpace::new(PIPELINES);
    for arguments in [&["serve", FREE[0], FREE[1]][..], &[FREE[0], FREE[1], "serve"], &FREE] {
        let mut starter = space.command(arguments);
        starter.stdin(Stdio::null());
        let server = space.serve_by(starter, &[], &[]);
        assert_eq!(server.stop(), Some(0), "{arguments:?}");
    }
}

#[test]
fn a_data_directory_in_use_is_refused_with_3() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve();
    check(&space, &FREE, 3, "");
    check(&space, &["export"], 3, "");
    check(&space, &["validate"], 0, "1 pipeline in 1 file: 0 errors, 0 warnings\n");
    assert_eq!(server.run_job("p")["status"], "succeeded");
}

#[test]
fn validate() {
    let space = TestSpace::new(PIPELINES);
    check(&space, &["validate"], 0, "1 pipeline in 1 file: 0 errors, 0 warnings\n");
    space.write("warn.yml", "pipelines: {q: {prio: 1}}");
    space.write("wrong.yml", "pipelines: {q: {concurrency: 0}}");
    check(&space, &["validate", "warn.yml"], 1, "warning: warn.yml: pipeline `q`…");
    check(
        &space,
        &["validate", "warn.yml", "--lenient"],
        0,
        "warning: warn.yml: pipeline `q`…",
    );
    check(
        &space,
        &["validate", "--lenient", "pipelines.yml", "wrong.yml"],
        1,
        "error: wrong.yml: pipeline `q`…",
    );
    check(&space, &["validate", "--pattern", "w*.yml"], 1, "error: …");
    check_refused(
        &space,
        &["validate", "--pattern", "x*.yml"],
        &[],
        "no file below `.` matches `x*.yml`",
    );
    check_refused(&space, &["validate", "gone.yml"], &[], "`gone.yml` does not exist");
    // It makes nothing.
    assert!(!space.path.join(".prunner").exists() && !space.path.join(".prunner.yml").exists());
}

#[test]
fn export() {
    let space = TestSpace::new(PIPELINES);
    check_refused(&space, &["export"], &[], "there is no data directory `.prunner`");
    let server = space.serve();
    let id = server.schedule("p");
    server.ended(&id);
    assert_eq!(server.stop(), Some(0));
    let output = space.run(&["export"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains(&id));
    check(&space, &["export", "--data", ".prunner"], 0, "{…");
    check_refused(
        &space,
        &["export", "--data", "other"],
        &[],
        "there is no data directory `other`",
    );
}

#[test]
fn export_shows_what_a_start_would_find() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: ['echo $$ > pid', exec sleep 60]}}}}");
    let server = space.serve();
    let (runs, waits) = (server.schedule("p"), server.schedule("p"));
    space.first_line("pid");
    server.kill();
    let output = space.run(&["export"]);
    let exported: Value = serde_json::from_slice(&output.stdout).unwrap();
    let [ran, waiting] = &exported["Jobs"].as_array().unwrap()[..] else {
        panic!("{exported}")
    };
    assert_eq!((&ran["ID"], &ran["Completed"]), (&json!(runs), &json!(true)), "{ran}");
    assert_eq!(ran["LastError"], "prunner ended while the job ran");
    assert_eq!(waiting["ID"], json!(waits));
    assert_eq!(waiting["Tasks"][0]["Script"], json!(["echo $$ > pid", "exec sleep 60"]));

    space.write("pipelines.yml", "pipelines: {p: {tasks: {a: {script: 7}}}}");
    let why = "the pipeline files are wrong, and jobs that wait need their scripts; the errors are named above";
    let output = space.run(&["export"]);
    assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("level=error"), "{log}");
    assert!(log.ends_with(&format!("prunner: error: {why}\n")), "{log}");
    // What the crash left running ends.
    drop(space.serve_with(&["--address", "127.0.0.1:0", "--path", ".prunner"], &[]));
}

#[test]
fn debug() {
    let space = TestSpace::new(PIPELINES);
    check(
        &space,
        &["debug"],
        0,
        "The API is at http://localhost:9009/. Every request needs this header:\n\n    Authorization: Bearer …",
    );
    let text = String::from_utf8(space.run_with(&["debug"], &[("MINIMAL_OUTPUT", "1")]).stdout).unwrap();
    assert!(
        text.starts_with("Bearer ") && text.split('.').count() == 3 && !text.ends_with('\n'),
        "{text}"
    );
    check_refused(
        &space,
        &["debug", "--config", "missing/.prunner.yml"],
        &[],
        "failed to make `missing/.prunner.yml`: …",
    );
}

#[test]
fn version_and_help_in_any_set_up() {
    let space = TestSpace::new("pipelines: [");
    let version = concat!("prunner ", env!("CARGO_PKG_VERSION"), "\n");
    check(&space, &["version"], 0, version);
    check(&space, &["--version"], 0, version);
    check(&space, &["version", "--address", "nonsense"], 0, version);
    for arguments in [&["help"][..], &["--help"], &["serve", "--help"]] {
        let output = space.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("Usage: prunner"), "{text}");
        if arguments != ["help"] {
            for flag in [
                "address",
                "path",
                "pattern",
                "data",
                "config",
                "jwt-secret",
                "env-files",
                "watch",
            ]
            .into_iter()
            .chain([
                "poll-interval",
                "max-tasks",
                "kill-grace",
                "shell",
                "log-limit",
                "retention-period",
                "retention-count",
                "verbose",
                "disable-ansi",
            ]) {
                let variable = format!("PRUNNER_{}", flag.to_uppercase().replace('-', "_"));
                assert!(
                    text.contains(&format!("--{flag}")) && text.contains(&variable),
                    "{flag}: {text}"
                );
            }
        }
    }
}

#[test]
fn wrong_usage_is_one_line() {
    let space = TestSpace::new(PIPELINES);
    for (arguments, complaint) in [
        (
            &["--adress", ":1"][..],
            "flag `--adress` is not known; did you mean `--address`? Try `prunner --help`",
        ),
        (
            &["servr"],
            "command `servr` is not known; did you mean `serve`? Try `prunner --help`",
        ),
        (&["--data"], "`--data <DIRECTORY>` needs a value; try `prunner --help`"),
        (
            &["version", "x"],
            "argument `x` is not known; try `prunner version --help`",
        ),
    ] {
        check_refused(&space, arguments, &[], complaint);
    }
    check_refused(
        &space,
        &with(&["--kill-grace", "5"]),
        &[],
        "`--kill-grace` is `5`, which has no unit…",
    );
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let space = TestSpace::new(&format!(
        "pipelines: {{{}}}",
        (0..5000).map(|n| format!("p{n}: {{prio: 1}}, ")).collect::<String>()
    ));
    let mut child = space
        .command(&["validate"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 10]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), String::from_utf8(output.stderr).unwrap()),
        (Some(1), String::new())
    );
}
