//! A piece of work that is running or was cut, in words.

use std::{fmt, net::SocketAddr, time::Duration};

use crate::util::{Escaped, HumanDuration};

/// A piece of work that is running ([`Handle::in_flight`](crate::Handle::in_flight)) or was cut off
/// ([`Report::cut`](crate::Report::cut)).
///
/// Its [`Display`](fmt::Display) form is one line, safe for a terminal: paths are shown without
/// their query string, which may contain secrets, and control characters are escaped. The ages of
/// connections and of their requests are exact to a tick of the kernel's clock (1 to 10 ms).
///
/// With the feature `serde`, it serializes as its kind and fields, with its age in milliseconds:
/// `{"kind":"task","name":"nightly report","age_ms":1200}`.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let running = graceful::Config::new().start(()).await.unwrap();
/// let handle = running.handle().clone();
/// handle.spawn_named("nightly report", std::future::pending::<()>());
/// let line = handle.in_flight()[0].to_string();
/// assert!(line.starts_with("task nightly report"), "{line}");
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InFlight {
    /// An HTTP request without a complete response.
    #[non_exhaustive]
    Request {
        /// The method, such as `GET`.
        method: String,
        /// The path without the query, truncated with `…` if it is very long.
        path: String,
        /// The client's address.
        peer: String,
        /// The time since the head of the request was complete.
        age: Duration,
        /// The progress of the response.
        progress: Progress,
    },
    /// A connection that has left HTTP, such as a WebSocket.
    #[non_exhaustive]
    Upgraded {
        /// The path of the request that asked for the upgrade.
        path: String,
        /// The client's address.
        peer: String,
        /// The time since the upgrade was requested.
        age: Duration,
    },
    /// A connection without a running request.
    #[non_exhaustive]
    Connection {
        /// The client's address.
        peer: String,
        /// The time since it was accepted.
        age: Duration,
        /// Its state.
        state: ConnectionState,
    },
    /// A task of [`spawn`](crate::spawn), [`spawn_named`](crate::spawn_named) or
    /// [`spawn_blocking`](crate::spawn_blocking).
    #[non_exhaustive]
    Task {
        /// The name it was given, or `file:line:column` of the call that spawned it.
        name: String,
        /// The time since it was spawned.
        age: Duration,
    },
    /// A server.
    #[non_exhaustive]
    Server {
        /// Its address, or the line of [`serve_fn`](crate::serve_fn).
        name: String,
        /// How many connections it has not accepted yet, as far as the kernel reports: those in the
        /// accept queue, for example beyond [`max_connections`](crate::Server::max_connections).
        waiting: usize,
        /// The time since it was started.
        age: Duration,
    },
    /// A cleanup hook of [`on_stop`](crate::on_stop).
    #[non_exhaustive]
    Hook {
        /// `file:line:column` of the call that registered it.
        name: String,
        /// The time since it was started.
        age: Duration,
    },
    /// The body of `main`.
    #[non_exhaustive]
    Main {
        /// The time since it was started.
        age: Duration,
        /// Whether it can know about the stop: either it has asked for
        /// [`shutdown()`](crate::shutdown()) at least once, or it need not, because it returns a
        /// server.
        asked: bool,
    },
}

impl InFlight {
    /// The names of its kinds, in the machine-readable form.
    pub(crate) const KINDS: [&'static str; 7] =
        ["request", "upgraded", "connection", "task", "server", "hook", "main"];

    /// Returns the place of its kind in `KINDS`.
    pub(crate) fn kind_index(&self) -> usize {
        match self {
            Self::Request { .. } => 0,
            Self::Upgraded { .. } => 1,
            Self::Connection { .. } => 2,
            Self::Task { .. } => 3,
            Self::Server { .. } => 4,
            Self::Hook { .. } => 5,
            Self::Main { .. } => 6,
        }
    }
}

/// The progress of the response to a request, in [`InFlight::Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// There is no response yet.
    NoResponse,
    /// The head of the response has been passed on; or all of it has, and the body of the request
    /// is still being read.
    Responding,
    /// The whole response has been written, and the client's system has not acknowledged this many
    /// bytes; with 0, it has acknowledged all of them, and the client is still reading.
    Delivering(u32),
}

