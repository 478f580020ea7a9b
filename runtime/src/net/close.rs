//! The end of a connection that the program has let go of: nothing that was written is lost, and a
//! client that goes on sending does not hold it for long.

use std::{
    future::poll_fn,
    task::Poll,
    time::{Duration, Instant},
};

use super::{
    conn::GuardedConn, delivery::ConnDrain, guard::ConnGuard, lingering_close::LingeringClose,
    stream::Stream, timer::Timer,
};
use crate::stop::Phase;

/// How long a client that is still sending after the last byte is read from: long enough for it to
/// see that byte; short where a process wants to exit.
pub(crate) const LINGERING_CLOSE: Duration = Duration::from_secs(5);
pub(crate) const LINGERING_CLOSE_DRAINING: Duration = Duration::from_secs(1);

/// The kernel is not asked about one connection more often than its clock ticks.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Closes `stream`: in service as nginx's `lingering_close`; once the process is about to end,
/// after the client's system has acknowledged everything, or the cut. `goodbye`: how many of the bytes
/// that were written last are no answer.
pub(crate) async fn close<C: GuardedConn>(stream: Stream, guard: ConnGuard<C>, goodbye: u64) {
    let core = guard.conn().core();
    let since = Instant::now();
    let mut closing = LingeringClose::new(stream, goodbye);
    let mut drain: Option<ConnDrain> = None;
    let mut timer = Timer::default();
    poll_fn(|cx| {
        // Before the look, so that no change slips in between.
        core.register(cx.waker());
        let phase = core.phase();
        if phase >= Phase::Cut {
            return Poll::Ready(());
        }
        let mut heard = false;
        let ended = closing.poll(cx, |_| heard = true).is_ready();
        core.set_sending(heard);
        core.set_goodbye(closing.goodbye());
        loop {
            if phase < Phase::Stopping {
                // The kernel sees to what is on its way.
                let over = ended || timer.has_passed(since + LINGERING_CLOSE, cx);
                return if over { Poll::Ready(()) } else { Poll::Pending };
            }
            let now = Instant::now();
            let local = closing.local_addr();
            let drain = drain.get_or_insert_with(|| {
                let mut drain = ConnDrain::new(now);
                drain.closes(local);
                drain
            });
            // A client that has closed its side reads no more of what is not acknowledged yet.
            let view = drain.ask(core, since, false, || local);
            let undelivered = view.is_open();
            if ended && !undelivered {
                return Poll::Ready(());
            }
            let deadline = if undelivered {
                view.at + view.round_trip.max(TICK)
            } else {
                let entered = since.max(drain.since);
                view.last_unread.map_or(entered, |seen| seen.max(entered))
                    + LINGERING_CLOSE_DRAINING
            };
            if !timer.has_passed(deadline, cx) {
                return Poll::Pending;
            }
            if !undelivered {
                return Poll::Ready(());
            }
        }
    })
    .await;
    // The stream is closed before the drain stops waiting for it.
    drop(closing);
    drop(guard);
}
