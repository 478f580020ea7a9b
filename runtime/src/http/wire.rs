//! How much of the bytes on an HTTP/1 connection belongs to messages that are already known.
//!
//! hyper does not say whether half a head lies in its buffer. Whether it does decides between closing
//! a quiet connection and waiting for the rest of a request, so it is counted here, from outside:
//! the bytes read, and where the current message ends. Written by the connection's own task only;
//! atomics because that task moves between threads, relaxed because nobody else looks.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

const HEAD_END: [u8; 4] = *b"\r\n\r\n";

/// The place of something that is not known.
const UNKNOWN: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Wire {
    /// Bytes read from the stream so far.
    read: AtomicU64,
    /// While a head is read: where it ends, once that has been seen. After: where the message ends.
    end: AtomicU64,
    /// The last four bytes read, the latest in the lowest byte.
    tail: AtomicU32,
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self { read: AtomicU64::new(0), end: AtomicU64::new(UNKNOWN), tail: AtomicU32::new(0) }
    }

    /// A new message begins with the next byte.
    pub(crate) fn next_message(&self) {
        self.end.store(UNKNOWN, Ordering::Relaxed);
    }

    /// `bytes` have been read; `in_head`: they belong to a head.
    pub(crate) fn record(&self, bytes: &[u8], in_head: bool) {
        let before = self.read.load(Ordering::Relaxed);
        let after = before + bytes.len() as u64;
        self.read.store(after, Ordering::Relaxed);
        let tail = match bytes.last_chunk::<4>() {
            Some(last) => u32::from_be_bytes(*last),
            None => bytes.iter().fold(self.tail.load(Ordering::Relaxed), |tail, &byte| {
                (tail << 8) | u32::from(byte)
            }),
        };
        self.tail.store(tail, Ordering::Relaxed);
        if in_head {
            // Nearly every head comes alone, in one piece: then there is nothing to search for.
            let end = if tail == u32::from_be_bytes(HEAD_END) {
                after
            } else {
                let at = bytes.windows(4).position(|window| window == HEAD_END);
                at.map_or(UNKNOWN, |at| before + at as u64 + 4)
            };
            self.end.store(end, Ordering::Relaxed);
        }
    }

    /// The head is complete, and a body of this size follows; `None`: chunked.
    pub(crate) fn head_complete(&self, body: Option<u64>) {
        let end = self.end.load(Ordering::Relaxed);
        let end = match body {
            Some(size) if end != UNKNOWN => end.saturating_add(size),
            _ => UNKNOWN,
        };
        self.end.store(end, Ordering::Relaxed);
    }

    /// How much has been read, as measured by the current message.
    pub(crate) fn progress(&self) -> Progress {
        match self.end.load(Ordering::Relaxed) {
            // A chunked body ends like a head does, so this is nearly always the truth.
            UNKNOWN if self.tail.load(Ordering::Relaxed) == u32::from_be_bytes(HEAD_END) => {
                Progress::Complete
            }
            UNKNOWN => Progress::Unknown,
            end => match self.read.load(Ordering::Relaxed).cmp(&end) {
                std::cmp::Ordering::Less => Progress::Incomplete,
                std::cmp::Ordering::Equal => Progress::Complete,
                std::cmp::Ordering::Greater => Progress::Beyond,
            },
        }
    }
}

/// How much of a message has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not all of it.
    Incomplete,
    /// All of it and no more.
    Complete,
    /// The next message has begun.
    Beyond,
    /// Its end is not known.
    Unknown,
}

#[cfg(all(test, not(graceful_loom)))]
mod tests {
    use super::*;

    fn after(chunks: &[&str], body: Option<u64>) -> Progress {
        let wire = Wire::new();
        for chunk in chunks {
            wire.record(chunk.as_bytes(), true);
        }
        wire.head_complete(body);
        wire.progress()
    }

    #[test]
    fn a_head_alone() {
        assert_eq!(after(&["GET / HTTP/1.1\r\n\r\n"], Some(0)), Progress::Complete);
    }

    #[test]
    fn a_dripped_head() {
        let bytes = ["G", "ET / HTTP/1.1\r", "\n", "\r", "\n"];
        assert_eq!(after(&bytes, Some(0)), Progress::Complete);
    }

    #[test]
    fn half_a_head_behind_a_request() {
        assert_eq!(after(&["GET / HTTP/1.1\r\n\r\nGET /"], Some(0)), Progress::Beyond);
    }

    #[test]
    fn a_body_in_the_same_read() {
        let head = "POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n";
        assert_eq!(after(&[&format!("{head}body")], Some(4)), Progress::Complete);
        assert_eq!(after(&[&format!("{head}bo")], Some(4)), Progress::Incomplete);
        assert_eq!(after(&[&format!("{head}bodyGET")], Some(4)), Progress::Beyond);
    }

    #[test]
    fn a_chunked_body() {
        let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(after(&[&format!("{head}2\r\nhi\r\n0\r\n\r\n")], None), Progress::Complete);
        assert_eq!(after(&[&format!("{head}2\r\nhi\r\n")], None), Progress::Unknown);
    }

    #[test]
    fn a_body_that_comes_later() {
        let wire = Wire::new();
        wire.record(b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n", true);
        wire.head_complete(Some(3));
        assert_eq!(wire.progress(), Progress::Incomplete);
        wire.record(b"abc", false);
        assert_eq!(wire.progress(), Progress::Complete);
        wire.record(b"G", false);
        assert_eq!(wire.progress(), Progress::Beyond);
    }
}
