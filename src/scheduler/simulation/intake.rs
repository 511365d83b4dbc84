//! Random requests, and what a pipeline makes of them before they are jobs, as the model understands it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::random::Random;
use crate::definition::intake::{Deduplicate, Intake, Merging};
use crate::definition::variables::{Declared, Variable, VariableKind};
use crate::scheduler::RequestKey;
use crate::template::Variables;

/// A request, but for who asks.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub pipeline: &'static str,
    pub partition: &'static str,
    pub variables: Variables,
    pub key: Option<&'static str>,
}

impl Ask {
    pub(super) fn random(random: &mut Random, pipelines: &[&'static str]) -> Ask {
        let mut variables = Variables::new();
        let x = [json!("1"), json!("1"), json!("2"), json!(5), Value::Null];
        if random.chance(5, 6) {
            variables.insert("x".to_owned(), random.pick(&x));
        }
        if random.chance(1, 8) {
            variables.insert("y".to_owned(), json!("1"));
        }
        let lists = [
            json!(["a"]),
            json!(["b", "a"]),
            json!({"0": "c", "1": "a"}),
            json!([]),
            json!(["b", 1]),
        ];
        if random.chance(1, 3) {
            let wrong = json!("a");
            let list = random.pick(&lists);
            variables.insert("l".to_owned(), if random.chance(1, 15) { wrong } else { list });
        }
        let maps = [
            json!({"a": 1}),
            json!({"a": 2, "b": 1}),
            json!({"c": 1}),
            json!({}),
            json!([1]),
        ];
        if random.chance(1, 3) {
            variables.insert("m".to_owned(), random.pick(&maps));
        }
        Ask {
            pipeline: random.pick(pipelines),
            partition: random.pick(&["", "a", "b"]),
            variables,
            key: random.pick(&[None, None, None, Some("k"), Some("l")]),
        }
    }

    pub(super) fn request_key(&self) -> Option<RequestKey> {
        self.key.map(|key| RequestKey {
            key: key.to_owned(),
            body_hash: format!("{self:?}"),
        })
    }
}

/// What a pipeline says about requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rules {
    /// A line of its scripts names the variable `x`.
    pub needs_x: bool,
    pub x: Option<XRule>,
    pub is_strict: bool,
    pub twins: Option<TwinRule>,
    /// `l` is appended.
    pub appends: bool,
    /// `m` is merged.
    pub merges: bool,
    /// `x` is kept.
    pub keeps: bool,
    pub interrupts: bool,
}

/// When a request equals a job.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TwinRule {
    pub waiting_alone: bool,
    /// `None`: by all.
    pub by: Option<Vec<&'static str>>,
    pub refuses: bool,
}

