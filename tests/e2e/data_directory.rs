//! The data directory: who has it, and what an older server left in it.

use serde_json::{Value, json};

use crate::checks::check_task;
use crate::space::TestSpace;

#[test]
fn one_prunner_has_a_data_directory() {
    let space = TestSpace::new("pipelines: {}");
    let server = space.serve();
    let pid = server.pid();
    for arguments in [&["--address", "127.0.0.1:0"][..], &["export"]] {
        let output = space.run(arguments);
        assert_eq!(output.status.code(), Some(3));
        let text = String::from_utf8(output.stderr).unwrap();
        let data = space.path.canonicalize().unwrap().join(".prunner");
        assert!(text.contains(&format!("process {pid}")), "{text}");
        assert!(text.contains(data.to_str().unwrap()), "{text}");
    }
    server.kill();
    assert_eq!(space.serve().stop(), Some(0));
}

#[test]
fn the_old_servers_file_is_taken_over_and_given_back() {
    let space = TestSpace::new("pipelines: {deploy: {tasks: {build: {script: ['touch built']}}}}");
    let (done, waits, ran) = (
        "11111111-1111-4111-8111-111111111111",
        "22222222-2222-4222-8222-222222222222",
        "33333333-3333-4333-8333-333333333333",
    );
    let time = "2026-11-24T03:27:47Z";
    let task = json!({"Name": "build", "Script": ["make"], "AllowFailure": false, "Status": "done",
        "Start": time, "End": time, "Skipped": false, "ExitCode": -1, "Errored": false});
    let new = json!({"Name": "build", "Script": ["make"], "AllowFailure": false, "Status": "waiting",
        "Skipped": false, "ExitCode": 0, "Errored": false});
    let old = json!({"Jobs": [
        {"ID": done, "Pipeline": "deploy", "Completed": true, "Canceled": false, "Created": time, "Start": time,
            "End": time, "User": "ben", "Variables": {"release": "42"}, "Tasks": [task]},
        {"ID": waits, "Pipeline": "deploy", "Completed": false, "Canceled": false, "Created": time, "Tasks": [new]},
        {"ID": ran, "Pipeline": "deploy", "Completed": false, "Canceled": false, "Created": time, "Start": time,
            "Tasks": [new]},
    ]});
    space.write(".prunner/data.json", &old.to_string());
    let server = space.serve();
    let job = server.job(done);
    assert_eq!(
        [&job["status"], &job["user"], &job["end"]],
        ["succeeded", "ben", time],
        "{job}"
    );
    assert_eq!(job["variables"], json!({"release": "42"}));
    check_task(&job, "build", "done", 0, true);
    assert_eq!(server.job(ran)["status"], "interrupted");
    assert_eq!(server.ended(waits)["status"], "succeeded");
    assert!(space.path.join("built").exists());
    assert_eq!(server.stop(), Some(0));
    assert_eq!(space.read(".prunner/data.json"), old.to_string());

    let output = space.run(&["export"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let exported: Value = serde_json::from_slice(&output.stdout).unwrap();
    let jobs = exported["Jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 3, "{exported}");
    let job = jobs.iter().find(|job| job["ID"] == done).unwrap();
    assert_eq!((&job["Completed"], &job["End"]), (&json!(true), &json!(time)), "{job}");
    assert_eq!(job["Variables"], json!({"release": "42"}));
    assert_eq!(job["Tasks"][0]["Status"], "done", "{job}");
}
