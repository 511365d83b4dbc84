//! `prunner graph`: the tasks of a pipeline and their dependencies, as a picture.
//!
//! Unaware of servers: it reads the definition files. Surprise: a task stands on the level behind the last of those that
//! it depends on, and says which these are: lines across several levels would be harder to read than names.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::cli::client::refused;
use crate::cli::columns::{self, padded, width, width_of};
use crate::cli::output::{self, Failure, Status};
use crate::cli::serve::search;
use crate::config::Config;
use crate::definition::{self, ON_ERROR, Pipeline, did_you_mean, shown};
use crate::log::one_line;

/// Of the terminal that the picture is made for, unless it is shown on a narrower one.
const COLUMNS: usize = 80;
/// On a terminal that is narrower still it breaks.
const LEAST_COLUMNS: usize = 20;
/// Of the text in a box that has others beside it.
const MAX_BOX_TEXT: usize = 34;

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct GraphArguments {
    /// Name of the pipeline
    pub pipeline: String,
    /// Form of the picture
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Print the tasks by level as JSON
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Boxes, by level, for people
    #[default]
    Text,
    /// For Graphviz
    Dot,
    /// For Mermaid, as in Markdown
    Mermaid,
}

pub(crate) fn run(config: &Config, arguments: &GraphArguments) -> Result<Status, Failure> {
    let pipeline = load_pipeline(config, &arguments.pipeline)?;
    let graph = Graph::new(&pipeline);
    output::print(&match arguments.format {
        _ if arguments.json => graph.json(),
        Format::Text => {
            let columns = columns::of_standard_output().unwrap_or(COLUMNS);
            graph.text(columns.clamp(LEAST_COLUMNS, COLUMNS))
        }
        Format::Dot => graph.dot(),
        Format::Mermaid => graph.mermaid(),
    })?;
    Ok(Status::DONE)
}

fn load_pipeline(config: &Config, name: &str) -> Result<std::sync::Arc<Pipeline>, Failure> {
    let loaded = definition::load(&search(config));
    if let Some(error) = loaded.errors.first() {
        let others = match loaded.errors.len() - 1 {
            0 => String::new(),
            others => format!(" (and {others} more; `prunner validate` lists them)"),
        };
        return Err(Failure::usage(format!("{error}{others}")));
    }
    if loaded.files.is_empty() {
        return Err(Failure::usage(format!(
            "no file below `{}` matches `{}`; give `--path` or `--pattern`",
            config.path.display(),
            config.pattern
        )));
    }
    if let Some(pipeline) = loaded.pipelines.get(name) {
        return Ok(std::sync::Arc::clone(pipeline));
    }
    let known: Vec<&str> = loaded.pipelines.keys().map(AsRef::as_ref).collect();
    let suggestion = did_you_mean(name, known.iter().copied());
    let suggestion = if suggestion.is_empty() && !known.is_empty() {
        format!("; defined are {}", shown(&known.join(", ")))
    } else {
        suggestion
    };
    Err(refused(format!(
        "pipeline `{}` is not defined{suggestion}",
        shown(name)
    )))
}

struct Node {
    name: String,
    /// Names of others, in the order of the file.
    depends_on: Vec<String>,
    is_marker: bool,
}

struct Graph {
    pipeline: String,
    /// Each task stands on a level behind all that it depends on.
    levels: Vec<Vec<Node>>,
    on_error: Option<Node>,
}

