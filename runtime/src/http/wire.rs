//! How much of the bytes on an HTTP/1 connection belongs to messages that are already known.
//!
//! hyper does not say whether half a head lies in its buffer. Whether it does decides between closing
//! a quiet connection and waiting for the rest of a request, so it is counted here, from outside:
//! the bytes read, and where the current message ends. Written by the connection's own task only;
//! atomics because that task moves between threads, relaxed because nobody else looks.

use crate::sync::{AtomicBool, AtomicU64, Ordering};

const HEAD_END: [u8; 4] = *b"\r\n\r\n";

/// The end of a chunked body without trailers. Chunks of text can look like it, but seldom do.
const LAST_CHUNK: [u8; 8] = *b"\0\r\n0\r\n\r\n";

/// The place of something that is not known.
const UNKNOWN: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Wire {
    /// Bytes read from the stream so far.
    read: AtomicU64,
    /// While a head is read: where it ends, once that has been seen. After: where the message ends.
    end: AtomicU64,
    /// The last eight bytes read, the latest in the highest byte.
    tail: AtomicU64,
    /// Whether `end` was taken from where the bytes ended, without a look at what is before.
    guessed: AtomicBool,
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self {
            read: AtomicU64::new(0),
            end: AtomicU64::new(UNKNOWN),
            tail: AtomicU64::new(0),
            guessed: AtomicBool::new(false),
        }
    }

    /// A new message begins with the next byte.
    #[inline]
    pub(crate) fn next_message(&self) {
        self.end.store(UNKNOWN, Ordering::Relaxed);
    }

    /// `bytes` have been read, which belong to a head.
    #[inline]
    pub(crate) fn record_head(&self, bytes: &[u8]) {
        let after = self.record_rest(bytes);
        // Nearly every head without a body comes alone, in one piece: nothing to search for.
        let guessed = self.at_head_end() && matches!(bytes.first(), Some(b'G' | b'H'));
        self.guessed.store(guessed, Ordering::Relaxed);
        let end = if guessed { after } else { self.find_head_end(bytes, after) };
        self.end.store(end, Ordering::Relaxed);
    }

    fn find_head_end(&self, bytes: &[u8], after: u64) -> u64 {
        match bytes.windows(4).position(|window| window == HEAD_END) {
            Some(at) => after - (bytes.len() - at) as u64 + 4,
            // Its last bytes came one by one.
            None if self.at_head_end() => after,
            None => UNKNOWN,
        }
    }

    /// `bytes` have been read. Returns how many there have been so far.
    #[inline]
    pub(crate) fn record_rest(&self, bytes: &[u8]) -> u64 {
        let after = self.read.load(Ordering::Relaxed) + bytes.len() as u64;
        self.read.store(after, Ordering::Relaxed);
        let tail = match bytes.last_chunk() {
            Some(last) => u64::from_le_bytes(*last),
            None => bytes.iter().fold(self.tail.load(Ordering::Relaxed), |tail, &byte| {
                (tail >> 8) | (u64::from(byte) << 56)
            }),
        };
        self.tail.store(tail, Ordering::Relaxed);
        after
    }

    #[inline]
    fn at_head_end(&self) -> bool {
        self.tail.load(Ordering::Relaxed) >> 32 == u64::from(u32::from_le_bytes(HEAD_END))
    }

    fn at_last_chunk(&self) -> bool {
        self.tail.load(Ordering::Relaxed) >> 8 == u64::from_le_bytes(LAST_CHUNK) >> 8
    }

    /// The head is complete, and a body of this size follows; `None`: chunked.
    #[inline]
    pub(crate) fn head_complete(&self, body: Option<u64>) {
        let end = self.end.load(Ordering::Relaxed);
        let end = match body {
            // The second of a pipeline, read together with the first.
            Some(0) if end == UNKNOWN && self.at_head_end() => self.read.load(Ordering::Relaxed),
            Some(0) => end,
            Some(size) if end != UNKNOWN && !self.guessed.load(Ordering::Relaxed) => {
                end.saturating_add(size)
            }
            _ => UNKNOWN,
        };
        self.end.store(end, Ordering::Relaxed);
    }

    /// How much has been read, as measured by the current message.
    #[inline]
    pub(crate) fn progress(&self) -> Progress {
        match self.end.load(Ordering::Relaxed) {
            UNKNOWN if self.at_last_chunk() => Progress::LooksComplete,
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
    /// Where it ends is not known, but this looks like the end of a chunked body.
    LooksComplete,
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
            wire.record_head(chunk.as_bytes());
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
    fn a_body_that_looks_like_a_head() {
        let head = "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n";
        assert_eq!(after(&[&format!("{head}a\r\n\r\n")], Some(5)), Progress::Complete);
        let next = "GET / HTTP/1.1\r\n\r\n";
        assert_eq!(after(&[&format!("{head}hello{next}")], Some(5)), Progress::Beyond);
        // Not worth a search through every head: then it is not known.
        let get = "GET / HTTP/1.1\r\ncontent-length: 5\r\n\r\na\r\n\r\n";
        assert_eq!(after(&[get], Some(5)), Progress::Unknown);
    }

    #[test]
    fn a_chunked_body() {
        let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        let end = format!("{head}2\r\nhi\r\n0\r\n\r\n");
        assert_eq!(after(&[&end], None), Progress::LooksComplete);
        assert_eq!(after(&[&format!("{head}0\r\n\r\n")], None), Progress::LooksComplete);
        assert_eq!(after(&[&format!("{head}2\r\nhi\r\n")], None), Progress::Unknown);
        // A chunk of text that ends with a line.
        assert_eq!(after(&[&format!("{head}4\r\nhi\r\n\r\n")], None), Progress::Unknown);
    }

    #[test]
    fn a_body_that_comes_later() {
        let wire = Wire::new();
        wire.record_head(b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n");
        wire.head_complete(Some(3));
        assert_eq!(wire.progress(), Progress::Incomplete);
        wire.record_rest(b"abc");
        assert_eq!(wire.progress(), Progress::Complete);
        wire.record_rest(b"G");
        assert_eq!(wire.progress(), Progress::Beyond);
    }
}
