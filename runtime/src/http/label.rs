//! "METHOD /path" of the request that a connection is busy with, written without a lock, an
//! allocation or a reference count, and readable from another thread at any time.

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(graceful_loom))]
const WORDS: usize = 12;
#[cfg(graceful_loom)]
const WORDS: usize = 2;

/// How often a reader tries before it gives up: a write is a few nanoseconds.
#[cfg(not(graceful_loom))]
const ATTEMPTS: usize = 64;
#[cfg(graceful_loom)]
const ATTEMPTS: usize = 1;

/// The longest method and path that are kept; what is longer ends in `…`.
const CAPACITY: usize = WORDS * 8;

/// A sequence lock around a few words: the writer, the connection's own task, never waits; a reader
/// that meets a write under way tries again.
///
/// `sequence` is odd while a write is under way. The fences are those of Boehm, "Can seqlocks get
/// along with programming language memory models?" (MSPC 2012).
#[derive(Debug)]
pub(crate) struct Label {
    sequence: AtomicU32,
    /// Bytes of the text, and in the upper half whether it was cut short.
    length: AtomicU32,
    words: [AtomicU64; WORDS],
}

const CUT_SHORT: u32 = 1 << 16;

impl Label {
    pub(crate) fn new() -> Self {
        Self {
            sequence: AtomicU32::new(0),
            length: AtomicU32::new(0),
            words: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Writes `method` and `path`. There is one writer.
    #[inline]
    pub(crate) fn write(&self, method: &str, path: &str) {
        let mut text = [0; CAPACITY];
        let mut length = 0;
        for part in [method.as_bytes(), b" ", path.as_bytes()] {
            let fits = part.len().min(CAPACITY - length);
            text[length..length + fits].copy_from_slice(&part[..fits]);
            length += fits;
        }
        let whole = method.len() + 1 + path.len();
        let flag = if whole > CAPACITY { CUT_SHORT } else { 0 };

        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        // A reader that sees any of the words below sees the odd sequence above.
        fence(Ordering::Release);
        self.length.store(u32::try_from(length).unwrap_or(0) | flag, Ordering::Relaxed);
        let chunks = text.chunks_exact(8).take(length.div_ceil(8));
        for (word, chunk) in self.words.iter().zip(chunks) {
            let bytes = chunk.try_into().unwrap_or_default();
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
        // Release: a reader that sees the even sequence sees the words.
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// Method and path as last written; `None` where writes come faster than this can read.
    pub(crate) fn read(&self) -> Option<(String, String)> {
        let (bytes, length) = (0..ATTEMPTS).find_map(|_| {
            let before = self.sequence.load(Ordering::Acquire);
            let length = self.length.load(Ordering::Relaxed);
            let words: [u64; WORDS] =
                std::array::from_fn(|i| self.words[i].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            let after = self.sequence.load(Ordering::Relaxed);
            let whole = before == after && before.is_multiple_of(2);
            whole.then_some((words.map(u64::to_le_bytes), length))
        })?;
        let text = &bytes.as_flattened()[..(length & (CUT_SHORT - 1)) as usize];
        let text = String::from_utf8_lossy(text);
        let (method, path) = text.split_once(' ').unwrap_or((&text, ""));
        let more = if length & CUT_SHORT == 0 { "" } else { "…" };
        Some((method.to_owned(), format!("{path}{more}")))
    }
}

#[cfg(all(test, not(graceful_loom)))]
mod tests {
    use super::*;

    fn text(method: &str, path: &str) -> (String, String) {
        let label = Label::new();
        label.write("DELETE", "/something/else/that/is/longer");
        label.write(method, path);
        label.read().unwrap()
    }

    #[test]
    fn keeps_what_fits() {
        assert_eq!(text("GET", "/"), ("GET".into(), "/".into()));
        let path = format!("/{}", "x".repeat(CAPACITY - 5));
        assert_eq!(text("GET", &path), ("GET".into(), path));
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
}

#[cfg(all(test, graceful_loom))]
mod loom_models {
    use loom::{sync::Arc, thread};

    use super::Label;

    /// The report is made while a request ends and the next one begins.
    #[test]
    fn loom_never_reads_half_a_label() {
        loom::model(|| {
            let label = Arc::new(Label::new());
            label.write("GET", "/aaaaaaaaa");
            let writer = {
                let label = label.clone();
                thread::spawn(move || label.write("PUT", "/bbbbbbbbb"))
            };
            if let Some((method, path)) = label.read() {
                let whole = [("GET", "/aaaaaaaaa"), ("PUT", "/bbbbbbbbb")];
                assert!(whole.contains(&(&*method, &*path)), "{method} {path}");
            }
            writer.join().unwrap();
        });
    }
}
