//! The real binary under bad conditions: killed at any moment, on full disks, with damaged files, with tasks and parents
//! that do not behave, and clients that do not either.
//!
//! Short by default. With `ROUNDS` in the environment, as `make torture ROUNDS=1000` sets it, long: that many kills, and
//! the sizes that promises speak of. `SEED` repeats what a failure printed.
#![expect(clippy::disallowed_methods, reason = "tests start the real binary")]
#![expect(clippy::unwrap_used, reason = "a test ends where it can't go on")]

mod census;
mod client;
mod clients;
#[path = "../e2e/contract.rs"]
mod contract;
mod definitions;
mod disk;
mod growth;
mod hostile;
#[path = "../../src/testing/inherited_signals.rs"]
mod inherited_signals;
mod journal;
mod kill_loop;
mod paths;
mod processes;
#[path = "../../src/scheduler/simulation/random.rs"]
mod random;
mod signals;
#[expect(dead_code, reason = "shared with the end-to-end tests, which need more of it")]
#[path = "../e2e/space.rs"]
mod space;
mod sync;
mod tokens;

use std::process::Command;

use crate::space::TestSpace;

/// How many rounds the long form has; `None`: the short form.
fn rounds() -> Option<usize> {
    Some(std::env::var("ROUNDS").ok()?.parse().expect("`ROUNDS` is a number"))
}

/// A new one each time, unless it is given.
fn seed() -> u64 {
    std::env::var("SEED").map_or_else(
        |_| u64::try_from(uuid::Uuid::now_v7().as_u128() & 0xffff_ffff).expect("32 bits fit"),
        |seed| seed.parse().expect("`SEED` is a number"),
    )
}

/// Sends a signal, named without `SIG`. False: the process is gone.
fn signal_process(space: &TestSpace, signal: &str, pid: &str) -> bool {
    let mut kill = space.command_by(Command::new("kill"), &["-s", signal, pid]);
    kill.stderr(std::process::Stdio::null()).status().unwrap().success()
}

/// A shell whose `"$@"` starts a server: for one that is to be started in an unusual way.
fn in_shell(space: &TestSpace, script: &str) -> Command {
    let mut command = space.command_by(Command::new("sh"), &[]);
    command.args([
        "-c",
        script,
        "sh",
        env!("CARGO_BIN_EXE_prunner"),
        "--address",
        "127.0.0.1:0",
    ]);
    command
}
