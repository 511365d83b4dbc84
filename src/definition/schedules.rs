//! The key `schedules`: at which times a pipeline runs by itself.
//!
//! What expressions mean is up to `calendar`. Unaware of what has been due already.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use crate::calendar::{Cron, LEAST_INTERVAL_MS, When, Zone};
use crate::definition::complaint::shown;
use crate::definition::fields::{Reader, described, field};
use crate::definition::keys::{CATCH_UP, Place};
use crate::definition::parse::{Kind, Node};
use crate::definition::value::json;
use crate::template::Variables;

/// One entry of a pipeline's list, or what a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub when: When,
    /// `None`: the machine's.
    pub zone: Option<Zone>,
    pub variables: Arc<Variables>,
    pub partition: String,
    /// What was missed while prunner was down is made up for, once.
    pub makes_up: bool,
}

impl Schedule {
    /// Tells apart what is due by itself: the same where expression, time zone, partition and variables are, in any order of
    /// their names. What it makes up for does not make it another one.
    pub(crate) fn digest(&self, pipeline: &str) -> u128 {
        let (key, text) = self.when.key_and_text();
        let zone = self.zone.as_ref().map_or("", |zone| &**zone.name());
        let mut variables = Value::Object((*self.variables).clone());
        variables.sort_all_objects();
        let mut hash = FNV_BASIS;
        for part in [pipeline, key, &text, zone, &self.partition, &variables.to_string()] {
            // No part holds the byte that ends it.
            for byte in part.bytes().chain([0xff]) {
                hash = (hash ^ u128::from(byte)).wrapping_mul(FNV_PRIME);
            }
        }
        hash
    }
}

/// FNV-1a of 128 bits: it tells apart what people write, and nobody gains by finding two that it doesn't.
const FNV_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const FNV_PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

impl Reader<'_> {
    pub(super) fn schedules(&mut self, entries: &[(String, Node)]) -> Vec<Schedule> {
        let Some(node) = field(entries, "schedules") else {
            return Vec::new();
        };
        let Node::List(items) = node else {
            self.unexpected(
                node,
                "schedules",
                "a list such as `[{cron: \"30 3 * * 1-5\"}, {every: 15m}]`",
            );
            return Vec::new();
        };
        let mut schedules: Vec<Schedule> = Vec::with_capacity(items.len());
        let mut known = HashSet::new();
        let pipeline = self.pipeline.unwrap_or_default();
        for (index, item) in items.iter().enumerate() {
            let Some(schedule) = self.schedule(index + 1, item) else {
                continue;
            };
            if known.insert(schedule.digest(pipeline)) {
                schedules.push(schedule);
            } else {
                self.warning(format!(
                    "has schedule {} twice in `schedules`, and it is due once; remove one of them",
                    index + 1
                ));
            }
        }
        schedules
    }

    fn schedule(&mut self, number: usize, node: &Node) -> Option<Schedule> {
        if node.is_null() {
            self.error(format!("has null as item {number} of `schedules`; expected a mapping"));
            return None;
        }
        let entries = self.mapping(
            node,
            "an item of `schedules`",
            "a mapping with the key `cron` or `every`",
        )?;
        if entries.iter().any(|(key, _)| key == "at") {
            self.error(format!(
                "has `at` in schedule {number}, which is for schedules that are added over the API; expected `cron` or `every`"
            ));
            return None;
        }
        self.unknown_keys(entries, Place::Schedule);
        let zone = self.timezone(number, entries);
        let variables = self.variables(number, entries);
        let partition = self.partition(number, entries);
        let makes_up = self.word(entries, "catch_up", &CATCH_UP) == Some(1);
        let when = match (field(entries, "cron"), field(entries, "every")) {
            (Some(node), None) => self.cron(number, node)?,
            (None, Some(_)) => self.every(number, entries)?,
            (found, _) => {
                let has = if found.is_some() { "both" } else { "neither" };
                let of = if found.is_some() { "and" } else { "nor" };
                self.error(format!(
                    "has {has} `cron` {of} `every` in schedule {number}; expected one of them"
                ));
                return None;
            }
        };
        Some(Schedule {
            when,
            zone,
            variables,
            partition,
            makes_up,
        })
    }

    fn cron(&mut self, number: usize, node: &Node) -> Option<When> {
        let Node::Scalar { kind: Kind::Text, text } = node else {
            self.error(format!(
                "has {} as `cron` of schedule {number}; expected five fields such as `30 3 * * 1-5`",
                described(node)
            ));
            return None;
        };
        match Cron::parse(text) {
            Ok(cron) => Some(When::Cron(cron)),
            Err(error) => {
                self.error(format!("has a mistake in `cron` of schedule {number}: {error}"));
                None
            }
        }
    }

    fn every(&mut self, number: usize, entries: &[(String, Node)]) -> Option<When> {
        let interval = self.kept_duration(entries, "every")?;
        if interval.ms < LEAST_INTERVAL_MS {
            self.error(format!(
                "has a mistake in `every` of schedule {number}: `{}` is too short; expected at least `1s`",
                shown(&interval.text)
            ));
            return None;
        }
        Some(When::Every {
            ms: interval.ms,
            text: interval.text,
        })
    }

    fn timezone(&mut self, number: usize, entries: &[(String, Node)]) -> Option<Zone> {
        let node = field(entries, "timezone")?;
        let Node::Scalar { kind: Kind::Text, text } = node else {
            self.error(format!(
                "has {} as `timezone` of schedule {number}; expected a text such as `Europe/Berlin`",
                described(node)
            ));
            return None;
        };
        let zone = Zone::named(text);
        if zone.is_none() {
            self.error(format!(
                "has a mistake in `timezone` of schedule {number}: `{}` is not known; expected the name of a time zone such as \
                 `Europe/Berlin`",
                shown(text)
            ));
        }
        zone
    }

    fn partition(&mut self, number: usize, entries: &[(String, Node)]) -> String {
        match field(entries, "partition") {
            None => String::new(),
            Some(Node::Scalar { text, .. }) => text.clone(),
            Some(node @ (Node::List(_) | Node::Mapping(_))) => {
                self.error(format!(
                    "has {} as `partition` of schedule {number}; expected a text",
                    described(node)
                ));
                String::new()
            }
        }
    }

    fn variables(&mut self, number: usize, entries: &[(String, Node)]) -> Arc<Variables> {
        let mut variables = Variables::new();
        match field(entries, "variables") {
            None => {}
            Some(node @ Node::Mapping(mapping)) => {
                self.faults_below(node);
                for (name, value) in &mapping.entries {
                    variables.insert(name.clone(), json(value));
                }
            }
            Some(node @ (Node::Scalar { .. } | Node::List(_))) => self.error(format!(
                "has {} as `variables` of schedule {number}; expected a mapping of names to values",
                described(node)
            )),
        }
        Arc::new(variables)
    }
}
