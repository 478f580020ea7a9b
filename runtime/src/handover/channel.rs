//! Messages over a Unix socket, with descriptors beside them (unix(7), `SCM_RIGHTS`).

use std::{
    io::{self, IoSlice, IoSliceMut},
    iter,
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

use super::message::{HEADER, LONGEST, Message, Reader};

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
fn receive(socket: BorrowedFd<'_>, reader: &mut Reader, flags: RecvFlags) -> io::Result<bool> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut piece = vec![0; PIECE];
    let flags = flags | CLOSE_ON_EXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut piece)], &mut control, flags)?;
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

/// Messages as they are sent: as many as the kernel takes as a whole. One that is longer is alone.
pub(super) struct Batch<'a> {
    bytes: Vec<u8>,
    sockets: Vec<BorrowedFd<'a>>,
    /// How many messages there are.
    pub(super) count: usize,
}

impl<'a> Batch<'a> {
    /// Takes the first of `messages`, as many as go together.
    pub(super) fn of(messages: &'a [Message]) -> Self {
        let mut batch = Self { bytes: Vec::new(), sockets: Vec::new(), count: 0 };
        for message in messages.iter().take(MOST) {
            let end = batch.bytes.len();
            message.write(&mut batch.bytes);
            if batch.count > 0 && batch.bytes.len() > WHOLE {
                batch.bytes.truncate(end);
                break;
            }
            batch.sockets.extend(message.socket().map(AsFd::as_fd));
            batch.count += 1;
        }
        batch
    }

    /// All of `messages`, one batch after the other.
    pub(super) fn all(mut messages: &'a [Message]) -> impl Iterator<Item = Self> {
        iter::from_fn(move || {
            let batch = (!messages.is_empty()).then(|| Self::of(messages))?;
            messages = &messages[batch.count..];
            Some(batch)
        })
    }

    /// Whether no message is longer than a reader takes.
    pub(super) fn is_readable(&self) -> bool {
        // Several together are far shorter than that.
        self.bytes.len() <= HEADER + LONGEST
    }

    /// Sends the batch whole, or not at all, without waiting.
    pub(super) fn send_at_once(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        if self.bytes.len() > WHOLE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        send(socket, &self.bytes, &self.sockets).map(drop)
    }
}

/// Returns whether a write failed because the other side had closed the socket.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn malformed(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a message of a hand-over: {why}"))
}

/// Returns the messages of the first batch and leaves it in the queue. The socket must preserve
/// message boundaries and must not be empty.
#[cfg(all(feature = "systemd", target_os = "linux"))]
pub(super) fn peek(socket: BorrowedFd<'_>) -> io::Result<Vec<Message>> {
    let mut reader = Reader::new();
    receive(socket, &mut reader, RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    iter::from_fn(|| reader.next().transpose()).collect::<Result<_, _>>().map_err(malformed)
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
        let Batch { bytes, mut sockets, .. } = Batch::of(&messages);
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
            if !receive(self.socket.as_fd(), &mut self.reader, RecvFlags::empty())? {
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

    /// Sends a batch.
    ///
    /// # Errors
    ///
    /// Nothing of it has been sent then. What fails later, behind the first piece of a message
    /// that the kernel does not take as a whole, is no error: the descriptors have been sent, and
    /// no two processes may read from one connection.
    pub(super) async fn send(&self, batch: Batch<'_>) -> io::Result<()> {
        let Batch { bytes, mut sockets, .. } = batch;
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

    /// Sends a single message.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub(super) async fn tell(&self, message: Message) -> io::Result<()> {
        self.send(Batch::of(&[message])).await
    }

    /// Refuses the other side, which must not begin then, without waiting. Returns whether it can
    /// know: it has been told, or is gone.
    pub(super) fn refuse(&self, why: &str) -> bool {
        let refused = [Message::Refused { why: why.to_owned() }];
        match Batch::of(&refused).send_at_once(self.socket.as_fd()) {
            Ok(()) => true,
            Err(error) => is_gone(&error),
        }
    }

    /// Whether descriptors were lost: this process has no room for more.
    pub(super) fn is_lacking(&self) -> bool {
        self.reader.is_lacking()
    }

    /// Receives what has been sent by now, and nothing more: the other side gets an error.
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
            let receiving = || receive(socket.as_fd(), reader, RecvFlags::empty());
            if !socket.async_io(Interest::READABLE, receiving).await? {
                return Ok(None);
            }
        }
    }
}
