//! The files of `packaging` that another program reads.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::space::{TestSpace, eventually};
use crate::tools::{is_there, say_skipped};

fn packaging(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name);
    fs::read_to_string(path).unwrap()
}

const PIPELINES: &str = "
pipelines:
  slow:
    tasks:
      it: {script: ['echo first', 'read line < go', 'echo last']}
";

/// Ended with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "`{from}` is missing: {text}");
    text.replace(from, to)
}

#[test]
fn what_is_followed_comes_through_nginx_at_once() {
    for program in ["nginx", "openssl", "curl"] {
        if !is_there(program) {
            return say_skipped(program, "nothing was followed through packaging/nginx.conf");
        }
    }
    let (space, server) = TestSpace::serving(PIPELINES);
    let in_space = |script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        space.command_by(shell, &[]).output().unwrap()
    };
    let made = in_space(
        "mkfifo go && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
         -subj /CN=prunner.example.org -keyout key.pem -out cert.pem",
    );
    assert!(made.status.success(), "{made:?}");

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = space.path.display();
    let conf = packaging("nginx.conf");
    let conf = replaced(&conf, "listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl"));
    let conf = replaced(&conf, "/etc/ssl/prunner.pem", &format!("{path}/cert.pem"));
    let conf = replaced(&conf, "/etc/ssl/prunner.key", &format!("{path}/key.pem"));
    let conf = replaced(&conf, "127.0.0.1:9009", &server.address);
    space.write("conf.d/prunner.conf", &conf);
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {path}/{name};\n"))
        .concat();
    space.write(
        "nginx.conf",
        &format!(
            "daemon off;\nmaster_process off;\npid {path}/nginx.pid;\nerror_log {path}/error.log;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}include {path}/conf.d/*.conf;\n}}\n"
        ),
    );
    let nginx = format!("nginx -e '{path}/error.log' -c '{path}/nginx.conf'");
    let tested = in_space(&format!("{nginx} -t"));
    assert!(tested.status.success(), "{tested:?}");
    let mut starter = Command::new("sh");
    starter.args(["-c", &format!("exec {nginx}")]);
    let _nginx = Ended(space.command_by(starter, &[]).spawn().unwrap());
    eventually("nginx listens", || TcpStream::connect(("127.0.0.1", port)).ok());

    let job = server.schedule("slow");
    let token = server.token.trim_end();
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--insecure",
        "--no-buffer",
        "--max-time",
        "60",
    ])
    .args(["--header", &format!("Authorization: {token}")]);
    let target = format!("https://127.0.0.1:{port}/job/log?id={job}&task=it&follow=true");
    let mut curl = space
        .command_by(curl, &[&target])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(curl.stdout.take().unwrap());
    let curl = Ended(curl);
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    // The task goes on only after this: it came while the answer was open.
    assert_eq!(line, "first\n");
    fs::write(space.path.join("go"), "now\n").unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "last\n");
    drop(curl);
}

#[test]
fn shellcheck_finds_nothing_in_the_service_of_openrc() {
    if !is_there("shellcheck") {
        return say_skipped("shellcheck", "nothing has checked packaging/openrc");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/openrc/prunner");
    let output = Command::new("shellcheck").arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
