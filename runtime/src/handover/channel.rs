//! Messages over a Unix socket, with descriptors beside them (unix(7), `SCM_RIGHTS`).

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net,
    },
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::{io::Interest, net::UnixStream};

use super::message::{Message, Reader};

/// How many descriptors may be beside one message (`SCM_MAX_FD` in the kernel).
pub(super) const MOST: usize = 253;

const PIECE: usize = 64 * 1024;

/// A write to a socket that nobody reads any more is an error, and no SIGPIPE; elsewhere Rust's
/// programs ignore that signal.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();

/// Descriptors that are received are not for children.
#[cfg(not(target_vendor = "apple"))]
const CLOSE_ON_EXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(target_vendor = "apple")]
const CLOSE_ON_EXEC: RecvFlags = RecvFlags::empty();

/// What a Unix socket takes in one piece, or not at all: a little less than the longest buffer that
/// `unix_stream_sendmsg()` in the kernel makes of one call.
pub(super) const WHOLE: usize = 32 * 1024;

/// Sends `bytes` from `at` on, with `sockets` beside the first of them. Returns how many bytes were
/// sent.
fn send(socket: BorrowedFd<'_>, bytes: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, NO_SIGNAL)?)
}

/// Receives bytes and the descriptors beside them into `reader`. Returns whether there were any.
fn receive(socket: BorrowedFd<'_>, reader: &mut Reader) -> io::Result<bool> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut piece = vec![0; PIECE];
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut piece)], &mut control, CLOSE_ON_EXEC)?;
    let mut sockets: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            sockets.extend(received);
        }
    }
    #[cfg(target_vendor = "apple")]
    for socket in &sockets {
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?;
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(malformed("a record is too long"));
    }
    reader.feed(&piece[..received.bytes], sockets);
    if received.flags.contains(ReturnFlags::CTRUNC) {
        // The kernel has closed those that there was no room for: the last of this batch.
        reader.lacks_sockets();
    }
    Ok(received.bytes > 0)
}

fn written(messages: &[Message]) -> (Vec<u8>, Vec<BorrowedFd<'_>>) {
    let mut bytes = Vec::new();
    for message in messages {
        message.write(&mut bytes);
    }
    (bytes, messages.iter().filter_map(Message::socket).map(AsFd::as_fd).collect())
}

/// Sends messages whole, or not at all.
pub(super) fn send_at_once(socket: BorrowedFd<'_>, messages: &[Message]) -> io::Result<()> {
    let (bytes, sockets) = written(messages);
    if bytes.len() > WHOLE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    send(socket, &bytes, &sockets).map(drop)
}

fn malformed(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a message of a hand-over: {why}"))
}

/// Messages between threads that may block: at the start of a process, while there is no runtime.
pub(super) struct Blocking {
    socket: net::UnixStream,
    reader: Reader,
}

impl Blocking {
    /// Each send and receive takes at most `limit`.
    pub(super) fn new(socket: net::UnixStream, limit: Duration) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(limit))?;
        socket.set_write_timeout(Some(limit))?;
        Ok(Self { socket, reader: Reader::new() })
    }

    pub(super) fn send(&self, message: Message) -> io::Result<()> {
        let messages = [message];
        let (bytes, mut sockets) = written(&messages);
        let mut at = 0;
        while at < bytes.len() {
            at += send(self.socket.as_fd(), &bytes[at..], &sockets)?;
            sockets.clear();
        }
        Ok(())
    }

    /// Returns the next message, or `None` if the other side has closed.
    pub(super) fn receive(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let Some(message) = self.reader.next().map_err(malformed)? {
                return Ok(Some(message));
            }
            if !receive(self.socket.as_fd(), &mut self.reader)? {
                return Ok(None);
            }
        }
    }

    /// Goes on with a runtime, in whose context this has to be called.
    pub(super) fn into_async(self) -> io::Result<Channel> {
        self.socket.set_nonblocking(true)?;
        let socket = UnixStream::from_std(self.socket)?;
        Ok(Channel { socket, reader: self.reader })
    }
}

/// Messages on a runtime.
pub(super) struct Channel {
    socket: UnixStream,
    reader: Reader,
}

impl Channel {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket, reader: Reader::new() }
    }

    /// Sends messages that have at most `MOST` descriptors beside them.
    ///
    /// # Errors
    ///
    /// Nothing of them has been sent then. What fails later, behind the first piece of a message
    /// that the kernel does not take as a whole, is no error: the descriptors have been sent, and
    /// no two processes may read from one connection.
    pub(super) async fn send(&self, messages: &[Message]) -> io::Result<()> {
        let (bytes, mut sockets) = written(messages);
        let mut at = 0;
        while at < bytes.len() {
            let sending = || send(self.socket.as_fd(), &bytes[at..], &sockets);
            match self.socket.async_io(Interest::WRITABLE, sending).await {
                Ok(sent) => at += sent,
                Err(error) if at == 0 => return Err(error),
                Err(_) => return Ok(()),
            }
            sockets.clear();
        }
        Ok(())
    }

    /// How many of `messages` the kernel takes as a whole; one that is longer goes alone.
    pub(super) fn batch(messages: &[Message]) -> usize {
        let mut bytes = Vec::new();
        let fitting = messages.iter().take_while(|message| {
            message.write(&mut bytes);
            bytes.len() <= WHOLE
        });
        fitting.count().clamp(1, MOST)
    }

    /// Tells the other side that it may begin, without waiting.
    pub(super) fn go(&self) {
        // If it is gone, that is what it finds out next.
        let _ = send_at_once(self.socket.as_fd(), &[Message::Go]);
    }

    /// Tells the other side that it is not to begin, without waiting.
    pub(super) fn refuse(&self, why: &str) {
        // It may be gone.
        let _ = send_at_once(self.socket.as_fd(), &[Message::Refused { why: why.to_owned() }]);
    }

    /// Whether descriptors were lost: this process has no room for more.
    pub(super) fn is_lacking(&self) -> bool {
        self.reader.is_lacking()
    }

    /// Receives what has been sent by now, and nothing more: the other side is told by an error.
    pub(super) fn hang_up(&self) {
        // If it is closed already, that is as good.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Read);
    }

    /// Returns the next message, or `None` if the other side has closed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what has been received is kept.
    pub(super) async fn receive(&mut self) -> io::Result<Option<Message>> {
        let Self { socket, reader } = self;
        loop {
            if let Some(message) = reader.next().map_err(malformed)? {
                return Ok(Some(message));
            }
            let receiving = || receive(socket.as_fd(), reader);
            if !socket.async_io(Interest::READABLE, receiving).await? {
                return Ok(None);
            }
        }
    }
}
