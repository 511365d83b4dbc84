//! What prunner is told: flags over environment over defaults, checked.
//!
//! Unaware of commands and of what is done with the values. Surprise: the variables are read here, not by the parser of
//! the command line, which would show the secret in its help and takes an empty variable for a value.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};

use crate::definition;
use crate::log;
use crate::secret::{self, IfMissing, Secret};

/// How this process reads its environment; tests have one of their own.
pub(crate) type GetVariable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

pub(crate) const ADDRESS_VARIABLE: &str = "PRUNNER_ADDRESS";
pub(crate) const TOKEN_VARIABLE: &str = "PRUNNER_TOKEN";
/// In the environment of every task: finds what a killed prunner left running.
pub(crate) const MARK_VARIABLE: &str = "PRUNNER_MARK";

/// All variables that mean something to prunner itself. No task gets them from prunner's environment.
pub(crate) const OWN_VARIABLES: [&str; 19] = [
    ADDRESS_VARIABLE,
    "PRUNNER_PATH",
    "PRUNNER_PATTERN",
    "PRUNNER_DATA",
    "PRUNNER_CONFIG",
    "PRUNNER_JWT_SECRET",
    "PRUNNER_ENV_FILES",
    "PRUNNER_WATCH",
    "PRUNNER_POLL_INTERVAL",
    "PRUNNER_MAX_TASKS",
    "PRUNNER_KILL_GRACE",
    "PRUNNER_SHELL",
    "PRUNNER_LOG_LIMIT",
    "PRUNNER_RETENTION_PERIOD",
    "PRUNNER_RETENTION_COUNT",
    "PRUNNER_VERBOSE",
    "PRUNNER_DISABLE_ANSI",
    TOKEN_VARIABLE,
    MARK_VARIABLE,
];

/// The flags of the server, which all commands accept, as they were given.
#[derive(Clone, Default, clap::Args)]
#[command(next_help_heading = "Flags, before or behind the command")]
pub(crate) struct Flags {
    #[arg(
        help = "Where to listen, or the server to talk to: `host:port`, `:port`, `[::1]:port` [env: PRUNNER_ADDRESS] [default: localhost:9009]"
    )]
    #[arg(long, global = true, value_name = "ADDRESS")]
    address: Option<OsString>,
    #[arg(help = "Where to look for pipelines [env: PRUNNER_PATH] [default: .]")]
    #[arg(long, global = true, value_name = "DIRECTORY")]
    path: Option<OsString>,
    #[arg(help = "Which files below it define pipelines [env: PRUNNER_PATTERN] [default: **/pipelines.{yml,yaml}]")]
    #[arg(long, global = true, value_name = "GLOB")]
    pattern: Option<OsString>,
    #[arg(help = "Data directory [env: PRUNNER_DATA] [default: .prunner]")]
    #[arg(long, global = true, value_name = "DIRECTORY")]
    data: Option<OsString>,
    #[arg(help = "File with `jwt_secret`, made where it is missing [env: PRUNNER_CONFIG] [default: .prunner.yml]")]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<OsString>,
    #[arg(help = "Secret of the tokens, instead of the file; at least 16 characters [env: PRUNNER_JWT_SECRET]")]
    #[arg(long, global = true, value_name = "SECRET", value_parser = parse_secret)]
    jwt_secret: Option<Secret>,
    #[arg(
        help = "Files that override the environment of tasks; empty: none [env: PRUNNER_ENV_FILES] [default: .env,.env.local]"
    )]
    #[arg(long, global = true, value_name = "FILES")]
    env_files: Option<OsString>,
    #[arg(help = "Reload when pipeline files change [env: PRUNNER_WATCH]")]
    #[arg(long, global = true, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    watch: Option<OsString>,
    #[arg(help = "How often `--watch` looks [env: PRUNNER_POLL_INTERVAL] [default: 30s]")]
    #[arg(long, global = true, value_name = "DURATION")]
    poll_interval: Option<OsString>,
    #[arg(help = "Tasks that run at once in the whole process [env: PRUNNER_MAX_TASKS] [default: 64]")]
    #[arg(long, global = true, value_name = "NUMBER")]
    max_tasks: Option<OsString>,
    #[arg(help = "Time between the interrupt of a task and its kill [env: PRUNNER_KILL_GRACE] [default: 2s]")]
    #[arg(long, global = true, value_name = "DURATION")]
    kill_grace: Option<OsString>,
    #[arg(help = "Shell of the tasks whose definition names none [env: PRUNNER_SHELL] [default: sh]")]
    #[arg(long, global = true, value_name = "SHELL")]
    shell: Option<OsString>,
    #[arg(
        help = "Output kept of each stream of a task, as in `50MB`, and its end; `none`: all [env: PRUNNER_LOG_LIMIT] [default: none]"
    )]
    #[arg(long, global = true, value_name = "SIZE")]
    log_limit: Option<OsString>,
    #[arg(
        help = "How long ended jobs are kept whose pipeline does not say it; `none`: for ever [env: PRUNNER_RETENTION_PERIOD] [default: none]"
    )]
    #[arg(long, global = true, value_name = "DURATION")]
    retention_period: Option<OsString>,
    #[arg(
        help = "How many ended jobs are kept of a pipeline that does not say it; `none`: all [env: PRUNNER_RETENTION_COUNT] [default: none]"
    )]
    #[arg(long, global = true, value_name = "NUMBER")]
    retention_count: Option<OsString>,
    #[arg(help = "Log more [env: PRUNNER_VERBOSE]")]
    #[arg(short, long, global = true, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    verbose: Option<OsString>,
    #[arg(help = "Log without color, as logfmt [env: PRUNNER_DISABLE_ANSI]")]
    #[arg(long, global = true, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_ansi: Option<OsString>,
}

