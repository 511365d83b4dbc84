//! Bears with a server that is away for a moment, as it is while it is started anew.
//!
//! Only who watches a job is patient: any other command says at once that there is no server.

use std::thread;
use std::time::{Duration, Instant};

use crate::cli::client::job::Job;
use crate::cli::client::{Client, ClientError};

/// How long a server may be away.
const AWAY: Duration = Duration::from_secs(30);
/// Between two looks whether it is back.
const PAUSE: Duration = Duration::from_millis(200);
/// What one request waits for at most: shorter than proxies bear.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A server that tells no changes of a job is asked that often.
const WAIT_WITHOUT_TAG: Duration = Duration::from_secs(1);

/// How long the server has been away.
#[derive(Debug)]
pub(crate) struct Patience {
    /// Whether it has answered before: one that never did is not waited for.
    reached: bool,
    away_since: Option<Instant>,
}

impl Patience {
    pub(crate) fn new(reached: bool) -> Patience {
        Patience {
            reached,
            away_since: None,
        }
    }

    pub(crate) fn answered(&mut self) {
        self.reached = true;
        self.away_since = None;
    }

    /// Pauses after an error that may pass.
    ///
    /// # Errors
    /// The same error, where there is no sense in asking again.
    pub(crate) fn bear(&mut self, error: ClientError) -> Result<(), ClientError> {
        let now = Instant::now();
        let since = *self.away_since.get_or_insert(now);
        if !self.reached || !error.may_pass() || now >= since + AWAY {
            return Err(error);
        }
        pause();
        Ok(())
    }
}

/// For a moment. It may end early, which does no harm.
fn pause() {
    thread::park_timeout(PAUSE);
}

/// The job at its end.
///
/// # Errors
/// Where the server doesn't know the job, or was away for too long.
pub(crate) fn wait_for_end(client: &Client, id: &str, patience: &mut Patience) -> Result<Job, ClientError> {
    loop {
        let job = wait_a_while(client, id, LONGEST_WAIT, patience)?;
        if job.completed {
            return Ok(job);
        }
    }
}

/// The job as soon as it is another than the one with this tag; without one, as it is.
///
/// # Errors
/// As for [`wait_for_end`].
pub(crate) fn wait_for_change(
    client: &Client,
    id: &str,
    known: Option<&str>,
    patience: &mut Patience,
) -> Result<Job, ClientError> {
    let wait = match known {
        None => Duration::ZERO,
        Some("") => WAIT_WITHOUT_TAG,
        Some(_) => LONGEST_WAIT,
    };
    loop {
        let asked = Instant::now();
        match client.changed_job(id, wait, known.unwrap_or_default()) {
            Ok(Some(job)) => {
                patience.answered();
                return Ok(job);
            }
            Ok(None) => {
                patience.answered();
                // A server that stops answers at once: without a pause it would be asked all the time.
                if asked.elapsed() < wait / 2 {
                    pause();
                }
            }
            Err(error) => patience.bear(error)?,
        }
    }
}

/// The job at its end, or after so long; where the server was away meanwhile, it took longer.
///
/// # Errors
/// As for [`wait_for_end`].
pub(crate) fn wait_a_while(
    client: &Client,
    id: &str,
    wait: Duration,
    patience: &mut Patience,
) -> Result<Job, ClientError> {
    loop {
        let asked = Instant::now();
        match client.job(id, wait) {
            Ok(job) => {
                patience.answered();
                // A server that stops answers at once: without a pause it would be asked all the time.
                if !job.completed && asked.elapsed() < wait / 2 {
                    pause();
                }
                return Ok(job);
            }
            Err(error) => patience.bear(error)?,
        }
    }
}
