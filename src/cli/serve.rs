//! `prunner serve`: puts the parts together, runs the main loop, and takes them apart again.

use std::env;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, unbounded};
use rustix::net::sockopt;

use crate::api::auth::Auth;
use crate::api::{Api, Parts};
use crate::cli::output::{Failure, Status};
use crate::cli::schedules::machine_zone;
use crate::clock::{Clock, wall_ms};
use crate::config::Config;
use crate::definition::{self, Search};
use crate::health::Health;
use crate::http::{self, Server};
use crate::main_loop::{Event, MainLoop, Purpose, Release};
use crate::metrics::Meters;
use crate::read_model::ReadModel;
use crate::reason::reason;
use crate::reload::Reloader;
use crate::requests::Request;
use crate::scheduler::{Limits, Retention, Scheduler};
use crate::secret::IfMissing;
use crate::service_manager::{self, Watchdog};
use crate::store::{self, DataDirectory, OpenError, Recovered, Store};
use crate::task::{Followers, Mark, Settings, Workers, kill_leftovers};
use crate::wall_timer::WallTimer;
use crate::{environment, log, open_files, process_one, reload, signals, task};

/// How long what an earlier prunner left running may take to die.
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(5);
/// How long answers that are under way may take when all else has ended.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

pub(super) fn search(config: &Config) -> Search {
    Search {
        path: config.path.clone(),
        pattern: config.pattern.clone(),
        data: config.data.clone(),
    }
}

/// The data directory, for this process alone.
pub(super) fn data_directory(config: &Config) -> Result<DataDirectory, Failure> {
    DataDirectory::open(&config.data).map_err(|error| match error {
        OpenError::InUse { .. } => Failure {
            status: Status::REFUSED,
            message: Some(error.to_string()),
        },
        OpenError::Io(..) => Failure::usage(error),
    })
}

/// What an earlier prunner left in the data directory; the processes that it left have ended.
pub(super) fn recover(directory: &DataDirectory) -> Result<Recovered, Failure> {
    let recovered = store::recover(&directory.path, wall_ms()).map_err(|error| {
        Failure::usage(format!(
            "failed to read the state in `{}`: {}",
            directory.path.display(),
            reason(&error)
        ))
    })?;
    for message in &recovered.messages {
        log::warning(message, &[]);
    }
    for left in kill_leftovers(&directory.path, &recovered.leftovers, LEFTOVER_PATIENCE) {
        log::warning("a process of an earlier run can't be ended", &[("process", &left)]);
    }
    Ok(recovered)
}

