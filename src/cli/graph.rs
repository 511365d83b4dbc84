//! `prunner graph`: the tasks of a pipeline and their dependencies, as a picture.
//!
//! Unaware of servers: it reads the definition files. Surprise: a task stands on the level behind the last of those that
//! it depends on, and says which these are: lines across several levels would be harder to read than names.

use clap::ValueEnum;

use crate::cli::client::refused;
use crate::cli::output::{self, Failure, Status};
use crate::cli::serve::search;
use crate::config::Config;
use crate::definition::{self, ON_ERROR, Pipeline, did_you_mean, shown};
use crate::log::one_line;

/// Of the terminal that the picture is made for.
const COLUMNS: usize = 80;
/// Of the text in a box that has others beside it.
const MAX_BOX_TEXT: usize = 34;

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct GraphArguments {
    /// Name of the pipeline
    pub pipeline: String,
    /// Form of the picture
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
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
        Format::Text => graph.text(),
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

    fn text(&self) -> String {
        let mut text = format!("{}\n", one_line(&self.pipeline));
        if self.levels.is_empty() {
            text.push_str("\n(no tasks: a job of it succeeds at once)\n");
        }
        for (index, level) in self.levels.iter().enumerate() {
            text.push_str(if index == 0 { "\n" } else { "     ▼\n" });
            let boxes: Vec<Vec<String>> = level.iter().map(|node| draw(node, level.len())).collect();
            text.push_str(&beside(&boxes));
        }
        if let Some(node) = &self.on_error {
            text.push_str("\nafter a failure:\n");
            text.push_str(&beside(&[draw(node, 1)]));
        }
        text
    }

    fn dot(&self) -> String {
        let mut text = format!(
            "digraph {} {{\n  rankdir=LR;\n  node [shape=box];\n",
            quote_dot(&self.pipeline)
        );
        for node in self.nodes().chain(&self.on_error) {
            let style = if node.is_marker { " [style=rounded]" } else { "" };
            text.push_str(&format!("  {}{style};\n", quote_dot(&node.name)));
        }
        for node in self.nodes() {
            for other in &node.depends_on {
                text.push_str(&format!("  {} -> {};\n", quote_dot(other), quote_dot(&node.name)));
            }
        }
        text + "}\n"
    }

    fn mermaid(&self) -> String {
        // Names may hold what means something to Mermaid, numbers don't.
        let id = |name: &str| {
            let position = self.nodes().position(|node| node.name == name);
            position.map_or_else(|| ON_ERROR.to_owned(), |position| format!("t{position}"))
        };
        let mut text = "flowchart LR\n".to_owned();
        for node in self.nodes() {
            let (open, close) = if node.is_marker { ("([", "])") } else { ("[", "]") };
            text.push_str(&format!(
                "  {}{open}{}{close}\n",
                id(&node.name),
                quote_mermaid(&node.name)
            ));
        }
        if let Some(node) = &self.on_error {
            text.push_str(&format!("  {ON_ERROR}[{}]\n", quote_mermaid(&node.name)));
        }
        for node in self.nodes() {
            for other in &node.depends_on {
                text.push_str(&format!("  {} --> {}\n", id(other), id(&node.name)));
            }
        }
        text
    }
}

/// The lines of a box, all of the same width.
fn draw(node: &Node, beside: usize) -> Vec<String> {
    let widest = if beside == 1 { COLUMNS - 4 } else { MAX_BOX_TEXT };
    let mut lines = wrap(&one_line(&node.name), widest);
    if !node.depends_on.is_empty() {
        let others = format!("← {}", one_line(&node.depends_on.join(", ")));
        lines.extend(wrap(&others, widest));
    }
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let rule = "─".repeat(width + 2);
    let mut drawn = vec![if node.is_marker {
        format!("╭{rule}╮")
    } else {
        format!("┌{rule}┐")
    }];
    drawn.extend(lines.iter().map(|line| format!("│ {line:width$} │")));
    drawn.push(if node.is_marker {
        format!("╰{rule}╯")
    } else {
        format!("└{rule}┘")
    });
    drawn
}

/// The text in lines of at most `width` characters, broken at blanks where there are any.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let length = line.chars().count();
        if length > 0 && length + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        for character in word.chars() {
            if line.chars().count() == width {
                lines.push(std::mem::take(&mut line));
            }
            line.push(character);
        }
    }
    lines.push(line);
    lines
}

/// Boxes in rows, none of which is wider than the terminal.
fn beside(boxes: &[Vec<String>]) -> String {
    let width_of = |drawn: &[String]| drawn.first().map_or(0, |line| line.chars().count());
    let mut text = String::new();
    let mut rest = boxes;
    while !rest.is_empty() {
        let mut used = 0;
        let fitting = rest.iter().take_while(|drawn| {
            used += width_of(drawn) + 1;
            used - 1 <= COLUMNS
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

fn quote_dot(text: &str) -> String {
    format!("\"{}\"", one_line(text).replace('\\', "\\\\").replace('"', "\\\""))
}

fn quote_mermaid(text: &str) -> String {
    let escaped = one_line(text)
        .replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;");
    format!("\"{escaped}\"")
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
        assert_eq!(graph(DEPLOY).text(), expected);
        assert_eq!(
            graph("pipelines: {empty: {}}").text(),
            "empty\n\n(no tasks: a job of it succeeds at once)\n"
        );
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
        let text = graph(&(yaml + "}}}")).text();
        for line in text.lines() {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
        assert!(text.lines().any(|line| line.chars().count() > 70), "{text}");
        assert!(text.contains("task-number-39"), "{text}");
    }

    #[test]
    fn dot_and_mermaid_quote_names() {
        let expected = r#"digraph "deploy" {
  rankdir=LR;
  node [shape=box];
  "lint";
  "te\"st";
  "ready" [style=rounded];
  "upload";
  "on_error";
  "lint" -> "ready";
  "te\"st" -> "ready";
  "ready" -> "upload";
  "lint" -> "upload";
}
"#;
        assert_eq!(graph(DEPLOY).dot(), expected);
        let expected = r#"flowchart LR
  t0["lint"]
  t1["te&quot;st"]
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
