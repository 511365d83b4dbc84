//! `prunner completions SHELL`: scripts that let a shell complete command lines, and the hidden command that they ask.
//!
//! The scripts know nothing: they hand over the words before the cursor, and `prunner __complete` says what may follow, from the
//! definition of the command line, the definition files and the server. So they need not change when prunner does.
//!
//! Surprise: nothing that goes wrong there is told, since it would be written into the line that somebody types.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, ValueEnum};
use serde::Deserialize;

use crate::cli::Cli;
use crate::cli::client::job::Job;
use crate::cli::client::{Client, parse};
use crate::cli::jobs::with_statuses;
use crate::cli::output::{self, Failure, Status};
use crate::cli::serve::search;
use crate::config::{Config, Flags, GetVariable};
use crate::definition;

/// Of jobs, the newest: a list of thousands helps nobody.
const MAX_JOBS: &str = "50";

/// The name of the command that the scripts call.
pub(crate) const COMPLETE: &str = "__complete";

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct CompletionsArguments {
    /// Shell that the script is for
    // Not by the name of its field, which a flag of all commands has.
    #[arg(id = "completed_shell", value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// `source <(prunner completions bash)`
    Bash,
    /// `source <(prunner completions zsh)`, behind `compinit`
    Zsh,
    /// `prunner completions fish | source`
    Fish,
}

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct CompleteArguments {
    /// The words behind `prunner` up to the cursor, the last maybe empty
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
    pub words: Vec<OsString>,
}

pub(crate) fn script(arguments: &CompletionsArguments) -> Result<Status, Failure> {
    output::print(match arguments.shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
    })?;
    Ok(Status::DONE)
}

// The words are split anew at blanks: bash takes `:` and `=` for ends of words, which they are not. What stands before
// the last of those in the word at the cursor is there already, and not to be inserted again.
const BASH: &str = r#"_prunner() {
    local line words last insert prefix value
    line=${COMP_LINE:0:COMP_POINT}
    read -r -a words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    last=${words[-1]}
    prefix=${last%"${last##*[:=]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r value _; do
        printf -v insert %q "$value"
        COMPREPLY+=("${insert#"$prefix"}")
    done < <("${words[0]}" __complete -- "${words[@]:1}" 2>/dev/null)
}
complete -o default -o nosort -F _prunner prunner
"#;

