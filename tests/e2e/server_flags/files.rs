//! Which files the server reads and writes: definitions, data, the secret.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{FREE, PIPELINES, check_refused, names, with};
use crate::space::{TestSpace, eventually};

const LONG: &str = "0123456789abcdef";

#[test]
fn path_and_pattern_by_flag_and_by_variable() {
    let space = TestSpace::new("pipelines: {top: {}}");
    space.write("defs/a/pipelines.yaml", "pipelines: {deep: {}}");
    space.write("defs/x.yml", "pipelines: {x: {}}");
    for (arguments, variables, expected) in [
        (&[][..], &[][..], &["deep", "top"][..]),
        (&["--path", "defs"], &[], &["deep"]),
        (&[], &[("PRUNNER_PATH", "defs")], &["deep"]),
        (&["--path", "."], &[("PRUNNER_PATH", "defs")], &["deep", "top"]),
        (&["--pattern", "*.yml"], &[], &["top"]),
        (&["--path=defs"], &[("PRUNNER_PATTERN", "*.yml")], &["x"]),
        // A variable that is empty is none.
        (&["--pattern", "*.yml"], &[("PRUNNER_PATH", "")], &["top"]),
    ] {
        let server = space.serve_with(&with(arguments), variables);
        assert_eq!(names(&server), expected, "{arguments:?} {variables:?}");
    }
    check_refused(
        &space,
        &with(&["--path", "nowhere"]),
        &[],
        "the pipeline files are wrong: 1 errors, named above",
    );
    check_refused(
        &space,
        &with(&["--pattern", "a["]),
        &[],
        "the pipeline files are wrong: 1 errors, named above",
    );
}

#[test]
fn the_data_directory_by_flag_and_by_variable() {
    for (arguments, variables, directory) in [
        (&[][..], &[][..], ".prunner"),
        (&["--data", "a/data"], &[], "a/data"),
        (&[], &[("PRUNNER_DATA", "data")], "data"),
        (&["--data", "one"], &[("PRUNNER_DATA", "other")], "one"),
    ] {
        let space = TestSpace::new(PIPELINES);
        let server = space.serve_with(&with(arguments), variables);
        let id = server.schedule("p");
        server.ended(&id);
        let log = space.path.join(directory).join("logs").join(&id).join("a-stdout.log");
        assert_eq!(fs::read_to_string(log).unwrap(), "ran\n", "{directory}");
        for other in [".prunner", "data", "other"] {
            assert_eq!(
                space.path.join(other).exists(),
                other == directory,
                "{other} {directory}"
            );
        }
    }
    let space = TestSpace::new(PIPELINES);
    space.write("data", "a file");
    check_refused(&space, &with(&["--data", "data"]), &[], "…");
}

