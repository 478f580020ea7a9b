//! The one table of options. The parser, the messages, the suggestions and the test of the
//! documentation all draw from it.

/// The kind of value that an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `"3s"`, `env("NAME", "3s")` or an expression of type `Duration`.
    Duration,
    /// The same, or `"none"`.
    Limit,
    /// `[SIGTERM, SIGINT]`.
    Signals,
    /// One of these strings.
    OneOf(&'static [Choice]),
    /// A positive integer.
    Count,
    /// A string that is not empty.
    Name,
    /// `true` or `false`.
    Bool,
    /// `"/run/app/handover.sock"`, `env("NAME", "/run/app/handover.sock")` or an expression.
    Path,
    /// The path of the crate.
    Crate,
}

/// A word and the path, within the crate, of what it stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) word: &'static str,
    pub(crate) path: &'static [&'static str],
}

/// One option; its method on `Config` has the same name.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// How to write it, for messages.
    pub(crate) example: &'static str,
    /// The default, as the documentation gives it.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the test of the documentation"))]
    pub(crate) default: &'static str,
}

const FLAVORS: &[Choice] = &[
    Choice { word: "multi_thread", path: &["Flavor", "MultiThread"] },
    Choice { word: CURRENT_THREAD, path: &["Flavor", "CurrentThread"] },
    Choice { word: LOCAL, path: &["Flavor", "Local"] },
];

/// The single-threaded flavors, which some options need.
pub(crate) const CURRENT_THREAD: &str = "current_thread";
pub(crate) const LOCAL: &str = "local";

const PANICS: &[Choice] = &[
    Choice { word: "ignore", path: &["UnhandledPanic", "Ignore"] },
    Choice { word: "shutdown_runtime", path: &["UnhandledPanic", "ShutdownRuntime"] },
];

macro_rules! options {
    ($($name:literal, $kind:expr, $default:literal, $example:literal;)+) => {
        &[$(Spec { name: $name, kind: $kind, default: $default, example: $example }),+]
    };
}

pub(crate) const OPTIONS: &[Spec] = options! {
    "timeout", Kind::Limit, "\"20s\"", "timeout = \"20s\"";
    "signals", Kind::Signals, "[SIGHUP, SIGINT, SIGTERM, SIGQUIT]", "signals = [SIGTERM, SIGINT]";
    "dump", Kind::Signals, "[]", "dump = [SIGUSR1]";
    "lame_duck", Kind::Signals, "[]", "lame_duck = [SIGUSR1]";
    "quiet", Kind::Bool, "false", "quiet = true";
    "delay", Kind::Duration, "\"0s\"", "delay = \"5s\"";
    "linger", Kind::Duration, "\"250ms\"", "linger = \"250ms\"";
    "spread", Kind::Duration, "\"0s\"", "spread = \"10s\"";
    "cleanup", Kind::Limit, "\"5s\"", "cleanup = \"5s\"";
    "scrape", Kind::Duration, "\"0s\"", "scrape = \"15s\"";
    "upgrade", Kind::Signals, "[]", "upgrade = [SIGUSR2]";
    "upgrade_timeout", Kind::Limit, "\"30s\"", "upgrade_timeout = \"30s\"";
    "handover", Kind::Path, "none", "handover = \"/run/app/handover.sock\"";
    "flavor", Kind::OneOf(FLAVORS), "\"multi_thread\"", "flavor = \"current_thread\"";
    "worker_threads", Kind::Count, "one per core", "worker_threads = 4";
    "name", Kind::Name, "none", "name = \"web\"";
    "start_paused", Kind::Bool, "false", "start_paused = true";
    "unhandled_panic", Kind::OneOf(PANICS), "\"ignore\"", "unhandled_panic = \"shutdown_runtime\"";
    "crate", Kind::Crate, "::graceful", "crate = \"renamed\"";
};

/// The signals that no process can catch (signal(7)).
pub(crate) const UNCATCHABLE: &[&str] = &["SIGKILL", "SIGSTOP"];

pub(crate) fn find(name: &str) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.name == name)
}

/// `` `a`, `b` and `c` ``
pub(crate) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal_names::SIGNAL_NAMES;

    /// The snapshot of the table, which the workspace's tests compare with the README and the
    /// rustdoc.
    #[test]
    fn the_table_is_in_the_snapshots() {
        let row = |spec: &Spec| format!("| `{}` | `{}` |\n", spec.name, spec.default);
        let rows: String = OPTIONS.iter().map(row).collect();
        crate::snapshots::check_file("options.md", &rows);
    }

    #[test]
    fn the_default_signals_are_those_of_the_table() {
        let defaults = SIGNAL_NAMES.iter().filter(|signal| signal.is_default);
        let defaults: Vec<_> = defaults.map(|signal| signal.name).collect();
        assert_eq!(find("signals").unwrap().default, format!("[{}]", defaults.join(", ")));
    }

    #[test]
    fn lists_read_well() {
        assert_eq!(list(["a"]), "`a`");
        assert_eq!(list(["a", "b"]), "`a` and `b`");
        assert_eq!(list(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
