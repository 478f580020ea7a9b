//! The state of an HTTP connection: one allocation, written by the connection's own task, and read
//! from outside by the drain and the report.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use super::{
    framing::PlainRead,
    state::{
        ConnEvent,
        ConnState::{
            self, Answered, Busy, Closed, Closing, Delivering, Flushing, Fresh, Head, Http2, Idle,
            Named, Queued, Responding, Upgraded,
        },
    },
    stream_table::StreamTable,
};
use crate::{
    net::{
        ConnCore, ConnGuard, GuardedConn, Origin, Slot, clock,
        moving::{self, Details},
    },
    stop::{Phase, Shared},
    util::{
        Peer,
        sync::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Mutex, Ordering, fence, lock},
    },
    work::{ConnectionState, InFlight, Progress, WorkItem, WorkKind},
};

/// How late a connection may close before that is taken as a sign of blocked threads.
const OVERDUE: Duration = Duration::from_millis(100);

/// How old the kernel's answer may be for a display.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

const PARKED: u8 = 0;
const SPEAKS: u8 = 1;
/// Speaking, but idle for a while, so it is to be parked.
const TO_PARK: u8 = 2;

/// The connection's own task writes `state`, `since`, `calls`, `plain` and `request_line`, and
/// reads them relaxed. Other threads load the state with acquire, which pairs with the release
/// store in `step`: the data that belongs to a state was written before it.
#[derive(Debug)]
pub(crate) struct HttpConn {
    core: ConnCore,
    state: AtomicU8,
    /// By `clock`; see `since()`.
    since: AtomicU64,
    pub(super) plain: PlainRead,
    /// How many requests hyper has handed to the service; wraps.
    pub(super) calls: AtomicU32,
    pub(super) request_line: RequestLine,
    /// Whether the last request was fully answered although the cut had come.
    answered_late: AtomicBool,
    /// Whether the connection is to be closed while the process keeps serving.
    retires: AtomicBool,
    streams: OnceLock<Box<StreamTable>>,
    /// Whether hyper drives the connection: `PARKED`, `SPEAKS` or `TO_PARK`.
    hyper: AtomicU8,
    /// Whether hyper has found nothing to read and nothing has arrived since, so that its buffer
    /// holds at most part of a head. Used only by the connection's own task.
    awaits_input: AtomicBool,
    /// Whether hyper has begun to close.
    shuts: AtomicBool,
    /// Whether the connection ends in this process, whatever becomes of the others.
    stays: AtomicBool,
    /// Whether it has gone to the next process.
    has_moved: AtomicBool,
}

impl GuardedConn for HttpConn {
    #[inline]
    fn core(&self) -> &ConnCore {
        &self.core
    }

    fn closed(&self) {
        if self.is(ConnState::Upgraded) && self.is_drained() {
            self.core.shared().work.piece_finished(|| self.upgraded(Instant::now()));
        }
        self.on(ConnEvent::Gone);
    }

    fn has_moved(&self) {
        self.has_moved.store(true, Ordering::Relaxed);
        self.core.shared().work.piece_moved();
    }
}

impl HttpConn {
    /// Registers a connection that has just been accepted, which is counted and listed from here
    /// on.
    pub(super) fn accepted(
        shared: &Arc<Shared>,
        peer: Peer,
        origin: Option<Arc<Origin>>,
        slot: Option<Slot>,
        moved: Option<&Details>,
    ) -> ConnGuard<Self> {
        let mut core = ConnCore::new(shared, peer, origin, slot);
        if let Some(details) = moved {
            core.continues(details);
        }
        ConnGuard::first(Self {
            state: AtomicU8::new(ConnState::Fresh as u8),
            since: AtomicU64::new(core.accepted_on_the_clock()),
            core,
            plain: PlainRead::new(),
            calls: AtomicU32::new(0),
            request_line: RequestLine::new(),
            answered_late: AtomicBool::new(false),
            retires: AtomicBool::new(false),
            streams: OnceLock::new(),
            hyper: AtomicU8::new(PARKED),
            awaits_input: AtomicBool::new(false),
            shuts: AtomicBool::new(false),
            stays: AtomicBool::new(false),
            has_moved: AtomicBool::new(false),
        })
    }

