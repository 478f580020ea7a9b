//! What a connection can be at.

/// What an HTTP/1 connection is at, or that it is none any more.
///
/// In groups, so that steady state needs one comparison: the first may not last for ever, drain or not
/// (`is_limited`); those around the border to the second read differently (`reads_plainly`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum State {
    /// Accepted, nothing read yet.
    Fresh,
    /// The first bytes of a head have just been read.
    NewHead,
    /// A head is incomplete.
    Head,
    /// The write side is shut; what the client still sends is read and dropped.
    LastWords,
    /// Quiet for too long: to be closed, unless bytes are found in the kernel's buffer.
    Closable,

    /// HTTP/2: `Streams` has the rest.
    Http2,
    /// Not HTTP any more: somebody else owns the stream.
    Upgraded,
    /// The stream is gone.
    Closed,
    /// A request is with the service.
    Busy,
    /// The head of the response is out.
    Responding,
    /// The body of the response has ended; its last bytes may not be written yet.
    Flushing,
    /// Answered; the body of the request is still being read.
    Answered,
    /// Answered; whether more of the request's body is to come, or half a head is there, is not known.
    Unsettled,
    /// Answered, nothing read since.
    Idle,
}

impl State {
    #[inline]
    pub(crate) fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Fresh,
            1 => Self::NewHead,
            2 => Self::Head,
            3 => Self::LastWords,
            4 => Self::Closable,
            5 => Self::Http2,
            6 => Self::Upgraded,
            7 => Self::Closed,
            8 => Self::Busy,
            9 => Self::Responding,
            10 => Self::Flushing,
            11 => Self::Answered,
            12 => Self::Unsettled,
            _ => Self::Idle,
        }
    }
}