/// The state of a connection without a request, in [`InFlight::Connection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// It is idle, and nothing is lost with it.
    Nothing,
    /// It is idle, but should have been closed by now: the threads are blocked, and what the client
    /// has sent was never read. Where the kernel cannot be asked whether it has sent anything, that
    /// is taken for granted.
    Overdue,
    /// It is before the first request: in the PROXY header, the TLS handshake, or the creation of
    /// its service.
    Handshake,
    /// The head of a request is being read.
    ReadingHead,
    /// The handler of [`listen`](crate::listen) is running.
    Handling,
    /// Its responses are written, and the client's system has not acknowledged this many bytes;
    /// with 0, it has acknowledged all of them, and the client is still reading.
    Delivering(u32),
    /// It is being closed, but the client keeps sending.
    Closing,
}

impl InFlight {
    /// Returns how long it has been running, or had been when it was cut.
    #[must_use]
    pub fn age(&self) -> Duration {
        match self {
            Self::Request { age, .. }
            | Self::Upgraded { age, .. }
            | Self::Connection { age, .. }
            | Self::Task { age, .. }
            | Self::Server { age, .. }
            | Self::Hook { age, .. }
            | Self::Main { age, .. } => *age,
        }
    }

    /// Returns whether both are requests for the same path.
    #[cfg(feature = "net")]
    pub(crate) fn is_same_path(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Request { path: one, .. }, Self::Request { path, .. }) if one == path)
    }

    /// Returns whether it had begun: it may be a hook whose turn never came.
    pub(crate) fn has_begun(&self) -> bool {
        !matches!(self, Self::Hook { age: Duration::ZERO, .. })
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self, Self::Connection { state: ConnectionState::Nothing, .. })
    }
}

impl fmt::Display for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request { method, path, peer, progress, .. } => {
                write!(f, "{} {} from {peer}, ", Escaped(method), Escaped(path))?;
                match progress {
                    Progress::NoResponse => f.write_str("no response yet"),
                    Progress::Responding => f.write_str("response begun"),
                    Progress::Delivering(bytes) => {
                        write!(f, "response written, {}", Undelivered(*bytes))
                    }
                }
            }
            Self::Upgraded { path, peer, .. } => {
                write!(f, "upgraded connection {} from {peer}", Escaped(path))
            }
            Self::Connection { peer, state, .. } => {
                write!(f, "connection from {peer}")?;
                match state {
                    ConnectionState::Nothing => Ok(()),
                    ConnectionState::Overdue => f.write_str(", what it sent was never read"),
                    ConnectionState::Handshake => f.write_str(", the handshake not complete"),
                    ConnectionState::Handling => f.write_str(", with its handler"),
                    ConnectionState::ReadingHead => {
                        f.write_str(", the head of a request not complete")
                    }
                    ConnectionState::Delivering(bytes) => {
                        write!(f, ", responses written, {}", Undelivered(*bytes))
                    }
                    ConnectionState::Closing => {
                        f.write_str(", still sending after the last response")
                    }
                }
            }
            Self::Task { name, .. } => write!(f, "task {}", Escaped(name)),
            Self::Server { name, waiting, .. } => {
                write!(f, "server {}", Escaped(name))?;
                match waiting {
                    0 => Ok(()),
                    1 => f.write_str(", 1 connection waiting, never accepted"),
                    waiting => write!(f, ", {waiting} connections waiting, never accepted"),
                }
            }
            Self::Hook { name, .. } => write!(f, "hook {}", Escaped(name)),
            Self::Main { asked: true, .. } => f.write_str("main"),
            Self::Main { asked: false, .. } => {
                f.write_str("main, which has never asked for `graceful::shutdown()`")
            }
        }?;
        write!(f, ", {}", HumanDuration(self.age()))
    }
}

