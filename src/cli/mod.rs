//! The command line: which command runs, with which arguments, and what status it ends with.
//!
//! One file for each group of commands. What a command does lives in the other modules. Surprise: the errors of the
//! parser are put into words here, because ours are one line.

mod arguments;
mod client;
mod columns;
mod completions;
mod debug;
mod display;
mod export;
mod forget;
mod graph;
mod jobs;
mod logs;
mod man;
mod output;
mod reload;
mod run;
mod schedule;
mod schedules;
mod serve;
mod table;
mod token;
mod validate;
mod variables;
mod wait;
mod watch;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

use crate::cli::client::Client;
use crate::cli::completions::{CompleteArguments, CompletionsArguments};
use crate::cli::forget::ForgetArguments;
use crate::cli::graph::GraphArguments;
use crate::cli::jobs::{JobArguments, JobsArguments, PipelinesArguments};
use crate::cli::logs::LogsArguments;
use crate::cli::output::{Failure, Status};
use crate::cli::reload::ReloadArguments;
use crate::cli::run::RunArguments;
use crate::cli::schedule::ScheduleArguments;
use crate::cli::schedules::SchedulesArguments;
use crate::cli::token::TokenArguments;
use crate::cli::validate::ValidateArguments;
use crate::cli::wait::{CancelArguments, WaitArguments};
use crate::config::{Config, Flags, GetVariable};
use crate::{definition, log};

const VERSION: &str = concat!("prunner ", env!("CARGO_PKG_VERSION"), "\n");

/// Runs pipelines: shell tasks in YAML, in order of their dependencies
#[derive(Parser)]
#[command(
    name = "prunner",
    version,
    args_override_self = true,
    max_term_width = 120,
    after_help = "Without a command it is the server."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Command {
    /// Serve the API and run jobs; the default
    Serve,
    /// Run a job of a pipeline here and now, without a server
    Run(RunArguments),
    /// Ask the server for a job of a pipeline; prints its id
    Schedule(ScheduleArguments),
    /// Wait for jobs, and end with the first result that is no success
    Wait(WaitArguments),
    /// Cancel jobs
    Cancel(CancelArguments),
    /// Remove jobs that have ended, with their logs
    Forget(ForgetArguments),
    /// Show a job with its tasks
    Job(JobArguments),
    /// List jobs, newest first
    Jobs(JobsArguments),
    /// List the pipelines of the server
    Pipelines(PipelinesArguments),
    /// Print the output of a job
    Logs(LogsArguments),
    /// List when pipelines run by themselves; `add` and `remove` such times
    Schedules(SchedulesArguments),
    /// Check pipeline files and print every error and warning
    Validate(ValidateArguments),
    /// Print a JSON schema of the pipeline files, for editors
    Schema,
    /// Draw the tasks of a pipeline by level
    Graph(GraphArguments),
    /// Let the server load the pipeline files anew
    Reload(ReloadArguments),
    /// Print the jobs of a data directory in the form of the old server's `data.json`
    Export,
    /// Explain how to call the API, with a token; `MINIMAL_OUTPUT=1`: print only `Bearer <token>`
    Debug,
    /// Print a token for the API
    Token(TokenArguments),
    /// Print the version
    Version,
    /// Print a script that lets a shell complete command lines
    Completions(CompletionsArguments),
    #[command(name = completions::COMPLETE, hide = true)]
    Complete(CompleteArguments),
    #[command(name = "__man", hide = true)]
    Man,
}

/// What the arguments ask for.
enum Parsed {
    Command(Box<Cli>),
    /// Help or version, to print.
    Text(String),
}

/// All of the program.
pub(crate) fn main() -> ExitCode {
    let result = run(env::args_os(), &|name| env::var_os(name));
    // What was logged stands before the error. Where nobody reads the one, nobody reads the other.
    let has_reader = log::finish();
    result
        .unwrap_or_else(|failure| if has_reader { failure.report() } else { failure.status })
        .into()
}

