//! `prunner reload`: asks the server to load the definition files anew.

use serde::Deserialize;

use crate::cli::client::{Client, ClientError, parse};
use crate::cli::output::{self, Failure, Status};
use crate::cli::validate::count;
use crate::log::one_line;

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct ReloadArguments {
    /// Print the server's answer, as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Deserialize)]
struct Reloaded {
    pipelines: usize,
    warnings: Vec<String>,
}

pub(crate) fn run(client: &Client, arguments: &ReloadArguments) -> Result<Status, Failure> {
    let answer = client.reload().map_err(failure)?;
    let text = if arguments.json {
        answer + "\n"
    } else {
        describe(&parse::<Reloaded>(&answer)?)
    };
    output::print(&text)?;
    Ok(Status::DONE)
}

/// Wrong files are wrong here as they are for `validate`; the server keeps what it has.
fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Answered { code, text, .. } if code == "bad_definition" => Failure::usage(format!(
            "the pipeline files are wrong, the pipelines stay as they were: {text}"
        )),
        error @ (ClientError::Answered { .. } | ClientError::Unreachable(_)) => error.into(),
    }
}

fn describe(reloaded: &Reloaded) -> String {
    let mut text = String::new();
    for warning in &reloaded.warnings {
        text.push_str(&format!("warning: {}\n", one_line(warning)));
    }
    text.push_str(&format!(
        "{}, {}\n",
        count(reloaded.pipelines, "pipeline"),
        count(reloaded.warnings.len(), "warning")
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_come_before_the_counts() {
        let reloaded = Reloaded {
            pipelines: 1,
            warnings: vec!["a\nb".to_owned(), "c".to_owned()],
        };
        assert_eq!(
            describe(&reloaded),
            "warning: a\\nb\nwarning: c\n1 pipeline, 2 warnings\n"
        );
    }
}