impl Graph {
    fn new(pipeline: &Pipeline) -> Graph {
        let mut level_of = vec![0; pipeline.tasks.len()];
        for (index, task) in pipeline.tasks.iter().enumerate() {
            // In the order of the list, what a task depends on stands before it.
            level_of[index] = task
                .depends_on
                .iter()
                .map(|other| level_of[*other] + 1)
                .max()
                .unwrap_or(0);
        }
        let mut levels: Vec<Vec<Node>> = Vec::new();
        for index in &pipeline.file_order {
            let level = level_of[*index];
            while levels.len() <= level {
                levels.push(Vec::new());
            }
            let task = &pipeline.tasks[*index];
            levels[level].push(Node {
                name: task.name.to_string(),
                depends_on: task
                    .depends_on
                    .iter()
                    .map(|other| pipeline.tasks[*other].name.to_string())
                    .collect(),
                is_marker: task.is_marker(),
            });
        }
        Graph {
            pipeline: pipeline.name.to_string(),
            levels,
            on_error: pipeline.on_error.as_ref().map(|task| Node {
                name: ON_ERROR.to_owned(),
                depends_on: Vec::new(),
                is_marker: task.is_marker(),
            }),
        }
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.levels.iter().flatten()
    }

    fn text(&self, columns: usize) -> String {
        let mut text = format!("{}\n", one_line(&self.pipeline));
        if self.levels.is_empty() {
            text.push_str("\n(no tasks: a job of it succeeds at once)\n");
        }
        for (index, level) in self.levels.iter().enumerate() {
            text.push_str(if index == 0 { "\n" } else { "     ▼\n" });
            let boxes: Vec<Vec<String>> = level.iter().map(|node| draw(node, level.len(), columns)).collect();
            text.push_str(&beside(&boxes, columns));
        }
        if let Some(node) = &self.on_error {
            text.push_str("\nafter a failure:\n");
            text.push_str(&beside(&[draw(node, 1, columns)], columns));
        }
        text
    }

    fn json(&self) -> String {
        let tasks: Vec<Value> = self
            .levels
            .iter()
            .enumerate()
            .flat_map(|(level, nodes)| {
                nodes.iter().map(move |node| {
                    json!({"name": node.name, "dependsOn": node.depends_on, "level": level, "marker": node.is_marker})
                })
            })
            .collect();
        let graph = json!({"pipeline": self.pipeline, "tasks": tasks, "onError": self.on_error.is_some()});
        format!("{graph}\n")
    }

    /// What stands for a task: names may hold what means something to the programs that read it, numbers don't.
    fn id(&self, name: &str) -> String {
        let position = self.nodes().position(|node| node.name == name);
        position.map_or_else(|| ON_ERROR.to_owned(), |position| format!("t{position}"))
    }

    fn edges(&self, arrow: &str, end: &str) -> String {
        let mut text = String::new();
        for node in self.nodes() {
            for other in &node.depends_on {
                text.push_str(&format!("  {} {arrow} {}{end}\n", self.id(other), self.id(&node.name)));
            }
        }
        text
    }

    fn dot(&self) -> String {
        let mut text = format!(
            "digraph {} {{\n  rankdir=LR;\n  node [shape=box];\n",
            quote_dot(&self.pipeline)
        );
        for node in self.nodes().chain(&self.on_error) {
            let style = if node.is_marker { ", style=rounded" } else { "" };
            let label = quote_dot(&node.name);
            text.push_str(&format!("  {} [label={label}{style}];\n", self.id(&node.name)));
        }
        text + &self.edges("->", ";") + "}\n"
    }

    fn mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_owned();
        for node in self.nodes().chain(&self.on_error) {
            let (open, close) = if node.is_marker { ("([", "])") } else { ("[", "]") };
            let label = quote_mermaid(&node.name);
            text.push_str(&format!("  {}{open}{label}{close}\n", self.id(&node.name)));
        }
        text + &self.edges("-->", "")
    }
}