fn run(arguments: impl IntoIterator<Item = OsString>, variable: GetVariable<'_>) -> Result<Status, Failure> {
    let cli = match parse(arguments)? {
        Parsed::Command(cli) => cli,
        Parsed::Text(text) => {
            output::print(&text)?;
            return Ok(Status::DONE);
        }
    };
    let command = cli.command.unwrap_or(Command::Serve);
    // Even in a set-up that is wrong, people must be able to see which version it is, and to type.
    if command == Command::Version {
        output::print(VERSION)?;
        return Ok(Status::DONE);
    }
    if command == Command::Schema {
        output::print(&definition::schema())?;
        return Ok(Status::DONE);
    }
    if let Command::Completions(arguments) = &command {
        return completions::script(arguments);
    }
    if let Command::Complete(arguments) = &command {
        return completions::complete(arguments, variable);
    }
    if command == Command::Man {
        return man::run();
    }
    let config = Config::new(&cli.flags, variable).map_err(Failure::usage)?;
    log::set_up(config.verbose, config.disable_ansi);
    let client = || Client::new(&config, variable);
    match command {
        Command::Serve => serve::run(&config),
        Command::Validate(arguments) => validate::run(&config, &arguments),
        Command::Export => export::run(&config),
        Command::Debug => debug::run(&config, variable),
        Command::Graph(arguments) => graph::run(&config, &arguments),
        Command::Token(arguments) => token::run(&config, variable, &arguments),
        Command::Run(arguments) => run::run(&config, &arguments, variable),
        Command::Schedule(arguments) => schedule::run(&client()?, &arguments, config.disable_ansi),
        Command::Wait(arguments) => wait::wait(&client()?, &arguments),
        Command::Cancel(arguments) => Ok(wait::cancel(&client()?, &arguments)),
        Command::Forget(arguments) => forget::run(&client()?, &arguments),
        Command::Job(arguments) => jobs::show(&client()?, &arguments),
        Command::Jobs(arguments) => jobs::list(&client()?, &arguments),
        Command::Pipelines(arguments) => jobs::pipelines(&client()?, &arguments),
        Command::Logs(arguments) => logs::run(&client()?, &arguments, config.disable_ansi),
        Command::Schedules(arguments) => schedules::run(&client()?, &arguments),
        Command::Reload(arguments) => reload::run(&client()?, &arguments),
        Command::Version | Command::Schema | Command::Completions(_) | Command::Complete(_) | Command::Man => {
            unreachable!("they were run above")
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, Failure> {
    match Cli::try_parse_from(arguments) {
        Ok(cli) => Ok(Parsed::Command(Box::new(cli))),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Ok(Parsed::Text(error.to_string()))
        }
        Err(error) => Err(Failure::usage(usage_error(&error))),
    }
}

/// One line: what was found, what may be meant, where to read on.
fn usage_error(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        // Of several suggestions the last is the best.
        Some(ContextValue::Strings(texts)) => texts.last().cloned(),
        Some(value) => Some(value.to_string()),
        None => None,
    };
    let all = |kind, separator: &str| match error.get(kind) {
        Some(ContextValue::Strings(texts)) => texts.join(separator),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let command = command_of(&all(ContextKind::Usage, ""));
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    let value = context(ContextKind::InvalidValue).unwrap_or_default();
    let valid = all(ContextKind::ValidValue, ", ");
    let complaint = match (error.kind(), &*value) {
        (ErrorKind::UnknownArgument, _) => {
            let what = if argument.starts_with('-') { "flag" } else { "argument" };
            Some(format!("{what} `{argument}` is not known"))
        }
        (ErrorKind::InvalidSubcommand, _) => {
            context(ContextKind::InvalidSubcommand).map(|command| format!("command `{command}` is not known"))
        }
        (ErrorKind::MissingRequiredArgument, _) => Some(format!(
            "`{command}` needs `{}`",
            all(ContextKind::InvalidArg, "` and `")
        )),
        (ErrorKind::InvalidValue, "") => Some(format!("`{argument}` needs a value")),
        (ErrorKind::InvalidValue, _) if !valid.is_empty() => {
            Some(format!("`{argument}` is `{value}`, expected one of {valid}"))
        }
        _ => None,
    };
    let complaint = complaint.unwrap_or_else(|| first_paragraph(&error.to_string()).replace('\'', "`"));
    let suggestion = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ];
    let suggestion = suggestion.into_iter().find_map(context);
    let suggestion = suggestion.map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
    let separator = if suggestion.is_empty() { "; try" } else { " Try" };
    format!("{complaint}{suggestion}{separator} `{command} --help`")
}

/// The command that a usage is about, with the program: the help of others does not have its flags.
fn command_of(usage: &str) -> String {
    let words = usage.split_whitespace().skip_while(|word| *word != "prunner").skip(1);
    let words = words.take_while(|word| *word != "help" && word.bytes().all(|byte| byte.is_ascii_lowercase()));
    ["prunner"].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// What the parser says, up to its hints about usage.
fn first_paragraph(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let lines: Vec<&str> = message
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse_line(line: &str) -> Result<Parsed, Failure> {
        parse(format!("prunner {line}").split_whitespace().map(OsString::from))
    }

    #[track_caller]
    fn check_command(line: &str, command: Option<&Command>, address: &str, watch: bool) {
        let Ok(Parsed::Command(cli)) = parse_line(line) else {
            panic!("`{line}` must be a command");
        };
        assert_eq!(cli.command.as_ref(), command);
        let config = Config::new(&cli.flags, &|_| None).unwrap();
        assert_eq!((config.address.as_str(), config.watch), (address, watch));
    }

    #[track_caller]
    fn check_error(line: &str, expected: &str) {
        let Err(failure) = parse_line(line) else {
            panic!("`{line}` must be refused");
        };
        assert_eq!(failure, Failure::usage(expected));
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stand_before_or_behind_the_command() {
        check_command("", None, "localhost:9009", false);
        check_command("--address :1 --watch", None, ":1", true);
        check_command("serve --address :1 --watch", Some(&Command::Serve), ":1", true);
        check_command("--watch --address :1 serve", Some(&Command::Serve), ":1", true);
        check_command("--address=:1 debug --watch", Some(&Command::Debug), ":1", true);
        check_command("--watch=false export", Some(&Command::Export), "localhost:9009", false);
        check_command("-v version", Some(&Command::Version), "localhost:9009", false);
    }

    #[test]
    fn the_last_of_a_repeated_flag_counts() {
        check_command("--address :1 --address :2 --watch --watch=false", None, ":2", false);
        check_command("--address :1 serve --address :2", Some(&Command::Serve), ":2", false);
        check_command(
            "--watch serve --watch=false",
            Some(&Command::Serve),
            "localhost:9009",
            false,
        );
    }

    #[test]
    fn validate_takes_files() {
        let arguments = ValidateArguments {
            files: vec!["a.yml".into(), "b.yml".into()],
            lenient: true,
            json: false,
        };
        let command = Command::Validate(arguments);
        check_command(
            "validate a.yml --lenient b.yml --watch",
            Some(&command),
            "localhost:9009",
            true,
        );
    }

    #[test]
    fn each_command_that_prints_json_is_documented() {
        let document = include_str!("../../docs/command-line.md");
        let section = document
            .split("\n## ")
            .find(|section| section.starts_with("JSON\n"))
            .unwrap();
        let mut open: Vec<(String, clap::Command)> = vec![(String::new(), Cli::command())];
        let mut count = 0;
        while let Some((name, command)) = open.pop() {
            for sub in command.get_subcommands() {
                open.push((format!("{name} {}", sub.get_name()).trim().to_owned(), sub.clone()));
            }
            if command
                .get_arguments()
                .any(|argument| argument.get_long() == Some("json"))
            {
                assert!(section.contains(&format!("`{name}`")), "`{name} --json`");
                count += 1;
            }
        }
        assert!(count > 10);
    }

    #[test]
    fn wrong_usage_is_told_in_one_line() {
        check_error(
            "--adress :1",
            "flag `--adress` is not known; did you mean `--address`? Try `prunner --help`",
        );
        check_error("--nonsense", "flag `--nonsense` is not known; try `prunner --help`");
        check_error(
            "servr",
            "command `servr` is not known; did you mean `serve`? Try `prunner --help`",
        );
        check_error("xyzzy", "command `xyzzy` is not known; try `prunner --help`");
        check_error(
            "schedul",
            "command `schedul` is not known; did you mean `schedule`? Try `prunner --help`",
        );
        check_error("debug more", "argument `more` is not known; try `prunner debug --help`");
        check_error(
            "schedule x --wiat",
            "flag `--wiat` is not known; did you mean `--wait`? Try `prunner schedule --help`",
        );
        check_error(
            "schedule",
            "`prunner schedule` needs `<PIPELINE>`; try `prunner schedule --help`",
        );
        check_error(
            "schedules add",
            "`prunner schedules add` needs `<--cron <EXPRESSION>|--every <DURATION>|--at <TIME>>` and `<PIPELINE>`; try \
             `prunner schedules add --help`",
        );
        check_error(
            "schedules ad x",
            "command `ad` is not known; did you mean `add`? Try `prunner schedules --help`",
        );
        check_error(
            "graph x --format=dott",
            "`--format <FORMAT>` is `dott`, expected one of text, dot, mermaid; did you mean `dot`? Try `prunner --help`",
        );
        check_error("help xyzzy", "command `xyzzy` is not known; try `prunner --help`");
        check_error("--address", "`--address <ADDRESS>` needs a value; try `prunner --help`");
        check_error(
            "debug --jwt-secret",
            "`--jwt-secret <SECRET>` needs a value; try `prunner --help`",
        );
        check_error(
            "serve debug",
            "argument `debug` is not known; try `prunner serve --help`",
        );
    }

    #[test]
    fn the_command_stands_first_in_its_usage() {
        for (usage, expected) in [
            ("Usage: prunner wait <ID>...", "prunner wait"),
            ("Usage: prunner [OPTIONS] [COMMAND]", "prunner"),
            (
                "Usage: prunner schedules add [OPTIONS] <PIPELINE>",
                "prunner schedules add",
            ),
            ("Usage: prunner help [COMMAND]", "prunner"),
            ("", "prunner"),
        ] {
            assert_eq!(command_of(usage), expected);
        }
    }

    #[test]
    fn other_complaints_of_the_parser_lose_their_usage() {
        assert_eq!(
            first_paragraph("error: a is wrong:\n  b\n\nUsage: prunner\n"),
            "a is wrong: b"
        );
    }

    #[test]
    fn help_and_version_are_results() {
        for (line, part) in [
            ("--version", "prunner "),
            ("-V", "prunner "),
            ("--help", "Without a command it is the server"),
            ("help", "Without a command it is the server"),
            ("help validate", "--lenient"),
            ("validate --help", "--lenient"),
        ] {
            let Ok(Parsed::Text(text)) = parse_line(line) else {
                panic!("`{line}` must print a text");
            };
            assert!(text.contains(part), "{text}");
        }
        let Ok(Parsed::Text(text)) = parse_line("--version") else {
            panic!("it is a text");
        };
        assert_eq!(text, VERSION);
    }

    #[test]
    fn what_is_wrong_in_the_configuration_is_wrong_usage() {
        let variable = |name: &str| (name == "PRUNNER_WATCH").then(|| "perhaps".into());
        let result = run(["prunner", "debug"].map(OsString::from), &variable);
        assert_eq!(
            result,
            Err(Failure::usage(
                "`PRUNNER_WATCH` is `perhaps`, expected `true`, `false`, `1` or `0`"
            ))
        );
    }
}