/// Bytes that the client has not acknowledged.
struct Undelivered(u32);

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("still being read"),
            1 => f.write_str("1 byte not acknowledged"),
            bytes => write!(f, "{bytes} bytes not acknowledged"),
        }
    }
}

// The short form of a piece of work, for lines that also contain other information.

/// How many characters of a name are shown: with the counts and the time left, the line fits into
/// 80 columns.
const LONGEST: usize = 28;

/// Displays `GET /export from 10.0.0.7, 12s`: without the client's port and without the progress.
pub(crate) struct Brief<'a>(pub(crate) &'a InFlight);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", Name(self.0), HumanDuration(self.0.age()))
    }
}

/// Like `Brief`, without the age: the part that does not change while the work runs.
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

/// Shows only the end of a long name, where a path or a line number says most.
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

/// The machine-readable form. Written by hand: the names are a separate format, and this avoids
/// compiling a derive macro.
#[cfg(feature = "serde")]
mod serialize {
    use serde::{Serialize, Serializer, ser::SerializeMap};

    use super::{ConnectionState, InFlight, Progress};
    use crate::log::millis;

    /// Serializes `kind`, the fields of that kind, and `age_ms`.
    impl Serialize for InFlight {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            let mut text = |key: &'static str, value: &str| map.serialize_entry(key, value);
            text("kind", Self::KINDS[self.kind_index()])?;
            match self {
                Self::Request { method, path, peer, .. } => {
                    text("method", method)?;
                    text("path", path)?;
                    text("peer", peer)?;
                }
                Self::Upgraded { path, peer, .. } => {
                    text("path", path)?;
                    text("peer", peer)?;
                }
                Self::Connection { peer, .. } => text("peer", peer)?,
                Self::Task { name, .. } | Self::Server { name, .. } | Self::Hook { name, .. } => {
                    text("name", name)?;
                }
                Self::Main { .. } => {}
            }
            match self {
                Self::Request { progress, .. } => map.serialize_entry("progress", progress)?,
                Self::Connection { state, .. } => map.serialize_entry("state", state)?,
                Self::Server { waiting, .. } => map.serialize_entry("waiting", waiting)?,
                Self::Main { asked, .. } => map.serialize_entry("asked", asked)?,
                _ => {}
            }
            map.serialize_entry("age_ms", &millis(self.age()))?;
            map.end()
        }
    }

    /// Serializes as a word, or as `{"delivering": …}` with the number of bytes.
    impl Serialize for Progress {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::NoResponse => serializer.serialize_str("no_response"),
                Self::Responding => serializer.serialize_str("responding"),
                Self::Delivering(bytes) => delivering(*bytes, serializer),
            }
        }
    }

    /// Serializes like [`Progress`].
    impl Serialize for ConnectionState {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let word = match self {
                Self::Nothing => "nothing",
                Self::Overdue => "overdue",
                Self::Handshake => "handshake",
                Self::ReadingHead => "reading_head",
                Self::Handling => "handling",
                Self::Closing => "closing",
                Self::Delivering(bytes) => return delivering(*bytes, serializer),
            };
            serializer.serialize_str(word)
        }
    }

    fn delivering<S: Serializer>(bytes: u32, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("delivering", &bytes)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_the_wire_drives_the_terminal() {
        let request = InFlight::Request {
            method: "GET".into(),
            path: "/\x1b[2J\u{202e}\u{61c}\u{2028}é".into(),
            peer: "127.0.0.1:1".into(),
            age: Duration::from_secs(3),
            progress: Progress::NoResponse,
        };
        assert_eq!(
            request.to_string(),
            "GET /\\u{1b}[2J\\u{202e}\\u{61c}\\u{2028}é from 127.0.0.1:1, no response yet, 3s"
        );
    }
}

#[cfg(test)]
mod brief_tests {
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
