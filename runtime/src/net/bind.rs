//! Turns a `Target` into listening sockets.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;

use super::{
    inherited,
    moving::{self, Offer},
    sockets::{SocketOptions, SocketSharing},
    system::{self, StdUnixListener, UnixListener},
    target::Address,
    target::Target,
};
use crate::util::{Failure, LocalAddr};

#[derive(Debug)]
pub(super) enum ListenerSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A listening socket, and who else may hold it.
pub(super) struct BoundSocket {
    pub(super) socket: ListenerSocket,
    pub(super) sharing: SocketSharing,
    /// How the program has written its address; empty if it has not.
    pub(super) written: String,
    /// Whether the process before had it.
    pub(super) is_inherited: bool,
}

impl BoundSocket {
    /// A socket that this process does not have from the one before.
    fn new(socket: ListenerSocket, sharing: SocketSharing) -> Self {
        Self { socket, sharing, written: String::new(), is_inherited: false }
    }
}

/// Binds every address of `target`, or adopts its listeners, and adds the sockets to `all`.
///
/// # Errors
///
/// The error names the address and what can be done about it. The caller then has to drop the
/// sockets in `all`.
pub(super) async fn bind(
    target: Target,
    options: &SocketOptions,
    all: &mut Vec<BoundSocket>,
) -> Result<(), Failure> {
    let mut rest = vec![target];
    while let Some(target) = rest.pop() {
        match target {
            Target::Several(targets) => rest.extend(targets.into_iter().rev()),
            target => {
                let written = written(&target);
                let mut bound =
                    take_over(&written, options).map_err(|error| explain(&written, None, error))?;
                if bound.is_empty() {
                    bound = bind_one(target, options).await?;
                }
                for it in &mut bound {
                    it.written.clone_from(&written);
                }
                all.extend(bound);
            }
        }
    }
    if all.is_empty() {
        return Err(Failure::new("no address to listen on: the list is empty"));
    }
    Ok(())
}

/// The address as the program has written it, by which the next version of the program asks for the
/// same; empty for a listener that was handed in.
fn written(target: &Target) -> String {
    match target {
        Target::Text(_) | Target::Host(..) | Target::Addr(_) | Target::Path(_) => {
            target.to_string()
        }
        Target::Tcp(_)
        | Target::TokioTcp(_)
        | Target::Unix(_)
        | Target::TokioUnix(_)
        | Target::Several(_) => String::new(),
    }
}

/// Takes over the listeners that the process before had for this address.
fn take_over(written: &str, options: &SocketOptions) -> io::Result<Vec<BoundSocket>> {
    if written.is_empty() {
        return Ok(Vec::new());
    }
    moving::inherited_as(written).into_iter().map(|offer| taken_over(offer, options)).collect()
}

fn taken_over(offer: Offer, options: &SocketOptions) -> io::Result<BoundSocket> {
    let Offer { sharing, written, socket, .. } = offer;
    let socket = Socket::from(socket);
    // This version may want others than the one before.
    if sharing == SocketSharing::Exclusive {
        if socket.local_addr()?.is_ipv4() || socket.local_addr()?.is_ipv6() {
            set_stream_options(&SockRef::from(&socket), options)?;
        }
        socket.listen(options.backlog)?;
    }
    Ok(BoundSocket { socket: adopt(socket)?, sharing, written, is_inherited: true })
}

async fn bind_one(target: Target, options: &SocketOptions) -> Result<Vec<BoundSocket>, Failure> {
    let name = target.to_string();
    let failure =
        |error: io::Error| Failure::from_error(error).context(&format!("cannot listen on {name}"));
    let handed_in = |socket: io::Result<ListenerSocket>| {
        let socket = socket.map_err(failure)?;
        Ok(vec![BoundSocket::new(socket, SocketSharing::Unknown)])
    };
    match target {
        Target::Text(text) => match Address::parse(&text) {
            Ok(address) => bind_address(address, &text, options).await,
            Err(wrong) => {
                Err(Failure::new(format!("cannot listen on `{}`: {wrong}", text.escape_debug())))
            }
        },
        Target::Path(path) => bind_address(Address::Path(path), &name, options).await,
        Target::Host(host, port) => bind_host(&host, port, options).await,
        Target::Addr(addr) => {
            let socket = bind_or_take(addr, options);
            let socket = socket.map_err(|error| explain(&name, Some(addr), error))?;
            Ok(vec![socket])
        }
        Target::Tcp(std) => handed_in(adopt_tcp(std)),
        Target::TokioTcp(tokio) => handed_in(Ok(ListenerSocket::Tcp(tokio))),
        Target::Unix(std) => handed_in(adopt_unix(std)),
        Target::TokioUnix(tokio) => handed_in(Ok(ListenerSocket::Unix(tokio))),
        // `bind` flattens these.
        Target::Several(_) => Ok(Vec::new()),
    }
}

