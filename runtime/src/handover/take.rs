//! The new process: takes the listeners before it binds, says when it serves, and takes the
//! connections from then on.

use std::{
    io,
    os::unix::net::UnixStream,
    path::Path,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    channel::{Blocking, Channel, is_gone},
    message::Message,
    program,
};
use crate::{
    log::{millis, say},
    net::moving::{self, Moved, Offer},
    stop::{Phase, Shared},
    util::{Failure, First, HumanDuration, race},
    work::{Role, TaskGuard, TaskName},
};

/// How long the old process may take for each message before this one serves: it may be at another
/// hand-over first.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the old process may take to answer once this one has begun to stop.
const ANSWER: Duration = Duration::from_secs(2);

/// How soon to retry after the kernel has run out of something.
const AGAIN: Duration = Duration::from_millis(10);

/// Descriptors that are kept for what this process opens itself.
const RESERVE: u64 = 64;

/// This process, which has the sockets of another one and does not serve yet.
pub(crate) enum Arriving {
    /// The old process goes on until this one serves.
    Live { channel: Blocking, from: u32 },
    /// It has ended, and has left everything with the service manager.
    #[cfg_attr(
        not(all(feature = "systemd", target_os = "linux")),
        allow(dead_code, reason = "for the store")
    )]
    Stored { channels: Vec<Blocking>, from: u32 },
}

/// Takes the sockets of the process that has started this one, if it offers them.
pub(super) fn of_parent() -> Result<Option<Arriving>, Failure> {
    let Some(path) = program::socket_of_parent() else { return Ok(None) };
    // If nobody listens, a process that had the number of this one's parent left it behind.
    connect(&path).map_err(failure)?.map_or(Ok(None), ask)
}

