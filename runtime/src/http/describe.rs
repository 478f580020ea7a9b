//! A connection as the drain and the report see it.

use std::time::Instant;

use super::{
    conn::HttpConn,
    state::State::{
        Answered, Busy, Closed, Closing, Delivering, Expired, Flushing, Fresh, Head, Http2, Idle,
        Named, Queued, Responding, Upgraded,
    },
};
use crate::{
    net::GuardedConn,
    work::{Doing, InFlight, Progress, WorkItem, WorkKind},
};

impl WorkItem for HttpConn {
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>) {
        // First: what is read after it belongs to it.
        let state = self.state();
        let peer = self.core().peer().to_string();
        let age = now.saturating_duration_since(self.since());
        let request_line = || self.request_line.read().unwrap_or_else(|| ("?".into(), "?".into()));
        let request = |progress| {
            let ((method, path), peer) = (request_line(), peer.clone());
            InFlight::Request { method, path, peer, age, progress }
        };
        let connection = |doing| {
            let age = now.saturating_duration_since(self.core().accepted_at());
            InFlight::Connection { peer: peer.clone(), age, doing }
        };
        let delivering = |bytes| match self.streams_if_any() {
            None if self.calls() > 0 => request(Progress::Delivering(bytes)),
            None | Some(_) => connection(Doing::Delivering(bytes)),
        };
        let described = match (state, self.core().unread()) {
            (Busy, _) => request(Progress::NoResponse),
            (Responding | Flushing | Answered, _) => request(Progress::Responding),
            (Upgraded, _) => InFlight::Upgraded { path: request_line().1, peer, age },
            (Head | Named | Queued, _) => connection(Doing::ReadingHead),
            (Closed, _) => return,
            (Http2, _) if self.has_streams() => {
                let streams = self.streams_if_any().into_iter();
                return streams.for_each(|streams| streams.describe(&peer, now, out));
            }
            (Delivering, unread) => delivering(unread.unwrap_or(0)),
            (Closing | Http2, Some(bytes)) => delivering(bytes),
            (Closing, None) if self.core().is_sending() => connection(Doing::Closing),
            (Fresh, _) if self.core().is_shaking() => connection(Doing::Handshake),
            (Fresh | Idle | Expired, _) if self.is_overdue(now) => connection(Doing::Overdue),
            (Fresh | Idle | Expired, _) | (Http2 | Closing, None) => connection(Doing::Nothing),
        };
        out.push(described);
    }

    fn kind(&self) -> WorkKind {
        WorkKind::Connection
    }

    fn requests(&self) -> usize {
        match (self.state(), self.streams_if_any()) {
            (Busy | Responding | Flushing | Answered, _) => 1,
            (Http2, Some(streams)) => streams.requests(),
            (Delivering, None) => usize::from(self.calls() > 0),
            (Closing, None) => usize::from(self.calls() > 0 && self.core().unread().is_some()),
            _ => 0,
        }
    }

    fn drain(&self) {
        self.core().wake();
    }

    fn cut(&self) {
        self.core().wake_all();
        if let Some(streams) = self.streams_if_any() {
            streams.abort_all();
        }
    }

    fn has_ended(&self) -> bool {
        self.has_answered_late()
    }

    fn forget_ended(&self, then: Instant, described: &mut Vec<InFlight>) {
        match self.streams_if_any() {
            Some(streams) => streams.forget_ended(&self.core().peer().to_string(), then, described),
            None if self.has_ended() => described.clear(),
            None => {}
        }
    }
}
