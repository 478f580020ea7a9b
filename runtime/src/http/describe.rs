//! A connection as the drain and the report see it.

use std::time::{Duration, Instant};

use super::{
    conn::HttpConn,
    state::State::{
        Answered, Busy, Closed, Closing, Delivering, Flushing, Fresh, Head, Http2, Idle, Named,
        Queued, Responding, Upgraded,
    },
};
use crate::{
    net::GuardedConn,
    work::{Doing, InFlight, Progress, WorkItem, WorkKind},
};

/// What a connection is at, without a word of text.
enum Activity {
    Request(Progress),
    Upgraded,
    /// Requests of HTTP/2, which its table knows.
    Streams,
    Connection(Doing),
    /// It is over.
    Nothing,
}

impl HttpConn {
    fn activity(&self, now: Instant) -> Activity {
        use Activity::{Connection, Nothing, Request, Streams};
        let delivering = |bytes| match self.streams_if_any() {
            None if self.calls() > 0 => Request(Progress::Delivering(bytes)),
            None | Some(_) => Connection(Doing::Delivering(bytes)),
        };
        // The state first: what is read after it belongs to it.
        match (self.state(), self.core().unread()) {
            (Busy, _) => Request(Progress::NoResponse),
            (Responding | Flushing | Answered, _) => Request(Progress::Responding),
            (Upgraded, _) => Activity::Upgraded,
            (Head | Named | Queued, _) => Connection(Doing::ReadingHead),
            (Closed, _) => Nothing,
            (Http2, _) if self.has_streams() => Streams,
            (Delivering, unread) => delivering(unread.unwrap_or(0)),
            (Closing | Http2, Some(bytes)) => delivering(bytes),
            (Closing, None) if self.core().is_sending() => Connection(Doing::Closing),
            (Fresh, _) if self.core().is_late() => Connection(Doing::Nothing),
            (Fresh, _) if self.core().is_shaking() => Connection(Doing::Handshake),
            (Fresh | Idle, _) if self.core().partial_since().is_some() => {
                Connection(Doing::ReadingHead)
            }
            (Fresh | Idle, _) if self.is_overdue(now) => Connection(Doing::Overdue),
            (Fresh | Idle, _) | (Http2 | Closing, None) => Connection(Doing::Nothing),
        }
    }

    /// The request of HTTP/1 that it is busy with.
    pub(super) fn request(&self, now: Instant, progress: Progress) -> InFlight {
        let (method, path) = self.request_line();
        let age = now.saturating_duration_since(self.since());
        InFlight::Request { method, path, peer: self.core().peer().to_string(), age, progress }
    }

    /// What has come of its last request.
    pub(super) fn upgraded(&self, now: Instant) -> InFlight {
        let (_, path) = self.request_line();
        let age = now.saturating_duration_since(self.since());
        InFlight::Upgraded { path, peer: self.core().peer().to_string(), age }
    }

    fn request_line(&self) -> (String, String) {
        self.request_line.read().unwrap_or_else(|| ("?".into(), "?".into()))
    }
}

impl WorkItem for HttpConn {
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>) {
        out.push(match self.activity(now) {
            Activity::Request(progress) => self.request(now, progress),
            Activity::Upgraded => self.upgraded(now),
            Activity::Connection(doing) => self.core().in_words(now, doing),
            Activity::Streams => {
                let peer = self.core().peer().to_string();
                let streams = self.streams_if_any().into_iter();
                return streams.for_each(|streams| streams.describe(&peer, now, out));
            }
            Activity::Nothing => return,
        });
    }

    fn oldest(&self) -> Option<Instant> {
        match self.activity(Instant::now()) {
            Activity::Request(_) | Activity::Upgraded => Some(self.since()),
            Activity::Connection(Doing::Nothing) | Activity::Nothing => None,
            Activity::Connection(_) => Some(self.core().accepted_at()),
            Activity::Streams => self.streams_if_any()?.oldest(),
        }
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

    fn sweep(&self, idle: Duration) -> bool {
        self.park_after(idle)
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