    #[inline]
    pub(super) fn phase(&self) -> Phase {
        self.core.phase()
    }

    // ----- the state -----

    #[inline]
    pub(super) fn state(&self) -> ConnState {
        ConnState::from_byte(self.state.load(Ordering::Acquire))
    }

    #[inline]
    pub(super) fn is(&self, state: ConnState) -> bool {
        self.state.load(Ordering::Relaxed) == state as u8
    }

    /// Whether the state has a deadline even while serving.
    #[inline]
    pub(super) fn is_bounded(&self) -> bool {
        self.own_state().is_bounded_while_serving()
    }

    /// The state, for the connection's own task, which wrote it.
    #[inline]
    pub(super) fn own_state(&self) -> ConnState {
        ConnState::from_byte(self.state.load(Ordering::Relaxed))
    }

    /// Applies an event to the current state.
    #[allow(clippy::inline_always, reason = "as of `ConnState::after`")]
    #[inline(always)]
    pub(super) fn on(&self, event: ConnEvent) {
        self.step(self.own_state(), event);
    }

    /// Applies an event to `state`, which is the current one.
    #[allow(clippy::inline_always, reason = "as of `ConnState::after`")]
    #[inline(always)]
    pub(super) fn step(&self, state: ConnState, event: ConnEvent) {
        if state.notes_time(event) {
            self.note_time();
        }
        self.state.store(state.after(event) as u8, Ordering::Release);
    }

    #[inline]
    fn note_time(&self) {
        self.since.store(clock::now(), Ordering::Relaxed);
    }

    /// Since when the connection has been in its state, if that is a timed one.
    pub(super) fn since(&self) -> Instant {
        clock::instant(self.since.load(Ordering::Relaxed))
    }

    /// Whether it should have been closed by now. If so, its task has not had its turn.
    fn is_overdue(&self, now: Instant) -> bool {
        let shared = self.core.shared();
        let idle = matches!(self.state(), ConnState::Fresh | ConnState::Idle);
        let draining = shared.drain_started.get();
        draining.is_some_and(|&draining| {
            idle && now > draining.max(self.since()) + shared.limits.linger + OVERDUE
        })
    }

    // ----- whether hyper is there -----

    /// Marks hyper as present, until a sweep finds the connection idle.
    pub(super) fn speaks(&self) {
        self.hyper.store(SPEAKS, Ordering::Relaxed);
        // Either the look after this sees that no sweep is due, or the sweep sees the store above.
        fence(Ordering::SeqCst);
        self.core.shared().program().work.begin_sweep();
    }