pub(super) fn run(config: &Config) -> Result<Status, Failure> {
    if process_one::is_process_one() {
        return process_one::run_child().map(Status).map_err(Failure::usage);
    }
    signals::clean_up_inheritance().map_err(Failure::usage)?;
    log::start().map_err(Failure::usage)?;
    let clock = Clock::new();
    let secret = config.secret(IfMissing::Make).map_err(Failure::usage)?;
    let search = search(config);
    // Before they are read: what changes meanwhile is a change.
    let watched = config.watch.then(|| reload::look(&search));
    let loaded = definition::load(&search);
    if !reload::report(&loaded) {
        let message = format!(
            "the pipeline files are wrong: {} errors, named above",
            loaded.errors.len()
        );
        return Err(Failure::usage(message));
    }
    let listeners = listeners(config)?;
    let address = listeners[0].local_addr().map_err(Failure::usage)?;
    let environment = environment::of_tasks(
        env::vars_os(),
        &config.env_files,
        Some(&reachable(&listeners[0]).map_err(Failure::usage)?.to_string()),
    )
    .map_err(Failure::usage)?;

    let directory = data_directory(config)?;
    if let Some(complaint) = open_files::complaint(config.max_tasks) {
        log::warning(&complaint, &[]);
    }
    if let Some(complaint) = task::complaint() {
        log::warning(complaint, &[]);
    }
    let (events, receiver) = unbounded::<Event>();
    let reloader = Arc::new(Reloader::new(search, Box::new(asker(&events))));
    let interval = Duration::from_millis(u64::try_from(config.poll_interval_ms).unwrap_or(1));
    let watched = watched.map(|seen| (seen, interval));
    let reload = reload::start(Arc::clone(&reloader), watched).map_err(Failure::usage)?;
    let arrived = {
        let stopping = events.clone();
        signals::listen(
            move || drop(stopping.send(Event::SignalsArrived)),
            // Where one is asked for already, that one will see the same files.
            move || {
                let _ = reload.try_send(());
            },
        )
    }
    .map_err(Failure::usage)?;

    let recovered = recover(&directory)?;
    let data = directory.path.clone();
    let logs = data.join("logs");
    let model = Arc::new(ReadModel::new(recovered.image));
    let health = Arc::new(Health::default());
    let meters = Arc::new(Meters::default());
    let followers = Followers::new();
    let settings = Settings {
        logs: Some(logs.clone()),
        observer: None,
        mark: Mark::Data(data),
        shell: config.shell.clone(),
        log_limit: config.log_limit,
        environment,
        meters: Arc::clone(&meters),
    };
    let exits = events.clone();
    let report = Box::new(move |task, exit| drop(exits.send(Event::TaskExited { task, exit })));
    let workers = Arc::new(Workers::new(settings, Arc::clone(&followers), report));

    let limits = Limits {
        max_tasks: config.max_tasks,
        kill_grace_ms: config.kill_grace_ms,
        retention: Retention {
            period_ms: config.retention_period_ms,
            count: config.retention_count,
        },
    };
    let pipelines = loaded.pipelines.len();
    let mut scheduler = Scheduler::new(limits, loaded.pipelines);
    let now = clock.now();
    scheduler.restore(now, recovered.waiting, recovered.ended);
    for message in scheduler.start_schedules(now, machine_zone(), recovered.schedules) {
        log::warning(&message, &[]);
    }
    let store = Store::start(
        store::Parts {
            directory,
            model: Arc::clone(&model),
            health: Arc::clone(&health),
            meters: Arc::clone(&meters),
            journal: recovered.journal,
        },
        {
            let workers = Arc::clone(&workers);
            move |release: Release| release.carry_out(&workers)
        },
        {
            let events = events.clone();
            move |is_troubled| drop(events.send(Event::StorageTroubled(is_troubled)))
        },
    )
    .map_err(|error| Failure::usage(format!("failed to write the state: {error}")))?;

    let api = Api::new(Parts {
        model: Arc::clone(&model),
        health: Arc::clone(&health),
        auth: Auth::new(&secret),
        followers,
        logs,
        reloader,
        meters,
        ask: Box::new(asker(&events)),
        now_wall_ms: Box::new(wall_ms),
    });
    // Else who asks before the first turn of the loop would be told that there are none.
    let shown = scheduler.pipeline_views();
    model.publish(&[], Some(Arc::from(shown.as_slice())));
    model.begin_counting(&recovered.ended_now);
    let kill_grace = Duration::from_millis(u64::try_from(config.kill_grace_ms).unwrap_or(0));
    let main_loop = MainLoop {
        clock,
        scheduler,
        events: receiver,
        arrived,
        workers: Arc::clone(&workers),
        store,
        purpose: Purpose::Serve {
            health: Arc::clone(&health),
        },
        shown,
        interrupts: 0,
        stopped_by: None,
        releases: Vec::new(),
        watchdog: Watchdog::from_environment(),
        wall_timer: {
            let events = events.clone();
            WallTimer::new(move || drop(events.send(Event::WallClockReached)))
        },
    };
    let server = Server::start(listeners, Arc::new(api)).map_err(Failure::usage)?;
    log::info(
        "serving",
        &[
            ("address", &address),
            ("pipelines", &pipelines),
            ("version", &env!("CARGO_PKG_VERSION")),
        ],
    );

    service_manager::ready();
    let Ok(ended) = catch_unwind(AssertUnwindSafe(|| main_loop.run())) else {
        // Nobody decides any more, but nothing is left running.
        log::error("the main loop broke down, which is a bug; all tasks are stopped", &[]);
        workers.stop_all(kill_grace);
        return Err(Failure::usage("the main loop broke down, which is a bug"));
    };
    ended.store.finish();
    health.set_ending();
    model.wake_all();
    server.stop(ANSWER_GRACE);
    log::info("ended", &[]);
    Ok(Status::DONE)
}

/// Those that the service manager opened, else our own.
fn listeners(config: &Config) -> Result<Vec<TcpListener>, Failure> {
    let handed_over = service_manager::listeners()
        .map_err(|error| Failure::usage(format!("failed to take over the socket in `LISTEN_FDS`: {error}")))?;
    if !handed_over.is_empty() {
        return Ok(handed_over);
    }
    http::bind(&config.address).map_err(|error| {
        let address = &config.address;
        let advice = if error.kind() == ErrorKind::AddrInUse {
            "; end what listens there, or give another `--address`"
        } else {
            ""
        };
        Failure::usage(format!("failed to listen at `{address}`: {}{advice}", reason(&error)))
    })
}

fn asker(events: &Sender<Event>) -> impl Fn(Request) + Send + Sync + 'static {
    let events = events.clone();
    // The receiver goes with the main loop: who asks later waits in vain, and is told so.
    move |request| drop(events.send(Event::Requested(request)))
}

/// Where a process on this machine reaches a server that listens there.
fn reachable(listener: &TcpListener) -> io::Result<SocketAddr> {
    let address = listener.local_addr()?;
    let ip = match address.ip() {
        IpAddr::V6(ip) if ip.is_unspecified() && sockopt::ipv6_v6only(listener)? => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    Ok(SocketAddr::new(ip, address.port()))
}
