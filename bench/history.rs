//! What is kept: many finished jobs, restarts, crashes, and what is forgotten.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::client::Client;
use crate::jobs::{at_once, elapsed_ms, median, run_many, trivial_pipeline};
use crate::limits::{self, Spread, milliseconds};
use crate::server::{Server, Space};
use crate::table::Row;

const LIST: &str = "/pipelines/jobs";

fn clients(server: &Server) -> Result<Vec<Client>> {
    (0..4).map(|_| server.client()).collect()
}

pub(crate) fn detail(binary: &Path) -> Result<Vec<Row>> {
    const EACH: usize = 5000;
    let space = Space::with(&trivial_pipeline(""))?;
    let server = Server::start(binary, &space)?;
    let mut clients = clients(&server)?;
    let request = clients[0].schedule_request("trivial");
    let id = clients[0].run(&request)?;
    let before = server.cpu()?;
    at_once(&mut clients, |client| {
        let request = client.request("GET", &format!("/job/detail?id={id}"), "", "");
        for _ in 0..EACH {
            client.expect(200, &request)?;
        }
        Ok(())
    })?;
    let cpu_us = (server.cpu()? - before) * 1e6 / (4 * EACH) as f64;
    Ok(vec![Row::at_most(
        "GET detail, 4 connections: CPU each",
        "µs",
        cpu_us,
        50.0,
    )])
}

pub(crate) fn finished(binary: &Path) -> Result<Vec<Row>> {
    let space = Space::with(&trivial_pipeline("concurrency: 4, "))?;
    let server = Server::start(binary, &space)?;
    run_many(&mut clients(&server)?, 10_000)?;
    server.stop()?;

    let mut ready = Vec::new();
    for _ in 0..4 {
        let server = Server::start(binary, &space)?;
        ready.push(milliseconds(server.ready));
        server.stop()?;
    }
    let server = Server::start(binary, &space)?;
    ready.push(milliseconds(server.ready));
    server.rest();
    let resident = server.resident()?;
    let limit = limits::copy_4_mb()?.p50();

    let mut client = server.client()?;
    let all = client.get(LIST)?;
    let jobs: Value = serde_json::from_slice(&all.body)?;
    let found = jobs["jobs"].as_array().map_or(0, Vec::len);
    ensure!(found == 10_000, "expected 10000 jobs in the list, found {found}");
    let list = median(10, || elapsed_ms(|| client.get(LIST).map(drop)))?;
    let mut clients = clients(&server)?;
    at_once(&mut clients, |client| client.get(LIST).map(drop))?;
    let resident_after = server.resident()?;

    let poll = match &all.etag {
        Some(etag) => {
            let request = client.request("GET", LIST, &format!("If-None-Match: {etag}\r\n"), "");
            Spread::of(300, || client.expect(304, &request).map(drop))?.p50()
        }
        None => list,
    };
    Ok(vec![
        Row::at_most(
            "10,000 finished jobs: ready; limit: copy of 4 MB",
            "ms",
            Spread::new(ready).p50(),
            25.0,
        )
        .beside(limit, None),
        Row::at_most("10,000 finished jobs: resident", "MB", resident, 12.0),
        Row::at_most("10,000 finished jobs: list; limit: copy of 4 MB", "ms", list, 6.0).beside(limit, None),
        Row::at_most("10,000 finished jobs: resident after lists", "MB", resident_after, 22.0),
        Row::at_most("10,000 finished jobs: poll, nothing changed", "ms", poll, 0.5),
    ])
}

pub(crate) fn killed(binary: &Path) -> Result<Vec<Row>> {
    let space = Space::with("pipelines: {later: {tasks: {only: {script: ['test -e open || exec sleep 600']}}}}\n")?;
    let server = Server::start(binary, &space)?;
    let mut client = server.client()?;
    let request = client.schedule_request("later");
    let ids: Vec<String> = (0..200).map(|_| client.schedule(&request)).collect::<Result<_>>()?;
    server.kill()?;

    // From now on tasks end at once.
    std::fs::write(space.path.join("open"), "")?;
    let server = Server::start(binary, &space)?;
    let mut client = server.client()?;
    if let Some(last) = ids.last()
        && client.json(LIST)?.to_string().contains(last.as_str())
    {
        client.wait_for_end(last)?;
    }
    let jobs = client.json(LIST)?;
    let jobs = jobs["jobs"].as_array().context("no jobs")?;
    let known: HashMap<&str, &Value> = jobs.iter().filter_map(|job| Some((job["id"].as_str()?, job))).collect();
    let lost = ids.iter().filter(|id| !known.contains_key(id.as_str())).count();
    // The first one ran when the server was killed: it was interrupted, as it should be.
    let canceled = ids
        .iter()
        .skip(1)
        .filter(|id| known.get(id.as_str()).is_some_and(|job| job["canceled"] == true))
        .count();
    Ok(vec![
        Row::at_most("killed after 200 answers: lost", "jobs", lost as f64, 0.0),
        Row::at_most(
            "killed after 200 answers: wrongly canceled",
            "jobs",
            canceled as f64,
            0.0,
        ),
    ])
}

pub(crate) fn retention(binary: &Path) -> Result<Vec<Row>> {
    let space = Space::with(&trivial_pipeline("concurrency: 4, retention_count: 100, "))?;
    let server = Server::start(binary, &space)?;
    // What it needs for such work at all is not growth.
    run_many(&mut clients(&server)?, 1_000)?;
    server.rest();
    let before = (server.resident()?, server.threads()?, server.descriptors()?);
    run_many(&mut clients(&server)?, 10_000)?;
    server.rest();
    Ok(vec![
        Row::at_most(
            "10,000 jobs, 100 kept: growth of memory",
            "MB",
            server.resident()? - before.0,
            1.0,
        ),
        Row::at_most(
            "10,000 jobs, 100 kept: growth of threads",
            "",
            server.threads()? - before.1,
            0.0,
        ),
        Row::at_most(
            "10,000 jobs, 100 kept: growth of descriptors",
            "",
            server.descriptors()? - before.2,
            0.0,
        ),
    ])
}
