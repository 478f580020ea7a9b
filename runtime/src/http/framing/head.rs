//! Finds the end of a request's head, and the length of its body. The head ends at its first empty
//! line, with or without CRs, as in `httparse`; the body's length is taken from its fields as in
//! hyper (RFC 9112, section 6.3). Whether the rest is valid is left to hyper, which closes the
//! connection if it is not.

#![allow(clippy::match_same_arms, reason = "a table: a line for each state")]

/// How far a head has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    line: Line,
    sized: Option<u64>,
    /// Whether there was a `transfer-encoding`, and whether its last word was `chunked`.
    coded: Option<bool>,
}

/// How the end of a message is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Sized(u64),
    Chunked,
    /// hyper answers this with 400 and closes the connection.
    Invalid,
}

/// The position in a line of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Nothing in the rest of the line matters.
    Rest,
    Start,
    /// The CR of the empty line.
    EndCr,
    /// This many bytes of the name match that of the field.
    Name(Field, usize),
    /// The value of `content-length`: its digits, once there are any.
    Size(Option<u64>),
    /// Blanks after that value.
    SizeEnd(u64),
    /// The value of `transfer-encoding`: its latest word.
    Coding(Word),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    ContentLength,
    TransferEncoding,
}

impl Field {
    const fn name(self) -> &'static [u8] {
        match self {
            Self::ContentLength => b"content-length",
            Self::TransferEncoding => b"transfer-encoding",
        }
    }
}

/// How much of a word in a list matches `chunked`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// This many letters.
    Part(usize),
    /// All of it, then blanks.
    Whole,
    Another,
}

const CHUNKED: &[u8] = b"chunked";

impl Head {
    pub(super) fn new() -> Self {
        Self { line: Line::Rest, sized: None, coded: None }
    }

    /// Returns how many of `bytes` belong to the head, if it ends in them.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut i = 0;
        loop {
            if self.line == Line::Rest {
                i = line_feed(bytes, i)? + 1;
                self.line = Line::Start;
            }
            // Usually the beginning of a line.
            let byte = *bytes.get(i)?;
            i += 1;
            match (self.line, byte) {
                (Line::Start, b'\r') => self.line = Line::EndCr,
                (Line::Start | Line::EndCr, b'\n') => return Some(i),
                (Line::Start, b'c' | b'C') => self.line = Line::Name(Field::ContentLength, 1),
                (Line::Start, b't' | b'T') => self.line = Line::Name(Field::TransferEncoding, 1),
                (Line::Start, _) => self.line = Line::Rest,
                _ => self.line = self.within(byte),
            }
        }
    }

    /// Handles the next byte of a line that may matter.
    fn within(&mut self, byte: u8) -> Line {
        if byte == b'\n' {
            self.line_ends();
            return Line::Start;
        }
        let blank = matches!(byte, b' ' | b'\t' | b'\r');
        match self.line {
            Line::Name(field, matched) => match field.name().get(matched) {
                Some(expected) if byte.eq_ignore_ascii_case(expected) => {
                    Line::Name(field, matched + 1)
                }
                None if byte == b':' => match field {
                    Field::ContentLength => Line::Size(None),
                    Field::TransferEncoding => Line::Coding(Word::Part(0)),
                },
                _ => Line::Rest,
            },
            Line::Size(None) if blank => Line::Size(None),
            Line::Size(Some(size)) | Line::SizeEnd(size) if blank => Line::SizeEnd(size),
            Line::Size(size) if byte.is_ascii_digit() => {
                let size = size.unwrap_or(0).checked_mul(10);
                let size = size.and_then(|size| size.checked_add(u64::from(byte - b'0')));
                size.map_or(Line::Rest, |size| Line::Size(Some(size)))
            }
            Line::Coding(word) => Line::Coding(match word {
                _ if byte == b',' => Word::Part(0),
                Word::Part(0) if blank => Word::Part(0),
                Word::Part(n) if n == CHUNKED.len() && blank => Word::Whole,
                Word::Whole if blank => Word::Whole,
                Word::Part(n) if CHUNKED.get(n).is_some_and(|it| byte.eq_ignore_ascii_case(it)) => {
                    Word::Part(n + 1)
                }
                Word::Part(_) | Word::Whole | Word::Another => Word::Another,
            }),
            // Not a number, or an empty line whose CR is not followed by an LF: hyper rejects it.
            Line::Size(_) | Line::SizeEnd(_) | Line::EndCr | Line::Rest | Line::Start => Line::Rest,
        }
    }

    fn line_ends(&mut self) {
        match self.line {
            Line::Size(Some(size)) | Line::SizeEnd(size) => self.sized = Some(size),
            Line::Coding(word) => {
                let chunked = word == Word::Whole || word == Word::Part(CHUNKED.len());
                self.coded = Some(chunked);
            }
            Line::Rest | Line::Start | Line::EndCr | Line::Name(..) | Line::Size(None) => {}
        }
    }

    /// The length of the body after the head.
    pub(super) fn length(&self) -> Length {
        match self.coded {
            None => Length::Sized(self.sized.unwrap_or(0)),
            Some(true) => Length::Chunked,
            Some(false) => Length::Invalid,
        }
    }
}

