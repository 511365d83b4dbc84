//! What a job takes over from the waiting one that it replaces: `merge_variables`.
//!
//! Unaware of jobs. Null is as good as not given. Surprise: so is a default, though the job has it as if it had been given.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::deduplicate::value_digest;
use crate::definition::intake::{Intake, Merging};
use crate::definition::shown;
use crate::definition::variables::{given, kind_of, list_items};
use crate::template::Variables;

/// As much as a request can bring.
pub(super) const MAX_MERGED_BYTES: usize = 1024 * 1024;

/// What can't be merged of these variables. Those whose type is declared are held against that.
pub(super) fn complaints(intake: &Intake, variables: &Variables) -> Vec<String> {
    let undeclared = intake
        .merge
        .iter()
        .filter(|(name, _)| intake.declared.find(name).is_none());
    let wrong = undeclared.filter_map(|(name, merge)| {
        let value = given(variables, name)?;
        let expected = match merge {
            Merging::Append if list_items(value).is_none() => "a list",
            Merging::Merge if !value.is_object() => "an object",
            Merging::Append | Merging::Merge | Merging::Keep => return None,
        };
        let how = merge.as_str();
        let name = shown(name);
        Some(format!(
            "variable `{name}` is {}; expected {expected} to `{how}`, as `merge_variables` says",
            kind_of(value)
        ))
    });
    wrong.collect()
}

/// The new variables, without their defaults, with what they take over from the old ones, of which some are `by_default`.
///
/// # Errors
/// Where an old value is of the wrong kind, which it can be after a reload alone.
pub(super) fn merged(
    intake: &Intake,
    old: &Variables,
    by_default: &[String],
    mut new: Arc<Variables>,
) -> Result<Arc<Variables>, String> {
    let wrong = complaints(intake, old);
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    for (name, merge) in &intake.merge {
        let Some(old) = given(old, name).filter(|_| !by_default.contains(name)) else {
            continue;
        };
        let value = match (merge, given(&new, name)) {
            (Merging::Keep, _) | (_, None) => old.clone(),
            (Merging::Append, Some(new)) => append(old, new),
            (Merging::Merge, Some(new)) => join(old, new),
        };
        Arc::make_mut(&mut new).insert(name.clone(), value);
    }
    Ok(new)
}

/// Each item once, in the order in which they came; in the form of the new list, which may be an object.
fn append(old: &Value, new: &Value) -> Value {
    let items = [old, new].into_iter().filter_map(list_items).flatten();
    let mut seen: HashMap<u64, Vec<&Value>> = HashMap::new();
    let mut joined = Vec::new();
    for item in items {
        let alike = seen.entry(value_digest(item)).or_default();
        if !alike.contains(&item) {
            alike.push(item);
            joined.push(item.clone());
        }
    }
    if new.is_object() {
        let numbered = joined.into_iter().enumerate();
        Value::Object(numbered.map(|(index, item)| (index.to_string(), item)).collect())
    } else {
        Value::Array(joined)
    }
}

/// The new object's values win.
fn join(old: &Value, new: &Value) -> Value {
    let mut joined = old.as_object().cloned().unwrap_or_default();
    joined.extend(new.as_object().cloned().unwrap_or_default());
    Value::Object(joined)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn intake() -> Intake {
        let rules = [("l", Merging::Append), ("m", Merging::Merge), ("k", Merging::Keep)];
        Intake {
            merge: rules.map(|(name, merge)| (name.to_owned(), merge)).to_vec(),
            ..Intake::default()
        }
    }

    #[track_caller]
    fn check(old: &Value, new: &Value, expected: &str) {
        let variables = |value: &Value| value.as_object().unwrap().clone();
        let merged = merged(&intake(), &variables(old), &[], Arc::new(variables(new)));
        let text = merged.map_or_else(|error| error, |merged| Value::Object((*merged).clone()).to_string());
        assert_eq!(text, expected);
    }

    #[test]
    fn lists_are_appended_without_repeating() {
        check(
            &json!({"l": ["a", "b"]}),
            &json!({"l": ["b", "c", "c"]}),
            r#"{"l":["a","b","c"]}"#,
        );
        check(&json!({"l": [1]}), &json!({"l": ["1", [1], 1]}), r#"{"l":[1,"1",[1]]}"#);
        check(&json!({"l": ["a"]}), &json!({"x": 1}), r#"{"x":1,"l":["a"]}"#);
        check(&json!({"x": 1}), &json!({"l": ["a"]}), r#"{"l":["a"]}"#);
        check(&json!({"l": ["a"]}), &json!({"l": null}), r#"{"l":["a"]}"#);
        // PHP's lists, each form with each.
        check(&json!({"l": {"0": "a"}}), &json!({"l": ["b"]}), r#"{"l":["a","b"]}"#);
        check(
            &json!({"l": ["a"]}),
            &json!({"l": {"0": "b", "1": "a"}}),
            r#"{"l":{"0":"a","1":"b"}}"#,
        );
        check(
            &json!({"l": "a"}),
            &json!({}),
            "variable `l` is a string; expected a list to `append`, as `merge_variables` says",
        );
    }

    #[test]
    fn objects_are_merged_and_old_values_kept() {
        check(
            &json!({"m": {"a": 1, "b": {"x": 1}}}),
            &json!({"m": {"c": 3, "b": {"y": 2}}}),
            r#"{"m":{"a":1,"b":{"y":2},"c":3}}"#,
        );
        check(&json!({"m": {"a": 1}}), &json!({}), r#"{"m":{"a":1}}"#);
        check(
            &json!({"m": [1]}),
            &json!({}),
            "variable `m` is a list; expected an object to `merge`, as `merge_variables` says",
        );
        check(&json!({"k": 1}), &json!({"k": "2"}), r#"{"k":1}"#);
        check(&json!({"k": null}), &json!({"k": "2"}), r#"{"k":"2"}"#);
        check(&json!({"x": 1}), &json!({"y": 2}), r#"{"y":2}"#);
    }

    #[test]
    fn long_lists_take_no_long_time() {
        let list = |offset: usize| json!({"l": (0..50_000).map(|item| item + offset).collect::<Vec<usize>>()});
        let (old, new) = (list(0), list(25_000));
        let merged = merged(
            &intake(),
            old.as_object().unwrap(),
            &[],
            Arc::new(new.as_object().unwrap().clone()),
        )
        .unwrap();
        assert_eq!(merged["l"].as_array().unwrap().len(), 75_000);
    }
}
