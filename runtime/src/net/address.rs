//! An address as it is written: in code, in a variable of the environment, in a file.

use std::path::PathBuf;

/// Where a text says to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// `host:port`, `[::1]:port`: all addresses that the host has.
    Host(String, u16),
    /// `:port`: all addresses of this machine.
    Any(u16),
    /// `unix:/path`.
    Path(PathBuf),
    /// `unix:@name`: in the abstract namespace of Linux (unix(7)).
    Abstract(String),
    /// `fd:3`: a listening socket that the process was started with.
    Fd(i32),
    /// `systemd:name`: one that socket activation has passed under this name (`sd_listen_fds(3)`).
    Systemd(String),
}

const FORMS: &str = "write `127.0.0.1:8080`, `[::]:8080`, `:8080`, `localhost:8080`, \
                     `unix:/run/app.sock`, `unix:@name`, `fd:3` or `systemd:name`";

impl Address {
    /// # Errors
    ///
    /// Say what to write instead.
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