impl TwinRule {
    /// Whether both have the same values, as far as it matters.
    pub(super) fn agree(&self, one: &Variables, other: &Variables) -> bool {
        let relevant = |variables: &Variables| -> BTreeMap<String, Value> {
            let mut kept = BTreeMap::new();
            for (name, value) in variables {
                let counts = self.by.as_ref().is_none_or(|by| by.iter().any(|other| other == name));
                if counts && *value != Value::Null {
                    kept.insert(name.clone(), value.clone());
                }
            }
            kept
        };
        relevant(one) == relevant(other)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct XRule {
    is_integer: bool,
    is_required: bool,
    default: Option<Value>,
}

impl Rules {
    pub(super) fn random(random: &mut Random, needs_x: bool) -> Rules {
        let is_integer = random.chance(1, 3);
        let default = if is_integer { json!(7) } else { json!("7") };
        let x = random.chance(1, 3).then(|| XRule {
            is_integer,
            is_required: random.chance(1, 2),
            default: random.chance(1, 3).then_some(default),
        });
        Rules {
            needs_x,
            // Else no request fits.
            is_strict: random.chance(1, 8) && (x.is_some() || !needs_x),
            x,
            appends: random.chance(1, 2),
            merges: random.chance(1, 2),
            keeps: random.chance(1, 3),
            interrupts: random.chance(1, 2),
            twins: random.chance(1, 3).then(|| TwinRule {
                waiting_alone: random.chance(1, 2),
                by: random.pick(&[None, Some(vec!["x"]), Some(vec!["x", "y"]), Some(Vec::new())]),
                refuses: random.chance(1, 3),
            }),
        }
    }

    pub(super) fn to_intake(&self) -> Intake {
        let variables = self.x.iter().map(|x| {
            let kind = if x.is_integer {
                VariableKind::Integer
            } else {
                VariableKind::String
            };
            Variable::for_tests("x", kind, x.is_required, x.default.clone())
        });
        let deduplicate = self.twins.as_ref().map(|twins| Deduplicate {
            among_waiting: twins.waiting_alone,
            by: twins.by.as_ref().map(|by| by.iter().map(ToString::to_string).collect()),
            refuses: twins.refuses,
        });
        let merges = [
            ("l", Merging::Append, self.appends),
            ("m", Merging::Merge, self.merges),
            ("x", Merging::Keep, self.keeps),
        ];
        let merges = merges.iter().filter(|(.., is_on)| *is_on);
        Intake {
            deduplicate,
            merge: merges.map(|(name, merge, _)| ((*name).to_owned(), *merge)).collect(),
            interrupt_running: self.interrupts,
            declared: Arc::new(Declared {
                variables: variables.collect(),
                is_strict: self.is_strict,
            }),
        }
    }

    /// The variables that a job has of such a request; `None`: it is refused.
    pub(super) fn admit(&self, variables: &Variables) -> Option<Variables> {
        let mut variables = variables.clone();
        let given = variables.get("x").cloned().unwrap_or(Value::Null);
        if let Some(rule) = &self.x {
            match (&given, &rule.default) {
                (Value::Null, Some(default)) => {
                    variables.insert("x".to_owned(), default.clone());
                }
                (Value::Null, None) if rule.is_required => return None,
                (Value::Number(_), _) if !rule.is_integer => return None,
                (Value::String(_), _) if rule.is_integer => return None,
                _ => {}
            }
        }
        if self.needs_x && !variables.contains_key("x") {
            return None;
        }
        let is_known = |name: &str| name == "x" && self.x.is_some();
        if self.is_strict && variables.keys().any(|name| !is_known(name)) {
            return None;
        }
        if self.appends && variables.get("l").is_some_and(|list| sequence(list).is_none()) {
            return None;
        }
        if self.merges && variables.get("m").is_some_and(Value::is_array) {
            return None;
        }
        Some(variables)
    }

    /// `x` is not given, and has its default.
    pub(super) fn fills_x(&self, variables: &Variables) -> bool {
        variables.get("x").is_none_or(Value::is_null) && self.x.as_ref().is_some_and(|x| x.default.is_some())
    }

    /// The variables of a job that replaces one with the old ones, of which `x` may be a default, before new defaults are
    /// filled in; `None`: it is refused.
    pub(super) fn merge(&self, old: &Variables, old_x_is_default: bool, new: &Variables) -> Option<Variables> {
        let mut merged = new.clone();
        if self.appends
            && let Some(list) = old.get("l")
        {
            let mut items = sequence(list)?;
            let more = new.get("l").map_or(Some(Vec::new()), sequence)?;
            items.extend(more);
            let mut unique: Vec<Value> = Vec::new();
            for item in items {
                if !unique.contains(&item) {
                    unique.push(item);
                }
            }
            let value = match new.get("l") {
                Some(Value::Object(_)) => {
                    let entries = (0..)
                        .zip(unique)
                        .map(|(index, item): (usize, Value)| (format!("{index}"), item));
                    entries.collect()
                }
                Some(_) => Value::Array(unique),
                None => list.clone(),
            };
            merged.insert("l".to_owned(), value);
        }
        if self.merges
            && let Some(map) = old.get("m")
        {
            let mut joined = map.as_object()?.clone();
            for (name, value) in new.get("m").and_then(Value::as_object).into_iter().flatten() {
                joined.insert(name.clone(), value.clone());
            }
            merged.insert("m".to_owned(), Value::Object(joined));
        }
        let kept = old.get("x").filter(|value| !value.is_null() && !old_x_is_default);
        if self.keeps
            && let Some(value) = kept
        {
            merged.insert("x".to_owned(), value.clone());
        }
        self.admit(&merged).map(|_| merged)
    }

    /// A request that is not refused for what it brings.
    pub(super) fn fitting(&self) -> Variables {
        let candidates = [json!({}), json!({"x": "1"}), json!({"x": 5})];
        let mut fitting = candidates.into_iter().filter_map(|candidate| {
            let candidate = candidate.as_object().unwrap().clone();
            self.admit(&candidate).map(|_| candidate)
        });
        fitting.next().unwrap_or_default()
    }
}

/// The items of a list, also of one as PHP sends it.
fn sequence(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items.clone()),
        Value::Object(entries) => Some(entries.values().cloned().collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}
