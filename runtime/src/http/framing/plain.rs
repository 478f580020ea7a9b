//! The latest plain read (see `framing`), for as long as it may turn out that it has to be looked
//! through after all: when a request of it has a body. That is known within the same poll, so one
//! copy a thread is enough.

use std::cell::RefCell;

use crate::util::sync::{AtomicU8, Mutex, Ordering, lock};

/// Longer ones are not copied: a GET with so long a head, and a body, is the last request of its
/// connection.
const LONGEST: usize = 4096;

thread_local! {
    static LATEST: RefCell<Copied> = const { RefCell::new(Copied { whose: 0, length: 0, bytes: [0; LONGEST] }) };
}

/// A copy of a read. Plain memory: a thread-local that has to be dropped is slower.
struct Copied {
    whose: usize,
    length: usize,
    bytes: [u8; LONGEST],
}

/// The state of the latest read. Only the connection's own task reads and writes it: relaxed.
#[derive(Debug)]
pub(in crate::http) struct PlainRead {
    what: AtomicU8,
    copy: Mutex<Option<Box<[u8]>>>,
}

/// It was not plain, or is followed like any other.
const FOLLOWED: u8 = 0;
/// It was plain.
const PLAIN: u8 = 1;
/// It has a request with a body, and is to be looked through: `copy` is all of it.
const COPIED: u8 = 2;
/// It has a request with a body, and is not there any more.
const LOST: u8 = 3;

impl PlainRead {
    pub(in crate::http) fn new() -> Self {
        Self { what: AtomicU8::new(FOLLOWED), copy: Mutex::new(None) }
    }

    #[inline]
    pub(in crate::http) fn is(&self, bytes: &[u8]) {
        self.what.store(PLAIN, Ordering::Relaxed);
        LATEST.with_borrow_mut(|latest| {
            latest.whose = 0;
            if let Some(copy) = latest.bytes.get_mut(..bytes.len()) {
                copy.copy_from_slice(bytes);
                latest.length = bytes.len();
                latest.whose = self.id();
            }
        });
    }

    #[inline]
    pub(in crate::http) fn is_not(&self) {
        self.what.store(FOLLOWED, Ordering::Relaxed);
    }

    /// A request of the latest read has a body.
    #[cold]
    pub(in crate::http) fn has_body(&self) {
        if self.what.load(Ordering::Relaxed) != PLAIN {
            return;
        }
        let copy = LATEST.with_borrow(|latest| {
            (latest.whose == self.id()).then(|| latest.bytes[..latest.length].into())
        });
        self.what.store(if copy.is_some() { COPIED } else { LOST }, Ordering::Relaxed);
        *lock(&self.copy) = copy;
    }

    /// Whether it is not known where the message ends that has been read last: the connection ends
    /// with its answer.
    #[inline]
    pub(in crate::http) fn is_lost(&self) -> bool {
        self.what.load(Ordering::Relaxed) == LOST
    }

    #[inline]
    pub(in crate::http) fn has_to_be_looked_through(&self) -> bool {
        self.what.load(Ordering::Relaxed) == COPIED
    }

    /// The read that has to be looked through, once.
    pub(in crate::http) fn take(&self) -> Box<[u8]> {
        self.is_not();
        lock(&self.copy).take().unwrap_or_default()
    }

    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}
