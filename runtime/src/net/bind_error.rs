//! Why an address cannot be listened on, and what to do about it.

use std::{fs, io, net::SocketAddr, os::unix::fs::MetadataExt, path::Path};

use super::sockets;
use crate::util::{Escaped, Failure};

/// Names the address and the cause, and says what to do.
pub(super) fn explain(written: &str, addr: Option<SocketAddr>, error: io::Error) -> Failure {
    let advice = advice(addr, &error);
    let name = match addr {
        Some(addr) if addr.to_string() != written => format!("{written} ({addr})"),
        _ => written.to_owned(),
    };
    let failure = Failure::from_error(error).context(&format!("cannot listen on {name}"));
    match advice {
        Some(advice) => failure.hint(&advice),
        None => failure,
    }
}

fn advice(addr: Option<SocketAddr>, error: &io::Error) -> Option<String> {
    match (error.kind(), addr) {
        (io::ErrorKind::AddrInUse, Some(addr)) => Some(match listens_at(addr.port()) {
            Some(process) => format!("{process} listens there: stop it, or take another port"),
            None => "another process listens there: stop it, or take another port".to_owned(),
        }),
        (io::ErrorKind::AddrInUse, None) => {
            Some("another process listens there: stop it, or take another path".to_owned())
        }
        (io::ErrorKind::PermissionDenied, Some(addr)) if addr.port() < 1024 => Some(format!(
            "ports below 1024 are privileged: take one above, give the program \
                 CAP_NET_BIND_SERVICE, or have systemd pass the socket (`systemd:{}`)",
            if addr.port() == 443 { "https" } else { "http" }
        )),
        _ if addr.is_some_and(|addr| addr.is_ipv6() && addr.ip().is_unspecified())
            && sockets::is_unavailable(error) =>
        {
            let port = addr.map_or(0, |addr| addr.port());
            Some(format!(
                "this machine has no IPv6: write `0.0.0.0:{port}`, or `:{port}` for whichever it has"
            ))
        }
        (io::ErrorKind::AddrNotAvailable, Some(_)) => {
            Some("this machine does not have that address: `ip addr` lists those it has".to_owned())
        }
        _ => None,
    }
}

/// The process that listens at a port, where `/proc` tells: of other users' processes it tells root
/// alone (proc(5)).
fn listens_at(port: u16) -> Option<String> {
    let inodes: Vec<u64> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| table.lines().filter_map(|line| listener(line, port)).collect::<Vec<_>>())
        .collect();
    let mut processes = fs::read_dir("/proc").ok()?.flatten();
    processes.find_map(|process| holder(&process.path(), &inodes))
}

/// The inode of a listening socket at `port`, by a line of the kernel's table.
fn listener(line: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let is_it = u16::from_str_radix(local.rsplit_once(':')?.1, 16) == Ok(port);
    (is_it && state == LISTEN).then(|| inode.parse().ok())?
}

/// `name (process 123)`, if it has one of these sockets open.
fn holder(process: &Path, inodes: &[u64]) -> Option<String> {
    let id: u32 = process.file_name()?.to_str()?.parse().ok()?;
    let mut open = fs::read_dir(process.join("fd")).ok()?.flatten();
    let holds = open.any(|fd| {
        let is_socket = |metadata: &fs::Metadata| inodes.contains(&metadata.ino());
        fs::metadata(fd.path()).as_ref().is_ok_and(is_socket)
    });
    if !holds {
        return None;
    }
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    let this = if id == std::process::id() { ", this one" } else { "" };
    Some(format!("{} (process {id}{this})", Escaped(name.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_ipv6_is_told_what_to_write() {
        let no_family = || io::Error::from(nix::errno::Errno::EAFNOSUPPORT);
        let any: SocketAddr = "[::]:8080".parse().unwrap();
        let failure = explain("[::]:8080", Some(any), no_family()).to_string();
        assert!(failure.contains("write `0.0.0.0:8080`, or `:8080`"), "{failure}");
        let none = explain("[::1]:8080", Some("[::1]:8080".parse().unwrap()), no_family());
        assert!(!none.to_string().contains("0.0.0.0"), "{none}");
    }
}
