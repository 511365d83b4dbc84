//! Whether the variables of a request fit its pipeline.

use serde_json::Value;

use super::merge;
use crate::definition::{ON_ERROR, Pipeline, Task, shown};
use crate::job::JobId;
use crate::template::{JOB_ID, Scope, Variables, is_reserved};

/// What `on_error` knows of the task that failed first.
pub(crate) const FAILED_TASK: [&str; 5] = [
    "failedTaskName",
    "failedTaskExitCode",
    "failedTaskError",
    "failedTaskStdout",
    "failedTaskStderr",
];
/// Holds the variables against what the pipeline declares, and renders every line of every task, without keeping the text.
///
/// # Errors
/// Every complaint, joined to one sentence for a person.
pub(super) fn check(pipeline: &Pipeline, job: JobId, variables: &Variables) -> Result<(), String> {
    let (mut complaints, missing) = pipeline.intake.declared.complaints(variables);
    complaints.extend(merge::complaints(&pipeline.intake, variables));
    for (name, value) in variables {
        if complaints.len() >= MAX_COMPLAINTS {
            break;
        }
        if is_reserved(name) {
            complaints.push(format!("variable name `{}` is reserved", shown(name)));
        }
        if holds_nul(name) || value_holds_nul(value) {
            complaints.push(format!(
                "variable `{}` holds a NUL character",
                shown(&name.replace('\0', "\\0"))
            ));
        }
    }
    let given = Variables::from_iter([(JOB_ID.to_owned(), Value::String(job.to_string()))]);
    for task in &pipeline.tasks {
        check_task(
            task,
            &task.name,
            &Scope {
                variables,
                given: &given,
                // That they are missing is said already.
                later: &missing,
            },
            &mut complaints,
        );
    }
    if let Some(task) = &pipeline.on_error {
        let later = [&missing[..], &FAILED_TASK].concat();
        check_task(
            task,
            ON_ERROR,
            &Scope {
                variables,
                given: &given,
                later: &later,
            },
            &mut complaints,
        );
    }
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(complaints.join("; "))
    }
}

fn check_task(task: &Task, name: &str, scope: &Scope<'_>, complaints: &mut Vec<String>) {
    for (index, line) in task.script.iter().enumerate() {
        if complaints.len() >= MAX_COMPLAINTS {
            return;
        }
        if let Err(undefined) = line.check(scope) {
            let line = index + 1;
            let hint = undefined.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            complaints.push(format!(
                "variable `{}` is not defined, used in task `{name}`, line {line}{hint}",
                undefined.variable
            ));
        }
    }
}

/// A pipeline may have thousands of lines that name the same missing variable; an answer must stay readable.
const MAX_COMPLAINTS: usize = 20;

fn holds_nul(text: &str) -> bool {
    text.contains('\0')
}

fn value_holds_nul(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => holds_nul(text),
        Value::Array(values) => values.iter().any(value_holds_nul),
        Value::Object(values) => values
            .iter()
            .any(|(name, value)| holds_nul(name) || value_holds_nul(value)),
    }
}
