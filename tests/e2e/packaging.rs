//! The files of `packaging` that another program reads.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::space::{Server, TestSpace, eventually};
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

/// A server, and a proxy in front of it with a certificate in `cert.pem`.
struct Behind {
    space: TestSpace,
    server: Server,
    /// Of the proxy.
    port: u16,
}

impl Behind {
    /// `None`: a program is missing, which was said.
    fn new(proxy: &str, file: &str) -> Option<Behind> {
        for program in [proxy, "openssl", "curl"] {
            if !is_there(program) {
                say_skipped(program, &format!("nothing was followed through packaging/{file}"));
                return None;
            }
        }
        let (space, server) = TestSpace::serving(PIPELINES);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let behind = Behind { space, server, port };
        behind.run(
            "mkfifo go && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
             -subj /CN=prunner.example.org -keyout key.pem -out cert.pem",
        );
        Some(behind)
    }

    fn shell(&self, script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        let mut shell = self.space.command_by(shell, &[]);
        shell.env("HOME", &self.space.path);
        shell
    }

    #[track_caller]
    fn run(&self, script: &str) {
        let output = self.shell(script).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// The proxy, when it listens.
    #[track_caller]
    fn start(&self, command: &str) -> Ended {
        let proxy = Ended(self.shell(&format!("exec {command}")).spawn().unwrap());
        eventually("the proxy listens", || {
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        proxy
    }

    fn follow(&self, job: &str) -> (Ended, BufReader<ChildStdout>) {
        let port = self.port;
        let token = self.server.token.trim_end();
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--insecure", "--no-buffer"])
            .args(["--max-time", "60", "--header", &format!("Authorization: {token}")])
            .args(["--resolve", &format!("prunner.example.org:{port}:127.0.0.1")]);
        let target = format!("https://prunner.example.org:{port}/job/log?id={job}&task=it&follow=true");
        let mut curl = self
            .space
            .command_by(curl, &[&target])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(curl.stdout.take().unwrap());
        (Ended(curl), output)
    }

    /// The sockets of prunner that are open.
    fn sockets(&self) -> usize {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.server.pid())).unwrap();
        let targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.unwrap().path()).ok());
        targets
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    }

    #[track_caller]
    fn check(&self) {
        let job = self.server.schedule("slow");
        let before = self.sockets();
        // The task goes on only after these: they came while the answer was open.
        let followers: Vec<_> = (0..4)
            .map(|_| {
                let (curl, mut output) = self.follow(&job);
                assert_eq!(next_line(&mut output), "first\n");
                (curl, output)
            })
            .collect();
        // The task is silent still, and prunner has a limited number of connections. The proxy may keep one for later.
        drop(followers);
        eventually("who has gone is gone for prunner", || {
            (self.sockets() <= before + 1).then_some(())
        });

        let (_curl, mut output) = self.follow(&job);
        assert_eq!(next_line(&mut output), "first\n");
        fs::write(self.space.path.join("go"), "now\n").unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "last\n");
    }
}

fn next_line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line
}

#[test]
fn what_is_followed_comes_through_nginx_at_once() {
    let Some(behind) = Behind::new("nginx", "nginx.conf") else {
        return;
    };
    let path = behind.space.path.display();
    let conf = packaging("nginx.conf");
    let conf = replaced(
        &conf,
        "listen 443 ssl",
        &format!("listen 127.0.0.1:{} ssl", behind.port),
    );
    let conf = replaced(&conf, "/etc/ssl/prunner.pem", &format!("{path}/cert.pem"));
    let conf = replaced(&conf, "/etc/ssl/prunner.key", &format!("{path}/key.pem"));
    let conf = replaced(&conf, "127.0.0.1:9009", &behind.server.address);
    behind.space.write("conf.d/prunner.conf", &conf);
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {path}/{name};\n"))
        .concat();
    behind.space.write(
        "nginx.conf",
        &format!(
            "daemon off;\nmaster_process off;\npid {path}/nginx.pid;\nerror_log {path}/error.log;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}include {path}/conf.d/*.conf;\n}}\n"
        ),
    );
    let nginx = format!("nginx -e '{path}/error.log' -c '{path}/nginx.conf'");
    behind.run(&format!("{nginx} -t"));
    let _nginx = behind.start(&nginx);
    behind.check();
}

#[test]
fn what_is_followed_comes_through_caddy_at_once() {
    let Some(behind) = Behind::new("caddy", "Caddyfile") else {
        return;
    };
    let file = packaging("Caddyfile");
    let site = format!(
        "https://prunner.example.org:{} {{\n\tbind 127.0.0.1\n\ttls cert.pem key.pem",
        behind.port
    );
    let file = replaced(&file, "prunner.example.org {", &site);
    let file = replaced(&file, "127.0.0.1:9009", &behind.server.address);
    let alone = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n";
    behind.space.write("Caddyfile", &format!("{alone}{file}"));
    behind.run("caddy validate --config Caddyfile --adapter caddyfile");
    let _caddy = behind.start("caddy run --config Caddyfile --adapter caddyfile 2>caddy.log");
    behind.check();
}

#[test]
fn systemd_takes_the_unit_and_finds_it_hardened() {
    if !is_there("systemd-analyze") {
        return say_skipped("systemd-analyze", "nothing has checked packaging/prunner.service");
    }
    let space = TestSpace::new("pipelines: {}");
    let unit = packaging("prunner.service");
    // What the unit names must be there, and the manual page is not.
    let unit = replaced(&unit, "/usr/local/bin/prunner", env!("CARGO_BIN_EXE_prunner"));
    let unit = replaced(&unit, "Documentation=man:prunner(1)\n", "");
    space.write("prunner.service", &unit);
    space.write("prunner.socket", &packaging("prunner.socket"));
    let analyze = |arguments: &[&str]| {
        let output = space
            .command_by(Command::new("systemd-analyze"), arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // What it only warns of, it prints.
    assert_eq!(analyze(&["verify", "./prunner.service", "./prunner.socket"]), "");
    // Tenths of the ten points that nothing at all would have.
    let hardened = [
        "security",
        "--offline=true",
        "--threshold=20",
        "--no-pager",
        "./prunner.service",
    ];
    analyze(&hardened);
    space.write(
        "prunner.service.d/project.conf",
        &packaging("prunner.service.d/project.conf"),
    );
    assert_eq!(analyze(&["verify", "./prunner.service"]), "");
    analyze(&hardened);
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