async fn bind_address(
    address: Address,
    text: &str,
    options: &SocketOptions,
) -> Result<Vec<BoundSocket>, Failure> {
    let failure = |error: io::Error| explain(text, None, error);
    let unix =
        |key: String, passed: Option<Socket>, bind: &dyn Fn() -> io::Result<StdUnixListener>| {
            let socket = match (moving::inherited_by(&key), passed) {
                (Some(offer), _) => taken_over(offer, options),
                (None, Some(socket)) => of_systemd(socket),
                (None, None) => bind().and_then(adopt_unix).map(own),
            };
            socket.map(|socket| vec![socket]).map_err(failure)
        };
    match address {
        Address::Host(host, port) => bind_host(&host, port, options).await,
        Address::Any(port) => {
            let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let explain = |addr| move |error| explain(text, Some(addr), error);
            let before = [v6, v4].map(|addr| moving::inherited_at(&LocalAddr::Tcp(addr)));
            let before: Vec<_> = before.into_iter().flatten().collect();
            if !before.is_empty() {
                let all = before.into_iter().map(|offer| taken_over(offer, options));
                return all.collect::<io::Result<_>>().map_err(failure);
            }
            // One dual-stack socket, or one per family.
            let passed: Vec<_> = [v6, v4].into_iter().filter_map(inherited::by_address).collect();
            if !passed.is_empty() {
                let all = passed.into_iter().map(of_systemd).collect::<io::Result<_>>();
                return all.map_err(failure);
            }
            let socket = match bind_new(v6, options) {
                // A machine without IPv6 (socket(2), ip(7)).
                Err(error) if system::is_unavailable(&error) => {
                    bind_new(v4, options).map_err(explain(v4))?
                }
                result => result.map_err(explain(v6))?,
            };
            Ok(vec![socket])
        }
        Address::Path(path) => {
            let key = moving::key(&LocalAddr::Unix(Some(path.clone())));
            unix(key, inherited::by_path(&path), &|| system::bind_path(&path, options))
        }
        Address::Abstract(name) => {
            let key = format!("unix:@{name}");
            unix(key, inherited::by_abstract(&name), &|| system::bind_abstract(&name, options))
        }
        Address::Fd(number) => {
            let socket = inherited::by_number(number).map_err(failure)?;
            let socket = adopt(socket).map_err(failure)?;
            Ok(vec![BoundSocket::new(socket, SocketSharing::Unknown)])
        }
        Address::Systemd(name) => {
            let passed = inherited::by_name(&name).map_err(failure)?;
            passed.into_iter().map(of_systemd).collect::<io::Result<_>>().map_err(failure)
        }
    }
}

/// Binds all addresses of a host. An address that this machine does not have, such as `::1` without
/// IPv6, is skipped as long as another one can be bound.
async fn bind_host(
    host: &str,
    port: u16,
    options: &SocketOptions,
) -> Result<Vec<BoundSocket>, Failure> {
    let name =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let failure = |error| explain(&name, None, error);
    let addrs = tokio::net::lookup_host((host, port)).await.map_err(failure)?;
    let mut bound: Vec<BoundSocket> = Vec::new();
    let mut missing = None;
    let mut seen = Vec::new();
    for mut addr in addrs {
        if seen.contains(&addr) {
            continue;
        }
        seen.push(addr);
        if let (0, Some(ListenerSocket::Tcp(first))) = (port, bound.first().map(|it| &it.socket)) {
            // Port 0 picks a free port; use the same one for all addresses.
            addr.set_port(first.local_addr().map_err(failure)?.port());
        }
        match bind_or_take(addr, options) {
            Ok(socket) => bound.push(socket),
            Err(error) if system::is_unavailable(&error) => missing = Some((addr, error)),
            Err(error) => return Err(explain(&name, Some(addr), error)),
        }
    }
    match (bound.is_empty(), missing) {
        (true, Some((addr, error))) => Err(explain(&name, Some(addr), error)),
        (true, None) => Err(failure(io::Error::new(io::ErrorKind::NotFound, "it has no address"))),
        (false, _) => Ok(bound),
    }
}

/// Takes the inherited socket bound to `addr`, or binds a new one.
fn bind_or_take(addr: SocketAddr, options: &SocketOptions) -> io::Result<BoundSocket> {
    if let Some(offer) = moving::inherited_at(&LocalAddr::Tcp(addr)) {
        return taken_over(offer, options);
    }
    inherited::by_address(addr).map_or_else(|| bind_new(addr, options), of_systemd)
}

fn bind_new(addr: SocketAddr, options: &SocketOptions) -> io::Result<BoundSocket> {
    let socket = match socket_at(addr, options) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && moving::make_way(addr.port()) => {
            socket_at(addr, options)
        }
        result => result,
    };
    socket.map(|socket| own(ListenerSocket::Tcp(socket)))
}

