//! The new process: takes the listeners before it binds, says when it serves, and takes the
//! connections from then on.

use std::{
    io,
    os::unix::net::UnixStream,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    channel::{Blocking, Channel},
    message::{Message, VERSION},
    program,
};
use crate::{
    log::{millis, say},
    net::moving::{self, Moved, Offer},
    stop::{Phase, Shared},
    util::{Failure, First, HumanDuration, race},
    work::{Role, TaskGuard, TaskName},
};

/// How long the old process may take for each message before this one serves.
const PATIENCE: Duration = Duration::from_secs(10);

/// Descriptors that are kept for what this process opens itself.
const RESERVE: u64 = 64;

/// This process, which has the sockets of another one and does not serve yet.
pub(crate) enum Arriving {
    /// The old process goes on until this one serves.
    Live { channel: Blocking, from: u32 },
    #[cfg_attr(not(feature = "systemd"), allow(dead_code, reason = "for the store"))]
    /// It has ended, and has left everything with the service manager.
    Stored { channels: Vec<Blocking>, from: u32 },
}

/// Takes the sockets of the process that has started this one, if it offers them.
pub(super) fn of_parent() -> Result<Option<Arriving>, Failure> {
    let Some(path) = program::socket_of_parent() else { return Ok(None) };
    match UnixStream::connect(path) {
        Ok(socket) => ask(socket).map(Some),
        // Left behind by a process that has had the number of this one's parent.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(failure(error)),
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
/// If it is another user's, refuses, or does not answer.
pub(super) fn ask(socket: UnixStream) -> Result<Arriving, Failure> {
    let user = rustix::process::geteuid().as_raw();
    if let Some((process, other)) = peer_of(&socket)
        && other != user
    {
        return Err(Failure::new(format!(
            "cannot take over from process {process}: it is another user's"
        )));
    }
    let mut channel = Blocking::new(socket, PATIENCE).map_err(failure)?;
    let hello = Message::Hello { version: VERSION, process: std::process::id() };
    channel.send(hello).map_err(failure)?;
    let mut from = 0;
    loop {
        match channel.receive().map_err(failure)? {
            Some(Message::Hello { process, .. }) => from = process,
            Some(Message::Listener { listener, written, sharing, socket }) => {
                moving::inherit(Offer { listener, written, sharing, socket });
            }
            Some(Message::Offered) => return Ok(Arriving::Live { channel, from }),
            Some(Message::Refused { why }) => {
                return Err(Failure::new(format!("cannot take over from process {from}: {why}")));
            }
            Some(_) => {}
            None => {
                return Err(Failure::new(format!(
                    "cannot take over from process {from}: it has hung up"
                )));
            }
        }
    }
}

/// Waits until this process serves, and takes the place of the one at the other end. Returns the
/// channel by which its connections come; `None`: there are none to come.
///
/// # Errors
///
/// If the old process refuses: then it goes on, and this one has to end.
pub(super) async fn take_place(
    mut channel: Channel,
    from: u32,
    shared: &Shared,
    take_door: impl FnOnce() -> io::Result<()>,
) -> Result<Option<Channel>, Failure> {
    let mut hangs_up = false;
    {
        // What comes before this process serves is a refusal, or the end of the other one.
        let serving = shared.until_told_ready();
        match race(serving, channel.receive()).await {
            First::Left(()) => {}
            First::Right(Ok(Some(Message::Refused { why }))) => return Err(refused(from, &why)),
            First::Right(_) => hangs_up = true,
        }
    }
    let wanted = moving::takers();
    let ready = Message::Ready { wanted, room: room() };
    if hangs_up || channel.send(&[ready]).await.is_err() {
        return Ok(alone(shared, from));
    }
    // Those of the old process that no server of this one listens on.
    moving::close_unclaimed();
    match channel.receive().await {
        Ok(Some(Message::Begin)) => {}
        Ok(Some(Message::Refused { why })) => return Err(refused(from, &why)),
        _ => return Ok(alone(shared, from)),
    }
    if let Err(error) = take_door() {
        say!(
            shared.log,
            warn,
            { error = error.to_string() },
            "cannot take the place of process {from} at the path of `handover`: {error}"
        );
    }
    match channel.send(&[Message::Begun]).await {
        Ok(()) => Ok(Some(channel)),
        Err(_) => Ok(alone(shared, from)),
    }
}

fn refused(from: u32, why: &str) -> Failure {
    Failure::new(format!("process {from} goes on by itself: {why}"))
}

/// The old process is gone: whatever it had was lost with it, and this one has the listeners.
fn alone(shared: &Shared, from: u32) -> Option<Channel> {
    say!(
        shared.log,
        warn,
        { process = from },
        "process {from} ended before it handed over its connections"
    );
    None
}

/// Takes connections until the old process says that there are no more, or this one stops: then
/// the others end there. If this one hands over as well, they go on to the next.
pub(super) async fn take_connections(channels: Vec<Channel>, from: u32, shared: Arc<Shared>) {
    let name = format!("taking the connections of process {from}");
    let hold = TaskGuard::new(&shared.work, Role::Server(None), TaskName::Text(name.into()));
    let hold = Arc::new(hold);
    moving::begin_taking();
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
                Err(error) => ended = Err(error.to_string()),
            }
            break;
        }
    }
    moving::end_taking();
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
    if dropped > 0 && shared.phase.now() < Phase::Stopping {
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