#[test]
fn the_secret_is_made_where_it_is_missing() {
    for (arguments, variables, file) in [
        (&[][..], &[][..], ".prunner.yml"),
        (&["--config", "my.yml"], &[], "my.yml"),
        (&[], &[("PRUNNER_CONFIG", "my.yml")], "my.yml"),
    ] {
        let space = TestSpace::new(PIPELINES);
        // By the server itself: so it is not asked for a token first.
        let output = space.run_with(
            &[arguments, &["--address", "127.0.0.1:1", "--data", "pipelines.yml"]].concat(),
            variables,
        );
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = space.read(file);
        let secret = text.trim_end().strip_prefix("jwt_secret: ").unwrap();
        assert!(secret.len() >= 16, "{text}");
        let mode = fs::metadata(space.path.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let server = space.serve_with(&with(arguments), variables);
        assert_eq!(server.run_job("p")["status"], "succeeded");
        assert_eq!(space.read(file), text);
        assert!(!server.log().contains(secret));
        assert_eq!(space.path.join(".prunner.yml").exists(), file == ".prunner.yml");
    }
}

#[test]
fn a_secret_that_is_given_replaces_the_file() {
    let space = TestSpace::new(PIPELINES);
    let by_flag = ["--jwt-secret", LONG];
    let server = space.serve_with(&with(&by_flag), &[]);
    assert_eq!(server.run_job("p")["status"], "succeeded");
    assert!(!space.path.join(".prunner.yml").exists());
    // The same secret, whichever way it is given, and no other.
    let token = |arguments: &[&str], variables: &[(&str, &str)]| {
        let variables = [variables, &[("MINIMAL_OUTPUT", "1")]].concat();
        let output = space.run_with(&[arguments, &["debug"]].concat(), &variables);
        String::from_utf8(output.stdout).unwrap()
    };
    let status = |token: &str| {
        let header = format!("Authorization: {token}\r\n");
        server.request("GET", "/pipelines/", &header, "").status
    };
    space.write("same.yml", &format!("jwt_secret: {LONG}\n"));
    let other = "another-secret-of-some-length";
    for (token, expected) in [
        (token(&by_flag, &[]), 200),
        (token(&[], &[("PRUNNER_JWT_SECRET", LONG)]), 200),
        (token(&by_flag, &[("PRUNNER_JWT_SECRET", other)]), 200),
        (token(&["--config", "same.yml"], &[]), 200),
        (token(&["--config", "same.yml"], &[("PRUNNER_JWT_SECRET", other)]), 401),
        (token(&[], &[]), 401),
    ] {
        assert!(token.starts_with("Bearer ") && !token.ends_with('\n'), "{token}");
        assert_eq!(status(&token), expected, "{token}");
    }
}

#[test]
fn a_secret_that_is_too_short_is_refused_and_not_told() {
    let space = TestSpace::new(PIPELINES);
    let short = "hunter2";
    let complaint = |origin: &str| format!("{origin} has 7 characters, expected at least 16");
    check_refused(
        &space,
        &with(&["--jwt-secret", short]),
        &[],
        &complaint("`--jwt-secret`"),
    );
    let variable = [("PRUNNER_JWT_SECRET", short)];
    check_refused(&space, &FREE, &variable, &complaint("`PRUNNER_JWT_SECRET`"));
    space.write(".prunner.yml", "jwt_secret: hunter2\n");
    let output = space.run(&FREE);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains(".prunner.yml") && stderr.contains("7 characters"),
        "{stderr}"
    );
    assert!(!stderr.contains(short), "{stderr}");
    space.write(".prunner.yml", "other: 1\n");
    check_refused(&space, &FREE, &[], "`.prunner.yml` has no `jwt_secret`; …");
}

#[test]
fn with_watch_a_change_is_loaded_by_itself() {
    let watched = TestSpace::new("pipelines: {old: {}}");
    let unwatched = TestSpace::new("pipelines: {old: {}}");
    let interval = ["--poll-interval", "20ms"];
    let off = unwatched.serve_with(
        &with(&[interval[0], interval[1], "--watch=false"]),
        &[("PRUNNER_WATCH", "true")],
    );
    let cases = [
        watched.serve_with(&with(&[interval[0], interval[1], "--watch", "--data", "a"]), &[]),
        watched.serve_with(
            &with(&["--data", "b"]),
            &[("PRUNNER_WATCH", "1"), ("PRUNNER_POLL_INTERVAL", "20ms")],
        ),
    ];
    unwatched.write("pipelines.yml", "pipelines: {changed: {}}");
    watched.write("pipelines.yml", "pipelines: {changed: {}}");
    for server in &cases {
        eventually("the change is there", || (names(server) == ["changed"]).then_some(()));
    }
    watched.write("new/pipelines.yml", "pipelines: {added: {}}");
    for server in &cases {
        eventually("the new file is there", || {
            (names(server) == ["added", "changed"]).then_some(())
        });
    }
    watched.write("pipelines.yml", "pipelines: {broken: {concurrency: 0}}");
    for server in &cases {
        server.logged("the pipelines stay as they were");
        assert_eq!(names(server), ["added", "changed"]);
    }
    fs::remove_file(watched.path.join("pipelines.yml")).unwrap();
    for server in &cases {
        eventually("the file is gone", || (names(server) == ["added"]).then_some(()));
    }
    assert_eq!(names(&off), ["old"]);
    let duration =
        "`--poll-interval` is `20`, which has no unit behind `20`; expected `ms`, `s`, `m`, `h` or `d`, as in `20s`";
    check_refused(&watched, &with(&["--poll-interval", "20"]), &[], duration);
    check_refused(
        &watched,
        &with(&["--poll-interval", "0"]),
        &[],
        "`--poll-interval` is `0`, expected at least 1ms",
    );
    check_refused(
        &watched,
        &FREE,
        &[("PRUNNER_WATCH", "maybe")],
        "`PRUNNER_WATCH` is `maybe`, expected `true`, `false`, `1` or `0`",
    );
}
