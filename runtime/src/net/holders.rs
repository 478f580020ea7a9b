//! Who else holds a listening socket.

/// Who else may hold a listening socket. What is done to the socket is done to all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holders {
    /// Nobody: it was bound here, or the program says so.
    Nobody,
    /// It was handed in: another process may hold it, or a copy of it in this one.
    Unknown,
    /// Another process that goes on accepting.
    Others,
}