/// Connects to the process that listens at `path`; `None`: there is none.
pub(super) fn connect(path: &Path) -> io::Result<Option<UnixStream>> {
    match UnixStream::connect(path) {
        Ok(socket) => Ok(Some(socket)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The process and the user at the other end of a socket (`SO_PEERCRED`, unix(7)); process 0: it is
/// in another container.
#[cfg(target_os = "linux")]
fn peer_of(socket: &UnixStream) -> Option<(u32, u32)> {
    // Not rustix's form of it, in which a process has a number that is not 0.
    let peer = nix::sys::socket::getsockopt(socket, nix::sys::socket::sockopt::PeerCredentials);
    peer.ok().map(|peer| (peer.pid().cast_unsigned(), peer.uid()))
}

/// Elsewhere what protects the socket is its folder.
#[cfg(not(target_os = "linux"))]
fn peer_of(_: &UnixStream) -> Option<(u32, u32)> {
    None
}

/// Whether the process at the other end has started this one.
pub(super) fn is_of_parent(socket: &UnixStream) -> bool {
    // What has no number here may be neither: process 1 of a container has a parent outside of it.
    let process = peer_of(socket).map(|(process, _)| process).filter(|process| *process != 0);
    process == Some(std::os::unix::process::parent_id())
}

fn failure(error: io::Error) -> Failure {
    Failure::from_error(error).context("cannot take over from the process before")
}

/// Takes the listening sockets of the process at the other end.
///
/// # Errors
///
/// If it is another user's, refuses, or does not answer. `None`: it has nothing to do with this
/// process, as when it waits for another of its children.
pub(super) fn ask(socket: UnixStream) -> Result<Option<Arriving>, Failure> {
    let user = rustix::process::geteuid().as_raw();
    let peer = peer_of(&socket);
    if let Some((process, other)) = peer
        && other != user
    {
        return Err(Failure::new(format!(
            "cannot take over from process {process}: it is another user's"
        )));
    }
    let mut channel = Blocking::new(socket, PATIENCE).map_err(failure)?;
    match channel.send(Message::hello()) {
        // It has closed: why, or that it has ended, is what there is to read.
        Err(error) if is_gone(&error) => {}
        sent => sent.map_err(failure)?,
    }
    let (mut from, mut has_spoken) = (peer.map_or(0, |(process, _)| process), false);
    loop {
        let received = match channel.receive() {
            // It has ended, with this one still in its queue.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
            received => received.map_err(failure)?,
        };
        match received {
            Some(Message::Hello { process, .. }) => (from, has_spoken) = (process, true),
            Some(Message::Listener { listener, written, sharing, socket }) => {
                moving::inherit(Offer { listener, written, sharing, socket });
            }
            Some(Message::Offered) => {
                moving::hold_back();
                return Ok(Some(Arriving::Live { channel, from }));
            }
            Some(Message::Refused { why }) => {
                return Err(Failure::new(format!("cannot take over from process {from}: {why}")));
            }
            Some(_) => {}
            None if !has_spoken => return Ok(None),
            None => {
                return Err(Failure::new(format!(
                    "cannot take over from process {from}: it has hung up"
                )));
            }
        }
    }
}

/// Holds the drain while connections may still come.
fn hold(shared: &Shared, from: u32) -> Arc<TaskGuard> {
    let name = format!("taking the connections of process {from}");
    moving::begin_taking();
    Arc::new(TaskGuard::new(&shared.work, Role::Server(None), TaskName::Text(name.into())))
}

/// Takes the place of the process before, as soon as this one serves. A stop before that leaves
/// everything to the old process.
///
/// # Errors
///
/// If the old process refuses: then it goes on, and this one has to end.
pub(super) async fn arrive(
    arriving: Arriving,
    shared: &Arc<Shared>,
    take_door: impl FnOnce() -> io::Result<()>,
) -> Result<(), Failure> {
    let stops = shared.phase.reached(Phase::Stopping);
    let (channels, from, hold) = match arriving {
        Arriving::Live { channel, from } => {
            let channel = channel.into_async().map_err(Failure::from_error)?;
            let let_in = match race(stops, until_let(channel, from, shared)).await {
                First::Left(()) => return Ok(()),
                First::Right(let_in) => let_in?,
            };
            match take_place(let_in, from, shared, take_door).await? {
                Some((channel, hold)) => (vec![channel], from, hold),
                None => return Ok(()),
            }
        }
        Arriving::Stored { channels, from } => {
            if let First::Left(()) = race(stops, shared.until_told_ready()).await {
                return Ok(());
            }
            let channels: io::Result<_> = channels.into_iter().map(Blocking::into_async).collect();
            // If this fails, everything stays where it is.
            let channels = channels.map_err(Failure::from_error)?;
            shared.manager.forget_stored();
            moving::accept();
            take_the_rest(from, shared, take_door);
            (channels, from, hold(shared, from))
        }
    };
    tokio::spawn(take_connections(channels, from, shared.clone(), hold));
    Ok(())
}

/// Takes over what is left of the old process's place: the path of `handover`. Closes the listeners
/// that no server here has claimed.
fn take_the_rest(from: u32, shared: &Shared, take_door: impl FnOnce() -> io::Result<()>) {
    if let Err(error) = take_door() {
        say!(
            shared.log,
            warn,
            { error = error.to_string() },
            "cannot take the place of process {from} at the path of `handover`: {error}"
        );
    }
    moving::close_unclaimed();
}

/// Takes the place of the process at the other end of `let_in`, which `until_let` has returned.
/// Returns the channel by which its connections come; `None`: there are none to come.
///
/// # Errors
///
/// If the old process refuses in the last moment.
///
/// # Cancel safety
///
/// Not cancel safe: once it has heard that this one begins, the old process may let go of its
/// listeners. They are this process's then, and a stop has to empty their queues.
async fn take_place(
    let_in: Option<Channel>,
    from: u32,
    shared: &Shared,
    take_door: impl FnOnce() -> io::Result<()>,
) -> Result<Option<(Channel, Arc<TaskGuard>)>, Failure> {
    let Some(mut channel) = let_in else {
        say!(
            shared.log,
            warn,
            { process = from },
            "process {from} ended before it handed over its connections"
        );
        moving::accept();
        take_the_rest(from, shared, take_door);
        return Ok(None);
    };
    let hold = hold(shared, from);
    let asked = moving::ask();
    // The old process may receive a stop signal just now. It lets go only when it sends `Go`.
    let heard = say_and_hear(&mut channel, Message::Begun, from, is_go);
    let answer = match race(heard, a_while_after_a_stop(shared)).await {
        First::Left(answer) => answer,
        First::Right(()) => {
            // It hangs. After this it can send nothing more; what it sent before still counts.
            channel.hang_up();
            match hear(&mut channel, from, is_go).await {
                // If it had died, this write would fail.
                Ok(None) if channel.tell(Message::Begun).await.is_ok() => {
                    Err(refused(from, "it has not answered"))
                }
                answer => answer,
            }
        }
    };
    let goes = match answer {
        Ok(answer) => answer.is_some(),
        Err(refused) => {
            moving::end_taking();
            return Err(refused);
        }
    };
    // Also if it has ended.
    moving::accept();
    drop(asked);
    take_the_rest(from, shared, take_door);
    if !goes {
        moving::end_taking();
    }
    Ok(goes.then_some((channel, hold)))
}

/// Resolves `ANSWER` after this process has begun to stop, or earlier if `timeout` is short: the
/// limit would cut the accept loops that wait for the answer.
async fn a_while_after_a_stop(shared: &Shared) {
    shared.phase.reached(Phase::Stopping).await;
    let limit = shared.limits.timeout.map_or(ANSWER, |limit| ANSWER.min(limit / 2));
    tokio::time::sleep(limit).await;
}

fn is_begin(message: &Message) -> bool {
    matches!(message, Message::Begin)
}

fn is_go(message: &Message) -> bool {
    matches!(message, Message::Go)
}

/// Waits until this process serves and the old one says that it may begin; `None`: it has ended.
/// Nothing is accepted before that. If this is dropped, as by a stop, the old process goes on.
///
/// # Errors
///
/// If the old process refuses: then it goes on, and this one has to end.
async fn until_let(
    mut channel: Channel,
    from: u32,
    shared: &Shared,
) -> Result<Option<Channel>, Failure> {
    // What comes before this process serves is a refusal, or the end of the other one.
    let mut ready = pin!(shared.until_told_ready());
    if let First::Right(ended) = race(ready.as_mut(), hear(&mut channel, from, |_| false)).await {
        ended?;
        // This one takes its place when it is ready.
        ready.await;
        return Ok(None);
    }
    let ready = Message::Ready { wanted: moving::takers(), room: room() };
    let answer = say_and_hear(&mut channel, ready, from, is_begin).await?;
    Ok(answer.map(|_| channel))
}

/// Tells the old process something, and waits for its answer; `None`: it has ended.
///
/// # Errors
///
/// As `hear`.
async fn say_and_hear(
    channel: &mut Channel,
    said: Message,
    from: u32,
    is_answer: fn(&Message) -> bool,
) -> Result<Option<Message>, Failure> {
    // If the write fails, a refusal may still be in the receive buffer. Treating the error as the
    // end of the old process would make both accept.
    let _ = channel.tell(said).await;
    hear(channel, from, is_answer).await
}

/// Waits for a message of the old process. Returns `None` at the end of the socket, which is the
/// end of that process: it never closes the socket without a refusal.
///
/// # Errors
///
/// If it refuses, or what it sends cannot be read: it may still be running.
///
/// # Cancel safety
///
/// Cancel safe: what has been received is kept.
async fn hear(
    channel: &mut Channel,
    from: u32,
    is_it: fn(&Message) -> bool,
) -> Result<Option<Message>, Failure> {
    loop {
        match channel.receive().await {
            Ok(Some(Message::Refused { why })) => return Err(refused(from, &why)),
            Ok(Some(message)) if !is_it(&message) => {}
            Ok(heard) => return Ok(heard),
            // It closed the socket with unread data.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) if is_passing(&error) => tokio::time::sleep(AGAIN).await,
            Err(error) => return Err(failure(error)),
        }
    }
}

/// Whether the error is a temporary lack of kernel memory, or an interruption (recvmsg(2)).
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|it| [Errno::NOMEM, Errno::NOBUFS, Errno::INTR].contains(&it))
}

fn refused(from: u32, why: &str) -> Failure {
    Failure::new(format!("process {from} goes on by itself: {why}"))
}

/// Takes connections until the old process says that there are no more, or this one stops: then
/// the others end there. If this one hands over as well, they go on to the next.
async fn take_connections(
    channels: Vec<Channel>,
    from: u32,
    shared: Arc<Shared>,
    hold: Arc<TaskGuard>,
) {
    let mut stops = pin!(async {
        shared.phase.reached(Phase::Stopping).await;
        if moving::is_giving() {
            std::future::pending::<()>().await;
        }
    });
    let mut has_hung_up = false;
    let started = Instant::now();
    let (mut taken, mut dropped) = (0_usize, 0_usize);
    let mut ended = Err("it ended before it said so".to_owned());
    for mut channel in channels {
        // Of several, which the service manager has kept, only the last one has an end in it.
        loop {
            if channel.is_lacking() && !has_hung_up {
                // The others stay where they are.
                channel.hang_up();
                has_hung_up = true;
                say!(
                    shared.log,
                    warn,
                    { process = from },
                    "out of descriptors: no more connections of process {from} are taken"
                );
            }
            let received = if has_hung_up {
                channel.receive().await
            } else {
                match race(stops.as_mut(), channel.receive()).await {
                    First::Right(received) => received,
                    First::Left(()) => {
                        channel.hang_up();
                        has_hung_up = true;
                        continue;
                    }
                }
            };
            match received {
                Ok(Some(Message::Connection { details, socket })) => {
                    // The listeners belong to the accept loops; one that has ended takes no more.
                    let delivered = moving::deliver(Moved { socket, details }, &hold);
                    *(if delivered { &mut taken } else { &mut dropped }) += 1;
                    continue;
                }
                Ok(Some(Message::Done)) => ended = Ok(()),
                Ok(Some(_)) => continue,
                Ok(None) if has_hung_up => ended = Ok(()),
                Ok(None) => {}
                Err(error) if is_passing(&error) => {
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                Err(error) => ended = Err(error.to_string()),
            }
            break;
        }
    }
    moving::end_taking();
    drop(hold);
    let elapsed = started.elapsed();
    let in_time = HumanDuration(elapsed);
    match ended {
        Ok(()) => say!(
            shared.log, info,
            { process = from, connections = taken, elapsed_ms = millis(elapsed) },
            "took over {} from process {from} in {in_time}", connections(taken)
        ),
        Err(why) => say!(
            shared.log, warn,
            { process = from, connections = taken, elapsed_ms = millis(elapsed), error = why.clone() },
            "took over {} from process {from}, and no more: {why}", connections(taken)
        ),
    }
    if dropped > 0 {
        say!(
            shared.log, warn, { process = from, connections = dropped },
            "closed {} of process {from}: no server here takes them", connections(dropped)
        );
    }
}

fn connections(count: usize) -> String {
    if count == 1 { "1 connection".to_owned() } else { format!("{count} connections") }
}

/// How many connections this process has descriptors for.
fn room() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |open| open.count() as u64);
    limit.map_or(u64::MAX, |limit| limit.saturating_sub(open + RESERVE))
}

