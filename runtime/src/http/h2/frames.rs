//! Follows the frames of an HTTP/2 connection (RFC 9113, section 4.1): which streams are open on
//! the wire, whether the last bytes written are part of a response, and whether half a frame has
//! been read.
//!
//! h2 buffers data until the client's windows have room for it, without reporting that. So a
//! response that h2 has taken is not yet written; the frame that ends its stream shows when it is.

/// The length of a frame header.
const HEAD: usize = 9;
/// How much of GOAWAY is read beyond that: the last stream that is served.
const LAST_STREAM: usize = 4;

/// The length of the connection preface, which comes before any frame (section 3.4).
const PREFACE: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// Both directions of a connection.
#[derive(Debug)]
pub(in crate::http) struct Wire {
    reads: Walk,
    writes: Walk,
    /// The streams that the client has opened and we have not ended.
    open: Vec<u32>,
    /// How many there were at the last `take_open`.
    reported: usize,
    /// The highest stream that the client has opened.
    latest: u32,
    /// A stream whose head is not complete: `CONTINUATION` follows.
    opening: Option<u32>,
    /// The highest stream that is served, once GOAWAY has said so.
    last: u32,
    /// Whether part of a response has been written since the last `take_answered`.
    answered: bool,
}

impl Wire {
    pub(in crate::http) fn new() -> Self {
        Self {
            reads: Walk { skip: PREFACE, ..Walk::default() },
            writes: Walk::default(),
            open: Vec::new(),
            reported: 0,
            latest: 0,
            opening: None,
            last: u32::MAX,
            answered: false,
        }
    }

    /// How many streams are open, if that has changed since the last call: the client has sent a
    /// request, and the end of the response has not been written.
    pub(in crate::http) fn take_open(&mut self) -> Option<usize> {
        let before = std::mem::replace(&mut self.reported, self.open.len());
        (before != self.reported).then_some(self.reported)
    }

    /// Whether half a frame has been read.
    pub(in crate::http) fn is_inside(&self) -> bool {
        self.reads.is_inside()
    }

    /// Whether part of a response has been written since the last `take_answered`.
    pub(in crate::http) fn has_answered(&self) -> bool {
        self.answered
    }

    /// Whether part of a response has been written since the last call.
    pub(in crate::http) fn take_answered(&mut self) -> bool {
        std::mem::take(&mut self.answered)
    }

    pub(in crate::http) fn read(&mut self, bytes: &[u8]) {
        let Self { reads, open, latest, opening, last, .. } = self;
        reads.feed(bytes, |frame| match frame.kind {
            // Others are trailers.
            HEADERS if frame.stream > *latest => {
                *latest = frame.stream;
                *opening = Some(frame.stream);
                if frame.flags & END_HEADERS != 0 && frame.stream <= *last {
                    open.extend(opening.take());
                }
            }
            CONTINUATION if frame.flags & END_HEADERS != 0 && frame.stream <= *last => {
                open.extend(opening.take());
            }
            RST_STREAM => open.retain(|stream| *stream != frame.stream),
            _ => {}
        });
    }

    pub(in crate::http) fn write(&mut self, bytes: &[u8]) {
        let Self { writes, open, last, answered, .. } = self;
        writes.feed(bytes, |frame| {
            let ends = match frame.kind {
                DATA | HEADERS => {
                    *answered = true;
                    frame.flags & END_STREAM != 0
                }
                CONTINUATION => {
                    *answered = true;
                    false
                }
                RST_STREAM => true,
                GOAWAY => {
                    *last = frame.last_stream;
                    // Streams above it are not answered at all.
                    open.retain(|stream| *stream <= *last);
                    false
                }
                _ => false,
            };
            if ends {
                open.retain(|stream| *stream != frame.stream);
            }
        });
        // The beginning of a frame is part of a response, too.
        self.answered |= self.writes.is_inside_answer();
    }
}

/// A complete frame.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    /// Only for GOAWAY.
    last_stream: u32,
}

/// The position in the frames of one direction.
#[derive(Debug, Default)]
struct Walk {
    head: [u8; HEAD + LAST_STREAM],
    /// How much of `head` has been read for the current frame.
    read: usize,
    /// How much of the current frame is missing, once `head` is complete.
    skip: usize,
}

impl Walk {
    fn is_inside(&self) -> bool {
        self.read > 0
    }