    pub(super) fn is_parked(&self) {
        self.hyper.store(PARKED, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn set_awaits_input(&self, awaits: bool) {
        self.awaits_input.store(awaits, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn awaits_input(&self) -> bool {
        self.awaits_input.load(Ordering::Relaxed)
    }

    pub(super) fn begins_to_shut(&self) {
        self.shuts.store(true, Ordering::Relaxed);
    }

    pub(super) fn shuts(&self) -> bool {
        self.shuts.load(Ordering::Relaxed)
    }

    /// Whether it is to be parked, if it is still idle.
    #[inline]
    pub(super) fn is_to_park(&self) -> bool {
        self.hyper.load(Ordering::Relaxed) == TO_PARK
    }

    /// Asks the task to park the connection if it has been idle for `idle`. Returns whether hyper
    /// stays.
    pub(super) fn park_after(&self, idle: Duration) -> bool {
        if self.hyper.load(Ordering::Relaxed) != SPEAKS {
            return false;
        }
        match self.state() {
            ConnState::Idle if self.since().elapsed() >= idle => {}
            // hyper never returns from these.
            ConnState::Upgraded | ConnState::Closing | ConnState::Closed => return false,
            _ => return true,
        }
        // If this fails, the connection's own task has parked it in the meantime.
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        if self.hyper.compare_exchange(SPEAKS, TO_PARK, success, failure).is_ok() {
            self.core.wake();
        }
        false
    }

    // ----- the end -----

    /// Whether the process wants the connection to stay, and its age allows that.
    #[inline]
    pub(super) fn is_steady(&self) -> bool {
        // Relaxed: written by the connection's own task.
        self.phase() < Phase::LameDuck && !self.retires.load(Ordering::Relaxed)
    }

    /// Whether this response is the last one: the process is stopping, or a lame duck, or the
    /// connection is old enough.
    pub(super) fn closes_after_response(&self) -> bool {
        self.phase() >= Phase::LameDuck && !self.moves() || self.retires()
    }

    /// Whether the connection goes to the next process as soon as it is between messages.
    pub(super) fn moves(&self) -> bool {
        moving::is_giving() && !self.stays.load(Ordering::Relaxed)
    }

    /// Whether it ends in this process even if there is a next one.
    #[cfg(feature = "handover")]
    pub(super) fn is_kept(&self) -> bool {
        self.stays.load(Ordering::Relaxed)
    }

    /// Keeps the connection in this process, whether there is a next one or not.
    pub(super) fn keep(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }

    /// Continues a connection of the process before, in its state and since as long.
    pub(super) fn continues(&self, idle: Duration, speaks_http1: bool) {
        if speaks_http1 && self.is(Fresh) {
            self.state.store(Idle as u8, Ordering::Release);
        }
        self.since.store(clock::ago(idle), Ordering::Relaxed);
    }

    pub(super) fn retires(&self) -> bool {
        self.retires.load(Ordering::Relaxed)
    }

    pub(super) fn retire(&self) {
        self.retires.store(true, Ordering::Relaxed);
    }

    /// Called when an HTTP/1 request has been fully answered.
    #[inline]
    pub(super) fn request_finished(&self) {
        if self.phase() >= Phase::Draining {
            self.request_finished_in_drain();
        }
    }

    /// Separate, to keep it off the hot path while serving.
    #[cold]
    fn request_finished_in_drain(&self) {
        let which = || self.request(Instant::now(), Progress::Responding);
        if self.core.shared().work.request_finished(which) {
            self.answered_late.store(true, Ordering::Release);
        }
    }

    pub(super) fn has_answered_late(&self) -> bool {
        self.answered_late.load(Ordering::Acquire)
    }

    // ----- HTTP/2 -----

    pub(super) fn streams(&self) -> &StreamTable {
        self.streams.get_or_init(Box::default)
    }

    pub(super) fn streams_if_any(&self) -> Option<&StreamTable> {
        self.streams.get().map(|streams| &**streams)
    }

    pub(super) fn has_streams(&self) -> bool {
        self.streams_if_any().is_some_and(StreamTable::is_busy)
    }

    /// `complete` is whether the response was written to its end.
    pub(super) fn stream_closed(&self, stream: usize, complete: bool) {
        let late = complete && self.core.shared().work.request_finished(|| self.stream(stream));
        self.take_stream(stream, late);
    }

    /// Called when the task of an upgraded stream has ended; h2 may still hold unwritten data of
    /// it.
    pub(super) fn upgrade_ended(&self, stream: usize) {
        self.upgrades_written(self.streams().upgrade_ended(stream));
    }

    /// Notes how many streams are open on the wire.
    #[inline]
    pub(super) fn set_open_streams(&self, open: usize) {
        let streams = self.streams();
        if streams.set_open(open) {
            self.upgrades_written(streams.take_written());
        }
    }

    #[cold]
    fn upgrades_written(&self, streams: Vec<usize>) {
        let work = &self.core.shared().work;
        for stream in streams {
            work.piece_finished(|| self.stream(stream));
            self.take_stream(stream, work.is_sealed());
        }
    }

    fn stream(&self, stream: usize) -> InFlight {
        self.streams().describe_one(stream, &self.core.peer().to_string(), Instant::now())
    }

    /// `late` is whether it was completed after the limit.
    fn take_stream(&self, stream: usize, late: bool) {
        if self.streams().closed(stream, late) {
            self.last_stream_closed();
        }
    }

    fn last_stream_closed(&self) {
        self.note_time();
        if self.phase() >= Phase::Draining {
            self.core.wake();
        }
    }
}

// A connection as the drain and the report see it.

/// The activity of a connection, before it is formatted.
enum Activity {
    Request(Progress),
    Upgraded,
    /// HTTP/2 requests, which are in the stream table.
    Streams,
    Connection(ConnectionState),
    /// It is over.
    Nothing,
}

impl HttpConn {
    /// `since`: how old what is asked of the kernel may be.
    fn activity(&self, now: Instant, since: Instant) -> Activity {
        use Activity::{Connection, Nothing, Request, Streams};
        let delivering = |bytes| match self.streams_if_any() {
            None if self.calls() > 0 => Request(Progress::Delivering(bytes)),
            None | Some(_) => Connection(ConnectionState::Delivering(bytes)),
        };
        // Load the state first, so that what is read after it belongs to it.
        match (self.state(), self.core().unread()) {
            (Busy, _) => Request(Progress::NoResponse),
            (Responding | Flushing | Answered, _) => Request(Progress::Responding),
            (Upgraded, _) => Activity::Upgraded,
            (Head | Named | Queued, _) => Connection(ConnectionState::ReadingHead),
            (Closed, _) => Nothing,
            (Http2, _) if self.has_streams() => Streams,
            (Delivering, unread) => delivering(unread.unwrap_or(0)),
            (Closing | Http2, Some(bytes)) => delivering(bytes),
            (Closing, None) if self.core().is_sending() => Connection(ConnectionState::Closing),
            (Fresh, _) if self.core().is_late() => Connection(ConnectionState::Nothing),
            (Fresh, _) if self.core().is_in_handshake() => Connection(ConnectionState::Handshake),
            (Fresh | Idle | Http2, _) if self.core().partial_since().is_some() => {
                Connection(ConnectionState::ReadingHead)
            }
            (Fresh | Idle, _) if self.is_overdue(now) && self.core().may_be_unread(since) => {
                Connection(ConnectionState::Overdue)
            }
            (Fresh | Idle, _) | (Http2 | Closing, None) => Connection(ConnectionState::Nothing),
        }
    }

    /// Describes the HTTP/1 request in progress.
    pub(super) fn request(&self, now: Instant, progress: Progress) -> InFlight {
        let (method, path) = self.request_line();
        let age = now.saturating_duration_since(self.since());
        InFlight::Request { method, path, peer: self.core().peer().to_string(), age, progress }
    }

    pub(super) fn upgraded(&self, now: Instant) -> InFlight {
        let (_, path) = self.request_line();
        let age = now.saturating_duration_since(self.since());
        InFlight::Upgraded { path, peer: self.core().peer().to_string(), age }
    }

    fn request_line(&self) -> (String, String) {
        self.request_line.read()
    }
}

impl WorkItem for HttpConn {
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>) {
        out.push(match self.activity(now, now) {
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
        let now = Instant::now();
        // Asked of one connection after the other: not a query for each.
        let since = now.checked_sub(LOOK_AGAIN).unwrap_or(now);
        match self.activity(now, since) {
            Activity::Request(_) | Activity::Upgraded => Some(self.since()),
            Activity::Connection(ConnectionState::Nothing) | Activity::Nothing => None,
            Activity::Connection(_) => Some(self.core().accepted_at()),
            Activity::Streams => self.streams_if_any()?.oldest(),
        }
    }

    fn context(&self) -> Option<usize> {
        Some(self.core().shared().address())
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
            streams.wake_tasks();
        }
    }

    fn has_ended(&self) -> bool {
        self.has_answered_late()
    }

    fn is_drained(&self) -> bool {
        !self.has_moved.load(Ordering::Relaxed)
    }

    fn forget_ended(&self, then: Instant, described: &mut Vec<InFlight>) {
        match self.streams_if_any() {
            Some(streams) => streams.forget_ended(&self.core().peer().to_string(), then, described),
            None if self.has_ended() => described.clear(),
            None => {}
        }
    }
}

// "METHOD /path" of a connection's current request.

/// How much of a head is kept; a longer method and path end in `…`.
const CAPACITY: usize = 112;

/// The beginning of a head as received. The writer, the connection's own task, copies a few bytes;
/// the reader, which runs rarely, parses them. Each connection has its own lock, so a request finds
/// it free unless a report is being made. Not boxed, although many connections never send a
/// request: among hyper's buffers, an allocation that stays would keep theirs from growing together
/// again.
#[derive(Debug)]
pub(crate) struct RequestLine(Mutex<Beginning>);

#[derive(Clone, Copy, Debug)]
struct Beginning {
    bytes: [u8; CAPACITY],
    length: usize,
}

impl RequestLine {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Beginning { bytes: [0; CAPACITY], length: 0 }))
    }

    /// Keeps the beginning of a head.
    #[inline]
    pub(crate) fn write_head(&self, head: &[u8]) {
        let mut line = lock(&self.0);
        line.length = head.len().min(CAPACITY);
        let length = line.length;
        line.bytes[..length].copy_from_slice(&head[..length]);
    }

    /// Keeps the request line of a head that did not arrive in one piece.
    #[cold]
    pub(crate) fn write(&self, method: &str, path: &str) {
        let mut line = lock(&self.0);
        let parts = [method.as_bytes(), b" ", path.as_bytes(), b" "];
        let bytes = parts.iter().copied().flatten();
        line.length = line.bytes.iter_mut().zip(bytes).map(|(to, from)| *to = *from).count();
    }

    /// Returns method and path as last written.
    pub(crate) fn read(&self) -> (String, String) {
        let line = *lock(&self.0);
        request_line(&String::from_utf8_lossy(&line.bytes[..line.length]))
    }
}

/// Extracts method and path from what may be the beginning of a request line (RFC 9112, section 3).
fn request_line(head: &str) -> (String, String) {
    // A server may have to skip empty lines before it (section 2.2).
    let line = head.trim_start_matches(['\r', '\n']);
    let (method, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (target, mut more) = match rest.split_once(' ') {
        Some((target, _)) => (target, ""),
        None => (rest, "…"),
    };
    let path = match target.split_once(['?', '#']) {
        Some((path, _)) => {
            more = "";
            path
        }
        None => target,
    };
    let path = match path.split_once("://") {
        _ if path.starts_with('/') || path == "*" => path,
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        // Only an authority, for CONNECT.
        None => "",
    };
    (method.to_owned(), format!("{path}{more}"))
}

/// Reads the request line of a head that the fuzzer makes up: where hyper takes it for one, the
/// names are hyper's.
#[cfg(fuzzing)]
#[allow(unreachable_pub, reason = "for the fuzz target")]
pub fn name(head: &[u8]) {
    let (verdict, _) = super::framing::oracle::ask(&[head]);
    let line = RequestLine::new();
    line.write_head(head);
    let (method, path) = line.read();
    let [(their_method, their_path)] = &verdict.names[..] else { return };
    // What does not fit is cut.
    if !path.ends_with('…') && !method.ends_with('…') {
        assert_eq!((&method, &path), (their_method, their_path), "{head:?}");
    }
}

#[cfg(all(test, not(graceful_loom)))]
mod tests {
    use super::*;
    use crate::util::Random;

    fn text(method: &str, path: &str) -> (String, String) {
        let line = RequestLine::new();
        line.write("DELETE", "/something/else/that/is/longer");
        line.write(method, path);
        line.read()
    }

    #[test]
    fn keeps_what_fits() {
        assert_eq!(text("GET", "/"), ("GET".into(), "/".into()));
        let path = format!("/{}", "x".repeat(CAPACITY - 6));
        assert_eq!(text("GET", &path), ("GET".into(), path));
        assert_eq!(text("VERSION-CONTROL", "*"), ("VERSION-CONTROL".into(), "*".into()));
    }

    #[test]
    fn cuts_what_does_not_fit() {
        let path = format!("/{}", "x".repeat(CAPACITY));
        let (method, kept) = text("GET", &path);
        assert_eq!(method, "GET");
        assert!(kept.ends_with("xx…") && kept.len() == CAPACITY - 4 + "…".len(), "{kept}");
        let umlauts = format!("/{}", "ü".repeat(CAPACITY));
        assert!(text("GET", &umlauts).1.ends_with('…'));
    }

    /// Parses the head as hyper does.
    fn parsed(target: &str) -> String {
        target.parse::<http::Uri>().unwrap().path().to_owned()
    }

    #[test]
    fn reads_heads_as_hyper_does() {
        let targets = [
            "/",
            "/a/b",
            "/a?token=secret",
            "/?x",
            "*",
            "http://example.org",
            "http://example.org/",
            "http://example.org/a?b",
            "http://example.org?b",
            "/redirect?to=http://example.org/x",
            "example.org:443",
            "/a:b//c",
        ];
        for target in targets {
            for before in ["", "\r\n", "\n"] {
                // The shortest head: the bytes left out contain nothing of the target.
                let head = format!("{before}DELETE {target} HTTP/1.1\r\n\r\n");
                let line = RequestLine::new();
                line.write("GET", "/something/else/that/is/longer");
                line.write_head(head.as_bytes());
                let read = line.read();
                assert_eq!(read, ("DELETE".into(), parsed(target)), "{head:?}");
            }
        }
    }

    /// Every request that hyper accepts has the name that hyper gives it.
    #[test]
    fn agrees_with_hyper_on_random_request_lines() {
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        let bytes = b"/ab?#:@%*.-_~[]&= \t\x7fhtp";
        let methods = ["GET", "POST", "OPTIONS", "CONNECT", "PURGE", "M-SEARCH"];
        let mut taken = 0;
        for _ in 0..Random::times(20_000) {
            let begin =
                random.of(&["", "/", "/a", "http://", "http://a", "https://a:1/", "*", "a:1"]);
            let length = random.below(24);
            let mut target = begin.to_owned();
            target.extend((0..length).map(|_| char::from(random.of(bytes))));
            let before = random.of(&["", "", "\r\n", "\n"]);
            let method = random.of(&methods);
            let head = format!("{before}{method} {target} HTTP/1.1\r\nhost: x\r\n\r\n");
            let (verdict, _) = crate::http::framing::oracle::ask(&[head.as_bytes()]);
            let [name] = &verdict.names[..] else { continue };
            taken += 1;
            let line = RequestLine::new();
            line.write_head(head.as_bytes());
            assert_eq!(&line.read(), name, "{head:?}");
        }
        assert!(taken > Random::times(2_000), "{taken}");
    }

    #[test]
    fn a_query_that_does_not_fit_is_no_part_of_the_path() {
        let head = format!("GET /a?{} HTTP/1.1\r\n\r\n", "x".repeat(CAPACITY));
        let line = RequestLine::new();
        line.write_head(head.as_bytes());
        assert_eq!(line.read(), ("GET".into(), "/a".into()));
    }
}
