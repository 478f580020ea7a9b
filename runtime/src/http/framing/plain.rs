//! The latest plain read (see `framing`), kept while it may turn out that it has to be looked
//! through after all, because a request in it has a body. That is known within the same poll, so
//! one copy per thread is enough.

use std::cell::RefCell;

use crate::util::sync::{AtomicU8, Mutex, Ordering, lock};

/// The length of the longest read that may be plain and is copied.
pub(super) const LONGEST: usize = 4096;

thread_local! {
    static LATEST: RefCell<Copied> = const { RefCell::new(Copied { whose: 0, length: 0, bytes: [0; LONGEST] }) };
}

/// A copy of a read. Plain memory, because a thread-local that has to be dropped is slower.
struct Copied {
    whose: usize,
    length: usize,
    bytes: [u8; LONGEST],
}

/// The state of the latest read. Relaxed, because only the connection's own task reads and writes
/// it.
#[derive(Debug)]
pub(in crate::http) struct PlainRead {
    what: AtomicU8,
    copy: Mutex<Option<Box<[u8]>>>,
}

/// It was not plain, or is followed like any other.
const FOLLOWED: u8 = 0;
/// It was plain.
const PLAIN: u8 = 1;
/// A request in it has a body, so it has to be looked through: `copy` is all of it.
const COPIED: u8 = 2;
/// A request in it has a body, but the read is no longer there: the request was pipelined, and
/// hyper got to it in a later poll, after another connection had read. Its response is the
/// connection's last.
const LOST: u8 = 3;

impl PlainRead {
    pub(in crate::http) fn new() -> Self {
        Self { what: AtomicU8::new(FOLLOWED), copy: Mutex::new(None) }
    }

    #[inline]
    pub(in crate::http) fn is(&self, bytes: &[u8]) {
        self.what.store(PLAIN, Ordering::Relaxed);
        LATEST.with_borrow_mut(|latest| {
            latest.bytes[..bytes.len()].copy_from_slice(bytes);
            latest.length = bytes.len();
            latest.whose = self.id();
        });
    }

    #[inline]
    pub(in crate::http) fn is_plain(&self) -> bool {
        self.what.load(Ordering::Relaxed) == PLAIN
    }

    #[inline]
    pub(in crate::http) fn is_not(&self) {
        self.what.store(FOLLOWED, Ordering::Relaxed);
    }

    /// Called when a request in the latest read has a body.
    #[cold]
    pub(in crate::http) fn has_body(&self) {
        if !self.is_plain() {
            return;
        }
        let copy = LATEST.with_borrow(|latest| {
            (latest.whose == self.id()).then(|| latest.bytes[..latest.length].into())
        });
        self.what.store(if copy.is_some() { COPIED } else { LOST }, Ordering::Relaxed);
        *lock(&self.copy) = copy;
    }

    /// Whether the end of the latest message is unknown, so that the connection ends with its
    /// response.
    #[inline]
    pub(in crate::http) fn is_lost(&self) -> bool {
        self.what.load(Ordering::Relaxed) == LOST
    }

    #[inline]
    pub(in crate::http) fn has_to_be_looked_through(&self) -> bool {
        self.what.load(Ordering::Relaxed) == COPIED
    }

    /// Takes the read that has to be looked through.
    pub(in crate::http) fn take(&self) -> Box<[u8]> {
        self.is_not();
        lock(&self.copy).take().unwrap_or_default()
    }

    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}
