//! Where to listen, in the forms that people write it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use super::sockets::{StdUnixListener, UnixListener};

/// Where a server listens: an address, or a listener that is already bound.
///
/// Implemented for what [`std::net::ToSocketAddrs`] takes (`"host:port"` as `&str` or `String`,
/// `("host", port)`, `(IpAddr, port)`, `SocketAddr`, `&[SocketAddr]`), and for the listeners of
/// tokio and std, TCP and Unix. Of several addresses the first that can be bound is taken. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an address to listen on",
    label = "neither an address nor a listener",
    note = "write `\"127.0.0.1:8080\"`, `(\"127.0.0.1\", 8080)`, a `SocketAddr`, or hand in a \
            `TcpListener` or `UnixListener` that is already bound"
)]
pub trait Listen: sealed::Sealed {
    #[doc(hidden)]
    fn into_target(self) -> Target;
}

mod sealed {
    pub trait Sealed {}
}

/// What there is to be bound, or has been.
#[doc(hidden)]
#[derive(Debug)]
pub enum Target {
    /// Still to be resolved.
    Name(String),
    Host(String, u16),
    Addrs(Vec<SocketAddr>),
    Tcp(std::net::TcpListener),
    TokioTcp(tokio::net::TcpListener),
    Unix(StdUnixListener),
    TokioUnix(UnixListener),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Addrs(addrs) => match addrs.first() {
                Some(addr) => addr.fmt(f),
                None => f.write_str("no address"),
            },
            Self::Tcp(_) | Self::TokioTcp(_) | Self::Unix(_) | Self::TokioUnix(_) => {
                f.write_str("a listener that was handed in")
            }
        }
    }
}

macro_rules! listen {
    ($($type:ty => |$value:ident| $target:expr;)+) => {$(
        impl sealed::Sealed for $type {}

        impl Listen for $type {
            fn into_target(self) -> Target {
                let $value = self;
                $target
            }
        }
    )+};
}

listen! {
    &str => |name| Target::Name(name.to_owned());
    &String => |name| Target::Name(name.clone());
    String => |name| Target::Name(name);
    (&str, u16) => |at| Target::Host(at.0.to_owned(), at.1);
    (String, u16) => |at| Target::Host(at.0, at.1);
    (IpAddr, u16) => |at| Target::Addrs(vec![at.into()]);
    (Ipv4Addr, u16) => |at| Target::Addrs(vec![at.into()]);
    (Ipv6Addr, u16) => |at| Target::Addrs(vec![at.into()]);
    SocketAddr => |addr| Target::Addrs(vec![addr]);
    &SocketAddr => |addr| Target::Addrs(vec![*addr]);
    SocketAddrV4 => |addr| Target::Addrs(vec![addr.into()]);
    SocketAddrV6 => |addr| Target::Addrs(vec![addr.into()]);
    &[SocketAddr] => |addrs| Target::Addrs(addrs.to_vec());
    Vec<SocketAddr> => |addrs| Target::Addrs(addrs);
    std::net::TcpListener => |listener| Target::Tcp(listener);
    tokio::net::TcpListener => |listener| Target::TokioTcp(listener);
    StdUnixListener => |listener| Target::Unix(listener);
    UnixListener => |listener| Target::TokioUnix(listener);
}

impl<const N: usize> sealed::Sealed for [SocketAddr; N] {}

impl<const N: usize> Listen for [SocketAddr; N] {
    fn into_target(self) -> Target {
        Target::Addrs(self.to_vec())
    }
}
