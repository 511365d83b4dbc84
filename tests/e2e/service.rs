//! Under a service manager: the test speaks its protocol, as systemd would.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::space::{Server, TestSpace, eventually};

const PIPELINES: &str = r#"pipelines:
  environment: {tasks: {print: {script: ["env"]}}}
"#;
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that was started by a shell script with these variables, and the socket where it tells how it is.
struct Service {
    space: TestSpace,
    socket: UnixDatagram,
    child: Child,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    fn start(script: &str, input: Stdio, variables: &[(&str, &str)]) -> Service {
        let space = TestSpace::new(PIPELINES);
        let path = space.path.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_prunner")])
            .current_dir(&space.path)
            .env("NOTIFY_SOCKET", &path)
            .env("PRUNNER_JWT_SECRET", "0123456789abcdef0123")
            .envs(variables.iter().copied())
            .stdin(input)
            .stderr(Stdio::from(std::fs::File::create(space.path.join("log")).unwrap()))
            .spawn()
            .unwrap();
        Service { space, socket, child }
    }

    #[track_caller]
    fn told(&self) -> String {
        let mut bytes = [0; 4096];
        match self.socket.recv(&mut bytes) {
            Ok(length) => String::from_utf8(bytes[..length].to_vec()).unwrap(),
            Err(error) => panic!("nothing was told ({error}): {}", self.space.read("log")),
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .args(["-c", "kill -\"$1\" \"$2\"", "sh", name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Where it says that it serves.
    fn address(&self) -> String {
        eventually("it says where it serves", || {
            let log = self.space.read("log");
            let (line, _) = log.split_once("address=")?.1.split_once('\n')?;
            Some(line.split_whitespace().next().unwrap().to_owned())
        })
    }

    fn end(&mut self) -> Option<i32> {
        eventually("the service ends", || self.child.try_wait().unwrap()).code()
    }
}

fn health(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: e2e\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn monotonic_microseconds() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    Duration::from_secs_f64(seconds).as_micros().try_into().unwrap()
}

#[test]
fn it_is_told_when_prunner_is_ready_reloads_and_stops() {
    let mut service = Service::start("exec \"$0\" --address 127.0.0.1:0", Stdio::null(), &[]);
    assert_eq!(service.told(), "READY=1\n");
    assert!(health(&service.address()).contains(r#""status":"ok""#));

    for definition in [PIPELINES, "pipelines: 7\n"] {
        service.space.write("pipelines.yml", definition);
        let before = monotonic_microseconds();
        service.signal("USR1");
        let reloading = service.told();
        let time = reloading
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap()
            .trim_end();
        // The other clock has hundredths of a second.
        assert!(time.parse::<u64>().unwrap() + 20_000 >= before, "{reloading} {before}");
        assert_eq!(service.told(), "READY=1\n");
    }

    service.signal("TERM");
    assert_eq!(service.told(), "STOPPING=1\n");
    assert_eq!(service.end(), Some(0));
}

#[test]
fn the_main_loop_feeds_the_watchdog() {
    let script = "export WATCHDOG_PID=$$; exec \"$0\" --address 127.0.0.1:0";
    let service = Service::start(script, Stdio::null(), &[("WATCHDOG_USEC", "60000")]);
    let mut told: Vec<String> = (0..5).map(|_| service.told()).collect();
    told.sort();
    assert_eq!(
        told.concat(),
        "READY=1\nWATCHDOG=1\nWATCHDOG=1\nWATCHDOG=1\nWATCHDOG=1\n"
    );
}

#[test]
fn a_socket_that_was_opened_before_is_taken_over_and_tasks_get_nothing_of_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$; exec \"$0\" --address 127.0.0.1:1";
    let input = Stdio::from(OwnedFd::from(listener));
    let mut service = Service::start(script, input, &[("LISTEN_FDS", "1")]);
    assert_eq!(service.told(), "READY=1\n");
    assert_eq!(service.address(), address);
    assert!(health(&address).contains(r#""status":"ok""#));

    let token = Command::new(env!("CARGO_BIN_EXE_prunner"))
        .arg("debug")
        .current_dir(&service.space.path)
        .envs([("PRUNNER_JWT_SECRET", "0123456789abcdef0123"), ("MINIMAL_OUTPUT", "1")])
        .output()
        .unwrap();
    let token = String::from_utf8(token.stdout).unwrap();
    let body = r#"{"pipeline":"environment"}"#;
    let mut stream = TcpStream::connect(&address).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST /pipelines/schedule HTTP/1.1\r\nHost: e2e\r\nAuthorization: {token}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let environment = eventually("the task prints its environment", || {
        let logs = std::fs::read_dir(service.space.path.join(".prunner/logs")).ok()?;
        let job = logs.flatten().next()?;
        let text = std::fs::read_to_string(job.path().join("print-stdout.log")).ok()?;
        text.contains("TASK_NAME").then_some(text)
    });
    for name in ["NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_"] {
        assert!(!environment.contains(name), "{environment}");
    }
    service.signal("TERM");
    assert_eq!(service.end(), Some(0));
}

#[test]
fn a_socket_that_is_none_stops_the_start() {
    let script = "exec 3</dev/null; export LISTEN_PID=$$; exec \"$0\" --address 127.0.0.1:0";
    let mut service = Service::start(script, Stdio::null(), &[("LISTEN_FDS", "1")]);
    assert_eq!(service.end(), Some(2));
    let log = service.space.read("log");
    assert!(
        log.contains("prunner: error: failed to take over the socket in `LISTEN_FDS`"),
        "{log}"
    );
}

/// A server whose log is read up to the line that says that it serves, and then no more before somebody opens `go`.
fn serve_with_a_sleepy_reader(space: &TestSpace) -> Server {
    let script = "mkfifo log go; (while read -r line; do echo \"$line\" >&2; case $line in *serving*) break; esac; done; \
                  : <go; exec cat >&2) <log & exec \"$0\" --address 127.0.0.1:0 2>log";
    let mut starter = Command::new("sh");
    starter
        .args(["-c", script, env!("CARGO_BIN_EXE_prunner")])
        .current_dir(&space.path)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .stdin(Stdio::null());
    let server = space.serve_by(starter, &["--address", "127.0.0.1:0"], &[]);
    // More than a pipe takes.
    let long_name = "p".repeat(200);
    for _ in 0..400 {
        assert_eq!(server.try_schedule(&long_name).status, 400);
    }
    server
}

#[test]
fn a_log_that_nobody_reads_stops_nothing_and_loses_nothing() {
    let space = TestSpace::new("pipelines: {p: {tasks: {a: {script: ['true']}}}}");
    let server = serve_with_a_sleepy_reader(&space);
    let id = server.schedule("p");
    assert_eq!(server.ended(&id)["status"], "succeeded");
    std::fs::OpenOptions::new()
        .write(true)
        .open(space.path.join("go"))
        .unwrap();
    eventually("the reader has all of it", || {
        let log = server.log();
        (log.contains(&format!("msg=\"job ended\" job={id}"))).then_some(())
    });
    assert_eq!(server.log().matches("request refused").count(), 400);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_does_not_keep_the_server_from_ending() {
    let space = TestSpace::new("pipelines: {}");
    let server = serve_with_a_sleepy_reader(&space);
    assert_eq!(server.stop(), Some(0));
    std::fs::OpenOptions::new()
        .write(true)
        .open(space.path.join("go"))
        .unwrap();
}
