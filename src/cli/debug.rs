//! `prunner debug`: how to call the API from a shell, with a token that works.

use crate::api::auth::Auth;
use crate::cli::output::{self, Failure, Status};
use crate::clock::wall_ms;
use crate::config::{Config, GetVariable, reachable_address};
use crate::secret::IfMissing;

pub(crate) fn run(config: &Config, variable: GetVariable<'_>) -> Result<Status, Failure> {
    let secret = config.secret(IfMissing::Make).map_err(Failure::usage)?;
    let user = variable("USER")
        .and_then(|user| user.into_string().ok())
        .unwrap_or_default();
    let token = Auth::new(&secret).make_token(&user, wall_ms(), None);
    let text = if variable("MINIMAL_OUTPUT").is_some_and(|value| value == "1") {
        format!("Bearer {token}")
    } else {
        explanation(&reachable_address(&config.address), &token)
    };
    output::print(&text)?;
    Ok(Status::DONE)
}

fn explanation(address: &str, token: &str) -> String {
    format!(
        r#"The API is at http://{address}/. Every request needs this header:

    Authorization: Bearer {token}

The examples below take address and token from variables:

    API='http://{address}'
    TOKEN='{token}'

List the pipelines, and the jobs, newest first:

    curl -sS -H "Authorization: Bearer $TOKEN" "$API/pipelines/"
    curl -sS -H "Authorization: Bearer $TOKEN" "$API/pipelines/jobs"

Schedule a job; the answer holds its id:

    curl -sS -H "Authorization: Bearer $TOKEN" "$API/pipelines/schedule" \
        -d '{{"pipeline": "NAME", "variables": {{"key": "value"}}}}'

Follow it: wait up to 30 seconds for its end, or read the output of a task while it runs:

    curl -sS -H "Authorization: Bearer $TOKEN" "$API/job/detail?id=ID&wait=30s"
    curl -sSN -H "Authorization: Bearer $TOKEN" "$API/job/log?id=ID&task=TASK&follow=true"

Cancel it:

    curl -sS -H "Authorization: Bearer $TOKEN" -X POST "$API/job/cancel?id=ID"

With MINIMAL_OUTPUT=1 in the environment, this command prints the value of the header alone.
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_explanation_holds_address_and_token() {
        let text = explanation("127.0.0.1:9009", "a.b.c");
        assert!(text.contains("\n    Authorization: Bearer a.b.c\n"), "{text}");
        assert!(text.contains("API='http://127.0.0.1:9009'"), "{text}");
        assert!(
            text.contains(r#"-d '{"pipeline": "NAME", "variables": {"key": "value"}}'"#),
            "{text}"
        );
    }
}