const ZSH: &str = r#"#compdef prunner
_prunner() {
    local -a lines values descriptions
    local line
    lines=("${(@f)$("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    for line in $lines; do
        [[ -n $line ]] || continue
        values+=("${line%%$'\t'*}")
        descriptions+=("${line/$'\t'/  }")
    done
    if (( ${#values} )); then
        compadd -V prunner -l -d descriptions -- "${values[@]}"
    else
        _files
    fi
}
compdef _prunner prunner
"#;

const FISH: &str = r"function __prunner_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found ($words[1] __complete -- $words[2..-1] 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c prunner -f -k -a '(__prunner_complete)'
";

/// Prints what may stand where the cursor is, one a line, behind a tab what it is. Nothing: the shell offers files.
pub(crate) fn complete(arguments: &CompleteArguments, variable: GetVariable<'_>) -> Result<Status, Failure> {
    let (last, before) = match arguments.words.split_last() {
        Some((last, before)) => (last.as_os_str(), before),
        None => (OsStr::new(""), &[][..]),
    };
    let source = Source {
        config: config_of(before, variable),
        variable,
    };
    let last = last.to_string_lossy();
    let mut text = String::new();
    for candidate in candidates(before, &last, &source) {
        if !candidate.value.starts_with(&*last) || candidate.value.contains(['\n', '\t']) {
            continue;
        }
        text.push_str(&candidate.value);
        if !candidate.description.is_empty() {
            text.push_str(&format!("\t{}", crate::log::one_line(&candidate.description)));
        }
        text.push('\n');
    }
    output::print(&text)?;
    Ok(Status::DONE)
}

/// The configuration that the words before the cursor make, as far as they are right.
fn config_of(words: &[OsString], variable: GetVariable<'_>) -> Option<Config> {
    let name = OsString::from("prunner");
    let matches = Cli::command()
        .ignore_errors(true)
        .try_get_matches_from([&name].into_iter().chain(words))
        .ok()?;
    let flags = Flags::from_arg_matches(&matches).ok()?;
    Config::new(&flags, variable).ok()
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    value: String,
    /// Empty: it speaks for itself.
    description: String,
}

fn plain(values: impl IntoIterator<Item = impl Into<String>>) -> Vec<Candidate> {
    let candidate = |value: String| Candidate {
        value,
        description: String::new(),
    };
    values.into_iter().map(|value| candidate(value.into())).collect()
}

/// Where names come from.
struct Source<'a> {
    config: Option<Config>,
    variable: GetVariable<'a>,
}

impl Source<'_> {
    fn client(&self) -> Option<Client> {
        let client = Client::new(self.config.as_ref()?, self.variable).ok()?;
        Some(client.with_patience(Duration::from_secs(2)))
    }

    fn local_pipelines(&self) -> Vec<String> {
        let Some(config) = &self.config else { return Vec::new() };
        let loaded = definition::load(&search(config));
        loaded.pipelines.keys().map(ToString::to_string).collect()
    }

    /// Those of the server, or, where there is none, of the files.
    fn pipelines(&self) -> Vec<String> {
        let served = self.client().and_then(|client| client.pipeline_names().ok());
        served.unwrap_or_else(|| self.local_pipelines())
    }

    fn jobs(&self, mut filters: Vec<(&str, &str)>) -> Vec<Candidate> {
        #[derive(Deserialize)]
        struct List {
            jobs: Vec<Job>,
        }
        filters.push(("limit", MAX_JOBS));
        let list = self
            .client()
            .and_then(|client| client.jobs(&filters).ok())
            .and_then(|answer| parse::<List>(&answer).ok());
        let jobs = list.map_or_else(Vec::new, |list| list.jobs);
        jobs.into_iter()
            .map(|job| Candidate {
                value: job.id,
                description: format!("{} {}", job.pipeline, job.status),
            })
            .collect()
    }

    /// Those that can be removed.
    fn schedules(&self) -> Vec<Candidate> {
        let answer = self.client().and_then(|client| client.schedules().ok());
        let list = answer.and_then(|answer| parse::<serde_json::Value>(&answer).ok());
        let list = list.map_or_else(Vec::new, |list| {
            list["schedules"].as_array().cloned().unwrap_or_default()
        });
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        list.iter()
            .filter(|schedule| schedule["source"] == "api")
            .map(|schedule| Candidate {
                value: text(&schedule["id"]),
                description: text(&schedule["pipeline"]),
            })
            .collect()
    }

    fn tasks(&self, job: &str) -> Vec<Candidate> {
        let job = self.client().and_then(|client| client.job(job, Duration::ZERO).ok());
        let tasks = job.map_or_else(Vec::new, |job| job.tasks);
        plain(tasks.into_iter().map(|task| task.name))
    }
}

/// Everything that could stand behind these words; which of it begins like the last word is looked at later.
fn candidates(before: &[OsString], last: &str, source: &Source<'_>) -> Vec<Candidate> {
    let mut root = Cli::command();
    // Gives the subcommands the flags that they all have.
    root.build();
    let mut command = &root;
    let mut values: Vec<String> = Vec::new();
    let mut open_flag: Option<&clap::Arg> = None;
    let mut flags_are_over = false;
    for word in before {
        let word = word.to_string_lossy();
        if open_flag.take().is_some() {
            continue;
        }
        if word == "--" && !flags_are_over {
            flags_are_over = true;
        } else if word.starts_with('-') && word.len() > 1 && !flags_are_over {
            open_flag = find_flag(command, &word)
                .filter(|_| !word.contains('='))
                .filter(|flag| takes_value(flag));
        } else if let Some(sub) = command.find_subcommand(&*word).filter(|_| values.is_empty()) {
            command = sub;
        } else {
            values.push(word.into_owned());
        }
    }
    if let Some(flag) = open_flag {
        return values_of(flag, source);
    }
    if last.starts_with('-') && !flags_are_over {
        if let Some((name, _)) = last.split_once('=') {
            let values = find_flag(command, name).map_or_else(Vec::new, |flag| values_of(flag, source));
            return values
                .into_iter()
                .map(|candidate| Candidate {
                    value: format!("{name}={}", candidate.value),
                    ..candidate
                })
                .collect();
        }
        return flags_of(command);
    }
    positional(command, &values, source)
}

fn find_flag<'c>(command: &'c clap::Command, word: &str) -> Option<&'c clap::Arg> {
    let name = word.split('=').next().unwrap_or(word);
    command.get_arguments().find(|argument| match name.strip_prefix("--") {
        Some(long) => argument.get_long() == Some(long),
        None => name.len() == 2 && argument.get_short() == name.chars().nth(1),
    })
}

/// Whether the word behind the flag is its value.
fn takes_value(flag: &clap::Arg) -> bool {
    flag.get_action().takes_values() && !flag.is_require_equals_set()
}