/// Accepts everything: a complaint of the parser would quote it.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the signature that the parser of the command line wants"
)]
fn parse_secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Its form is checked, nothing is resolved.
    pub address: String,
    pub path: PathBuf,
    pub pattern: String,
    pub data: PathBuf,
    /// The same where the flag gives it: `run` keeps nothing without that.
    pub kept_data: Option<PathBuf>,
    /// The file that keeps the secret.
    pub secret_file: PathBuf,
    /// Given by flag or environment: the file isn't looked at then.
    pub jwt_secret: Option<Secret>,
    pub env_files: Vec<PathBuf>,
    pub watch: bool,
    /// At least 1.
    pub poll_interval_ms: i64,
    /// At least 1.
    pub max_tasks: usize,
    pub kill_grace_ms: i64,
    /// Program and arguments; never empty.
    pub shell: Vec<String>,
    /// Bytes; `NO_LIMIT`: none.
    pub log_limit: u64,
    /// Of pipelines that don't say it; at least 1. `None`: unlimited.
    pub retention_period_ms: Option<i64>,
    /// The same.
    pub retention_count: Option<usize>,
    pub verbose: bool,
    pub disable_ansi: bool,
}

impl Config {
    /// # Errors
    /// At the first value that can't be used; says whether flag or variable holds it.
    pub(crate) fn new(flags: &Flags, variable: GetVariable<'_>) -> Result<Config> {
        let find =
            |flag: &Option<OsString>, name: &'static str, default: &str| find(flag.as_ref(), name, variable, default);
        Ok(Config {
            address: find(&flags.address, "address", "localhost:9009").and_then(address)?,
            path: find(&flags.path, "path", ".").and_then(path)?,
            pattern: find(&flags.pattern, "pattern", "**/pipelines.{yml,yaml}").and_then(text)?,
            data: find(&flags.data, "data", ".prunner").and_then(path)?,
            kept_data: flags.data.clone().map(PathBuf::from),
            secret_file: find(&flags.config, "config", ".prunner.yml").and_then(path)?,
            jwt_secret: given_secret(flags.jwt_secret.as_ref(), variable)?,
            env_files: env_files(flags.env_files.as_ref(), variable),
            watch: find(&flags.watch, "watch", "false").and_then(boolean)?,
            poll_interval_ms: find(&flags.poll_interval, "poll-interval", "30s")
                .and_then(|setting| duration(setting, 1))?,
            max_tasks: find(&flags.max_tasks, "max-tasks", "64").and_then(count)?,
            kill_grace_ms: find(&flags.kill_grace, "kill-grace", "2s").and_then(|setting| duration(setting, 0))?,
            shell: vec![find(&flags.shell, "shell", "sh").and_then(text)?],
            log_limit: find(&flags.log_limit, "log-limit", "none").and_then(log_limit)?,
            retention_period_ms: find(&flags.retention_period, "retention-period", "none")
                .and_then(|setting| unless_none(setting, |setting| duration(setting, 1)))?,
            retention_count: find(&flags.retention_count, "retention-count", "none")
                .and_then(|setting| unless_none(setting, count))?,
            verbose: find(&flags.verbose, "verbose", "false").and_then(boolean)?,
            disable_ansi: find(&flags.disable_ansi, "disable-ansi", "false").and_then(boolean)?,
        })
    }

