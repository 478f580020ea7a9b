//! How long each step of a stop may take: as written down, and as it holds once the process starts.

use std::{ffi::OsString, time::Duration};

use crate::{duration, failure::Failure};

/// A limit that may be missing: [`Config::timeout`](crate::Config::timeout),
/// [`Config::cleanup`](crate::Config::cleanup).
///
/// Made from a [`Duration`], an `Option<Duration>` (`None`: no limit), or [`env()`].
#[derive(Clone, Debug)]
pub struct Limit(Source);

/// A time that is waited: [`Config::delay`](crate::Config::delay),
/// [`Config::linger`](crate::Config::linger).
///
/// Made from a [`Duration`] or [`env()`].
#[derive(Clone, Debug)]
pub struct Wait(Source);

/// A duration from the environment, made by [`env()`].
#[derive(Clone, Debug)]
pub struct Env {
    name: String,
    default: Option<Duration>,
}

#[derive(Clone, Debug)]
enum Source {
    Fixed(Option<Duration>),
    Env(Env),
}

/// A duration that is read from the environment variable `name` when the process starts, in the form
/// that the attribute's strings have: `3s`, `250ms`, `1m30s`, and for limits `none`.
///
/// Where the variable is not set, `default` holds. A value that cannot be read is an error: the
/// process says so and exits with 1 before anything is served.
///
/// ```no_run
/// #[graceful::main(timeout = env("GRACEFUL_TIMEOUT", "3s"))]
/// async fn main() -> impl graceful::Serve {
///     graceful::serve_fn(|shutdown| shutdown)
/// }
/// ```
pub fn env(name: impl Into<String>, default: impl Into<Option<Duration>>) -> Env {
    Env { name: name.into(), default: default.into() }
}

impl From<Duration> for Limit {
    fn from(limit: Duration) -> Self {
        Self(Source::Fixed(Some(limit)))
    }
}

impl From<Option<Duration>> for Limit {
    fn from(limit: Option<Duration>) -> Self {
        Self(Source::Fixed(limit))
    }
}

impl From<Env> for Limit {
    fn from(env: Env) -> Self {
        Self(Source::Env(env))
    }
}

impl From<Duration> for Wait {
    fn from(wait: Duration) -> Self {
        Self(Source::Fixed(Some(wait)))
    }
}

impl From<Env> for Wait {
    fn from(env: Env) -> Self {
        Self(Source::Env(env))
    }
}

/// The limits as they were written down.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) timeout: Limit,
    pub(crate) delay: Wait,
    pub(crate) linger: Wait,
    pub(crate) cleanup: Limit,
}

/// The limits as they hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) timeout: Option<Duration>,
    pub(crate) delay: Duration,
    pub(crate) linger: Duration,
    pub(crate) cleanup: Option<Duration>,
}

impl Written {
    /// Reads the environment.
    pub(crate) fn resolve(&self) -> Result<Limits, Failure> {
        Ok(Limits {
            timeout: self.timeout.0.resolve(true)?,
            delay: self.delay.0.resolve(false)?.unwrap_or_default(),
            linger: self.linger.0.resolve(false)?.unwrap_or_default(),
            cleanup: self.cleanup.0.resolve(true)?,
        })
    }
}

impl Source {
    fn resolve(&self, may_be_none: bool) -> Result<Option<Duration>, Failure> {
        match self {
            Self::Fixed(fixed) => Ok(*fixed),
            Self::Env(Env { name, default }) => match std::env::var_os(name) {
                None => Ok(*default),
                Some(value) => read(name, &value, may_be_none),
            },
        }
    }
}

fn read(name: &str, value: &OsString, may_be_none: bool) -> Result<Option<Duration>, Failure> {
    let text = value.to_string_lossy();
    if may_be_none && text == "none" {
        return Ok(None);
    }
    match duration::parse(&text) {
        Ok(duration) => Ok(Some(duration)),
        Err(message) => {
            let text = text.escape_debug();
            Err(Failure::new(format!("the environment variable {name}=\"{text}\": {message}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_form_of_the_attribute() {
        let value = |text: &str, none| read("X", &text.into(), none).map_err(|it| it.to_string());
        assert_eq!(value("1m30s", true), Ok(Some(Duration::from_secs(90))));
        assert_eq!(value("none", true), Ok(None));
        assert!(value("none", false).unwrap_err().contains("no number before `none`"));
        let error = value("3", true).unwrap_err();
        assert_eq!(
            error,
            "the environment variable X=\"3\": a number without a unit: write `\"3s\"`"
        );
    }
}
