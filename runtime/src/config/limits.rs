//! The configured limit of each step of a stop: given in code, or read from an environment variable
//! when the process starts.

use std::{ffi::OsString, time::Duration};

use super::grace::Grace;
use crate::{
    stop::{Limits, bounded},
    util::{Failure, HumanDuration, duration},
};

/// An optional limit, for [`Config::timeout`](crate::Config::timeout) and
/// [`Config::cleanup`](crate::Config::cleanup): a [`Duration`], an `Option<Duration>` (`None` means
/// no limit), or [`env()`]. This trait is sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a limit",
    label = "not a duration",
    note = "write a string with a unit in the attribute, such as `\"3s\"` or `\"none\"`, or a value of type \
            `Duration`, `Option<Duration>` or `graceful::env(…)`"
)]
pub trait IntoLimit: sealed::Limit {}

/// A time to wait, for [`Config::delay`](crate::Config::delay),
/// [`Config::linger`](crate::Config::linger), [`Config::spread`](crate::Config::spread) and
/// [`Config::scrape`](crate::Config::scrape): a [`Duration`] or [`env()`]. This trait is sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a duration",
    label = "not a duration",
    note = "write a string with a unit in the attribute, such as `\"3s\"`, or a value of type `Duration` or \
            `graceful::env(…)`"
)]
pub trait IntoWait: sealed::Limit {}

mod sealed {
    use super::Source;

    pub trait Limit {
        fn into_source(self) -> Source;
    }
}

/// A duration from an environment variable, returned by [`env()`].
#[derive(Clone, Debug)]
pub struct Env {
    name: String,
    default: Option<Duration>,
}

/// The source of a duration.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub enum Source {
    Fixed(Option<Duration>),
    Env(Env),
    /// What fits where the process runs.
    Auto,
}

/// Returns a duration that is read from the environment variable `name` when the process starts.
/// The variable has the same form as the strings of the attribute: `3s`, `250ms`, `1m30s`, `none`
/// for limits, and `auto` for [`Config::timeout`](crate::Config::timeout).
///
/// If the variable is not set, `default` applies. A value that cannot be parsed is an error: the
/// process reports it and exits with 1 before it serves anything.
///
/// # Examples
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

impl sealed::Limit for Duration {
    fn into_source(self) -> Source {
        Source::Fixed(Some(self))
    }
}

impl sealed::Limit for Option<Duration> {
    fn into_source(self) -> Source {
        Source::Fixed(self)
    }
}

impl sealed::Limit for Env {
    fn into_source(self) -> Source {
        Source::Env(self)
    }
}

impl IntoLimit for Duration {}
impl IntoLimit for Option<Duration> {}
impl IntoLimit for Env {}
impl IntoWait for Duration {}
impl IntoWait for Env {}

/// The default of `timeout`.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

/// The limits, before the environment is read.
#[derive(Clone, Debug)]
pub(crate) struct ConfiguredLimits {
    pub(crate) timeout: Source,
    pub(crate) delay: Source,
    pub(crate) linger: Source,
    pub(crate) cleanup: Source,
    pub(crate) spread: Source,
    pub(crate) scrape: Source,
}

impl ConfiguredLimits {
    /// Reads the limits that come from the environment.
    pub(crate) fn resolve(&self) -> Result<Limits, Failure> {
        let delay = bounded(self.delay.resolve(false)?.unwrap_or_default());
        let cleanup = self.cleanup.resolve(true)?.map(bounded);
        let scrape = bounded(self.scrape.resolve(false)?.unwrap_or_default());
        let timeout = match &self.timeout {
            timeout if timeout.is_auto() => Some(fitting(delay + scrape, cleanup)),
            timeout => timeout.resolve(true)?,
        };
        let linger = bounded(self.linger.resolve(false)?.unwrap_or_default());
        let timeout = timeout.map(bounded);
        let spread = bounded(self.spread.resolve(false)?.unwrap_or_default());
        if let Some(timeout) = timeout.filter(|timeout| spread >= *timeout && !spread.is_zero()) {
            let (spread, timeout) = (HumanDuration(spread), HumanDuration(timeout));
            return Err(Failure::new(format!(
                "`spread` is {spread} and `timeout` {timeout}: the last goodbyes would come with the cut; \
                 make `spread` shorter"
            )));
        }
        Ok(Limits { timeout, delay, linger, cleanup, spread, scrape })
    }
}

/// Returns the limit of the drain that fits where the process runs; the default where nothing is
/// known.
fn fitting(waits: Duration, cleanup: Option<Duration>) -> Duration {
    // A variable that makes no sense is reported with the other checks.
    let grace = Grace::known().ok().flatten();
    grace.map_or(TIMEOUT, |grace| grace.timeout(waits, cleanup.unwrap_or_default()))
}

impl Source {
    /// Whether the limit follows from where the process runs.
    fn is_auto(&self) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Env(Env { name, .. }) => std::env::var_os(name).is_some_and(|it| it == "auto"),
            Self::Auto => true,
        }
    }

    pub(super) fn resolve(&self, may_be_none: bool) -> Result<Option<Duration>, Failure> {
        match self {
            Self::Fixed(fixed) => Ok(*fixed),
            Self::Auto => Ok(Some(TIMEOUT)),
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