fn flags_of(command: &clap::Command) -> Vec<Candidate> {
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    shown
        .filter_map(|argument| {
            Some(Candidate {
                value: format!("--{}", argument.get_long()?),
                description: argument.get_help().map(ToString::to_string).unwrap_or_default(),
            })
        })
        .collect()
}

fn values_of(flag: &clap::Arg, source: &Source<'_>) -> Vec<Candidate> {
    let possible = flag.get_possible_values();
    if !possible.is_empty() && flag.get_action().takes_values() {
        return plain(possible.iter().map(|value| value.get_name().to_owned()));
    }
    match flag.get_long() {
        Some("pipeline") => plain(source.pipelines()),
        Some(_) | None => Vec::new(),
    }
}

fn positional(command: &clap::Command, values: &[String], source: &Source<'_>) -> Vec<Candidate> {
    match (command.get_name(), values) {
        ("prunner" | "schedules", []) => command
            .get_subcommands()
            .filter(|sub| !sub.is_hide_set())
            .map(|sub| Candidate {
                value: sub.get_name().to_owned(),
                description: sub.get_about().map(ToString::to_string).unwrap_or_default(),
            })
            .collect(),
        ("run" | "graph", []) => plain(source.local_pipelines()),
        ("schedule" | "add", []) => plain(source.pipelines()),
        ("wait" | "cancel", given) => {
            let mut jobs = source.jobs(with_statuses(false));
            jobs.retain(|job| !given.contains(&job.value));
            jobs
        }
        ("forget", given) => {
            let mut jobs = source.jobs(with_statuses(true));
            jobs.retain(|job| !given.contains(&job.value));
            jobs
        }
        ("remove", given) => {
            let mut schedules = source.schedules();
            schedules.retain(|schedule| !given.contains(&schedule.value));
            schedules
        }
        ("job" | "logs", []) => source.jobs(Vec::new()),
        ("logs", [job]) => source.tasks(job),
        ("completions", []) => plain(
            Shell::value_variants()
                .iter()
                .filter_map(|shell| shell.to_possible_value().map(|value| value.get_name().to_owned())),
        ),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::testing::Space;

    /// What is offered for a line; its last word is the one at the cursor.
    fn complete_line(line: &str, config: Option<Config>) -> Vec<String> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let (last, before) = words.split_last().unwrap();
        let last = last.to_str().unwrap();
        let source = Source {
            config,
            variable: &|_| None,
        };
        let found = candidates(before, last, &source)
            .into_iter()
            .map(|candidate| candidate.value);
        found.filter(|value| value.starts_with(last)).collect()
    }

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        assert_eq!(complete_line(line, None), expected, "{line}");
    }

    #[test]
    fn commands_and_flags_are_offered() {
        check("sch", &["schedule", "schedules", "schema"]);
        check("schedules ", &["add", "remove"]);
        check("schedules add --ev", &["--every"]);
        check("__", &[]);
        check("--watch comp", &["completions"]);
        check("--address job can", &["cancel"]);
        check("schedule --cancel", &["--cancel-on-interrupt"]);
        check("schedule --jwt", &["--jwt-secret"]);
        check("schedule -- --jwt", &[]);
        assert!(complete_line("", None).len() > 10);
    }

    #[test]
    fn values_of_flags_are_offered() {
        check("graph --format ", &["text", "dot", "mermaid"]);
        check("graph --format=d", &["--format=dot"]);
        check("jobs --status re", &["replaced"]);
        check("schedules add p --catch-up ", &["none", "one"]);
        check("completions ", &["bash", "zsh", "fish"]);
        // The shell offers files.
        check("schedule --vars ", &[]);
    }

    #[test]
    fn pipelines_of_the_files_are_offered() {
        let space = Space::new();
        space.write("pipelines.yml", "pipelines: {deploy: {}, debug: {}, test: {}}");
        let path = space.path("");
        for (line, expected) in [
            ("graph ", &["debug", "deploy", "test"][..]),
            ("graph de", &["debug", "deploy"]),
            ("graph --format dot t", &["test"]),
            ("graph deploy ", &[]),
            // No server is to be reached without a secret.
            ("schedule --wait --var a=b t", &["test"]),
            ("schedules add --every 1h d", &["debug", "deploy"]),
            ("jobs --pipeline t", &["test"]),
        ] {
            let words = [OsString::from("--path"), path.clone().into()];
            assert_eq!(complete_line(line, config_of(&words, &|_| None)), expected, "{line}");
        }
    }
}
