//! `prunner __man`: the manual page, in roff, from the definition of the command line that `--help` is made from.
//!
//! It knows no command and no flag. Surprise: what stands between backticks in the help is bold here.

use clap::{Arg, Command, CommandFactory};

use crate::cli::Cli;
use crate::cli::output::{self, Failure, Status};

/// What no definition of the command line holds.
const REST: &str = r".SH EXIT STATUS
0 done, for a job: succeeded; 1 the job failed; 2 wrong usage or configuration; 3 refused; 4 canceled;
5 no server; 124 out of time; 130 ended by Ctrl\-C.
.SH SIGNALS
To the server: SIGINT lets running jobs end, SIGTERM and SIGHUP stop them, SIGUSR1 loads the pipeline files anew.
.SH ENVIRONMENT
Besides those of the options:
.TP
\fBPRUNNER_TOKEN\fR
The token that commands show to the server.
.TP
\fBNO_COLOR\fR
No colors, whatever its value.
.SH FILES
.TP
\fBpipelines.yml\fR
Pipelines and their tasks.
.TP
\fB.prunner.yml\fR
The secret of the tokens; only its owner may read it.
.TP
\fB.prunner/\fR
Jobs and the outputs of their tasks.
";

pub(crate) fn run() -> Result<Status, Failure> {
    output::print(&page())?;
    Ok(Status::DONE)
}

fn page() -> String {
    let mut command = Cli::command();
    command.build();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(".TH PRUNNER 1 \"\" \"prunner {version}\" \"User Commands\"\n");
    page += &format!(".SH NAME\nprunner \\- {}\n", text(&about));
    page += &format!(".SH SYNOPSIS\n{}", usage(&command));
    page += &format!(".SH DESCRIPTION\n{}.\n{}\n", text(&about), text(&after));
    page += ".SH OPTIONS\nThey stand before or behind the command, and win over the variables of the environment.\n";
    command
        .get_arguments()
        .for_each(|argument| page += &described(argument));
    page += ".SH COMMANDS\n";
    let own = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    for (name, sub) in own.flat_map(with_inner) {
        page += &format!(".SS {}\n{}", text(&name), usage(sub));
        if let Some(about) = sub.get_about() {
            page += &format!(".PP\n{}.\n", text(&about.to_string()));
        }
        sub.get_arguments()
            .filter(|argument| !argument.is_global_set() && argument.get_id() != "help")
            .for_each(|argument| page += &described(argument));
    }
    page + REST
}

/// A command and those that it has itself, with their names.
fn with_inner(command: &Command) -> Vec<(String, &Command)> {
    let name = command.get_name();
    let inner = command.get_subcommands().filter(|inner| inner.get_name() != "help");
    let inner = inner.map(|inner| (format!("{name} {}", inner.get_name()), inner));
    [(name.to_owned(), command)].into_iter().chain(inner).collect()
}

fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    format!("\\fB{}\\fR\n", text(usage.trim_start_matches("Usage: ")))
}

/// An argument and its help as one item of a list.
fn described(argument: &Arg) -> String {
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let values = if argument.get_action().takes_values() {
        argument.get_value_names().unwrap_or_default()
    } else {
        &[]
    };
    let value = values
        .iter()
        .map(|name| format!("\\fI{}\\fR", text(name)))
        .collect::<Vec<_>>()
        .join(" ");
    let head = if names.is_empty() {
        value
    } else {
        let value = if value.is_empty() {
            value
        } else if argument.is_require_equals_set() {
            format!("[={value}]")
        } else {
            format!(" {value}")
        };
        format!("\\fB{}\\fR{value}", text(&names.join(", ")))
    };
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let possible: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|_| !values.is_empty() && !argument.is_hide_possible_values_set())
        .map(|value| value.get_name().to_owned())
        .collect();
    let possible = if possible.is_empty() {
        String::new()
    } else {
        format!(": {}", possible.join(", "))
    };
    format!(".TP\n{head}\n{}\n", text(&format!("{help}{possible}")))
}

/// Text that roff takes for nothing else, with what stands between backticks in bold.
fn text(help: &str) -> String {
    let escaped = help.replace('\\', "\\e").replace('-', "\\-").replace('\n', " ");
    let mut text = String::new();
    for (index, part) in escaped.split('`').enumerate() {
        text += if index == 0 {
            ""
        } else if index % 2 == 1 {
            "\\fB"
        } else {
            "\\fR"
        };
        text += part;
    }
    // At the start of a line these would begin a request.
    if text.starts_with(['.', '\'']) {
        text.insert_str(0, "\\&");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(help: &str, expected: &str) {
        assert_eq!(text(help), expected);
    }

    #[test]
    fn help_is_no_request() {
        check(".env files", "\\&.env files");
        check("'quoted'", "\\&'quoted'");
        check("a\\b --c\nd", "a\\eb \\-\\-c d");
        check("with `--wait` alone", "with \\fB\\-\\-wait\\fR alone");
    }
}
