//! Files as users have them.

use super::{names, pairs, read, script};
use crate::definition::Queue;

#[test]
fn sample_deployment() {
    let (complaints, pipelines) = read(include_str!("../../../tests/samples/deploy.yml"));
    assert_eq!(complaints, Vec::<String>::new());
    assert_eq!(pipelines.len(), 2);
    let deploy = &pipelines[0];
    assert_eq!(names(deploy), ["lint", "test", "build", "upload", "smoke"]);
    assert_eq!(deploy.queue, Queue::Append { limit: Some(0) });
    assert_eq!(deploy.env, pairs(&[("TARGET", "/srv/app"), ("RELEASES", "5")]));
    assert_eq!(deploy.tasks[2].depends_on, [0, 1]);
    assert_eq!(deploy.tasks[2].script.len(), 1);
    assert_eq!(deploy.tasks[3].depends_on, [2]);
    assert!(deploy.tasks[4].allow_failure);
    assert_eq!(deploy.on_error.as_ref().unwrap().script.len(), 1);
    let import = &pipelines[1];
    assert_eq!(import.queue, Queue::PartitionedReplace { limit: 2 });
    assert_eq!(import.start_delay_ms, 2_000);
    assert_eq!(import.retention_period_ms, Some(48 * 3_600_000));
    assert!(import.continue_running_tasks_after_failure);
}

#[test]
fn sample_content_release() {
    let (complaints, pipelines) = read(include_str!("../../../tests/samples/content-release.yml"));
    assert_eq!(complaints, Vec::<String>::new());
    assert_eq!(pipelines.len(), 2);
    assert_eq!(pipelines[0].tasks.len(), 13);
    assert_eq!(pipelines[0].queue, Queue::Replace { limit: 1 });
    assert_eq!(
        pipelines[0].tasks[3].script,
        script(&["./site render:orchestrate {{ .releaseId }}"])
    );
    assert_eq!(
        names(&pipelines[1]),
        [
            "prepare_finished",
            "enumerate_finished",
            "render_orchestrator",
            "render_1",
            "render_2",
            "render_finished",
            "validate_content",
            "validate_finished",
            "transfer"
        ]
    );
    assert_eq!(pipelines[1].tasks[2].script, pipelines[0].tasks[3].script);
    assert!(pipelines[1].tasks[5].is_marker());
}

#[test]
fn sample_with_one_mistake_each() {
    let (complaints, pipelines) = read(include_str!("../../../tests/samples/broken.yml"));
    let expected = [
        "E p.yml: task `test` of pipeline `dangling` depends on `render_finishd`, which is not defined; did you mean \
         `render_finished`?",
        "E p.yml: pipeline `cycle` has tasks that depend on each other in a circle, so that none can start first: \
         `a -> c -> b -> a`",
        "E p.yml: task `a` of pipeline `self` depends on itself",
        "E p.yml: pipeline `no_unit` has the `start_delay` `10`, which has no unit",
        "E p.yml: pipeline `wrong_type` has the text `many` as `concurrency`; expected an integer",
        "E p.yml: task `a` of pipeline `wrong_type` has a mapping as `script`; expected a string or a list of strings",
        "E p.yml: pipeline `zero` has the number `0` as `concurrency`; expected an integer of at least 1",
        "E p.yml: pipeline `partition_without_strategy` has a `queue_partition_limit` without",
        "E p.yml: pipeline `delay_without_queue` has both a `start_delay` and `queue_limit: 0`",
        "E p.yml: task `a` of pipeline `open_if` has a mistake in line 1 of its script: ",
        "E p.yml: task `a` of pipeline `range` has a mistake in line 1 of its script: ",
        "E p.yml: task `../up` of pipeline `escape` has a name that holds a `/`",
        "W p.yml: pipeline `typo` has the unknown key `retention_period_hours`, which is ignored; did you mean \
         `retention_period`?",
        "W p.yml: task `a` of pipeline `typo` has the unknown key `scripts`, which is ignored; did you mean `script`?",
    ];
    for (complaint, expected) in complaints.iter().zip(expected) {
        assert!(
            complaint.starts_with(expected),
            "expected {expected}\nin {complaints:#?}"
        );
    }
    assert_eq!(complaints.len(), expected.len(), "{complaints:#?}");
    assert_eq!(pipelines.len(), 1, "the one with warnings alone");
}