    fn is_inside_answer(&self) -> bool {
        self.read >= HEAD && matches!(self.head[3], DATA | HEADERS | CONTINUATION)
    }

    /// How much of the beginning of a frame is kept.
    fn wanted(&self) -> usize {
        let is_goaway = self.read >= HEAD && self.head[3] == GOAWAY;
        // Every valid GOAWAY is longer; a shorter one is an error, after which nothing matters.
        if is_goaway && length(&self.head) >= LAST_STREAM { HEAD + LAST_STREAM } else { HEAD }
    }

    /// Calls `on` with each frame that ends in `bytes`.
    fn feed(&mut self, mut bytes: &[u8], mut on: impl FnMut(Frame)) {
        // Most are there as a whole.
        while self.read == 0
            && self.skip == 0
            && let Some(head) = bytes.first_chunk::<HEAD>()
            && let Some(rest) = bytes.get(HEAD + length(head)..)
            && head[3] != GOAWAY
        {
            on(Frame { kind: head[3], flags: head[4], stream: word(head, 5), last_stream: 0 });
            bytes = rest;
        }
        loop {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                if self.skip > 0 {
                    return;
                }
                self.end(&mut on);
            }
            while self.read < self.wanted() {
                let taken = (self.wanted() - self.read).min(bytes.len());
                if taken == 0 {
                    return;
                }
                self.head[self.read..][..taken].copy_from_slice(&bytes[..taken]);
                self.read += taken;
                bytes = &bytes[taken..];
            }
            self.skip = HEAD + length(&self.head) - self.read;
            if self.skip == 0 {
                self.end(&mut on);
            }
        }
    }

    fn end(&mut self, on: &mut impl FnMut(Frame)) {
        // The preface is not a frame.
        if std::mem::take(&mut self.read) == 0 {
            return;
        }
        let head = &self.head;
        let (stream, last_stream) = (word(head, 5), word(head, HEAD));
        on(Frame { kind: head[3], flags: head[4], stream, last_stream });
    }
}

/// The length of a frame's payload.
fn length<const N: usize>(head: &[u8; N]) -> usize {
    u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize
}

/// A number of 31 bits.
fn word<const N: usize>(head: &[u8; N], at: usize) -> u32 {
    let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
    // Without the reserved bit.
    u32::from_be_bytes(bytes) & (u32::MAX >> 1)
}

/// Follows frames that the fuzzer makes up, in both directions: in pieces of `size` as in one.
#[cfg(fuzzing)]
#[allow(unreachable_pub, reason = "for the fuzz target")]
pub fn follow_http2(reads: &[u8], writes: &[u8], size: usize) {
    let (mut whole, mut pieces) = (Wire::new(), Wire::new());
    whole.read(reads);
    reads.chunks(size).for_each(|piece| pieces.read(piece));
    assert_eq!(whole.open, pieces.open, "{reads:?}");
    assert_eq!(whole.is_inside(), pieces.is_inside(), "{reads:?}");
    whole.write(writes);
    writes.chunks(size).for_each(|piece| pieces.write(piece));
    assert_eq!(whole.open, pieces.open, "{reads:?} {writes:?}");
    assert_eq!(whole.has_answered(), pieces.has_answered(), "{writes:?}");
    assert!(whole.open.iter().all(|stream| *stream <= whole.latest));
}

