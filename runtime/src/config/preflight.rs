//! Start-up checks: grace period, PID 1.

use super::grace::Grace;
#[cfg(target_os = "linux")]
use crate::signal::Mask;
use crate::{
    log::{Log, say},
    signal::Signal,
    stop::Limits,
    util::HumanDuration,
};

/// Logs a warning for each check that fails.
pub(super) fn check(log: &Log, limits: &Limits, signals: &[Signal]) {
    let line = match Grace::known() {
        Ok(grace) => grace.and_then(|grace| exceeds(limits, &grace)),
        Err(message) => Some(message),
    };
    if let Some(line) = line {
        say!(log, warn, {}, "{line}");
    }
    #[cfg(target_os = "linux")]
    if let Some(line) = swallows(signals) {
        say!(log, warn, {}, "{line}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = signals;
}

/// Returns a warning if a stop may take longer than `grace`.
fn exceeds(limits: &Limits, grace: &Grace) -> Option<String> {
    let takes = match limits.total() {
        None => "a stop has no limit".to_owned(),
        // `>=`, because the steps in between take a little time, too.
        Some(whole) if whole >= grace.period => {
            let parts = if limits.scrape.is_zero() {
                "delay, timeout and cleanup"
            } else {
                "delay, timeout, cleanup and scrape"
            };
            format!("a stop may take {} ({parts})", HumanDuration(whole))
        }
        Some(_) => return None,
    };
    Some(format!("{takes}, and {}", grace.in_words()))
}

/// Returns a warning if PID 1 of the container is another process that swallows stop signals. The
/// kernel shields PID 1 from every signal that it neither catches nor waits for
/// (`pid_namespaces(7)`), and a shell that runs a command does neither.
#[cfg(target_os = "linux")]
fn swallows(signals: &[Signal]) -> Option<String> {
    /// The initial PID namespace (`PROC_PID_INIT_INO` in the kernel). Its first process is a real
    /// init, whatever it does with signals.
    const MACHINE: &str = "pid:[4026531836]";
    // Checked first, because most processes are not children of PID 1 and need no further checks.
    if std::os::unix::process::parent_id() != 1
        || std::fs::read_link("/proc/self/ns/pid").ok()?.as_os_str() == MACHINE
    {
        return None;
    }
    let status = std::fs::read_to_string("/proc/1/status").ok()?;
    let lost = swallowed(&status, signals)?;
    let name = status.lines().find_map(|line| line.strip_prefix("Name:"))?.trim();
    Some(format!(
        "the first process is `{}`, which does not pass {lost} on: start this program in its place \
         (`exec` in the script, or `CMD [\"…\"]` in the Dockerfile)",
        name.escape_debug()
    ))
}

/// Returns SIGTERM, which supervisors send, if it is one of `signals` and the process with this
/// `/proc/…/status` neither catches it nor blocks it, as a process does that waits for signals.
#[cfg(target_os = "linux")]
fn swallowed(status: &str, signals: &[Signal]) -> Option<Signal> {
    let term = Signal::SIGTERM;
    let (caught, blocked) = (Mask::read(status, "SigCgt:")?, Mask::read(status, "SigBlk:")?);
    let is_lost = signals.contains(&term) && !caught.contains(term) && !blocked.contains(term);
    is_lost.then_some(term)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_stop_that_is_longer_than_the_grace_period_is_said() {
        let limits = |timeout| Limits {
            timeout,
            delay: Duration::from_secs(5),
            linger: Duration::ZERO,
            cleanup: Some(Duration::from_secs(5)),
            spread: Duration::ZERO,
            scrape: Duration::ZERO,
        };
        let twenty = limits(Some(Duration::from_secs(20)));
        let exceeds = |limits, grace| exceeds(&limits, &Grace::parse(grace).unwrap());
        assert_eq!(exceeds(twenty, "31"), None);
        assert_eq!(exceeds(twenty, "30s1ms"), None);
        let line = exceeds(twenty, "30").unwrap();
        assert!(line.contains("may take 30s") && line.contains("is 30s"), "{line}");
        assert!(exceeds(limits(None), "30").unwrap().contains("no limit"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_shell_swallows_and_an_init_does_not() {
        let swallowed = |text: &str| swallowed(text, &Signal::DEFAULT);
        // `sh -c` catches SIGINT and SIGCHLD.
        let shell = "Name:\tsh\nSigBlk:\t0000000000000000\nSigCgt:\t0000000000010002\n";
        assert_eq!(swallowed(shell), Some(Signal::SIGTERM));
        // tini and catatonit block all signals and wait for them; a script with a trap catches
        // them.
        let init = "Name:\ttini\nSigBlk:\tfffffffe7ffbfeff\nSigCgt:\t0000000000000000\n";
        assert_eq!(swallowed(init), None);
        let script = "Name:\tsh\nSigBlk:\t0000000000000000\nSigCgt:\t0000000000014002\n";
        assert_eq!(swallowed(script), None);
        assert_eq!(swallowed("Name:\tsh\n"), None);
    }
}
