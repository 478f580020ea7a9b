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
    in_flight::{Doing, InFlight, Progress},
    work::{Kind, Piece},
};

impl Piece for Conn {
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>) {
        // First: what is read after it belongs to it.
        let state = self.state();
        let peer = self.peer().to_string();
        let age = now.saturating_duration_since(self.since());
        let label = || self.label.read().unwrap_or_else(|| ("?".into(), "?".into()));
        let request = |progress| {
            let ((method, path), peer) = (label(), peer.clone());
            InFlight::Request { method, path, peer, age, progress }
        };
        let connection = |doing| {
            let age = now.saturating_duration_since(self.accepted_at());
            InFlight::Connection { peer: peer.clone(), age, doing }
        };
        let delivering = |bytes| match self.streams_if_any() {
            None if self.calls() > 0 => request(Progress::Delivering(bytes)),
            None | Some(_) => connection(Doing::Delivering(bytes)),
        };
        let described = match (state, self.unread()) {
            (Busy, _) => request(Progress::NoResponse),
            (Responding | Flushing | Answered, _) => request(Progress::Responding),
            (Upgraded, _) => InFlight::Upgraded { path: label().1, peer, age },
            (Head | Named | Queued, _) => connection(Doing::ReadingHead),
            (Closed, _) => return,
            (Http2, _) if self.has_streams() => {
                let streams = self.streams_if_any().into_iter();
                return streams.for_each(|streams| streams.describe(&peer, now, out));
            }
            (Delivering, unread) => delivering(unread.unwrap_or(0)),
            (Closing | Http2, Some(bytes)) => delivering(bytes),
            (Closing, None) if self.is_sending() => connection(Doing::Closing),
            (Fresh | Idle | Expired, _) if self.is_overdue(now) => connection(Doing::Overdue),
            (Fresh | Idle | Expired, _) | (Http2 | Closing, None) => connection(Doing::Nothing),
        };
        out.push(described);
    }

    fn kind(&self) -> Kind {
        Kind::Connection
    }

    fn requests(&self) -> usize {
        match (self.state(), self.streams_if_any()) {
            (Busy | Responding | Flushing | Answered, _) => 1,
            (Http2, Some(streams)) => streams.requests(),
            (Delivering, None) => usize::from(self.calls() > 0),
            (Closing, None) => usize::from(self.calls() > 0 && self.unread().is_some()),
            _ => 0,
        }
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

    fn has_ended(&self) -> bool {
        self.has_answered_late()
    }

    fn forget_ended(&self, then: Instant, described: &mut Vec<InFlight>) {
        match self.streams_if_any() {
            Some(streams) => streams.forget_ended(&self.peer().to_string(), then, described),
            None if self.has_ended() => described.clear(),
            None => {}
        }
    }
}
