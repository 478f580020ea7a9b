//! The signals that can start a drain, in one table for the attribute and the runtime.
//!
//! This file is part of both crates: the runtime's `signal/signal_names.rs` is a symlink to the
//! macro crate's, and each package contains its own copy.

/// A signal as POSIX names it (`signal.h`).
pub(crate) struct SignalName {
    pub(crate) name: &'static str,
    /// Whether it starts the drain by default.
    #[cfg_attr(not(test), allow(dead_code, reason = "the runtime has it for its tests alone"))]
    pub(crate) is_default: bool,
}

const fn signal(name: &'static str, is_default: bool) -> SignalName {
    SignalName { name, is_default }
}

/// In the order in which messages list them.
pub(crate) const SIGNAL_NAMES: [SignalName; 8] = [
    signal("SIGHUP", true),
    signal("SIGINT", true),
    signal("SIGTERM", true),
    signal("SIGQUIT", true),
    signal("SIGUSR1", false),
    signal("SIGUSR2", false),
    signal("SIGALRM", false),
    signal("SIGWINCH", false),
];