#[cfg(all(test, not(graceful_loom)))]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// Checks every split of `bytes` into three pieces.
    fn each_split(bytes: &[u8], check: impl Fn(&[&[u8]])) {
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                check(&[&bytes[..first], &bytes[first..second], &bytes[second..]]);
            }
        }
    }

    #[test]
    fn a_stream_is_open_until_its_end_is_written() {
        let mut reads = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        reads.extend(frame(4, 0, 0, &[]));
        reads.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"head"));
        reads.extend(frame(HEADERS, 0, 3, b"he"));
        reads.extend(frame(CONTINUATION, END_HEADERS, 3, b"ad"));
        reads.extend(frame(DATA, 0, 3, b"body"));
        // Trailers open nothing.
        reads.extend(frame(HEADERS, END_HEADERS | END_STREAM, 3, b"trailers"));
        reads.extend(frame(HEADERS, END_HEADERS, 5, b"head"));
        reads.extend(frame(RST_STREAM, 0, 5, &[0; 4]));
        each_split(&reads, |pieces| {
            let mut wire = Wire::new();
            for piece in pieces {
                wire.read(piece);
            }
            assert_eq!((&*wire.open, wire.is_inside()), (&[1, 3][..], false));
        });
        let mut writes = frame(4, 0, 0, &[]);
        writes.extend(frame(HEADERS, END_HEADERS, 1, b"head"));
        writes.extend(frame(DATA, 0, 1, b"da"));
        writes.extend(frame(DATA, END_STREAM, 1, b"ta"));
        writes.extend(frame(DATA, END_STREAM, 3, &[]));
        each_split(&writes, |pieces| {
            let mut wire = Wire::new();
            wire.read(&reads);
            for piece in pieces {
                wire.write(piece);
            }
            assert_eq!(wire.open.len(), 0);
            assert!(wire.take_answered() && !wire.take_answered());
        });
    }

    #[test]
    fn half_a_head_opens_nothing_and_is_noticed() {
        let head = frame(HEADERS, END_HEADERS, 1, b"head");
        for read in 1..head.len() {
            let mut wire = Wire::new();
            wire.read(&[b'x'; PREFACE]);
            assert!(!wire.is_inside());
            wire.read(&head[..read]);
            assert_eq!((wire.open.len(), wire.is_inside()), (0, true), "{read}");
            wire.read(&head[read..]);
            assert_eq!((wire.open.len(), wire.is_inside()), (1, false), "{read}");
        }
    }

    #[test]
    fn a_head_in_pieces_opens_its_stream_with_the_last() {
        // Every byte of it matters.
        const STREAM: u32 = 0x0102_0305;
        let mut wire = Wire::new();
        wire.read(&[b'x'; PREFACE]);
        wire.read(&frame(HEADERS, END_STREAM, STREAM, b"h"));
        wire.read(&frame(CONTINUATION, 0, STREAM, b"ea"));
        assert_eq!(wire.open.len(), 0);
        wire.read(&frame(CONTINUATION, END_HEADERS, STREAM, b"d"));
        assert_eq!(wire.open, [STREAM]);
    }

    #[test]
    fn a_stream_ends_with_the_frame_that_says_so() {
        let mut wire = Wire::new();
        wire.read(&[b'x'; PREFACE]);
        for stream in [1, 3, 5] {
            wire.read(&frame(HEADERS, END_HEADERS, stream, b"head"));
        }
        let steps = [
            (frame(4, 0, 0, &[]), false, &[1, 3, 5][..]),
            (frame(HEADERS, 0, 1, b"he"), true, &[1, 3, 5]),
            (frame(CONTINUATION, END_HEADERS, 1, b"ad"), true, &[1, 3, 5]),
            (frame(DATA, 0, 1, b"da"), true, &[1, 3, 5]),
            (frame(DATA, END_STREAM, 1, b"ta"), true, &[3, 5]),
            (frame(RST_STREAM, 0, 3, &[0; 4]), false, &[5]),
            (frame(HEADERS, END_HEADERS | END_STREAM, 5, b"head"), true, &[]),
        ];
        for (bytes, answered, open) in steps {
            wire.write(&bytes);
            assert_eq!((wire.take_answered(), &*wire.open), (answered, open), "{bytes:?}");
        }
    }

    #[test]
    fn goaway_is_no_answer_and_ends_what_it_leaves_out() {
        let mut wire = Wire::new();
        wire.read(&[b'x'; PREFACE]);
        for stream in [1, 3, 5] {
            wire.read(&frame(HEADERS, END_HEADERS, stream, b"head"));
        }
        let goaway = frame(GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]);
        goaway.chunks(3).for_each(|piece| wire.write(piece));
        wire.write(&frame(6, 0, 0, &[0; 8]));
        assert!(!wire.take_answered());
        assert_eq!(wire.open, [1, 3]);
        wire.read(&frame(HEADERS, END_HEADERS, 7, b"head"));
        wire.read(&frame(HEADERS, 0, 9, b"he"));
        wire.read(&frame(CONTINUATION, END_HEADERS, 9, b"ad"));
        assert_eq!(wire.open.len(), 2);
        // The first half of a frame is part of a response.
        wire.write(&frame(DATA, 0, 1, b"data")[..11]);
        assert!(wire.take_answered());
    }
}