fn own(socket: ListenerSocket) -> BoundSocket {
    BoundSocket::new(socket, SocketSharing::Exclusive)
}

/// Adopts a socket that was passed in; the process that passed it holds it as well.
fn of_systemd(socket: Socket) -> io::Result<BoundSocket> {
    adopt(socket).map(|socket| BoundSocket::new(socket, SocketSharing::Shared))
}

fn socket_at(addr: SocketAddr, options: &SocketOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    system::set_reuse_address(&socket)?;
    if options.reuse_port {
        system::set_reuse_port(&socket)?;
    }
    if addr.is_ipv6() {
        // Overrides the system's default (`net.ipv6.bindv6only`, ipv6(7)).
        socket.set_only_v6(options.only_v6)?;
    }
    socket.set_nonblocking(true)?;
    set_stream_options(&SockRef::from(&socket), options)?;
    socket.bind(&addr.into())?;
    socket.listen(options.backlog)?;
    TcpListener::from_std(socket.into())
}

/// Sets the options of a listener or a stream. On Linux, accepted sockets inherit them from their
/// listener (tcp(7)), so setting them once is enough.
pub(super) fn set_stream_options(socket: &SockRef<'_>, options: &SocketOptions) -> io::Result<()> {
    if options.nodelay {
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(idle) = options.keepalive {
        let keepalive = TcpKeepalive::new().with_time(idle).with_interval(idle);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}

fn adopt(socket: Socket) -> io::Result<ListenerSocket> {
    // `SO_DOMAIN` is not available everywhere.
    match socket.local_addr()?.domain() {
        Domain::IPV4 | Domain::IPV6 => adopt_tcp(socket.into()),
        _ => system::adopt_unix(socket).map(ListenerSocket::Unix),
    }
}

fn adopt_tcp(listener: std::net::TcpListener) -> io::Result<ListenerSocket> {
    // Inherited sockets are often in blocking mode.
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener).map(ListenerSocket::Tcp)
}

fn adopt_unix(listener: StdUnixListener) -> io::Result<ListenerSocket> {
    system::listen(listener).map(ListenerSocket::Unix)
}

// Error messages: why an address cannot be bound, and what to do about it.

/// Builds an error that names the address, the cause and what to do.
pub(super) fn explain(written: &str, addr: Option<SocketAddr>, error: io::Error) -> Failure {
    let advice = advice(addr, &error);
    let name = match addr {
        Some(addr) if addr.to_string() != written => format!("{written} ({addr})"),
        _ => written.to_owned(),
    };
    let failure = Failure::from_error(error).context(&format!("cannot listen on {name}"));
    match advice {
        Some(advice) => failure.hint(&advice),
        None => failure,
    }
}

fn advice(addr: Option<SocketAddr>, error: &io::Error) -> Option<String> {
    match (error.kind(), addr) {
        (io::ErrorKind::AddrInUse, Some(addr)) => Some(match system::listens_at(addr.port()) {
            Some(process) => format!("{process} listens there: stop it, or take another port"),
            None => "another process listens there: stop it, or take another port".to_owned(),
        }),
        (io::ErrorKind::AddrInUse, None) => {
            Some("another process listens there: stop it, or take another path".to_owned())
        }
        (io::ErrorKind::PermissionDenied, Some(addr)) if addr.port() < 1024 => Some(format!(
            "ports below 1024 are privileged: take one above, give the program \
                 CAP_NET_BIND_SERVICE, or have systemd pass the socket (`systemd:{}`)",
            if addr.port() == 443 { "https" } else { "http" }
        )),
        _ if addr.is_some_and(|addr| addr.is_ipv6() && addr.ip().is_unspecified())
            && system::is_unavailable(error) =>
        {
            let port = addr.map_or(0, |addr| addr.port());
            Some(format!(
                "this machine has no IPv6: write `0.0.0.0:{port}`, or `:{port}` for whichever it has"
            ))
        }
        (io::ErrorKind::AddrNotAvailable, Some(_)) => {
            Some("this machine does not have that address: `ip addr` lists those it has".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_ipv6_is_told_what_to_write() {
        let no_family = || io::Error::from(nix::errno::Errno::EAFNOSUPPORT);
        let any: SocketAddr = "[::]:8080".parse().unwrap();
        let failure = explain("[::]:8080", Some(any), no_family()).to_string();
        assert!(failure.contains("write `0.0.0.0:8080`, or `:8080`"), "{failure}");
        let none = explain("[::1]:8080", Some("[::1]:8080".parse().unwrap()), no_family());
        assert!(!none.to_string().contains("0.0.0.0"), "{none}");
    }
}
