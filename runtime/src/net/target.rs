//! Where to listen, in every form that it can be written in.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    path::{Path, PathBuf},
};

use super::system::{StdUnixListener, UnixListener};

/// Where a server listens: an address, a listener that is already bound, or several of them.
///
/// | written | is |
/// |---|---|
/// | `"127.0.0.1:8080"`, `"[::1]:8080"` | one address |
/// | `"[::]:8080"` | all addresses of this machine, including IPv4 unless [`only_v6`](crate::Server::only_v6) is set |
/// | `":8080"` | the same; all IPv4 addresses if the machine has no IPv6 |
/// | `"localhost:8080"` | all addresses that the name resolves to and this machine has |
/// | `"unix:/run/app.sock"` | a Unix socket; a stale file is replaced if no process listens on it, and the file is removed at the end |
/// | `"unix:@name"` | a Unix socket in the abstract namespace (Linux, unix(7)) |
/// | `"fd:3"` | a listening socket that the process inherited (Linux; feature `systemd`) |
/// | `"systemd:name"` | the sockets that socket activation passed under this `FileDescriptorName=` (systemd.socket(5); feature `systemd`) |
///
/// With the feature `systemd`, a socket that socket activation passed and that is bound to the
/// address is used instead of a new one.
///
/// These can be a `&str` or `String`, from code or from the environment:
/// `serve(env::var("LISTEN")?, app)`. `("host", port)`, `(IpAddr, port)` and `SocketAddr` are
/// addresses as well; `Path` and `PathBuf` are Unix sockets; listeners are those of tokio and std,
/// TCP and Unix. Pass several as an array, a slice or a `Vec`: all of them are bound, or none. This
/// trait is sealed.
///
/// # Examples
///
/// ```no_run
/// # let app = axum::Router::new();
/// let server = graceful::serve(["0.0.0.0:8080", "unix:/run/app.sock"], app);
/// ```
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

/// Something to bind, or a listener that is already bound.
#[doc(hidden)]
#[derive(Debug)]
pub enum Target {
    /// Not yet parsed.
    Text(String),
    Host(String, u16),
    Addr(SocketAddr),
    Path(PathBuf),
    Tcp(std::net::TcpListener),
    TokioTcp(tokio::net::TcpListener),
    Unix(StdUnixListener),
    TokioUnix(UnixListener),
    Several(Vec<Target>),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Addr(addr) => addr.fmt(f),
            Self::Path(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(_) | Self::TokioTcp(_) | Self::Unix(_) | Self::TokioUnix(_) => {
                f.write_str("a listener that was handed in")
            }
            Self::Several(targets) => {
                let mut between = "";
                for target in targets {
                    write!(f, "{between}{target}")?;
                    between = ", ";
                }
                Ok(())
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
    &str => |text| Target::Text(text.to_owned());
    &String => |text| Target::Text(text.clone());
    String => |text| Target::Text(text);
    (&str, u16) => |at| Target::Host(at.0.to_owned(), at.1);
    (String, u16) => |at| Target::Host(at.0, at.1);
    (IpAddr, u16) => |at| Target::Addr(at.into());
    (Ipv4Addr, u16) => |at| Target::Addr(at.into());
    (Ipv6Addr, u16) => |at| Target::Addr(at.into());
    PathBuf => |path| Target::Path(path);
    &PathBuf => |path| Target::Path(path.clone());
    &Path => |path| Target::Path(path.to_owned());
    SocketAddr => |addr| Target::Addr(addr);
    &SocketAddr => |addr| Target::Addr(*addr);
    SocketAddrV4 => |addr| Target::Addr(addr.into());
    SocketAddrV6 => |addr| Target::Addr(addr.into());
    std::net::TcpListener => |listener| Target::Tcp(listener);
    tokio::net::TcpListener => |listener| Target::TokioTcp(listener);
}

#[cfg(unix)]
listen! {
    StdUnixListener => |listener| Target::Unix(listener);
    UnixListener => |listener| Target::TokioUnix(listener);
}

fn several<T: Listen>(targets: impl IntoIterator<Item = T>) -> Target {
    Target::Several(targets.into_iter().map(Listen::into_target).collect())
}

impl<T: Listen, const N: usize> sealed::Sealed for [T; N] {}

impl<T: Listen, const N: usize> Listen for [T; N] {
    fn into_target(self) -> Target {
        several(self)
    }
}

impl<T: Listen> sealed::Sealed for Vec<T> {}

impl<T: Listen> Listen for Vec<T> {
    fn into_target(self) -> Target {
        several(self)
    }
}

impl<T> sealed::Sealed for &[T] where for<'a> &'a T: Listen {}

impl<T> Listen for &[T]
where
    for<'a> &'a T: Listen,
{
    fn into_target(self) -> Target {
        several(self)
    }
}

// An address as text: in code, in an environment variable, in a file.

/// A parsed address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// `host:port`, `[::1]:port`: all addresses of the host.
    Host(String, u16),
    /// `:port`: all addresses of this machine.
    Any(u16),
    /// `unix:/path`.
    Path(PathBuf),
    /// `unix:@name`: in the abstract namespace of Linux (unix(7)).
    Abstract(String),
    /// `fd:3`: a listening socket that the process inherited.
    Fd(i32),
    /// `systemd:name`: the sockets that socket activation passed under this name
    /// (`sd_listen_fds(3)`).
    Systemd(String),
}

const FORMS: &str = "write `127.0.0.1:8080`, `[::]:8080`, `:8080`, `localhost:8080`, \
                     `unix:/run/app.sock`, `unix:@name`, `fd:3` or `systemd:name`";

impl Address {
    /// # Errors
    ///
    /// The error says what to write instead.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("{what}: {FORMS}"));
        if text.is_empty() {
            return wrong("an empty address");
        }
        if text.trim() != text {
            return wrong("white space around the address");
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let meant = rest.trim_end_matches('/');
            return Err(format!("an address has no `{scheme}://`: write `{meant}`"));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.strip_prefix('@') {
                Some("") => wrong("an abstract name is missing behind `unix:@`"),
                Some(name) => Ok(Self::Abstract(name.to_owned())),
                None if path.is_empty() => wrong("a path is missing behind `unix:`"),
                None => Ok(Self::Path(path.into())),
            };
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            return match name {
                "" => wrong("a name is missing behind `systemd:`"),
                name => Ok(Self::Systemd(name.to_owned())),
            };
        }
        if let Some(number) = text.strip_prefix("fd:") {
            return match number.parse() {
                Ok(number) if number > 2 => Ok(Self::Fd(number)),
                Ok(0..=2) => wrong("descriptors 0 to 2 are the standard streams"),
                Ok(_) | Err(_) => wrong("`fd:` takes the number of a descriptor"),
            };
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return match text.parse::<u16>() {
                Ok(port) => Err(format!("a port alone: write `:{port}` or `127.0.0.1:{port}`")),
                Err(_) if text.starts_with(['/', '.']) => {
                    Err(format!("a path: write `unix:{text}` for a Unix socket"))
                }
                Err(_) => Err(format!("the port is missing: write `{text}:8080`")),
            };
        };
        let Ok(port) = port.parse() else {
            return wrong(&format!("`{port}` is not a port (0 to 65535)"));
        };
        if host.is_empty() || host == "*" {
            return Ok(Self::Any(port));
        }
        let host = match host.strip_prefix('[') {
            Some(rest) => match rest.strip_suffix(']') {
                Some(host) => host,
                None => return wrong("a `]` is missing"),
            },
            None if host.contains(':') => {
                return Err(format!("an IPv6 address has brackets: write `[{host}]:{port}`"));
            }
            None => host,
        };
        Ok(Self::Host(host.to_owned(), port))
    }
}

