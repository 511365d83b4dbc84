//! Time zones: those of the data in the binary by their names, and the machine's own.
//!
//! Surprise: the machine's own is looked up by its name where it has one, so that the same rules hold everywhere; only one
//! without a name known here is read from its file.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use jiff::tz::TimeZone;

/// What comes behind the directory of zones in the path of one: its name.
const DIRECTORY: &str = "zoneinfo/";
const LOCAL_TIME: &str = "/etc/localtime";
/// Those that there are have some kilobytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A time zone with its name.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Zone {
    name: Arc<str>,
    time_zone: TimeZone,
}

impl Zone {
    pub(crate) fn utc() -> Zone {
        Zone {
            name: "UTC".into(),
            time_zone: TimeZone::UTC,
        }
    }

    /// By its name in the time zone data, such as `Europe/Berlin`. `None`: there is none.
    pub(crate) fn named(name: &str) -> Option<Zone> {
        let time_zone = TimeZone::get(name).ok()?;
        let name = time_zone.iana_name().unwrap_or(name).into();
        Some(Zone { name, time_zone })
    }

    /// The machine's: as `TZ` says, given here, else `/etc/localtime`, else UTC. The error says why it is UTC.
    pub(crate) fn of_machine(tz: Option<&str>) -> Result<Zone, String> {
        let tz = tz.map(|tz| tz.strip_prefix(':').unwrap_or(tz));
        let Some(tz) = tz else {
            return Zone::of_file(Path::new(LOCAL_TIME))
                .ok_or_else(|| format!("`{LOCAL_TIME}` is not there or is no time zone, and `TZ` is not set"));
        };
        if tz.is_empty() {
            return Ok(Zone::utc());
        }
        Zone::named(tz)
            .or_else(|| Zone::of_file(Path::new(tz)).filter(|_| tz.starts_with('/')))
            .or_else(|| {
                let time_zone = TimeZone::posix(tz).ok()?;
                let name = tz.into();
                Some(Zone { name, time_zone })
            })
            .ok_or_else(|| format!("`TZ` is `{tz}`, which is no time zone"))
    }

    fn of_file(path: &Path) -> Option<Zone> {
        // The link may point to another link, such as `localtime` among the zones.
        let named = [
            fs::read_link(path).ok(),
            fs::canonicalize(path).ok(),
            Some(path.to_owned()),
        ]
        .into_iter()
        .flatten()
        .find_map(|target| {
            let (_, name) = target.to_str()?.split_once(DIRECTORY)?;
            Zone::named(name)
        });
        named.or_else(|| {
            let metadata = fs::metadata(path).ok()?;
            if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
                return None;
            }
            let time_zone = TimeZone::tzif(LOCAL, &fs::read(path).ok()?).ok()?;
            let name = LOCAL.into();
            Some(Zone { name, time_zone })
        })
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn time_zone(&self) -> &TimeZone {
        &self.time_zone
    }

    /// A moment as a person there reads it: `2026-11-24 03:30 CET`.
    pub(crate) fn show(&self, wall_ms: i64) -> String {
        let Ok(instant) = jiff::Timestamp::from_second(wall_ms.div_euclid(1000)) else {
            return String::new();
        };
        let info = self.time_zone.to_offset_info(instant);
        let civil = info.offset().to_datetime(instant);
        let time = civil.time();
        let seconds = match time.second() {
            0 => String::new(),
            second => format!(":{second:02}"),
        };
        format!(
            "{} {:02}:{:02}{seconds} {}",
            civil.date(),
            time.hour(),
            time.minute(),
            info.abbreviation()
        )
    }
}

/// The name of one that has none.
const LOCAL: &str = "local";

impl fmt::Debug for Zone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}
