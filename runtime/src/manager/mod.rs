//! The service manager that started the process: systemd, or another one that speaks its protocol
//! (`sd_notify(3)`). Without the feature `systemd`, or without such a manager, nothing is sent.
//!
//! May use: `util`. Must not know: when to send what.

#[cfg(all(feature = "systemd", target_os = "linux"))]
mod systemd;

pub(crate) use systemd::Manager;

/// The stub without the feature `systemd`.
#[cfg(not(all(feature = "systemd", target_os = "linux")))]
mod systemd {
    #![allow(clippy::unused_self, reason = "these are methods where there is somebody")]

    use std::time::Duration;

    #[derive(Debug)]
    pub(crate) struct Manager;

    impl Manager {
        pub(crate) fn take() -> Self {
            Self
        }

        pub(crate) fn nobody() -> Self {
            Self
        }

        pub(crate) fn is_there(&self) -> bool {
            false
        }

        pub(crate) fn watchdog(&self) -> Option<Duration> {
            None
        }

        pub(crate) fn ready(&self, _: &str) {}

        pub(crate) fn stopping(&self, _: Option<&str>, _: Option<Duration>) {}

        pub(crate) fn status(&self, _: &str) {}

        #[cfg(feature = "handover")]
        pub(crate) fn main_process(&self, _: u32) {}

        #[cfg(feature = "handover")]
        pub(crate) fn forget_stored(&self) {}

        pub(crate) fn extend(&self, _: Duration) {}

        pub(crate) fn alive(&self) {}

        #[allow(clippy::unused_async, reason = "as where there is somebody")]
        pub(crate) async fn sent(&self, _: Duration) {}

        #[cfg(feature = "tls")]
        pub(crate) fn reloads(&self) {}
    }
}
