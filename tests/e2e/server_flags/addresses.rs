//! Where the server listens.

use std::net::{TcpListener, TcpStream};

use super::{PIPELINES, check_refused};
use crate::space::TestSpace;

#[test]
fn every_form_is_served() {
    let v6 = TcpListener::bind("[::1]:0").is_ok();
    let own: Option<String> = interface();
    let mut cases = vec![
        ("127.0.0.1:0", "127.0.0.1", true),
        ("localhost:0", "127.0.0.1", false),
        (":0", "127.0.0.1", true),
        ("0.0.0.0:0", "127.0.0.1", true),
    ];
    if v6 {
        cases.extend([("[::1]:0", "::1", false), (":0", "::1", true)]);
    }
    for (address, host, _) in cases {
        let space = TestSpace::new(PIPELINES);
        let server = space.serve_with(&["--address", address], &[]);
        let port: u16 = server.address.rsplit_once(':').unwrap().1.parse().unwrap();
        TcpStream::connect((host, port)).unwrap();
        let others = own.as_deref().map(|own| TcpStream::connect((own, port)).is_ok());
        let all = address.starts_with(':') || address.starts_with('0');
        assert!(others.is_none_or(|others| others == all), "{address}");
    }
}

/// An address of this machine that is not a loopback.
fn interface() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then(|| address.to_string())
}

#[test]
fn the_flag_wins_over_the_variable() {
    let space = TestSpace::new(PIPELINES);
    let server = space.serve_with(&[], &[("PRUNNER_ADDRESS", "127.0.0.1:0")]);
    assert_eq!(server.run_job("p")["status"], "succeeded");
    let nonsense = [("PRUNNER_ADDRESS", "nonsense")];
    let other = TestSpace::new(PIPELINES);
    let server = other.serve_with(&["--address", "127.0.0.1:0"], &nonsense);
    assert_eq!(server.run_job("p")["status"], "succeeded");
    check_refused(
        &space,
        &["debug"],
        &nonsense,
        "`PRUNNER_ADDRESS` is `nonsense`, expected `host:port`, `:port` or `[::1]:port`",
    );
}

#[test]
fn the_default_is_localhost_9009() {
    let space = TestSpace::new(PIPELINES);
    let text = |arguments: &[&str]| String::from_utf8(space.run(arguments).stdout).unwrap();
    assert!(text(&["debug"]).contains("http://localhost:9009/"));
    // What a client connects to.
    assert!(text(&["debug", "--address", ":80"]).contains("http://127.0.0.1:80/"));
    assert!(text(&["debug", "--address", "0.0.0.0:80"]).contains("http://127.0.0.1:80/"));
    assert!(text(&["debug", "--address", "[::1]:80"]).contains("http://[::1]:80/"));
}

#[test]
fn what_is_no_address_or_is_taken_is_refused() {
    let space = TestSpace::new(PIPELINES);
    for address in [
        "9009",
        "host",
        "host:http",
        "host:65536",
        "::1:80",
        "http://x:80",
        "a b:80",
    ] {
        let complaint = format!("`--address` is `{address}`, expected `host:port`, `:port` or `[::1]:port`");
        check_refused(&space, &["--address", address], &[], &complaint);
    }
    check_refused(
        &space,
        &["--address", ""],
        &[],
        "`--address` is empty, expected a value",
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let complaint = format!(
        "failed to listen at `{address}`: address already in use; end what listens there, or give another `--address`"
    );
    check_refused(&space, &["--address", &address], &[], &complaint);
}

#[test]
fn clients_find_the_server_by_the_address_that_it_was_given() {
    let mut forms = vec!["127.0.0.1:", "localhost:", ":", "0.0.0.0:"];
    if TcpListener::bind("[::1]:0").is_ok() {
        forms.extend(["[::1]:", "[::]:"]);
    }
    for form in forms {
        let space = TestSpace::new(PIPELINES);
        let server = space.serve_with(&["--address", &format!("{form}0")], &[]);
        let port = server.address.rsplit_once(':').unwrap().1;
        let address = format!("{form}{port}");
        for (arguments, variables) in [
            (&["--address", &address, "pipelines"][..], &[][..]),
            (
                &["pipelines", "--address", &address],
                &[("PRUNNER_ADDRESS", "127.0.0.1:1")],
            ),
            (&["pipelines"], &[("PRUNNER_ADDRESS", &*address)]),
        ] {
            let output = space.run_with(arguments, variables);
            assert_eq!(output.status.code(), Some(0), "{address}: {output:?}");
        }
    }
}
