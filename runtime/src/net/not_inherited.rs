//! Without the feature `systemd`: no socket that the process was started with is looked for.

use std::{io, net::SocketAddr, path::Path};

use socket2::Socket;

pub(crate) fn unclaimed() -> Vec<String> {
    Vec::new()
}

pub(super) fn by_number(_: i32) -> io::Result<Socket> {
    Err(needs_the_feature())
}

pub(super) fn by_name(_: &str) -> io::Result<Vec<Socket>> {
    Err(needs_the_feature())
}

pub(super) fn by_address(_: SocketAddr) -> Option<Socket> {
    None
}

pub(super) fn by_path(_: &Path) -> Option<Socket> {
    None
}

pub(super) fn by_abstract(_: &str) -> Option<Socket> {
    None
}

fn needs_the_feature() -> io::Error {
    let what = "this program takes no sockets that it was started with: enable the feature \
                `systemd` of graceful-main";
    io::Error::new(io::ErrorKind::Unsupported, what)
}