/// The lines of a box, all of the same width.
fn draw(node: &Node, beside: usize, columns: usize) -> Vec<String> {
    let widest = columns - 4;
    let widest = if beside == 1 { widest } else { widest.min(MAX_BOX_TEXT) };
    let mut lines = wrap(&one_line(&node.name), widest);
    if !node.depends_on.is_empty() {
        let others = format!("← {}", one_line(&node.depends_on.join(", ")));
        lines.extend(wrap(&others, widest));
    }
    let columns = lines.iter().map(|line| width(line)).max().unwrap_or(0);
    let rule = "─".repeat(columns + 2);
    let mut drawn = vec![if node.is_marker {
        format!("╭{rule}╮")
    } else {
        format!("┌{rule}┐")
    }];
    drawn.extend(lines.iter().map(|line| format!("│ {} │", padded(line, columns))));
    drawn.push(if node.is_marker {
        format!("╰{rule}╯")
    } else {
        format!("└{rule}┘")
    });
    drawn
}

/// The text in lines of at most so many columns, broken at blanks where there are any.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let used = width(&line);
        if used > 0 && used + 1 + width(word) > columns {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        for character in word.chars() {
            if width(&line) + width_of(character) > columns {
                lines.push(std::mem::take(&mut line));
            }
            line.push(character);
        }
    }
    lines.push(line);
    lines
}

/// Boxes in rows, none of which is wider than the terminal.
fn beside(boxes: &[Vec<String>], columns: usize) -> String {
    let width_of = |drawn: &[String]| drawn.first().map_or(0, |line| width(line));
    let mut text = String::new();
    let mut rest = boxes;
    while !rest.is_empty() {
        let mut used = 0;
        let fitting = rest.iter().take_while(|drawn| {
            used += width_of(drawn) + 1;
            used - 1 <= columns
        });
        let count = fitting.count().max(1);
        let (row, others) = rest.split_at(count);
        rest = others;
        let height = row.iter().map(Vec::len).max().unwrap_or(0);
        for index in 0..height {
            let cells: Vec<String> = row
                .iter()
                .map(|drawn| drawn.get(index).cloned().unwrap_or_else(|| " ".repeat(width_of(drawn))))
                .collect();
            text.push_str(cells.join(" ").trim_end());
            text.push('\n');
        }
    }
    text
}

/// As a label: Graphviz reads entities of HTML there too.
fn quote_dot(text: &str) -> String {
    let escaped = one_line(text)
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('&', "&amp;");
    format!("\"{escaped}\"")
}

