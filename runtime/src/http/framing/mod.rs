//! Finds where the messages on an HTTP/1 connection begin and end from the bytes themselves,
//! however the network splits them. hyper does not say whether half a head is in its buffer, and
//! that decides between closing an idle connection and waiting for the rest of a request.
//!
//! Most reads need not be looked through. A read that starts between messages with GET or HEAD and
//! ends with an empty line is *plain*: whatever hyper leaves of it would also end with an empty
//! line, and so be a head that hyper takes (or rejects) before it reads on. As long as none of
//! these requests has a body, nothing of the read is left when hyper asks for more. If one does
//! have a body, the read is looked through after all.
//!
//! The tests next to this file, and the fuzz target in `fuzz/`, compare it with hyper itself at
//! every byte.

mod head;
#[cfg(any(all(test, not(graceful_loom)), fuzzing))]
pub(crate) mod oracle;
mod plain;
#[cfg(all(test, not(graceful_loom)))]
mod tests;

use head::{Chunks, Fed};
use head::{Head, Length};

use crate::net::Follow;

pub(super) use plain::PlainRead;

/// The position after the bytes read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Every message is complete. CRs and LFs before a request do not count (RFC 9112, section
    /// 2.2).
    #[default]
    Between,
    /// After a plain read: between messages, as soon as hyper asks for more.
    Plain,
    Head(Head),
    /// A body with this many bytes missing.
    Body(u64),
    Chunked(Chunks),
    /// Bytes that hyper rejects: it will close the connection.
    Invalid,
}

/// Follows the bytes of a connection.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    at: At,
    /// How many heads are complete; wraps.
    heads: u32,
}

/// Summary of one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadSummary {
    /// The rest of a message, part of it, or only line breaks.
    NoHead,
    /// A part of a head, which is still incomplete.
    PartOfHead,
    /// One whole head, beginning at this offset. A body may follow.
    WholeHead(usize),
    /// A plain read: heads without bodies, beginning with the first.
    Plain,
    /// The end of a head that had begun before, or more than one head.
    OtherHeads,
}

/// The position after the bytes read so far, as far as it matters to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    Between,
    /// Between messages, if the requests of the latest read have no bodies.
    Plain,
    InHead,
    InBody,
    Invalid,
}

impl Framing {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// How many heads are complete; wraps.
    #[inline]
    pub(crate) fn heads(&self) -> u32 {
        self.heads
    }

    /// Whether no message is under way.
    pub(crate) fn is_between(&self) -> bool {
        match self.position() {
            Position::Between | Position::Plain => true,
            Position::InHead | Position::InBody | Position::Invalid => false,
        }
    }

    #[inline]
    pub(crate) fn position(&self) -> Position {
        match self.at {
            At::Between => Position::Between,
            At::Plain => Position::Plain,
            At::Head(_) => Position::InHead,
            At::Body(_) | At::Chunked(_) => Position::InBody,
            At::Invalid => Position::Invalid,
        }
    }

    /// Follows `bytes`, which have been read after hyper had called the service `calls` times.
    #[inline]
    pub(crate) fn read(&mut self, bytes: &[u8], calls: u32) -> ReadSummary {
        if matches!(self.at, At::Between | At::Plain) {
            if matches!(self.at, At::Plain) {
                // hyper has asked for more.
                self.heads = calls;
            }
            if is_plain(bytes) {
                self.at = At::Plain;
                return ReadSummary::Plain;
            }
            self.at = At::Between;
        }
        self.read_on(bytes)
    }

    /// Looks through `bytes`, the latest read: it was plain, but a request in it has a body.
    pub(crate) fn look_through(&mut self, bytes: &[u8]) {
        self.at = At::Between;
        self.read_on(bytes);
    }

    #[inline(never)]
    fn read_on(&mut self, bytes: &[u8]) -> ReadSummary {
        let mut summary = ReadSummary::NoHead;
        let mut rest = bytes;
        while !rest.is_empty() {
            match &mut self.at {
                At::Between => {
                    let blank = rest.iter().take_while(|byte| is_line_break(**byte)).count();
                    rest = &rest[blank..];
                    if rest.is_empty() {
                        break;
                    }
                    let begins = bytes.len() - rest.len();
                    let mut head = Head::new();
                    summary = match (head.feed(rest), summary) {
                        (None, _) => {
                            self.at = At::Head(head);
                            return match summary {
                                ReadSummary::NoHead => ReadSummary::PartOfHead,
                                ReadSummary::PartOfHead
                                | ReadSummary::WholeHead(_)
                                | ReadSummary::Plain
                                | ReadSummary::OtherHeads => summary,
                            };
                        }
                        (Some(length), before) => {
                            rest = &rest[length..];
                            self.head_ends(head.length());
                            match before {
                                ReadSummary::NoHead => ReadSummary::WholeHead(begins),
                                ReadSummary::PartOfHead
                                | ReadSummary::WholeHead(_)
                                | ReadSummary::Plain
                                | ReadSummary::OtherHeads => ReadSummary::OtherHeads,
                            }
                        }
                    };
                }
                At::Head(head) => {
                    let Some(length) = head.feed(rest) else {
                        return ReadSummary::PartOfHead;
                    };
                    rest = &rest[length..];
                    let length = head.length();
                    self.head_ends(length);
                    summary = ReadSummary::OtherHeads;
                }
                At::Body(left) => {
                    let taken = usize::try_from(*left).map_or(rest.len(), |it| it.min(rest.len()));
                    *left -= taken as u64;
                    rest = &rest[taken..];
                    if *left == 0 {
                        self.at = At::Between;
                    }
                }
                At::Chunked(chunks) => match chunks.feed(rest) {
                    Fed::More => break,
                    Fed::Ended(length) => {
                        rest = &rest[length..];
                        self.at = At::Between;
                    }
                    Fed::Broken => self.at = At::Invalid,
                },
                At::Invalid | At::Plain => break,
            }
        }
        summary
    }

    fn head_ends(&mut self, length: Length) {
        self.heads = self.heads.wrapping_add(1);
        self.at = match length {
            Length::Sized(0) => At::Between,
            Length::Sized(size) => At::Body(size),
            Length::Chunked => At::Chunked(Chunks::new()),
            Length::Invalid => At::Invalid,
        };
    }
}

/// Whether a read that begins between messages is plain: compares four bytes at either end. A read
/// that is too long to be copied is followed instead.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    if bytes.len() > plain::LONGEST {
        return false;
    }
    let number = u32::from_ne_bytes;
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => {
            let first = number(*first);
            let method = first == number(*b"GET ") || first == number(*b"HEAD");
            method && number(*last) == number(*b"\r\n\r\n")
        }
        _ => false,
    }
}

fn is_line_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// For bytes after the last response: hyper has taken all it wanted, so they are not for it.
impl Follow for Framing {
    fn read(&mut self, bytes: &[u8]) {
        Self::read(self, bytes, self.heads);
    }

    fn is_between(&self) -> bool {
        Self::is_between(self)
    }
}
