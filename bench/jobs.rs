//! How fast jobs are taken, run and seen as ended.

use std::fmt::Write as _;
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::client::Client;
use crate::limits::{self, Spread, milliseconds, wall_ns, wrapped};
use crate::server::{Server, Space};
use crate::table::Row;

/// What this machine can do at once is measured with as many threads as it has cores for.
const CORES: usize = 2;

pub(crate) fn trivial_pipeline(options: &str) -> String {
    format!("pipelines: {{trivial: {{{options}tasks: {{only: {{script: ['true']}}}}}}}}\n")
}

pub(crate) fn schedule(binary: &Path) -> Result<Vec<Row>> {
    let space = Space::with("pipelines: {blocked: {tasks: {only: {script: ['exec sleep 600']}}}}\n")?;
    let server = Server::start(binary, &space)?;
    let mut client = server.client()?;
    let request = client.schedule_request("blocked");
    client.schedule(&request)?;
    let sync = limits::sync()?;
    let times = Spread::of(2000, || client.schedule(&request).map(drop))?;
    let sync_after = limits::sync()?;
    let (p50, p99) = (sync.p50().max(sync_after.p50()), sync.p99().max(sync_after.p99()));
    Ok(vec![
        Row::at_most("POST schedule, queued, p50; limit: sync", "ms", times.p50(), 0.40).beside(p50, Some(0.11)),
        // One sync's p99 where the goal was set is not known: nothing moves this goal.
        Row::at_most("POST schedule, queued, p99; limit: sync p99", "ms", times.p99(), 1.5).beside(p99, None),
    ])
}

pub(crate) fn printed(binary: &Path) -> Result<Vec<Row>> {
    let space = Space::with("pipelines: {clock: {tasks: {only: {script: ['date +%s%N']}}}}\n")?;
    let server = Server::start(binary, &space)?;
    let mut client = server.client()?;
    let request = client.schedule_request("clock");
    let sync = limits::sync()?;
    let limit = limits::printed(200)?;
    let mut times = Vec::new();
    for _ in 0..300 {
        let begun = wall_ns()?;
        let id = client.run(&request)?;
        let logs = client.json(&format!("/job/logs?id={id}&task=only"))?;
        let printed: i128 = logs["stdout"].as_str().context("no output")?.trim().parse()?;
        times.push((printed - begun) as f64 / 1e6);
    }
    let times = Spread::new(times);
    // The goal: 1.5 and 2.5 ms beside a bare shell of 1.3 ms, and one sync.
    let limit = limit.p50() + sync.p50();
    let reference = Some(1.3 + 0.11);
    Ok(vec![
        Row::at_most("request → printed, p50; limit: sh and sync", "ms", times.p50(), 1.61).beside(limit, reference),
        Row::at_most("request → printed, p99; limit: sh and sync", "ms", times.p99(), 2.61).beside(limit, reference),
    ])
}

pub(crate) fn trivial(binary: &Path) -> Result<Vec<Row>> {
    let space = Space::with(&trivial_pipeline(""))?;
    let server = Server::start(binary, &space)?;
    let mut client = server.client()?;
    let request = client.schedule_request("trivial");
    let limit = limits::shells(200, &wrapped("true"))?.p50() + limits::sync()?.p50();
    let times = Spread::of(300, || client.run(&request).map(drop))?;
    let row = Row::at_most(
        "one trivial job, seen as ended; limit: sh and sync",
        "ms",
        times.p50(),
        2.5,
    );
    Ok(vec![row.beside(limit, Some(0.7))])
}

pub(crate) fn chain(binary: &Path) -> Result<Vec<Row>> {
    let mut pipelines = "pipelines:\n  chain:\n    tasks:\n      task_1: {script: ['true']}\n".to_owned();
    for number in 2..=40 {
        let before = number - 1;
        writeln!(
            pipelines,
            "      task_{number}: {{script: ['true'], depends_on: [task_{before}]}}"
        )?;
    }
    let seconds = best_job(binary, &pipelines, "chain")?;
    let limit = limits::shells(40, &wrapped("true"))?.p50() * 40.0 / 1e3;
    let row = Row::at_most("a chain of 40 tasks; limit: 40 sh in turn", "s", seconds, 0.08);
    Ok(vec![row.beside(limit, Some(0.026))])
}

