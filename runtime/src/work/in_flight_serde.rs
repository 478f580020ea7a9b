//! A piece of work as a program reads it. By hand: the names are a format of their own, and nobody has
//! to build a derive for them.

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::in_flight::{Doing, InFlight, Progress};
use crate::log::millis;

/// `kind`, what belongs to that, and `age_ms`.
impl Serialize for InFlight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut text = |key: &'static str, value: &str| map.serialize_entry(key, value);
        match self {
            Self::Request { method, path, peer, .. } => {
                text("kind", "request")?;
                text("method", method)?;
                text("path", path)?;
                text("peer", peer)?;
            }
            Self::Upgraded { path, peer, .. } => {
                text("kind", "upgraded")?;
                text("path", path)?;
                text("peer", peer)?;
            }
            Self::Connection { peer, .. } => {
                text("kind", "connection")?;
                text("peer", peer)?;
            }
            Self::Task { name, .. } => {
                text("kind", "task")?;
                text("name", name)?;
            }
            Self::Server { name, .. } => {
                text("kind", "server")?;
                text("name", name)?;
            }
            Self::Hook { name, .. } => {
                text("kind", "hook")?;
                text("name", name)?;
            }
            Self::Main { .. } => text("kind", "main")?,
        }
        match self {
            Self::Request { progress, .. } => map.serialize_entry("progress", progress)?,
            Self::Connection { doing, .. } => map.serialize_entry("doing", doing)?,
            Self::Server { waiting, .. } => map.serialize_entry("waiting", waiting)?,
            Self::Main { asked, .. } => map.serialize_entry("asked", asked)?,
            _ => {}
        }
        map.serialize_entry("age_ms", &millis(self.age()))?;
        map.end()
    }
}

/// A word; what is being delivered is `{"delivering": …}`, with the bytes.
impl Serialize for Progress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::NoResponse => serializer.serialize_str("no_response"),
            Self::Responding => serializer.serialize_str("responding"),
            Self::Delivering(bytes) => delivering(*bytes, serializer),
        }
    }
}

/// As [`Progress`].
impl Serialize for Doing {
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
