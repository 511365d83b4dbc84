//! `GET /metrics`: the numbers under their names, in an order and with texts that are a contract with who watches.
//!
//! Unaware of how they are counted. It walks no job: what it costs goes with the pipelines.

use std::io::Cursor;

use super::error::CODES;
use super::exchange::Response;
use super::{Api, reply};
use crate::job::JobStatus;
use crate::metrics::{Histogram, Kind, Meters, OfPipeline, Text};
use crate::task::StreamKind;

pub(super) fn page(api: &Api) -> Response {
    let pipelines = api.parts.model.read().counts().shown();
    let mut text = Text::default();
    write_jobs(&mut text, &pipelines);
    write_meters(&mut text, &api.parts.meters);
    let page = text.finish();
    let length = page.len();
    reply::new(200, Text::TYPE, Cursor::new(page), Some(length))
}

fn write_jobs(text: &mut Text, pipelines: &[OfPipeline]) {
    text.family(
        "prunner_jobs_total",
        Kind::Counter,
        "Jobs that ended, by pipeline and status.",
    );
    for of in pipelines {
        for status in JobStatus::ALL.into_iter().filter(|status| status.has_ended()) {
            let labels = [("pipeline", &*of.name), ("status", status.as_str())];
            text.sample(&labels, of.ended(status));
        }
    }
    let gauges: [(&str, &str, fn(&OfPipeline) -> u64); 2] = [
        ("prunner_jobs_waiting", "Jobs that wait now.", |of| of.waiting),
        ("prunner_jobs_running", "Jobs that run now.", |of| of.running),
    ];
    for (name, help, value) in gauges {
        text.family(name, Kind::Gauge, help);
        for of in pipelines {
            text.sample(&[("pipeline", &of.name)], value(of));
        }
    }
    let histograms: [(&str, &str, fn(&OfPipeline) -> &Histogram); 2] = [
        (
            "prunner_job_duration_seconds",
            "Time from the start to the end of jobs that ended, in whichever way.",
            OfPipeline::durations,
        ),
        (
            "prunner_job_queue_duration_seconds",
            "Time from the acceptance to the start of jobs that started.",
            OfPipeline::queue_times,
        ),
    ];
    for (name, help, value) in histograms {
        text.family(name, Kind::Histogram, help);
        for of in pipelines {
            text.histogram(&[("pipeline", &of.name)], value(of));
        }
    }
}

fn write_meters(text: &mut Text, meters: &Meters) {
    text.family("prunner_tasks_running", Kind::Gauge, "Tasks that have a process now.");
    text.sample(&[], meters.tasks_running());
    text.family(
        "prunner_log_bytes_total",
        Kind::Counter,
        "Bytes of output that were written to logs.",
    );
    for (stream, bytes) in StreamKind::BOTH.into_iter().zip(meters.log_bytes()) {
        text.sample(&[("stream", stream.as_str())], bytes);
    }
    text.family(
        "prunner_requests_refused_total",
        Kind::Counter,
        "Requests that were answered with an error, by its code.",
    );
    let refusals = meters.refusals();
    for code in CODES {
        text.sample(&[("code", code)], refusals.get(code).copied().unwrap_or_default());
    }
    text.family(
        "prunner_journal_sync_duration_seconds",
        Kind::Histogram,
        "Time that the disk took to sync what was appended to the journal.",
    );
    text.histogram(&[], &meters.syncs.histogram());
    text.family(
        "prunner_build_info",
        Kind::Gauge,
        "Always 1; says which prunner this is.",
    );
    text.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
}
