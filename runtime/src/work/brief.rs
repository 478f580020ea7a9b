//! A piece of work in few words, for a line that has other things to say.

use std::{fmt, net::SocketAddr};

use super::in_flight::InFlight;
use crate::util::{Escaped, HumanDuration};

/// How much of a name is shown: with the counts and the time left it fits into 80 columns.
const LONGEST: usize = 28;

/// `GET /export from 10.0.0.7, 12s`: without the port of the client, and without how far it is.
pub(crate) struct Brief<'a>(pub(crate) &'a InFlight);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", Name(self.0), HumanDuration(self.0.age()))
    }
}

/// The same without its age: what stays as it is while it runs.
pub(crate) struct Name<'a>(pub(crate) &'a InFlight);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            InFlight::Request { method, path, peer, .. } => {
                write!(f, "{} {} from {}", Short(method), Short(path), Host(peer))
            }
            InFlight::Upgraded { path, peer, .. } => {
                write!(f, "upgraded {} from {}", Short(path), Host(peer))
            }
            InFlight::Connection { peer, .. } => write!(f, "connection from {}", Host(peer)),
            InFlight::Task { name, .. } => write!(f, "task {}", Short(name)),
            InFlight::Server { name, .. } => write!(f, "server {}", Short(name)),
            InFlight::Hook { name, .. } => write!(f, "hook {}", Short(name)),
            InFlight::Main { .. } => f.write_str("main"),
        }
    }
}

/// The end of a long name is where a path or a line number says most.
struct Short<'a>(&'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = self.0.chars().count().saturating_sub(LONGEST);
        if cut == 0 {
            return Escaped(self.0).fmt(f);
        }
        let (at, _) = self.0.char_indices().nth(cut).unwrap_or_default();
        write!(f, "…{}", Escaped(&self.0[at..]))
    }
}

/// The address of a client without its port.
struct Host<'a>(&'a str);

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.parse::<SocketAddr>() {
            Ok(addr) => addr.ip().fmt(f),
            Err(_) => f.write_str(self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::work::Progress;

    #[test]
    fn a_piece_of_work_in_few_words() {
        let request = |path: &str, peer: &str| {
            let request = InFlight::Request {
                method: "GET".into(),
                path: path.into(),
                peer: peer.into(),
                age: Duration::from_secs(12),
                progress: Progress::NoResponse,
            };
            Brief(&request).to_string()
        };
        assert_eq!(request("/export", "10.0.0.7:41234"), "GET /export from 10.0.0.7, 12s");
        assert_eq!(request("/", "[::1]:1"), "GET / from ::1, 12s");
        assert_eq!(request("/", "a Unix socket"), "GET / from a Unix socket, 12s");
        assert_eq!(
            request("/a/b\x1b/0123456789/0123456789/é.html", "10.0.0.7:1"),
            "GET …0123456789/0123456789/é.html from 10.0.0.7, 12s"
        );
    }
}
