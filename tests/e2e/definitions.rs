//! Definition files that are wrong.

use crate::space::{TestSpace, sample};

#[test]
fn broken_files_are_refused_with_all_complaints() {
    let space = TestSpace::new(&sample("broken.yml"));
    let output = space.run(&["validate"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "dangling",
        "did you mean `render_finished`",
        "a -> c -> b -> a",
        "self",
        "retention_period_hours",
        "scripts",
        "no_unit",
        "wrong_type",
        "zero",
        "partition_without_strategy",
        "delay_without_queue",
        "open_if",
        "range",
        "../up",
    ] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    let output = space.run(&["--address", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("prunner: error: the pipeline files are wrong"), "{text}");
}
