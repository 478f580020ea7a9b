//! The service manager that has started the process: systemd, or another that speaks its protocol
//! (`sd_notify(3)`). Without the feature `systemd`, and where nobody has started it so, nothing is
//! said.
//!
//! May use: `util`. Must not know: when there is something to say.

#[cfg_attr(not(all(feature = "systemd", target_os = "linux")), path = "nobody.rs")]
mod systemd;

pub(crate) use systemd::Manager;
