//! Where a chunked body ends (RFC 9112, section 7.1): chunk sizes with extensions, data, trailers.
//! As strict as hyper is: what it rejects needs no end, for it closes the connection.

#![allow(clippy::match_same_arms, reason = "a table: a line for each state")]

/// How far a chunked body has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    at: At,
    /// Of the chunk that is being read: its size so far, or what is left of its data.
    size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The first digit of a chunk's size.
    Start,
    Size,
    /// Blanks behind the size.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The beginning of a line of the trailers, or of the empty line behind them.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
}

/// What `feed` has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// All bytes belong to the body, and it goes on.
    More,
    /// So many bytes belonged to it, and were its last ones.
    Ended(usize),
    /// This is no chunked body.
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

    /// One more digit of the size; `None`: it is too large for any body.
    fn digit(&mut self, byte: u8) -> Option<At> {
        let digit = char::from(byte).to_digit(16)?;
        let before = if self.at == At::Start { 0 } else { self.size };
        self.size = before.checked_mul(16)?.checked_add(digit.into())?;
        Some(At::Size)
    }
}