#[cfg(all(test, not(graceful_loom)))]
mod tests {
    use super::*;
    use crate::{context::Handle, stop::Limits};

    /// A process that has refused and gone did not die: nobody takes its place, whatever there was
    /// to say to it.
    #[tokio::test]
    async fn a_refusal_is_heard_after_its_end() {
        for says in [false, true] {
            let (here, there) = tokio::net::UnixStream::pair().unwrap();
            let (here, there) = (Channel::new(here), Channel::new(there));
            if says {
                // It goes away without reading this, which is an error at this end.
                here.tell(Message::hello()).await.unwrap();
            }
            there.refuse("it stops");
            drop(there);
            assert!(here.tell(Message::Begun).await.is_err());
            let handle = Handle::for_test(Limits::NONE);
            handle.shared().tell_ready("");
            let refused = until_let(here, 7, handle.shared()).await.err().expect("a refusal");
            assert_eq!(refused.to_string(), "process 7 goes on by itself: it stops");
        }
    }

    #[test]
    fn a_process_that_goes_before_it_is_asked_is_heard() {
        let (here, there) = UnixStream::pair().unwrap();
        drop(there);
        assert!(ask(here).unwrap().is_none());

        let (here, there) = UnixStream::pair().unwrap();
        let there = Blocking::new(there, PATIENCE).unwrap();
        there.send(Message::Refused { why: "it stops".to_owned() }).unwrap();
        drop(there);
        let refused = ask(here).err().expect("a refusal").to_string();
        let this = std::process::id();
        assert_eq!(refused, format!("cannot take over from process {this}: it stops"));
    }

    /// One that says what nobody understands is there: it may go on.
    #[tokio::test]
    async fn only_an_end_is_an_end() {
        use std::io::Write;

        let (here, mut there) = UnixStream::pair().unwrap();
        there.write_all(&[0xff; 64]).unwrap();
        let here = Blocking::new(here, PATIENCE).unwrap().into_async().unwrap();
        let handle = Handle::for_test(Limits::NONE);
        handle.shared().tell_ready("");
        let failure = until_let(here, 7, handle.shared()).await.err().expect("a failure");
        assert!(failure.to_string().contains("cannot take over"), "{failure}");
    }

    #[tokio::test]
    async fn a_process_that_says_nothing_and_goes_has_died() {
        let (here, there) = tokio::net::UnixStream::pair().unwrap();
        drop(there);
        let handle = Handle::for_test(Limits::NONE);
        handle.shared().tell_ready("");
        assert!(until_let(Channel::new(here), 7, handle.shared()).await.unwrap().is_none());
    }
}
