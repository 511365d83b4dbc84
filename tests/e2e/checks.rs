//! What an answer or a part of it must be.

use serde_json::Value;

use crate::space::Answer;

#[track_caller]
pub(crate) fn check_error(answer: &Answer, status: u16, code: &str, text: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("Content-Type"), "application/json", "{answer:?}");
    let error = answer.json();
    assert_eq!(error["code"], code, "{error}");
    let found = error["error"].as_str().unwrap();
    assert!(
        found == text || text.strip_suffix('…').is_some_and(|start| found.starts_with(start)),
        "`{found}` is not `{text}`"
    );
}

#[track_caller]
pub(crate) fn check_task(job: &Value, name: &str, status: &str, exit_code: i64, ran: bool) {
    let tasks = job["tasks"].as_array().unwrap();
    let task = tasks.iter().find(|task| task["name"] == name).unwrap();
    let found = (task["status"].as_str().unwrap(), task["exitCode"].as_i64().unwrap());
    assert_eq!(found, (status, exit_code), "{task}");
    assert_eq!(
        (task["start"].is_string(), task["end"].is_string()),
        (ran, ran),
        "{task}"
    );
    assert_eq!(task["errored"], status == "error", "{task}");
}
