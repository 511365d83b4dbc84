//! `GET /openapi.json`: the API in a form that programs read.
//!
//! The text is part of the program's file and takes no memory. Unaware of the routes: the tests below hold it against them,
//! and those that drive the real binary hold each answer that they get against it.

use super::exchange::Response;
use super::reply;

const DOCUMENT: &str = include_str!("../../openapi.json");

pub(super) fn document() -> Response {
    reply::new(200, reply::JSON, DOCUMENT.as_bytes(), Some(DOCUMENT.len()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::api::error::CODES;
    use crate::api::{ROUTES, Verb};
    use crate::definition::variables::VariableKind;
    use crate::job::JobStatus;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    #[test]
    fn its_version_is_that_of_the_program() {
        assert_eq!(document()["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn it_has_each_route_and_no_other() {
        let document = document();
        let mut documented: BTreeSet<String> = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let open = if operation.get("security").is_some() {
                    " open"
                } else {
                    ""
                };
                let line = match operation.as_str() {
                    Some(same) => format!("{path} is {same}"),
                    None => format!("{method} {path}{open}"),
                };
                documented.insert(line);
            }
        }
        let mut routes = BTreeSet::new();
        for route in &ROUTES {
            let verb = match route.verb {
                Verb::Get => "get",
                Verb::Post => "post",
                Verb::Delete => "delete",
            };
            let open = if route.open { " open" } else { "" };
            routes.insert(format!("{verb} {}{open}", route.path));
            if route.trailing_slash {
                let pointer = route.path.replace('/', "~1");
                routes.insert(format!("{}/ is #/paths/{pointer}", route.path));
            }
        }
        assert_eq!(documented, routes);
    }

    #[test]
    fn the_readme_names_what_is_open() {
        let readme = include_str!("../../README.md");
        let sentence = readme
            .lines()
            .find(|line| line.starts_with("Every request but "))
            .unwrap();
        let named = sentence.split(" needs ").next().unwrap();
        let open = ROUTES.iter().filter(|route| route.open);
        let paths: Vec<String> = open.map(|route| format!("`GET {}`", route.path)).collect();
        assert_eq!(named, format!("Every request but {}", paths.join(" and ")));
    }

    /// What stands between two texts in the code of a file, each time.
    fn between<'a>(code: &'a str, start: &str, end: &str) -> BTreeSet<&'a str> {
        let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let rests = code.split(start).skip(1);
        rests.filter_map(|rest| rest.split(end).next()).collect()
    }

    fn texts(value: &Value) -> BTreeSet<&str> {
        value.as_array().unwrap().iter().filter_map(Value::as_str).collect()
    }

    #[test]
    fn it_has_each_code_and_no_other() {
        let code = include_str!("error.rs");
        let mut known = BTreeSet::new();
        for function in ["fn code(", "fn schedule_code(", "fn unreadable_code("] {
            let body = code.split(function).nth(1).unwrap().split("\n}\n").next().unwrap();
            let body = body.split("\n    }\n\n").next().unwrap();
            known.extend(between(body, "=> \"", "\""));
        }
        assert_eq!(BTreeSet::from(CODES), known);
        // It is plain text.
        assert!(known.remove("unauthorized"));
        let document = document();
        let mut documented = BTreeSet::new();
        for response in document["components"]["responses"].as_object().unwrap().values() {
            let schema = &response["content"]["application/json"]["schema"];
            if !schema.is_null() {
                documented.extend(texts(&schema["properties"]["code"]["enum"]));
            }
        }
        assert_eq!(documented, known);
    }

    #[test]
    fn it_has_each_parameter_and_no_other() {
        let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api")).unwrap();
        let paths = files.map(|file| file.unwrap().path());
        let codes: Vec<String> = paths
            .filter(|path| !path.ends_with("tests.rs"))
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        let mut known = BTreeSet::new();
        for code in &codes {
            known.extend(between(code, ".first(\"", "\""));
            known.extend(between(code, ".all(\"", "\""));
        }
        let document = document();
        let shared = document["components"]["parameters"].as_object().unwrap().values();
        let operations = document["paths"].as_object().unwrap().values();
        let operations = operations.flat_map(|path| path.as_object().unwrap().values());
        let own = operations.filter_map(|operation| operation["parameters"].as_array());
        let documented: BTreeSet<&str> = shared
            .chain(own.flatten())
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(documented, known);
    }

    #[test]
    fn its_words_are_ours() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        let statuses: BTreeSet<&str> = JobStatus::ALL.map(JobStatus::as_str).into();
        assert_eq!(texts(&schemas["JobStatus"]["enum"]), statuses);
        let types = &schemas["Variable"]["properties"]["type"]["enum"];
        assert_eq!(texts(types), VariableKind::ALL.map(VariableKind::as_str).into());
    }
}
