//! What the tests share: fixture processes, and clients that know what happened to their bytes.

#![allow(clippy::missing_panics_doc, reason = "a test that cannot go on panics")]
#![allow(clippy::missing_errors_doc, reason = "the socket fails, or the server has closed")]

pub mod app;
pub mod balanced;
pub mod certificates;
pub mod client;
pub mod container;
pub mod far;
pub mod folder;
pub mod generations;
pub mod grpc;
pub mod held;
pub mod http2;
pub mod load;
pub mod load_http2;
pub mod pipe;
pub mod podman;
pub mod process;
pub mod systemd;
pub mod terminal;

pub use self::{
    certificates::Certificates,
    client::Client,
    folder::Folder,
    generations::Generations,
    http2::Http2,
    process::{Fixture, Process},
};
pub use rustix::{io::Errno, process::Signal};

use std::time::Duration;

/// The fixture of this name, which is about to be started.
#[macro_export]
macro_rules! fixture {
    ($name:expr) => {
        $crate::Fixture::new(env!("CARGO_BIN_EXE_fixtures"), $name)
    };
}

/// How long an event may take before a test gives up on it. Nothing waits for this when all is
/// well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What takes longer than an event may take has failed: a test that hangs says nothing.
pub async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// What the system's library calls this error, with its number: each has its own words.
#[must_use]
pub fn in_words(error: rustix::io::Errno) -> String {
    std::io::Error::from_raw_os_error(error.raw_os_error()).to_string()
}

/// Whether a test can do what it is for. Where not, it says so where it can be seen, and in CI that
/// is a failure.
#[must_use]
pub fn can(what: &str, possible: bool) -> bool {
    assert!(
        possible || std::env::var_os("CI").is_none(),
        "{what}: not possible here, and CI has to"
    );
    if !possible {
        // Past the capture of the test harness.
        let _ =
            rustix::io::write(rustix::stdio::stderr(), format!("NOT TESTED: {what}\n").as_bytes());
    }
    possible
}