/// Reads an address that the fuzzer makes up: what the message says to write instead is one.
#[cfg(fuzzing)]
#[allow(unreachable_pub, reason = "for the fuzz target")]
pub fn read_address(text: &str) {
    let Err(message) = Address::parse(text) else { return };
    // The forms are written out, and so is one better text; a made-up one may have backticks.
    if let Some((_, better)) = message.rsplit_once("brackets: write `")
        && let Some(better) = better.strip_suffix('`')
        && !text.contains(['[', ']', '`'])
    {
        assert!(Address::parse(better).is_ok(), "{text:?}: {message}");
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn reads_what_is_documented() {
        let host = |host: &str, port| Address::Host(host.to_owned(), port);
        for (text, address) in [
            ("127.0.0.1:8080", host("127.0.0.1", 8080)),
            ("[::]:8080", host("::", 8080)),
            ("localhost:0", host("localhost", 0)),
            (":8080", Address::Any(8080)),
            ("*:8080", Address::Any(8080)),
            ("unix:/run/app.sock", Address::Path("/run/app.sock".into())),
            ("unix:@app", Address::Abstract("app".to_owned())),
            ("fd:3", Address::Fd(3)),
            ("systemd:web", Address::Systemd("web".to_owned())),
        ] {
            assert_eq!(Address::parse(text), Ok(address), "{text}");
        }
    }

    #[test]
    fn says_what_to_write_instead() {
        for (text, hint) in [
            ("", "an empty address"),
            ("8080", "write `:8080`"),
            ("localhost", "write `localhost:8080`"),
            ("::1:8080", "write `[::1]:8080`"),
            ("[::1:8080", "a `]` is missing"),
            ("/run/app.sock", "write `unix:/run/app.sock`"),
            ("http://127.0.0.1:8080/", "write `127.0.0.1:8080`"),
            ("127.0.0.1:http", "`http` is not a port"),
            ("127.0.0.1:65536", "`65536` is not a port"),
            ("unix:", "a path is missing"),
            ("fd:1", "standard streams"),
            ("fd:x", "the number of a descriptor"),
            ("systemd:", "a name is missing"),
            (" :80", "white space"),
        ] {
            let message = Address::parse(text).unwrap_err();
            assert!(message.contains(hint), "{text}: {message}");
        }
    }
}
