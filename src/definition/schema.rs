//! The table of keys as a JSON schema, draft 2020-12, that editors check definition files with and take their help from.
//!
//! Unaware of the parser. Surprise: a schema sees no YAML but what it means, so null is allowed wherever it means that
//! the key is missing; what only a look at the whole can find (names that don't exist, circles, templates) it lets pass.

use serde_json::{Map, Value as Json, json};

use crate::definition::keys::{Key, Place, SHAPES, Value};

/// As it is kept in `pipelines.schema.json`.
pub(crate) fn schema() -> String {
    let mut definitions = Map::new();
    for place in Place::ALL {
        if place != Place::File {
            definitions.insert(place.name().to_owned(), mapping(place));
        }
    }
    for (name, shape) in SHAPES {
        definitions.insert((*name).to_owned(), parsed(shape));
    }
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pipelines of prunner",
    });
    merge(&mut schema, mapping(Place::File));
    merge(&mut schema, json!({"$defs": definitions}));
    let mut text = String::new();
    write(&mut text, &schema, 0);
    text.push('\n');
    text
}

/// A mapping with the keys of a place, and no others.
fn mapping(place: Place) -> Json {
    let properties: Map<String, Json> = place.keys().map(|key| (key.name.to_owned(), property(key))).collect();
    let mut schema = json!({
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": false,
    });
    let rules = parsed(place.rules());
    // A rule may say more of a key that has its own schema already.
    let clash = rules.get("properties").is_some();
    merge(&mut schema, if clash { json!({"allOf": [rules]}) } else { rules });
    schema
}

fn property(key: &Key) -> Json {
    let mut schema = json!({"description": key.about});
    merge(&mut schema, value(&key.value));
    if !key.default.is_empty() {
        merge(&mut schema, json!({"default": parsed(key.default)}));
    }
    schema
}

fn value(value_of_key: &Value) -> Json {
    match value_of_key {
        Value::Boolean => json!({"type": ["boolean", "null"]}),
        Value::Integer { least } => json!({"type": ["integer", "null"], "minimum": least}),
        Value::Word(words) => {
            let mut words: Vec<Json> = words.iter().map(|word| json!(word)).collect();
            words.push(Json::Null);
            json!({"enum": words})
        }
        Value::Shape(name) => reference(name),
        Value::Schema(text) => parsed(text),
        Value::Mapping(place) => reference(place.name()),
        Value::Named(names, place) => json!({
            "type": ["object", "null"],
            "propertyNames": reference(names),
            "additionalProperties": reference(place.name()),
        }),
        Value::List(place) => json!({
            "type": ["array", "null"],
            "items": {"type": "object", "$ref": format!("#/$defs/{}", place.name())},
        }),
        Value::Either(values) => json!({"anyOf": values.iter().map(value).collect::<Vec<Json>>()}),
    }
}

fn reference(name: &str) -> Json {
    json!({"$ref": format!("#/$defs/{name}")})
}

fn parsed(text: &str) -> Json {
    serde_json::from_str(text).expect("the table of keys holds JSON")
}

fn merge(schema: &mut Json, more: Json) {
    if let (Json::Object(schema), Json::Object(more)) = (schema, more) {
        schema.extend(more);
    }
}

/// On several lines where it is long, for people who read it.
fn write(text: &mut String, json: &Json, depth: usize) {
    const SHORT: usize = 80;
    let line = json.to_string();
    let parts: Vec<(String, &Json)> = match json {
        Json::Object(members) if line.len() > SHORT => members
            .iter()
            .map(|(name, value)| (format!("{}: ", json!(name)), value))
            .collect(),
        Json::Array(items) if line.len() > SHORT => items.iter().map(|item| (String::new(), item)).collect(),
        Json::Object(_) | Json::Array(_) | Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            text.push_str(&line);
            return;
        }
    };
    let (open, close) = if json.is_object() { ('{', '}') } else { ('[', ']') };
    let indent = |text: &mut String, depth: usize| {
        text.push('\n');
        text.push_str(&"  ".repeat(depth));
    };
    text.push(open);
    for (index, (name, value)) in parts.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        indent(text, depth + 1);
        text.push_str(&name);
        write(text, value, depth + 1);
    }
    indent(text, depth);
    text.push(close);
}
