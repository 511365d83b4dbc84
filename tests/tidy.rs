//! Properties of the source and of the documents that no compiler checks.
#![expect(clippy::disallowed_methods, reason = "the help is asked of the real binary")]
#![expect(clippy::unwrap_used, reason = "a test ends where it can't go on")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The files below a directory with one of these endings, by their paths from the root.
fn files_below(directory: &str, endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if endings
                .iter()
                .any(|ending| path.extension().is_some_and(|found| found == *ending))
            {
                found.push(relative(&path));
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()
}

fn sources() -> Vec<String> {
    [
        files_below("src", &["rs"]),
        files_below("tests", &["rs"]),
        files_below("bench", &["rs"]),
    ]
    .concat()
}

/// The code of a file without its comments, and without the tests at its end.
fn code(name: &str) -> String {
    let text = read(name);
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// README and the documents beside it, as one text.
fn documents() -> String {
    let mut text = read("README.md");
    if root().join("docs").is_dir() {
        for name in files_below("docs", &["md"]) {
            text += &read(&name);
        }
    }
    text
}

fn is_for_tests(name: &str) -> bool {
    ["tests", "testing", "simulation"]
        .iter()
        .any(|part| name.contains(part))
}

#[track_caller]
fn check_nothing(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn the_scheduler_names_no_clock_thread_file_socket_process_or_chance() {
    let forbidden = [
        "std::time",
        "Instant",
        "SystemTime",
        "std::thread",
        "std::fs",
        "std::io",
        "std::net",
        "std::process",
        "std::env",
        "std::sync::Mutex",
        "crossbeam_channel",
        "rustix",
        "getrandom",
        "Uuid",
        "jiff::Timestamp::now",
        "Zoned::now",
        "crate::clock",
        "crate::log",
        "crate::store",
        "crate::task",
        "crate::api",
        "crate::http",
        "crate::read_model",
        "crate::main_loop",
    ];
    let mut found = Vec::new();
    for name in files_below("src/scheduler", &["rs"]) {
        if is_for_tests(&name) {
            continue;
        }
        let code = code(&name);
        found.extend(
            forbidden
                .iter()
                .filter(|word| code.contains(*word))
                .map(|word| format!("{name} names `{word}`")),
        );
    }
    check_nothing("the core must not know these", &found);
}

/// Which parts of the program each part uses.
fn uses() -> BTreeMap<String, BTreeSet<String>> {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in files_below("src", &["rs"]) {
        if is_for_tests(&name) || name == "src/main.rs" {
            continue;
        }
        let part = part_of(&name);
        let parts_used = uses.entry(part.clone()).or_default();
        for rest in code(&name).split("crate::").skip(1) {
            let names: Vec<String> = match rest.strip_prefix('{') {
                Some(list) => {
                    let list = list.split("};").next().unwrap();
                    list.split(',').map(first_word).collect()
                }
                None => vec![first_word(rest)],
            };
            parts_used.extend(names.into_iter().filter(|name| !name.is_empty() && *name != part));
        }
    }
    let known: BTreeSet<String> = uses.keys().cloned().collect();
    for used in uses.values_mut() {
        used.retain(|name| known.contains(name));
    }
    uses
}

fn part_of(name: &str) -> String {
    let name = name.strip_prefix("src/").unwrap();
    let part = name.split('/').next().unwrap();
    part.strip_suffix(".rs").unwrap_or(part).to_owned()
}

fn first_word(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
        .collect()
}

#[test]
fn no_circle_stands_between_the_parts() {
    let uses = uses();
    assert!(uses["api"].contains("read_model"), "the search must see something");
    let mut circles = Vec::new();
    for part in uses.keys() {
        let mut reached = BTreeSet::new();
        let mut open = vec![part.clone()];
        while let Some(next) = open.pop() {
            for used in uses.get(&next).into_iter().flatten() {
                if reached.insert(used.clone()) {
                    open.push(used.clone());
                }
            }
        }
        if reached.contains(part) {
            circles.push(format!("{part} leads back to itself: {:?}", uses[part]));
        }
    }
    check_nothing("data flows one way", &circles);
}

/// Which sources have which of the marks.
fn sources_with(marks: &[String]) -> Vec<String> {
    let marks_of = |name: String| {
        let text = read(&name);
        let found = marks.iter().filter(move |mark| text.contains(*mark));
        found
            .map(move |mark| format!("{name} has `{mark}`"))
            .collect::<Vec<_>>()
    };
    sources().into_iter().flat_map(marks_of).collect()
}

#[test]
fn nothing_is_left_to_do() {
    // Put together, as this file is looked at too.
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X:"].concat()];
    check_nothing("work that is put off belongs elsewhere", &sources_with(&marks));
}

#[test]
fn each_file_begins_with_its_purpose() {
    let found: Vec<String> = sources()
        .into_iter()
        .filter(|name| !read(name).starts_with("//! "))
        .collect();
    check_nothing("the first line says what the file is for", &found);
}

#[test]
fn no_test_is_ignored_and_none_sleeps() {
    let marks = [
        ["#[ign", "ore"].concat(),
        ["#[should", "_panic"].concat(),
        ["thread::", "sleep("].concat(),
    ];
    check_nothing("such a test shows nothing, or not always", &sources_with(&marks));
}

#[test]
fn each_option_of_the_example_is_documented() {
    let example: serde_yaml::Value = serde_yaml::from_str(&read("pipelines.example.yml")).unwrap();
    let mut keys = BTreeSet::new();
    for pipeline in example["pipelines"].as_mapping().unwrap().values() {
        collect_keys(pipeline, &mut keys);
        for task in pipeline["tasks"].as_mapping().unwrap().values() {
            collect_keys(task, &mut keys);
        }
    }
    assert!(keys.len() > 15, "{keys:?}");
    let documents = documents();
    let found: Vec<String> = keys
        .into_iter()
        .filter(|key| !documents.contains(&format!("`{key}`")))
        .collect();
    check_nothing("no document explains", &found);
}

fn collect_keys(value: &serde_yaml::Value, keys: &mut BTreeSet<String>) {
    let keys_here = value.as_mapping().unwrap().keys();
    keys.extend(keys_here.map(|key| key.as_str().unwrap().to_owned()));
}

#[test]
fn each_crate_is_named_with_its_reason() {
    let manifest = read("Cargo.toml");
    let dependencies = manifest.split("[dependencies]\n").nth(1).unwrap();
    let readme = read("README.md");
    let choices = readme.split("## Choices").nth(1).unwrap();
    let found: Vec<String> = dependencies
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.to_owned())
        .filter(|name| !choices.contains(name.as_str()))
        .collect();
    check_nothing("the README's choices do not name", &found);
}

#[test]
fn there_is_no_async_runtime_and_no_tls() {
    let lock = read("Cargo.lock");
    let found: Vec<String> = [
        "tokio",
        "async-std",
        "smol",
        "mio",
        "futures-executor",
        "rustls",
        "openssl",
        "native-tls",
        "ring",
    ]
    .iter()
    .filter(|name| lock.contains(&format!("name = \"{name}\"\n")))
    .map(ToString::to_string)
    .collect();
    check_nothing("these stay out", &found);
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_prunner"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that the help lists.
fn commands() -> Vec<String> {
    let help = help(&["--help"]);
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    list.lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(first_word)
        .collect()
}

#[test]
fn each_command_and_flag_of_the_help_is_documented() {
    let documents = documents();
    let mut found = Vec::new();
    let commands = commands();
    assert!(commands.len() > 4, "{commands:?}");
    for command in &commands {
        if !documents.contains(&format!("`{command}")) && !documents.contains(&format!("prunner {command}")) {
            found.push(format!("command `{command}`"));
        }
        let help = help(&["help", command]);
        for word in help.split(|character: char| !(character.is_ascii_alphanumeric() || character == '-')) {
            if word.starts_with("--") && word.len() > 2 && !documents.contains(word) {
                found.push(format!("flag `{word}` of `{command}`"));
            }
        }
        for word in help.split(|character: char| !(character.is_ascii_uppercase() || character == '_')) {
            if word.starts_with("PRUNNER_") && word.len() > 8 && !documents.contains(word) {
                found.push(format!("variable `{word}` of `{command}`"));
            }
        }
    }
    check_nothing("no document names", &found);
}

#[test]
fn the_manual_page_names_each_command_and_flag() {
    let page = help(&["__man"]).replace("\\-", "-");
    let mut found = Vec::new();
    for command in commands() {
        if !page.contains(&format!("\n.SS {command}\n")) {
            found.push(format!("command `{command}`"));
        }
        let help = help(&["help", &command]);
        for word in help.split(|character: char| !(character.is_ascii_alphanumeric() || character == '-')) {
            if word.starts_with("--") && word.len() > 2 && !page.contains(&format!("{word}\\fR")) {
                found.push(format!("flag `{word}` of `{command}`"));
            }
        }
    }
    check_nothing("the manual page does not name", &found);
}

#[test]
fn each_route_is_documented() {
    let routes = read("src/api/mod.rs");
    let documents = documents();
    let mut count = 0;
    let mut found = Vec::new();
    for route in routes.split("route(Verb::").skip(1) {
        let Some(path) = route.split('"').nth(1) else { continue };
        count += 1;
        if !documents.contains(path) {
            found.push(path.to_owned());
        }
    }
    assert!(count > 5, "the search must see something");
    check_nothing("no document names the route", &found);
}

#[test]
fn the_make_targets_are_described() {
    let makefile = read("Makefile");
    let found: Vec<String> = makefile
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, rest)| {
            name.chars()
                .all(|character| character.is_ascii_lowercase() || character == '-')
                && !name.is_empty()
                && !rest.contains("## ")
        })
        .map(|(name, _)| name.to_owned())
        .collect();
    check_nothing("`make` lists a target by its comment; these have none", &found);
}

/// What stands between two marks in a text, each time.
fn between<'t>(text: &'t str, open: &'t str, close: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(open)
        .skip(1)
        .filter_map(move |rest| rest.split_once(close).map(|(inside, _)| inside))
}

