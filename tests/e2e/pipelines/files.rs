//! Which files are found, and that they form one set.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use crate::space::TestSpace;

fn named(pipeline: &str) -> String {
    format!("pipelines: {{{pipeline}: {{tasks: {{a: {{script: pwd}}}}}}}}")
}

/// A space whose own file is gone.
fn space(files: &[&str]) -> TestSpace {
    let space = TestSpace::new("");
    fs::remove_file(space.path.join("pipelines.yml")).unwrap();
    for file in files {
        let name = file.replace(['/', '.'], "_");
        space.write(file, &named(&name));
    }
    space
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The files that a search finds in their order, told by the unknown key that each is given.
#[track_caller]
fn check_found(space: &TestSpace, arguments: &[&str], expected: &[&str]) {
    let output = space.run(&[&["validate"], arguments].concat());
    let text = stdout(&output);
    let mut found: Vec<&str> = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix("warning: ")?
                .split_once(": has the unknown key `found`")
        })
        .map(|(file, _)| file)
        .collect();
    assert_eq!(found, expected, "{text}");
    found.sort_unstable();
    assert_eq!(found, expected, "sorted: {text}");
}

#[test]
fn files_are_found_by_name_at_any_depth_in_sorted_order() {
    let files = [
        "b/c/pipelines.yaml",
        "a/pipelines.yml",
        "pipelines.yaml",
        "pipelines.yml",
    ];
    let elsewhere = [
        ".git/pipelines.yml",
        "node_modules/x/pipelines.yml",
        "a/node_modules/pipelines.yml",
        ".prunner/logs/pipelines.yml",
        "data/pipelines.yml",
        "other.yml",
        "my-pipelines.yml",
    ];
    let space = space(&[]);
    for file in files.iter().chain(&elsewhere) {
        space.write(file, "{pipelines: {}, found: }");
    }
    let mut sorted = files;
    sorted.sort_unstable();
    check_found(
        &space,
        &["--data", "data"],
        &[
            "a/pipelines.yml",
            "b/c/pipelines.yaml",
            "pipelines.yaml",
            "pipelines.yml",
        ]
        .into_iter()
        .fold(vec![".prunner/logs/pipelines.yml"], |mut all, file| {
            all.push(file);
            all
        }),
    );
    check_found(
        &space,
        &["--pattern", "*.yml"],
        &["my-pipelines.yml", "other.yml", "pipelines.yml"],
    );
    check_found(&space, &["--path", "b"], &["b/c/pipelines.yaml"]);
    check_found(
        &space,
        &["--pattern", "{a,data}/pipelines.yml"],
        &["a/pipelines.yml", "data/pipelines.yml"],
    );
    let output = space.run(&["validate"]);
    assert!(
        stdout(&output).ends_with("0 pipelines in 5 files: 0 errors, 5 warnings\n"),
        "{output:?}"
    );
}

#[test]
fn links_are_followed_and_a_file_counts_once() {
    let space = space(&[]);
    space.write("real/pipelines.yml", "{pipelines: {}, found: }");
    space.write("outside.yml", "{pipelines: {}, found: }");
    for (target, link) in [
        ("real", "also"),
        ("..", "real/up"),
        (".", "self"),
        ("outside.yml", "pipelines.yml"),
        ("pipelines.yml", "real/pipelines.yaml"),
    ] {
        symlink(target, space.path.join(link)).unwrap();
    }
    fs::hard_link(space.path.join("outside.yml"), space.path.join("real/zz.yml")).unwrap();
    check_found(&space, &[], &["also/pipelines.yaml", "pipelines.yml"]);
    // A link that leads nowhere, but looks like a definition.
    symlink("nowhere", space.path.join("pipelines.yaml")).unwrap();
    let text = stdout(&space.run(&["validate"]));
    let expected = "warning: pipelines.yaml: skipped, for it can't be read: no such file or directory\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn directories_that_cannot_be_read_are_skipped_with_a_warning() {
    let space = space(&["closed/pipelines.yml", "open/pipelines.yml"]);
    let closed = space.path.join("closed");
    let mode = |mode| fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    mode(0o000);
    let prunner = env!("CARGO_BIN_EXE_prunner");
    let mut command = Command::new("setpriv");
    // Nothing is closed for root unless it gives that power away.
    command.args(["--bounding-set=-all", "--inh-caps=-all", prunner, "validate"]);
    let plain = fs::read_dir(&closed).is_err();
    if plain {
        command = Command::new(prunner);
        command.arg("validate");
    }
    let output = command.current_dir(&space.path).output().unwrap();
    mode(0o700);
    let expected = "warning: closed: skipped, for it can't be read: permission denied\n\
                    1 pipeline in 1 file: 0 errors, 1 warning\n";
    assert_eq!(stdout(&output), expected, "{output:?}");
}

#[test]
fn all_files_form_one_set_whose_scripts_run_where_prunner_was_started() {
    let space = space(&["one/pipelines.yml", "two/deep/pipelines.yaml"]);
    let server = space.serve();
    let here = format!("{}\n", space.path.canonicalize().unwrap().display());
    for pipeline in ["one_pipelines_yml", "two_deep_pipelines_yaml"] {
        let job = server.run_job(pipeline);
        assert_eq!(server.stdout_of(&job, "a"), here, "{pipeline}");
    }
}

#[test]
fn a_name_is_given_once_in_all_files() {
    let space = space(&[]);
    space.write("a/pipelines.yml", &named("deploy"));
    space.write("b/pipelines.yml", &named("deploy"));
    let output = space.run(&["validate"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    let line = text.lines().find(|line| line.starts_with("error: ")).unwrap();
    for part in ["a/pipelines.yml", "b/pipelines.yml", "pipeline `deploy`"] {
        assert!(line.contains(part), "`{part}` is missing in {line}");
    }
}

#[test]
fn without_a_file_the_server_starts_and_waits_for_some() {
    let space = space(&[]);
    fs::create_dir(space.path.join("defs")).unwrap();
    let flags = ["--path", "defs", "--pattern", "x*.yml", "--address", "127.0.0.1:0"];
    let output = space.run(&["validate", "--path", "defs", "--pattern", "x*.yml"]);
    let complaint = "prunner: error: no file below `defs` matches `x*.yml`\n";
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(2), complaint.as_bytes())
    );
    let server = space.serve_with(&flags, &[]);
    let line = server.logged("no file");
    assert!(
        line.contains("level=warn") && line.contains("defs") && line.contains("x*.yml"),
        "{line}"
    );
    assert_eq!(
        server.get("/pipelines/").json()["pipelines"].as_array().unwrap().len(),
        0
    );
    space.write("defs/x1.yml", &named("p"));
    assert_eq!(server.post("/pipelines/reload", "").status, 200);
    assert_eq!(server.run_job("p")["status"], "succeeded");
}
