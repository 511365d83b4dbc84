//! Turns an address as it stands in a configuration into listening sockets.
//!
//! `localhost` is 127.0.0.1 without asking anyone: a static binary has no resolver where there is no `/etc/hosts`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// How many connections the kernel completes while the accept thread is busy. It takes them in microseconds.
const BACKLOG: i32 = 1024;

/// Listens at `host:port`, `[v6]:port`, or `:port` for all interfaces. A name may stand for several addresses.
///
/// # Errors
/// `InvalidInput` where the address can't be read; else what the system says.
pub(crate) fn bind(address: &str) -> io::Result<Vec<TcpListener>> {
    let (host, port) = split(address).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{address}` is not an address; expected `host:port`, `:port` or `[v6 address]:port`"),
        )
    })?;
    if host.is_empty() {
        // One socket for both versions; v4 alone where the system has no v6.
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let listener = match listen(any, false) {
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL | Errno::NOPROTOOPT) => {
                listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), false)
            }
            other => other,
        };
        return Ok(vec![listener?]);
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![listen(SocketAddr::from((ip, port)), true)?]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), true)?]);
    }
    let mut listeners = Vec::new();
    for address in (host, port).to_socket_addrs()? {
        listeners.push(listen(address, true)?);
    }
    if listeners.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            format!("`{host}` has no address"),
        ));
    }
    Ok(listeners)
}

fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let port = port.parse().ok()?;
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok()?;
        return Some((inner, port));
    }
    // A bare v6 address: which of its parts would be the port?
    (!host.contains([':', ']'])).then_some((host, port))
}

fn listen(address: SocketAddr, only_v6: bool) -> Result<TcpListener, Errno> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let socket: OwnedFd = rustix::net::socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    // Or a restart fails for a minute after connections of the old process.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, only_v6)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[track_caller]
    fn check(address: &str, expected: Option<(&str, u16)>) {
        assert_eq!(split(address), expected, "{address}");
    }

    #[test]
    fn splits_addresses() {
        check("127.0.0.1:9009", Some(("127.0.0.1", 9009)));
        check("localhost:0", Some(("localhost", 0)));
        check(":9009", Some(("", 9009)));
        check("[::1]:80", Some(("::1", 80)));
        check("[::]:65535", Some(("::", 65535)));
        check("", None);
        check("9009", None);
        check("host", None);
        check("host:", None);
        check("host:http", None);
        check("host:+80", None);
        check("host:65536", None);
        check("::1:80", None);
        check("[::1]", None);
        check("[::1:80", None);
        check("[host]:80", None);
        check("[]:80", None);
    }

    #[track_caller]
    fn check_bind(address: &str, reachable: &[&str]) {
        let listeners = bind(address).unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        for host in reachable {
            TcpStream::connect((*host, port)).unwrap();
        }
    }

    #[test]
    fn binds() {
        check_bind("localhost:0", &["127.0.0.1"]);
        check_bind("LOCALHOST:0", &["127.0.0.1"]);
        check_bind("127.0.0.1:0", &["127.0.0.1"]);
        check_bind(":0", &["127.0.0.1"]);
        if TcpListener::bind("[::1]:0").is_ok() {
            check_bind("[::1]:0", &["::1"]);
            check_bind(":0", &["127.0.0.1", "::1"]);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let error = bind("nine").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(
            error.to_string(),
            "`nine` is not an address; expected `host:port`, `:port` or `[v6 address]:port`"
        );
        let taken = bind("localhost:0").unwrap();
        let address = taken[0].local_addr().unwrap().to_string();
        assert_eq!(bind(&address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