#[test]
fn what_the_documents_name_is_there() {
    let mut missing = Vec::new();
    let mut seen = 0;
    for name in [files_below("docs", &["md"]), vec!["README.md".to_owned()]].concat() {
        let text = read(&name);
        // Of the fences an even number, so that what stands between two single marks is code.
        let prose: String = text.split("```").step_by(2).collect();
        let folder = root().join(&name).parent().unwrap().to_owned();
        for path in prose.split('`').skip(1).step_by(2) {
            let is_path = ["src/", "tests/", "docs/", "packaging/", "examples/"]
                .iter()
                .any(|start| path.starts_with(start));
            if is_path {
                seen += 1;
                if !root().join(path).exists() {
                    missing.push(format!("{name}: `{path}`"));
                }
            }
        }
        for link in between(&prose, "](", ")").filter(|link| !link.contains("://")) {
            seen += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                root().join(&name)
            } else {
                folder.join(file)
            };
            let headings = fs::read_to_string(&target)
                .unwrap_or_default()
                .to_lowercase()
                .replace(' ', "-");
            if !target.exists() || !headings.contains(&format!("#-{heading}")) && !heading.is_empty() {
                missing.push(format!("{name}: {link}"));
            }
        }
    }
    check_nothing("named, but not there", &missing);
    assert!(seen > 80, "only {seen} names and links were found");
}
