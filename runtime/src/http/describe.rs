//! A connection as the drain and the report see it.

use std::time::Instant;

use super::{
    conn::Conn,
    state::State::{
        Answered, Busy, Closed, Closing, Delivering, Expired, Flushing, Fresh, Head, Http2, Idle,
        Named, Queued, Responding, Upgraded,
    },
};
use crate::{
    in_flight::{Doing, InFlight},
    work::{Kind, Piece},
};

impl Piece for Conn {
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>) {
        // First: what is read after it belongs to it.
        let state = self.state();
        let peer = self.peer().to_string();
        let age = now.saturating_duration_since(self.since());
        let label = || self.label.read().unwrap_or_else(|| ("?".into(), "?".into()));
        let request = |responding, undelivered| {
            let ((method, path), peer) = (label(), peer.clone());
            InFlight::Request { method, path, peer, age, responding, undelivered }
        };
        let connection = |doing| {
            let age = now.saturating_duration_since(self.accepted_at());
            InFlight::Connection { peer: peer.clone(), age, doing }
        };
        let undelivered = self.undelivered();
        let delivering = || match self.streams_if_any() {
            None if self.has_been_called() => request(true, undelivered),
            None | Some(_) => connection(Doing::Delivering(undelivered)),
        };
        let described = match state {
            Busy => request(false, 0),
            Responding | Flushing | Answered => request(true, 0),
            Delivering => delivering(),
            Closing if undelivered > 0 => delivering(),
            Closing => connection(Doing::Closing),
            Upgraded => InFlight::Upgraded { path: label().1, peer, age },
            Head | Named | Queued => connection(Doing::ReadingHead),
            Fresh | Idle | Expired if self.is_overdue(now) => connection(Doing::Overdue),
            Fresh | Idle | Expired => connection(Doing::Nothing),
            Http2 => {
                let before = out.len();
                if let Some(streams) = self.streams_if_any() {
                    streams.describe(&peer, now, out);
                }
                match undelivered {
                    _ if out.len() > before => return,
                    0 => connection(Doing::Nothing),
                    _ => delivering(),
                }
            }
            Closed => return,
        };
        out.push(described);
    }

    fn kind(&self) -> Kind {
        Kind::Connection
    }

    fn drain(&self) {
        self.wake();
    }

    fn cut(&self) {
        self.wake();
        for owner in self.owners() {
            owner.wake();
        }
        if let Some(streams) = self.streams_if_any() {
            streams.abort_all();
        }
    }
}
