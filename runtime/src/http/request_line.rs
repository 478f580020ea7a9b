//! "METHOD /path" of the request that a connection is busy with, kept without a lock, an allocation
//! or a reference count, and readable from another thread at any time.

use crate::util::sync::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(graceful_loom))]
const WORDS: usize = 14;
#[cfg(graceful_loom)]
const WORDS: usize = 2;

/// How often a reader tries before it gives up: a write is a few nanoseconds.
#[cfg(not(graceful_loom))]
const ATTEMPTS: usize = 64;
#[cfg(graceful_loom)]
const ATTEMPTS: usize = 1;

/// How much is kept of a head; a method and a path that are longer end in `…`.
const CAPACITY: usize = WORDS * 8;

/// A sequence lock around the beginning of a head as it came from the wire. Who writes copies a few
/// words; what they say is found out by the reader, which comes seldom.
///
/// The writer, the connection's own task, never waits; a reader that meets a write under way tries
/// again. `sequence` is odd while a write is under way. The fences are those of Boehm, "Can
/// seqlocks get along with programming language memory models?" (MSPC 2012).
#[derive(Debug)]
pub(crate) struct RequestLine {
    sequence: AtomicU32,
    /// How many of the words are of the latest write.
    length: AtomicU32,
    words: [AtomicU64; WORDS],
}

impl RequestLine {
    pub(crate) fn new() -> Self {
        Self {
            sequence: AtomicU32::new(0),
            length: AtomicU32::new(0),
            words: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Keeps the beginning of a head, up to the last multiple of eight bytes: what is left out of a
    /// whole head is a part of its end, which is longer than that. There is one writer.
    #[inline]
    pub(crate) fn write_head(&self, head: &[u8]) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        // A reader that sees any of the words below sees the odd sequence above.
        fence(Ordering::Release);
        let (chunks, _) = head.as_chunks();
        let mut length = 0;
        for (word, chunk) in self.words.iter().zip(chunks) {
            word.store(u64::from_ne_bytes(*chunk), Ordering::Relaxed);
            length += 1;
        }
        self.length.store(length, Ordering::Relaxed);
        // Release: a reader that sees the even sequence sees the words.
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// For a head that did not come in one piece.
    #[cold]
    pub(crate) fn write(&self, method: &str, path: &str) {
        let mut head = [0; CAPACITY];
        let line = [method.as_bytes(), b" ", path.as_bytes(), b" "];
        for (to, from) in head.iter_mut().zip(line.iter().copied().flatten()) {
            *to = *from;
        }
        self.write_head(&head);
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
            whole.then_some((words.map(u64::to_ne_bytes), length))
        })?;
        let head = bytes[..length as usize].as_flattened();
        Some(request_line(&String::from_utf8_lossy(head)))
    }
}

/// Method and path of what may be the beginning of a request line (RFC 9112, section 3).
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

#[cfg(all(test, not(graceful_loom)))]
mod tests {
    use super::*;
    use crate::util::Random;

    fn text(method: &str, path: &str) -> (String, String) {
        let line = RequestLine::new();
        line.write("DELETE", "/something/else/that/is/longer");
        line.write(method, path);
        line.read().unwrap()
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

    /// What hyper would say of the head.
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
                // The shortest head: nothing of the target is in the bytes that are left out.
                let head = format!("{before}DELETE {target} HTTP/1.1\r\n\r\n");
                let line = RequestLine::new();
                line.write("GET", "/something/else/that/is/longer");
                line.write_head(head.as_bytes());
                let read = line.read().unwrap();
                assert_eq!(read, ("DELETE".into(), parsed(target)), "{head:?}");
            }
        }
    }

    /// Whatever hyper takes for a request is called by the name that hyper gives it.
    #[test]
    fn agrees_with_hyper_on_random_request_lines() {
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        let bytes = b"/ab?#:@%*.-_~[]&= \t\x7fhtp";
        let methods = ["GET", "POST", "OPTIONS", "CONNECT", "PURGE", "M-SEARCH"];
        let mut taken = 0;
        for _ in 0..20_000 {
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
            assert_eq!(&line.read().unwrap(), name, "{head:?}");
        }
        assert!(taken > 2_000, "{taken}");
    }

    #[test]
    fn a_query_that_does_not_fit_is_no_part_of_the_path() {
        let head = format!("GET /a?{} HTTP/1.1\r\n\r\n", "x".repeat(CAPACITY));
        let line = RequestLine::new();
        line.write_head(head.as_bytes());
        assert_eq!(line.read().unwrap(), ("GET".into(), "/a".into()));
    }
}

#[cfg(all(test, graceful_loom))]
mod loom_models {
    use loom::{sync::Arc, thread};

    use super::RequestLine;

    /// The report is made while a request ends and the next one begins.
    #[test]
    fn loom_never_reads_half_a_line() {
        loom::model(|| {
            let line = Arc::new(RequestLine::new());
            line.write("GET", "/aaaaaaaaa");
            let writer = {
                let line = line.clone();
                thread::spawn(move || line.write("PUT", "/bbbbbbbbb"))
            };
            if let Some((method, path)) = line.read() {
                let whole = [("GET", "/aaaaaaaaa"), ("PUT", "/bbbbbbbbb")];
                assert!(whole.contains(&(&*method, &*path)), "{method} {path}");
            }
            writer.join().unwrap();
        });
    }
}