/// Mermaid reads a label as Markdown, HTML and escapes of its own: what is no part of a word is named by its number.
fn quote_mermaid(text: &str) -> String {
    let text: Vec<char> = one_line(text).chars().collect();
    let is_word = |place: Option<usize>| {
        place
            .and_then(|place| text.get(place))
            .is_some_and(char::is_ascii_alphanumeric)
    };
    let mut quoted = "\"".to_owned();
    for (place, &character) in text.iter().enumerate() {
        let is_plain = match character {
            ' ' => true,
            '-' | '_' | '.' | ':' => is_word(place.checked_sub(1)) && is_word(Some(place + 1)),
            _ => character.is_ascii_alphanumeric() || !character.is_ascii(),
        };
        if is_plain {
            quoted.push(character);
        } else {
            quoted.push_str(&format!("#{};", u32::from(character)));
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::testing::Space;

    fn graph(yaml: &str) -> Graph {
        let space = Space::new();
        space.write("pipelines.yml", yaml);
        let loaded = definition::load_files(&[space.path("pipelines.yml")]);
        assert!(loaded.errors.is_empty(), "{:?}", loaded.errors);
        Graph::new(loaded.pipelines.values().next().unwrap())
    }

    const DEPLOY: &str = "pipelines: {deploy: {on_error: {script: [x]}, tasks: {
        upload: {script: [x], depends_on: [ready, lint]},
        lint: {script: [x]},
        'te\"st': {script: [x]},
        ready: {depends_on: [lint, 'te\"st']},
    }}}";

    #[test]
    fn tasks_stand_by_level() {
        let expected = r#"deploy

┌──────┐ ┌───────┐
│ lint │ │ te"st │
└──────┘ └───────┘
     ▼
╭───────────────╮
│ ready         │
│ ← lint, te"st │
╰───────────────╯
     ▼
┌───────────────┐
│ upload        │
│ ← ready, lint │
└───────────────┘

after a failure:
┌──────────┐
│ on_error │
└──────────┘
"#;
        assert_eq!(graph(DEPLOY).text(COLUMNS), expected);
        assert_eq!(
            graph("pipelines: {empty: {}}").text(COLUMNS),
            "empty\n\n(no tasks: a job of it succeeds at once)\n"
        );
    }

    #[test]
    fn boxes_are_as_wide_as_their_text_is_shown() {
        let expected = "p\n\n┌────────┐\n│ 世 é🎉 │\n└────────┘\n";
        assert_eq!(
            graph("pipelines: {p: {tasks: {'世 é🎉': {script: [x]}}}}").text(COLUMNS),
            expected
        );
        let wide = "世".repeat(60);
        let text = graph(&format!("pipelines: {{p: {{tasks: {{{wide}: {{script: [x]}}}}}}}}")).text(COLUMNS);
        assert!(text.lines().all(|line| width(line) <= COLUMNS), "{text}");
    }

    #[test]
    fn json_has_the_levels() {
        let expected = json!({"pipeline": "deploy", "onError": true, "tasks": [
            {"name": "lint", "dependsOn": [], "level": 0, "marker": false},
            {"name": "te\"st", "dependsOn": [], "level": 0, "marker": false},
            {"name": "ready", "dependsOn": ["lint", "te\"st"], "level": 1, "marker": true},
            {"name": "upload", "dependsOn": ["ready", "lint"], "level": 2, "marker": false},
        ]});
        let found: Value = serde_json::from_str(&graph(DEPLOY).json()).unwrap();
        assert_eq!(found, expected);
    }

    #[test]
    fn of_a_label_mermaid_changes_nothing() {
        for (name, expected) in [
            ("build-all_2.0 x", "\"build-all_2.0 x\""),
            ("- [x] 1. a", "\"#45; #91;x#93; 1#46; a\""),
            ("__init__\\n", "\"#95;#95;init#95;#95;#92;n\""),
            ("`#35;`", "\"#96;#35;35#59;#96;\""),
            ("世界 & <b>", "\"世界 #38; #60;b#62;\""),
        ] {
            assert_eq!(quote_mermaid(name), expected);
        }
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let long = "x".repeat(200);
        let others: Vec<String> = (0..40).map(|index| format!("task-number-{index}")).collect();
        let mut yaml = format!(
            "pipelines: {{p: {{tasks: {{{long}: {{}}, all: {{depends_on: [{long}, {}]}}",
            others.join(", ")
        );
        for other in &others {
            yaml.push_str(&format!(", {other}: {{}}"));
        }
        let graph = graph(&(yaml + "}}}"));
        for columns in [COLUMNS, 40, LEAST_COLUMNS] {
            let text = graph.text(columns);
            for line in text.lines() {
                assert!(width(line) <= columns, "{line}");
            }
            assert!(text.lines().any(|line| width(line) > columns - 10), "{text}");
            assert!(text.contains("task-number-39") || columns == LEAST_COLUMNS, "{text}");
        }
    }

    #[test]
    fn dot_and_mermaid_quote_names() {
        let expected = r#"digraph "deploy" {
  rankdir=LR;
  node [shape=box];
  t0 [label="lint"];
  t1 [label="te\"st"];
  t2 [label="ready", style=rounded];
  t3 [label="upload"];
  on_error [label="on_error"];
  t0 -> t2;
  t1 -> t2;
  t2 -> t3;
  t0 -> t3;
}
"#;
        assert_eq!(graph(DEPLOY).dot(), expected);
        let expected = r#"flowchart LR
  t0["lint"]
  t1["te#34;st"]
  t2(["ready"])
  t3["upload"]
  on_error["on_error"]
  t0 --> t2
  t1 --> t2
  t2 --> t3
  t0 --> t3
"#;
        assert_eq!(graph(DEPLOY).mermaid(), expected);
    }
}
