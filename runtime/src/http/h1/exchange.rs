//! What an HTTP/1 connection notes of its requests, on the way of every one of them.

use crate::{
    http::{
        conn::HttpConn,
        framing::{Framing, Position, ReadSummary},
        state::{
            Behind, Event,
            State::{Answered, Flushing, Named},
        },
    },
    util::sync::Ordering,
};

impl HttpConn {
    /// `bytes` have been read, while this was HTTP/1 or not yet known to be.
    #[inline]
    pub(crate) fn bytes_read(&self, summary: ReadSummary, bytes: &[u8]) {
        match summary {
            ReadSummary::WholeHead(begin) => self.head_read(&bytes[begin..]),
            ReadSummary::Plain => {
                self.head_read(bytes);
                return self.plain.is(bytes);
            }
            ReadSummary::NoHead => {}
            ReadSummary::PartOfHead => self.on(Event::PartOfHead),
            ReadSummary::OtherHeads => self.on(Event::OtherHead),
        }
        self.plain.is_not();
    }

    /// `head` has been read in one piece: the beginning of it becomes the name of the request,
    /// unless another is under way.
    #[inline]
    fn head_read(&self, head: &[u8]) {
        let state = self.own_state();
        if state.after(Event::WholeHead) == Named {
            self.request_line.write_head(head);
        }
        self.step(state, Event::WholeHead);
    }

    /// All that was written is with the kernel.
    #[inline]
    pub(crate) fn flushed(&self, framing: &mut Framing) {
        let state = self.own_state();
        if state == Flushing {
            self.request_finished();
        } else if state != Answered {
            return;
        }
        self.look_through(framing);
        let behind = match framing.position() {
            Position::Plain if self.is_lost() => Behind::RestOfBody,
            Position::Plain => Behind::Nothing,
            _ if framing.heads() != self.calls() => Behind::Head,
            Position::Between => Behind::Nothing,
            Position::InHead => Behind::PartOfHead,
            // hyper closes what is invalid, and flushes again when it is through with a body.
            Position::InBody | Position::Invalid => Behind::RestOfBody,
        };
        self.step(state, Event::Flushed(behind));
    }

    /// The latest read may have to be looked through after all.
    #[inline]
    pub(crate) fn look_through(&self, framing: &mut Framing) {
        if self.plain.has_to_be_looked_through() {
            self.look_through_now(framing);
        }
    }

    #[cold]
    #[inline(never)]
    fn look_through_now(&self, framing: &mut Framing) {
        framing.look_through(&self.plain.take());
    }

    /// Whether it is not known where the latest message ends.
    #[inline]
    pub(crate) fn is_lost(&self) -> bool {
        self.plain.is_lost()
    }

    /// How many requests hyper has handed to the service; wraps.
    #[inline]
    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// The head of an HTTP/1 request is complete, and the service is called. Returns whether the
    /// name of the request is known.
    #[inline(never)]
    pub(crate) fn request_begins(&self) -> bool {
        let state = self.own_state();
        self.calls.store(self.calls().wrapping_add(1), Ordering::Relaxed);
        self.step(state, Event::Called);
        state == Named
    }

    /// The request that has just begun has a body. Returns whether it is not known where that ends.
    #[cold]
    pub(crate) fn has_body(&self) -> bool {
        self.plain.has_body();
        self.is_lost()
    }
}
