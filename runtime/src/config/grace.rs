//! How long a stop may take where the process runs: who kills it, and when.

use std::{ffi::OsString, path::Path, time::Duration};

use crate::util::{HumanDuration, duration};

/// The environment variable in which a manifest repeats its grace period, the time from the first
/// signal to SIGKILL; `none`: nobody kills.
const GRACE_PERIOD: &str = "GRACEFUL_GRACE_PERIOD";

/// What is left for the steps in between.
const STEPS: Duration = Duration::from_secs(1);

/// The least limit that is chosen. If it does not fit, that is said at the start.
const LEAST: Duration = Duration::from_secs(1);

/// The time from the first signal to SIGKILL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grace {
    pub(super) period: Duration,
    /// The platform whose default it is; `None`: the variable says so.
    platform: Option<&'static Platform>,
}

/// A platform, and the time that it gives a process if nothing else is said.
#[derive(Debug, PartialEq, Eq)]
struct Platform {
    name: &'static str,
    /// The variables of which it sets one.
    variables: &'static [&'static str],
    seconds: u64,
    /// The setting for another time; `None`: there is none.
    setting: Option<&'static str>,
}

/// The defaults that each documented in November 2026; the sources are in `docs/platforms.md`. The
/// first match wins.
const PLATFORMS: [Platform; 6] = [
    Platform {
        name: "Kubernetes",
        variables: &["KUBERNETES_SERVICE_HOST"],
        seconds: 30,
        setting: Some("`terminationGracePeriodSeconds`"),
    },
    Platform { name: "Cloud Run", variables: &["K_SERVICE"], seconds: 10, setting: None },
    Platform {
        name: "Nomad",
        variables: &["NOMAD_ALLOC_ID"],
        seconds: 5,
        setting: Some("`kill_timeout`"),
    },
    Platform {
        name: "Fly",
        variables: &["FLY_MACHINE_ID"],
        seconds: 5,
        setting: Some("`kill_timeout`"),
    },
    Platform { name: "Heroku", variables: &["DYNO"], seconds: 30, setting: None },
    Platform {
        name: "ECS",
        variables: &["ECS_CONTAINER_METADATA_URI_V4", "ECS_CONTAINER_METADATA_URI"],
        seconds: 30,
        setting: Some("`stopTimeout`"),
    },
];

const SYSTEMD: Platform = Platform {
    name: "systemd",
    variables: &["INVOCATION_ID"],
    seconds: 90,
    setting: Some("`TimeoutStopSec=`"),
};

/// Docker and Podman, by hand or by Compose.
const CONTAINER: Platform = Platform {
    name: "the container's engine",
    variables: &[],
    seconds: 10,
    setting: Some("`docker stop -t`, `stop_grace_period`"),
};

/// The files by which the engines mark their containers.
const MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

impl Grace {
    /// Returns how much time the process has, if that is known.
    ///
    /// # Errors
    ///
    /// If the environment variable is neither a duration nor a number of seconds.
    pub(super) fn known() -> Result<Option<Self>, String> {
        let is_marked = || MARKS.iter().any(|mark| Path::new(mark).exists());
        Self::of(|name| std::env::var_os(name), std::process::id(), is_marked)
    }

    fn of(
        variable: impl Fn(&str) -> Option<OsString>,
        process: u32,
        is_marked: impl Fn() -> bool,
    ) -> Result<Option<Self>, String> {
        // Empty means unset: in Compose, `${GRACE:-}` expands to an empty string.
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        match variable(GRACE_PERIOD) {
            Some(value) if value == "none" => return Ok(None),
            Some(value) => return Self::parse(&value.to_string_lossy()).map(Some),
            None => {}
        }
        let sets =
            |platform: &&Platform| platform.variables.iter().any(|it| variable(it).is_some());
        // A process that systemd has started itself; its children have the variables, too
        // (systemd.exec(5), `$SYSTEMD_EXEC_PID`).
        let is_unit = || {
            let own = variable("SYSTEMD_EXEC_PID").is_some_and(|it| *it == *process.to_string());
            own && sets(&&SYSTEMD)
        };
        let platform = match PLATFORMS.iter().find(sets) {
            None if is_unit() => Some(&SYSTEMD),
            None if is_marked() => Some(&CONTAINER),
            found => found,
        };
        let period = |platform: &Platform| Duration::from_secs(platform.seconds);
        Ok(platform.map(|it| Self { period: period(it), platform: Some(it) }))
    }