    /// The secret that was given, else that of the file. Logs what is odd about the file, and that it was made.
    ///
    /// # Errors
    /// Where the file has none and isn't to be made, or can't be.
    pub(crate) fn secret(&self, if_missing: IfMissing) -> Result<Secret> {
        if let Some(secret) = &self.jwt_secret {
            return Ok(secret.clone());
        }
        let file = secret::read(&self.secret_file, if_missing)?;
        for warning in &file.warnings {
            log::warning(warning, &[]);
        }
        if file.made {
            log::info(
                "made a file with a random secret",
                &[("file", &self.secret_file.display())],
            );
        }
        Ok(file.secret)
    }
}

/// Where a client connects to for a server that listens at `address`: all interfaces include the own one.
pub(crate) fn reachable_address(address: &str) -> String {
    match address.rsplit_once(':') {
        Some(("" | "0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        Some(_) | None => address.to_owned(),
    }
}

/// A value and where it comes from, for messages: `--watch`, `PRUNNER_WATCH`.
struct Setting {
    origin: String,
    value: OsString,
}

fn find(flag: Option<&OsString>, name: &str, variable: GetVariable<'_>, default: &str) -> Result<Setting> {
    let origin_of_flag = format!("--{name}");
    if let Some(value) = flag {
        if value.is_empty() {
            bail!("`{origin_of_flag}` is empty, expected a value");
        }
        return Ok(Setting {
            origin: origin_of_flag,
            value: value.clone(),
        });
    }
    let name = variable_name(name);
    // Container set-ups pass variables on that nobody has set: they arrive empty.
    let value = variable(&name).filter(|value| !value.is_empty());
    Ok(match value {
        Some(value) => Setting { origin: name, value },
        None => Setting {
            origin: origin_of_flag,
            value: default.into(),
        },
    })
}

/// `PRUNNER_MAX_TASKS` for `max-tasks`.
fn variable_name(flag: &str) -> String {
    format!("PRUNNER_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

fn given_secret(flag: Option<&Secret>, variable: GetVariable<'_>) -> Result<Option<Secret>> {
    const VARIABLE: &str = "PRUNNER_JWT_SECRET";
    if let Some(secret) = flag {
        secret.check_length("`--jwt-secret`")?;
        return Ok(Some(secret.clone()));
    }
    let Some(value) = variable(VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let Ok(text) = value.into_string() else {
        bail!("`{VARIABLE}` is not UTF-8");
    };
    let secret = Secret::new(text);
    secret.check_length(&format!("`{VARIABLE}`"))?;
    Ok(Some(secret))
}

/// Here alone an empty value is one: no files.
fn env_files(flag: Option<&OsString>, variable: GetVariable<'_>) -> Vec<PathBuf> {
    let value = flag
        .cloned()
        .or_else(|| variable("PRUNNER_ENV_FILES"))
        .unwrap_or_else(|| ".env,.env.local".into());
    value
        .as_bytes()
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
        .map(|name| PathBuf::from(OsStr::from_bytes(name)))
        .collect()
}

#[expect(clippy::unnecessary_wraps, reason = "stands beside the others, which can fail")]
fn path(setting: Setting) -> Result<PathBuf> {
    Ok(PathBuf::from(setting.value))
}

fn text(Setting { origin, value }: Setting) -> Result<String> {
    value.into_string().map_err(|_| anyhow!("`{origin}` is not UTF-8"))
}

/// Reads the text of a setting; a complaint names origin, value and what was expected.
fn parse<T>(setting: Setting, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T> {
    let origin = setting.origin.clone();
    let value = text(setting)?;
    parse(&value).map_err(|complaint| anyhow!("`{origin}` is `{}`, {complaint}", log::one_line(&value)))
}

fn address(setting: Setting) -> Result<String> {
    parse(setting, |text| {
        let sound = text.rsplit_once(':').is_some_and(|(host, port)| {
            let bracketed = host.starts_with('[') && host.ends_with(']');
            port.bytes().all(|byte| byte.is_ascii_digit())
                && port.parse::<u16>().is_ok()
                && !host.contains(|character: char| character.is_whitespace() || matches!(character, '/' | '@'))
                && (bracketed || !host.contains([':', '[', ']']))
        });
        if sound {
            Ok(text.to_owned())
        } else {
            Err("expected `host:port`, `:port` or `[::1]:port`".to_owned())
        }
    })
}

fn boolean(setting: Setting) -> Result<bool> {
    parse(setting, |text| match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("expected `true`, `false`, `1` or `0`".to_owned()),
    })
}

fn count(setting: Setting) -> Result<usize> {
    parse(setting, |text| match text.parse() {
        Ok(number) if number >= 1 => Ok(number),
        Ok(_) | Err(_) => Err("expected a whole number, at least 1".to_owned()),
    })
}

fn duration(setting: Setting, minimum_ms: i64) -> Result<i64> {
    let origin = setting.origin.clone();
    let value = text(setting)?;
    let duration_ms = definition::duration::parse(&value).map_err(|what| anyhow!("`{origin}` is {what}"))?;
    if duration_ms < minimum_ms {
        bail!(
            "`{origin}` is `{}`, expected at least {minimum_ms}ms",
            definition::shown(&value)
        );
    }
    Ok(duration_ms)
}

fn unless_none<T>(setting: Setting, read: impl FnOnce(Setting) -> Result<T>) -> Result<Option<T>> {
    if setting.value == "none" {
        return Ok(None);
    }
    read(setting).map(Some)
}

fn log_limit(setting: Setting) -> Result<u64> {
    let origin = setting.origin.clone();
    let value = text(setting)?;
    definition::bounds::log_limit(&value).map_err(|what| anyhow!("`{origin}` is {what}"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct TestCli {
        #[command(flatten)]
        flags: Flags,
    }

    fn config(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Config, String> {
        let arguments = ["prunner"].iter().chain(arguments);
        let flags = TestCli::try_parse_from(arguments)
            .map_err(|error| error.to_string())?
            .flags;
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.into())
        };
        Config::new(&flags, &variable).map_err(|error| error.to_string())
    }

    /// `field` of the configuration, or the complaint.
    #[track_caller]
    fn check<T: std::fmt::Debug>(
        arguments: &[&str],
        variables: &[(&str, &str)],
        field: impl Fn(Config) -> T,
        expected: &str,
    ) {
        let found = match config(arguments, variables) {
            Ok(config) => format!("{:?}", field(config)),
            Err(complaint) => complaint,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn defaults() {
        let expected = Config {
            address: "localhost:9009".to_owned(),
            path: ".".into(),
            pattern: "**/pipelines.{yml,yaml}".to_owned(),
            data: ".prunner".into(),
            kept_data: None,
            secret_file: ".prunner.yml".into(),
            jwt_secret: None,
            env_files: vec![".env".into(), ".env.local".into()],
            watch: false,
            poll_interval_ms: 30_000,
            max_tasks: 64,
            kill_grace_ms: 2000,
            shell: vec!["sh".to_owned()],
            log_limit: u64::MAX,
            retention_period_ms: None,
            retention_count: None,
            verbose: false,
            disable_ansi: false,
        };
        assert_eq!(config(&[], &[]), Ok(expected.clone()));
        // An empty variable is as good as none, but for the one where it means something.
        let empty: Vec<_> = OWN_VARIABLES.iter().map(|&name| (name, "")).collect();
        let expected = Config {
            env_files: Vec::new(),
            ..expected
        };
        assert_eq!(config(&[], &empty), Ok(expected));
    }

    #[test]
    fn flags_win_over_the_environment() {
        let variables = [
            ("PRUNNER_ADDRESS", ":1"),
            ("PRUNNER_PATH", "path"),
            ("PRUNNER_PATTERN", "*.yml"),
            ("PRUNNER_DATA", "data"),
            ("PRUNNER_CONFIG", "config.yml"),
            ("PRUNNER_JWT_SECRET", "0123456789abcdef"),
            ("PRUNNER_ENV_FILES", "a, b,,c"),
            ("PRUNNER_WATCH", "true"),
            ("PRUNNER_POLL_INTERVAL", "1m"),
            ("PRUNNER_MAX_TASKS", "1"),
            ("PRUNNER_KILL_GRACE", "0"),
            ("PRUNNER_SHELL", "bash"),
            ("PRUNNER_LOG_LIMIT", "50MB"),
            ("PRUNNER_RETENTION_PERIOD", "30d"),
            ("PRUNNER_RETENTION_COUNT", "20"),
            ("PRUNNER_VERBOSE", "1"),
            ("PRUNNER_DISABLE_ANSI", "TRUE"),
        ];
        let from_variables = Config {
            address: ":1".to_owned(),
            path: "path".into(),
            pattern: "*.yml".to_owned(),
            data: "data".into(),
            kept_data: None,
            secret_file: "config.yml".into(),
            jwt_secret: Some(Secret::new("0123456789abcdef")),
            env_files: vec!["a".into(), "b".into(), "c".into()],
            watch: true,
            poll_interval_ms: 60_000,
            max_tasks: 1,
            kill_grace_ms: 0,
            shell: vec!["bash".to_owned()],
            log_limit: 50_000_000,
            retention_period_ms: Some(2_592_000_000),
            retention_count: Some(20),
            verbose: true,
            disable_ansi: true,
        };
        assert_eq!(config(&[], &variables), Ok(from_variables));
        let arguments = [
            "--address=[::1]:2",
            "--path=p",
            "--pattern",
            "*.yaml",
            "--data=d",
            "--config=c",
            "--jwt-secret",
            "fedcba9876543210",
            "--env-files=",
            "--watch=false",
            "--poll-interval=1h30m",
            "--max-tasks=7",
            "--kill-grace=1.5s",
            "--shell=dash",
            "--log-limit=1KiB",
            "--retention-period=1h",
            "--retention-count=none",
            "--verbose=0",
            "--disable-ansi=false",
        ];
        let from_flags = Config {
            address: "[::1]:2".to_owned(),
            path: "p".into(),
            pattern: "*.yaml".to_owned(),
            data: "d".into(),
            kept_data: Some("d".into()),
            secret_file: "c".into(),
            jwt_secret: Some(Secret::new("fedcba9876543210")),
            env_files: Vec::new(),
            watch: false,
            poll_interval_ms: 5_400_000,
            max_tasks: 7,
            kill_grace_ms: 1500,
            shell: vec!["dash".to_owned()],
            log_limit: 1_024,
            retention_period_ms: Some(3_600_000),
            retention_count: None,
            verbose: false,
            disable_ansi: false,
        };
        assert_eq!(config(&arguments, &variables), Ok(from_flags));
    }

    #[test]
    fn booleans() {
        let watch = |config: Config| config.watch;
        check(&["--watch"], &[("PRUNNER_WATCH", "false")], watch, "true");
        check(&["--watch=true"], &[], watch, "true");
        check(&["--watch=0"], &[], watch, "false");
        check(&["-v"], &[], |config| (config.verbose, config.watch), "(true, false)");
        check(
            &["--watch=maybe"],
            &[],
            watch,
            "`--watch` is `maybe`, expected `true`, `false`, `1` or `0`",
        );
        check(
            &[],
            &[("PRUNNER_WATCH", "yes\n")],
            watch,
            "`PRUNNER_WATCH` is `yes\\n`, expected `true`, `false`, `1` or `0`",
        );
        check(&["--watch="], &[], watch, "`--watch` is empty, expected a value");
    }

    #[test]
    fn numbers_and_durations() {
        let max_tasks = |config: Config| config.max_tasks;
        check(
            &["--max-tasks=0"],
            &[],
            max_tasks,
            "`--max-tasks` is `0`, expected a whole number, at least 1",
        );
        check(
            &[],
            &[("PRUNNER_MAX_TASKS", "-1")],
            max_tasks,
            "`PRUNNER_MAX_TASKS` is `-1`, expected a whole number, at least 1",
        );
        check(
            &["--retention-count=0"],
            &[],
            |config| config.retention_count,
            "`--retention-count` is `0`, expected a whole number, at least 1",
        );
        check(
            &[],
            &[("PRUNNER_RETENTION_PERIOD", "0")],
            |config| config.retention_period_ms,
            "`PRUNNER_RETENTION_PERIOD` is `0`, expected at least 1ms",
        );
        let poll = |config: Config| config.poll_interval_ms;
        check(&["--poll-interval=1d"], &[], poll, "86400000");
        check(&["--poll-interval=1m0.5s1ms"], &[], poll, "60501");
        check(
            &["--poll-interval=0"],
            &[],
            poll,
            "`--poll-interval` is `0`, expected at least 1ms",
        );
        for (text, what) in [
            (
                "30",
                "`30`, which has no unit behind `30`; expected `ms`, `s`, `m`, `h` or `d`, as in `30s`",
            ),
            ("s", "`s`; expected numbers with units, such as `10s`, `1h30m` or `2d`"),
            ("-1s", "`-1s`; expected a duration that is not negative"),
        ] {
            check(
                &[&format!("--poll-interval={text}")],
                &[],
                poll,
                &format!("`--poll-interval` is {what}"),
            );
        }
        check(&["--kill-grace=0.5ms"], &[], |config| config.kill_grace_ms, "1");
        check(
            &["--kill-grace=9999999d"],
            &[],
            |config| config.kill_grace_ms,
            "`--kill-grace` is `9999999d`, which is too long; expected at most `106751d`",
        );
    }

    #[test]
    fn sizes() {
        let limit = |config: Config| config.log_limit;
        check(
            &["--log-limit=none"],
            &[("PRUNNER_LOG_LIMIT", "1MB")],
            limit,
            &u64::MAX.to_string(),
        );
        check(
            &[],
            &[("PRUNNER_LOG_LIMIT", "0")],
            limit,
            "`PRUNNER_LOG_LIMIT` is `0`; expected a size of at least 1 byte, or `none`",
        );
        check(
            &["--log-limit=1M"],
            &[],
            limit,
            "`--log-limit` is `1M`, whose unit `M` is not known; expected a number of bytes, also with `kB`, `MB`, `GB` \
             (powers of 1000), `KiB`, `MiB` or `GiB` (of 1024), as in `50MB`",
        );
    }

    #[test]
    fn addresses() {
        for address in [
            "localhost:9009",
            ":9009",
            "[::1]:80",
            "0.0.0.0:0",
            "ci.example.org:65535",
        ] {
            check(
                &["--address", address],
                &[],
                |config| config.address,
                &format!("{address:?}"),
            );
        }
        for address in [
            "9009",
            "localhost",
            "localhost:",
            ":65536",
            "::1:80",
            "http://localhost:80",
            "a b:1",
            ":+1",
        ] {
            check(
                &["--address", address],
                &[],
                |config| config.address,
                &format!("`--address` is `{address}`, expected `host:port`, `:port` or `[::1]:port`"),
            );
        }
    }

    #[test]
    fn short_secrets_are_refused_and_not_shown() {
        let secret = |config: Config| config.jwt_secret;
        check(
            &["--jwt-secret=hunter2"],
            &[],
            secret,
            "`--jwt-secret` has 7 characters, expected at least 16",
        );
        check(
            &[],
            &[("PRUNNER_JWT_SECRET", "hunter2")],
            secret,
            "`PRUNNER_JWT_SECRET` has 7 characters, expected at least 16",
        );
        check(&["--jwt-secret=0123456789abcdef"], &[], secret, "Some(Secret(…))");
        check(&[], &[], secret, "None");
    }

    #[test]
    fn a_given_secret_needs_no_file() {
        let missing = "--config=/nonexistent/prunner.yml";
        let given = config(&[missing, "--jwt-secret=0123456789abcdef"], &[]).unwrap();
        assert_eq!(given.secret(IfMissing::Make).unwrap().expose(), "0123456789abcdef");
        let none = config(&[missing], &[]).unwrap();
        assert!(none.secret(IfMissing::Make).is_err());
    }

    #[test]
    fn clients_connect_to_the_own_interface() {
        for (address, expected) in [
            (":9009", "127.0.0.1:9009"),
            ("0.0.0.0:9009", "127.0.0.1:9009"),
            ("[::]:9009", "[::1]:9009"),
            ("[::1]:9009", "[::1]:9009"),
            ("localhost:9009", "localhost:9009"),
            ("10.0.0.0:9009", "10.0.0.0:9009"),
        ] {
            assert_eq!(reachable_address(address), expected);
        }
    }

    #[test]
    fn every_flag_names_its_variable() {
        let command = TestCli::command();
        let flags: Vec<_> = command.get_arguments().collect();
        assert_eq!(flags.len(), 17);
        for flag in flags {
            let variable = variable_name(flag.get_long().unwrap());
            assert!(OWN_VARIABLES.contains(&variable.as_str()), "{variable}");
            let help = flag.get_help().unwrap().to_string();
            assert!(help.contains(&format!("[env: {variable}]")), "{help}");
        }
    }
}
