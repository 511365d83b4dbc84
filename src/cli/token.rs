//! `prunner token`: a token for the API.

use crate::api::auth::Auth;
use crate::cli::arguments::duration_ms;
use crate::cli::client::user;
use crate::cli::output::{self, Failure, Status};
use crate::clock::wall_ms;
use crate::config::{Config, GetVariable};
use crate::secret::IfMissing;

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct TokenArguments {
    /// The user that the token names; empty: none [default: $USER]
    #[arg(long, value_name = "USER")]
    pub sub: Option<String>,
    /// How long the token is valid, such as `1h`; without it, for ever
    #[arg(long, value_name = "DURATION")]
    pub expires: Option<String>,
}

pub(crate) fn run(config: &Config, variable: GetVariable<'_>, arguments: &TokenArguments) -> Result<Status, Failure> {
    let expires_ms = arguments
        .expires
        .as_ref()
        .map(|text| duration_ms("--expires", text))
        .transpose()?;
    let secret = config.secret(IfMissing::Make).map_err(Failure::usage)?;
    let sub = arguments.sub.clone().unwrap_or_else(|| user(variable));
    let now_ms = wall_ms();
    let expires_ms = expires_ms.map(|expires_ms| now_ms.saturating_add(expires_ms));
    let token = Auth::new(&secret).make_token(&sub, now_ms, expires_ms);
    output::print(&(token + "\n"))?;
    Ok(Status::DONE)
}