const WORD: usize = size_of::<u64>();

/// The highest bit of each byte that is an LF, and perhaps of some bytes after the first LF; the
/// lowest byte comes first.
#[inline]
fn line_feeds(word: [u8; WORD]) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; WORD]);
    const LINE_FEEDS: u64 = u64::from_ne_bytes([b'\n'; WORD]);
    let word = u64::from_le_bytes(word) ^ LINE_FEEDS;
    word.wrapping_sub(ONES) & !word & (ONES << 7)
}

/// Finds the first LF from `start` on.
fn line_feed(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let found = line_feeds(*word);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += WORD;
    }
    bytes.get(at..)?.iter().position(|&byte| byte == b'\n').map(|offset| at + offset)
}

// Finds the end of a chunked body (RFC 9112, section 7.1): chunk sizes with extensions, data,
// trailers. As strict as hyper: input that it rejects needs no end, because it closes the
// connection.

/// How far a chunked body has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    at: At,
    /// For the current chunk: its size so far, or how much of its data is left.
    size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The first digit of a chunk's size.
    Start,
    Size,
    /// Blanks after the size.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The beginning of a line of the trailers, or of the empty line after them.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
}

/// The result of `feed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// All bytes belong to the body, which continues.
    More,
    /// The body ended after this many bytes.
    Ended(usize),
    /// This is not a chunked body.
    Broken,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { at: At::Start, size: 0 }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Fed {
        let mut i = 0;
        while let Some(&byte) = bytes.get(i) {
            if self.at == At::Data {
                let rest = bytes.len() - i;
                let taken = usize::try_from(self.size).map_or(rest, |size| size.min(rest));
                self.size -= taken as u64;
                i += taken;
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                continue;
            }
            i += 1;
            let next = match (self.at, byte) {
                (At::EndLf, b'\n') => return Fed::Ended(i),
                (At::Start | At::Size, _) if byte.is_ascii_hexdigit() => self.digit(byte),
                (At::Size | At::Blank, b' ' | b'\t') => Some(At::Blank),
                (At::Size | At::Blank, b';') => Some(At::Extension),
                (At::Size | At::Blank | At::Extension, b'\r') => Some(At::SizeLf),
                (At::Extension, b'\n') => None,
                (At::Extension, _) => Some(At::Extension),
                (At::SizeLf, b'\n') if self.size == 0 => Some(At::TrailerStart),
                (At::SizeLf, b'\n') => Some(At::Data),
                (At::DataCr, b'\r') => Some(At::DataLf),
                (At::DataLf, b'\n') => Some(At::Start),
                (At::TrailerStart, b'\r') => Some(At::EndLf),
                (At::Trailer, b'\r') => Some(At::TrailerLf),
                (At::TrailerStart | At::Trailer, _) => Some(At::Trailer),
                (At::TrailerLf, b'\n') => Some(At::TrailerStart),
                (
                    At::Start
                    | At::Size
                    | At::Blank
                    | At::SizeLf
                    | At::Data
                    | At::DataCr
                    | At::DataLf
                    | At::TrailerLf
                    | At::EndLf,
                    _,
                ) => None,
            };
            match next {
                Some(at) => self.at = at,
                None => return Fed::Broken,
            }
        }
        Fed::More
    }

    /// Adds a digit to the size; `None` if it is too large for any body.
    fn digit(&mut self, byte: u8) -> Option<At> {
        let digit = char::from(byte).to_digit(16)?;
        let before = if self.at == At::Start { 0 } else { self.size };
        self.size = before.checked_mul(16)?.checked_add(digit.into())?;
        Some(At::Size)
    }
}