pub(crate) fn fan(binary: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, command, goal, reference) in [
        ("a fan of 100 tasks, `true`; limit: 100 sh", "true", 0.06, 0.037),
        (
            "a fan of 100 tasks, `/bin/true`; limit: 100 sh",
            "/bin/true",
            0.09,
            0.072,
        ),
    ] {
        let mut pipelines = "pipelines:\n  fan:\n    tasks:\n".to_owned();
        for number in 1..=100 {
            writeln!(pipelines, "      task_{number}: {{script: ['{command}']}}")?;
        }
        let seconds = best_job(binary, &pipelines, "fan")?;
        let limit = median(5, || limits::shells_at_once(100, CORES, &wrapped(command)))?;
        rows.push(Row::at_most(name, "s", seconds, goal).beside(limit, Some(reference)));
    }
    Ok(rows)
}

/// The median of some runs of one job, in seconds.
fn best_job(binary: &Path, pipelines: &str, pipeline: &str) -> Result<f64> {
    let space = Space::with(pipelines)?;
    let server = Server::start(binary, &space)?;
    let mut client = server.client()?;
    let request = client.schedule_request(pipeline);
    median(9, || {
        let begun = Instant::now();
        client.run(&request)?;
        Ok(begun.elapsed().as_secs_f64())
    })
}

pub(crate) fn median(count: usize, mut measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    let times: Vec<f64> = (0..count).map(|_| measure()).collect::<Result<_>>()?;
    Ok(Spread::new(times).p50())
}

pub(crate) fn rate(binary: &Path) -> Result<Vec<Row>> {
    const JOBS: usize = 400;
    let space = Space::with(&trivial_pipeline("concurrency: 4, "))?;
    let server = Server::start(binary, &space)?;
    let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect::<Result<_>>()?;
    let limit = median(3, || limits::shells_at_once(JOBS, 4, &wrapped("true")))?;
    let mut rates = Vec::new();
    let before = server.cpu()?;
    for _ in 0..5 {
        let begun = Instant::now();
        let last: Vec<String> = at_once(&mut clients, |client| {
            let request = client.schedule_request("trivial");
            let mut id = String::new();
            for _ in 0..JOBS / 4 {
                id = client.schedule(&request)?;
            }
            Ok(id)
        })?;
        for id in last {
            clients[0].wait_for_end(&id)?;
        }
        // The last to be accepted need not be the last to end.
        while clients[0].json("/pipelines/")?["pipelines"][0]["running"] == true {}
        rates.push(JOBS as f64 / begun.elapsed().as_secs_f64());
    }
    let cpu_ms = (server.cpu()? - before) * 1e3 / (5 * JOBS) as f64;
    Ok(vec![
        Row::at_least(
            "400 jobs, 4 at once; limit: sh, 4 at once",
            "jobs/s",
            Spread::new(rates).p50(),
            900.0,
        )
        .beside(JOBS as f64 / limit, Some(2900.0)),
        Row::at_most("400 jobs: own CPU for each", "ms", cpu_ms, 0.6),
    ])
}

/// Each client in a thread of its own.
pub(crate) fn at_once<T: Send>(
    clients: &mut [Client],
    call: impl Fn(&mut Client) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let threads: Vec<_> = clients.iter_mut().map(|client| scope.spawn(|| call(client))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a thread that measures does not panic"))
            .collect()
    })
}

/// So many jobs, each client waiting for one before it asks for the next.
pub(crate) fn run_many(clients: &mut [Client], count: usize) -> Result<()> {
    let each = count / clients.len();
    at_once(clients, |client| {
        let request = client.schedule_request("trivial");
        for _ in 0..each {
            client.run(&request)?;
        }
        Ok(())
    })?;
    let total = clients.len() * each;
    ensure!(
        total == count,
        "{count} jobs don't go evenly to {} clients",
        clients.len()
    );
    Ok(())
}

pub(crate) fn elapsed_ms(call: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    call()?;
    Ok(milliseconds(begun.elapsed()))
}
