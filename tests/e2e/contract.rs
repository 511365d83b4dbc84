//! Holds answers against `openapi.json`: status, headers, type, and body, with no key that is not there.
//!
//! Surprise: the document lets answers have more keys than it names, for clients are to bear more; here that is a mistake.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Map, Value, json};

use crate::space::Answer;

/// The answers that each request may have, whatever it asks for.
const ALWAYS: [&str; 6] = ["400", "408", "413", "431", "500", "503"];

pub(crate) struct Contract {
    pub document: Value,
    pub schemas: Schemas,
    /// By the text of the schema.
    pub indices: HashMap<String, SchemaIndex>,
}

pub(crate) fn contract() -> &'static Contract {
    static CONTRACT: OnceLock<Contract> = OnceLock::new();
    CONTRACT.get_or_init(Contract::new)
}

/// Checks the answer to a request with this line.
#[track_caller]
pub(crate) fn check(method: &str, target: &str, answer: &Answer) {
    if let Err(why) = contract().check(method, target, answer) {
        panic!("{method} {target} has an answer that `openapi.json` does not allow: {why}\n{answer:?}");
    }
}

impl Contract {
    fn new() -> Contract {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        let document: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let mut bodies = Vec::new();
        collect_bodies(&document, &mut bodies);
        let mut definitions = document["components"]["schemas"].as_object().unwrap().clone();
        for (index, body) in bodies.iter().enumerate() {
            definitions.insert(format!("body{index}"), (*body).clone());
        }
        let mut strict = json!({"$defs": definitions});
        make_strict(&mut strict["$defs"]);
        let mut compiler = Compiler::new();
        compiler.enable_format_assertions();
        compiler.add_resource("file:///openapi.json", strict).unwrap();
        let mut schemas = Schemas::new();
        let mut indices = HashMap::new();
        for (index, body) in bodies.iter().enumerate() {
            let place = format!("file:///openapi.json#/$defs/body{index}");
            let schema = compiler.compile(&place, &mut schemas);
            let schema = schema.unwrap_or_else(|error| panic!("{body}: {error:#}"));
            indices.insert(body.to_string(), schema);
        }
        Contract {
            document,
            schemas,
            indices,
        }
    }

    pub(crate) fn check(&self, method: &str, target: &str, answer: &Answer) -> Result<(), String> {
        let path = target.split(['?', '#']).next().unwrap();
        let status = answer.status.to_string();
        let mut operations = &self.document["paths"][path];
        if let Some(same) = operations["$ref"].as_str() {
            operations = self.document.pointer(same.strip_prefix('#').unwrap()).unwrap();
        }
        let name = match method {
            "GET" | "HEAD" => "get",
            "POST" => "post",
            "DELETE" => "delete",
            _ => "another",
        };
        let shared = &self.document["components"]["responses"];
        let documented = &operations[name]["responses"][&status];
        let others = match (operations.is_null(), operations[name].is_null()) {
            (true, _) => &["401", "404"][..],
            (_, true) => &["401", "405"],
            _ => &[],
        };
        let response = if let Some(place) = documented["$ref"].as_str() {
            self.document.pointer(place.strip_prefix('#').unwrap()).unwrap()
        } else if !documented.is_null() {
            documented
        } else if operations[name].is_null() && (others.contains(&&*status) || ALWAYS.contains(&&*status)) {
            &shared[&status]
        } else {
            return Err(format!("the status {status}"));
        };
        for name in response["headers"].as_object().into_iter().flat_map(Map::keys) {
            if answer.header(name).is_empty() {
                return Err(format!("no header {name}"));
            }
        }
        self.check_body(response, answer, method == "HEAD")
    }

    fn check_body(&self, response: &Value, answer: &Answer, is_head: bool) -> Result<(), String> {
        let kind = answer.header("Content-Type");
        let Some(content) = response["content"].as_object() else {
            let is_empty = kind.is_empty() && answer.body.is_empty();
            return if is_empty { Ok(()) } else { Err("a body".to_owned()) };
        };
        let media = content.get(kind).ok_or_else(|| format!("the type `{kind}`"))?;
        if is_head {
            let is_empty = answer.body.is_empty();
            return if is_empty { Ok(()) } else { Err("a body".to_owned()) };
        }
        if kind != "application/json" {
            return Ok(());
        }
        let body: Value = serde_json::from_str(&answer.body).map_err(|error| format!("no JSON: {error}"))?;
        let index = self.indices[&media["schema"].to_string()];
        let result = self.schemas.validate(&body, index);
        result.map_err(|error| format!("{error:#}"))
    }
}

/// The schemas of all bodies in JSON.
fn collect_bodies<'a>(value: &'a Value, bodies: &mut Vec<&'a Value>) {
    if let Some(schema) = value.pointer("/application~1json/schema") {
        bodies.push(schema);
    }
    match value {
        Value::Object(members) => members.values().for_each(|member| collect_bodies(member, bodies)),
        Value::Array(items) => items.iter().for_each(|item| collect_bodies(item, bodies)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Lets objects have no keys but those that are named, and moves references to where the schemas are.
fn make_strict(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if members.get("properties").is_some_and(Value::is_object) && !members.contains_key("additionalProperties")
            {
                members.insert("unevaluatedProperties".to_owned(), Value::Bool(false));
            }
            if let Some(Value::String(place)) = members.get_mut("$ref") {
                *place = place.replace("#/components/schemas/", "#/$defs/");
            }
            members.values_mut().for_each(make_strict);
        }
        Value::Array(items) => items.iter_mut().for_each(make_strict),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
