//! An error with its chain of causes, as text.

use std::{error::Error, fmt};

use crate::in_flight::Plain;

/// Why a server or `main` failed: the error and its causes, in one line.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// let addr = taken.local_addr().unwrap();
/// let server = graceful::serve_fn(move |shutdown| async move {
///     tokio::net::TcpListener::bind(addr).await?;
///     shutdown.await;
///     Ok::<_, std::io::Error>(())
/// });
/// let running = graceful::Config::new().start(server).await.unwrap();
/// let report = running.ended().await;
/// assert!(report.failures()[0].to_string().contains("Address already in use"));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    pub(crate) fn from_error(error: &dyn Error) -> Self {
        let mut line = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors print their cause themselves.
            if !line.ends_with(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            cause = error.source();
        }
        Self(line)
    }

    pub(crate) fn context(self, what: &str) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Plain(&self.0).fmt(f)
    }
}

impl Error for Failure {}
