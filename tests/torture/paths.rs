//! Requests that try to read other files than the outputs of the job that they name.

use crate::space::{Server, TestSpace};

const SECRET: &str = "never to be shown";

/// Names of tasks that are paths, or become some where they are decoded once too often or cut at a NUL.
fn names(other: &str, data: &str) -> Vec<String> {
    let mut names = Vec::new();
    for up in [
        "..",
        "%2e%2e",
        "%252e%252e",
        ".%2e",
        "..%00",
        "%c0%ae%c0%ae",
        "..%5c..",
        "%ff",
    ] {
        for slash in ["/", "%2f", "%252f", "%5c", "//"] {
            names.push(format!("{up}{slash}{other}{slash}only-there"));
            names.push(format!("{up}{slash}{up}{slash}..{slash}secret"));
            names.push(format!("here{slash}{up}{slash}here"));
        }
    }
    for ending in [
        "",
        "%00",
        "%00-stdout.log",
        "%0a",
        "%20",
        "/",
        "/.",
        "%2f.",
        "-stdout.log",
        "*",
        "?",
    ] {
        for name in [
            "only-there",
            "secret",
            "../secret",
            "..",
            ".",
            "",
            "link",
            "Here",
            "./here",
            "here",
        ] {
            names.push(format!("{name}{ending}"));
        }
        names.push(format!("{data}/../secret{ending}"));
        names.push(format!("{data}/logs/{other}/only-there{ending}"));
        names.push(format!("file://{data}/../secret{ending}"));
    }
    // The only one that is good, and what is behind a `#` or `&` belongs to no name.
    names.retain(|name| name != "here");
    names
}

#[track_caller]
fn check(server: &Server, target: &str, expected: &[u16]) {
    let answer = server.get(target);
    assert!(
        expected.contains(&answer.status),
        "{target}: {} {}",
        answer.status,
        answer.body
    );
    assert!(!answer.body.contains(SECRET), "{target}: {}", answer.body);
}

#[test]
fn no_request_reaches_a_file_outside_of_its_job() {
    let space = TestSpace::new(&format!(
        "pipelines:
  mine: {{tasks: {{here: {{script: [echo mine]}}}}}}
  other: {{tasks: {{only-there: {{script: [echo '{SECRET}']}}}}}}
"
    ));
    let server = space.serve();
    let (mine, other) = (server.schedule("mine"), server.schedule("other"));
    server.ended(&mine);
    server.ended(&other);
    for name in [
        "secret",
        "secret-stdout.log",
        ".prunner/secret-stdout.log",
        ".prunner/logs/secret-stdout.log",
    ] {
        space.write(name, SECRET);
    }
    let logs = space.path.join(".prunner/logs");
    std::os::unix::fs::symlink(space.path.join("secret"), logs.join(&mine).join("link-stdout.log")).unwrap();
    let log = |id: &str, task: &str| format!("/job/log?id={id}&task={task}");
    assert_eq!(server.get(&log(&mine, "here")).body, "mine\n");
    assert!(server.get(&log(&other, "only-there")).body.contains(SECRET));

    let data = space.path.join(".prunner").display().to_string();
    for name in names(&other, &data) {
        for route in ["/job/log", "/job/logs"] {
            check(&server, &format!("{route}?id={mine}&task={name}"), &[400, 404]);
        }
        check(
            &server,
            &format!("/job/log?id={mine}&task={name}&follow=true"),
            &[400, 404],
        );
    }
    for id in [
        "..".to_owned(),
        ".".to_owned(),
        "../..".to_owned(),
        format!("{mine}/../{other}"),
        format!("{mine}%2f..%2f{other}"),
        format!("../logs/{other}"),
        format!("%2e%2e/logs/{other}"),
        format!("{data}/logs/{other}"),
        format!("{other}%00"),
        format!("{other}/"),
        format!("{{{other}}}"),
        format!("urn:uuid:{other}"),
        other.replace('-', ""),
        String::new(),
    ] {
        for route in ["/job/log", "/job/logs"] {
            check(&server, &format!("{route}?id={id}&task=only-there"), &[400]);
        }
        check(&server, &format!("/job/detail?id={id}"), &[400]);
    }
    for stream in [
        "../../secret",
        "stdout.log/../../../secret",
        "%2e%2e/x",
        "stdout%00",
        "STDOUT",
        "/etc/passwd",
        "",
    ] {
        check(
            &server,
            &format!("/job/log?id={mine}&task=here&stream={stream}"),
            &[400],
        );
    }
    for path in [
        "/../secret",
        "/%2e%2e/secret",
        "/job/../../secret",
        "//secret",
        "/pipelines/../secret",
        "/logs",
        "/secret",
    ] {
        check(&server, path, &[400, 404]);
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