    /// Parses the value of the variable: a duration or, as in Kubernetes, a number of seconds.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let period = match text.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => duration::parse(text).map_err(|message| {
                format!("{GRACE_PERIOD}=\"{}\": {message}", text.escape_debug())
            })?,
        };
        Ok(Self { period, platform: None })
    }

    /// Returns the limit of the drain that fits, for a stop with this `delay` and `cleanup`.
    pub(super) fn timeout(&self, delay: Duration, cleanup: Duration) -> Duration {
        self.period.saturating_sub(delay + cleanup + STEPS).max(LEAST)
    }

    /// Describes when the process is killed and, if the platform is known, what to write.
    pub(super) fn in_words(&self) -> String {
        let period = HumanDuration(self.period);
        let Some(platform) = self.platform else {
            return format!("{GRACE_PERIOD} is {period}: what runs then is killed");
        };
        let more = match platform.setting {
            Some(setting) => {
                format!(", or raise the time by {setting} and repeat it in {GRACE_PERIOD}")
            }
            None => String::new(),
        };
        format!("{} kills after {period}: write `timeout = \"auto\"`{more}", platform.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grace(variables: &[(&str, &str)], is_marked: bool) -> Option<(u64, String)> {
        let variable = |name: &str| {
            variables.iter().find(|(it, _)| *it == name).map(|(_, value)| OsString::from(value))
        };
        let grace = Grace::of(variable, 7, || is_marked).unwrap();
        grace.map(|grace| (grace.period.as_secs(), grace.in_words()))
    }

    #[test]
    fn each_platform_is_known_by_what_it_sets() {
        type Case<'a> = (&'a [(&'a str, &'a str)], bool, u64, &'a str);
        let cases: [Case<'_>; 10] = [
            (&[("KUBERNETES_SERVICE_HOST", "10.0.0.1")], true, 30, "terminationGracePeriodSeconds"),
            // Knative.
            (&[("K_SERVICE", "a"), ("KUBERNETES_SERVICE_HOST", "b")], true, 30, "Kubernetes"),
            (&[("K_SERVICE", "a")], true, 10, "Cloud Run"),
            (&[("NOMAD_ALLOC_ID", "a")], true, 5, "Nomad"),
            (&[("FLY_MACHINE_ID", "a")], false, 5, "Fly"),
            (&[("DYNO", "web.1")], false, 30, "Heroku"),
            (&[("ECS_CONTAINER_METADATA_URI_V4", "a")], true, 30, "stopTimeout"),
            (&[("INVOCATION_ID", "a"), ("SYSTEMD_EXEC_PID", "7")], false, 90, "TimeoutStopSec"),
            (&[], true, 10, "docker stop -t"),
            (&[("DYNO", "web.1"), ("GRACEFUL_GRACE_PERIOD", "3")], true, 3, "what runs then"),
        ];
        for (variables, is_marked, seconds, word) in cases {
            let (period, line) = grace(variables, is_marked).unwrap();
            assert_eq!(period, seconds, "{variables:?}");
            assert!(line.contains(word), "{line}");
        }
        // A shell below a unit, an empty variable, and nothing.
        assert_eq!(grace(&[("INVOCATION_ID", "a"), ("SYSTEMD_EXEC_PID", "8")], false), None);
        assert_eq!(grace(&[("DYNO", "")], false), None);
        assert_eq!(grace(&[("DYNO", "web.1"), ("GRACEFUL_GRACE_PERIOD", "none")], true), None);
        assert_eq!(grace(&[], false), None);
    }

    #[test]
    fn the_limit_that_fits_leaves_a_second() {
        let fits = |grace, delay, cleanup| {
            let [delay, cleanup] = [delay, cleanup].map(Duration::from_secs);
            Grace::parse(grace).unwrap().timeout(delay, cleanup).as_secs()
        };
        assert_eq!(fits("30", 0, 5), 24);
        assert_eq!(fits("30", 10, 5), 14);
        assert_eq!(fits("5", 0, 5), 1);
    }

    #[test]
    fn the_variable_is_a_duration_or_a_number_of_seconds() {
        assert_eq!(Grace::parse("30s1ms").unwrap().period, Duration::from_millis(30_001));
        assert_eq!(Grace::parse("30").unwrap().period, Duration::from_secs(30));
        assert!(Grace::parse("soon").unwrap_err().contains("no number"));
    }
}
