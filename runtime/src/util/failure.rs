//! An error with its chain of causes, as text and as a value.

use std::{error::Error, fmt, sync::Arc};

use super::Escaped;

/// Why a server or `main` failed.
///
/// Its [`Display`](fmt::Display) form is the error and its causes in one line.
/// [`source`](Error::source) is the error itself, so that a caller can ask it what happened. It is
/// shared and not copied when a failure is cloned, as a [`Report`](crate::Report) has to be.
///
/// # Examples
///
/// ```
/// use std::{error::Error, io};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// let addr = taken.local_addr().unwrap();
/// let server = graceful::serve_fn(move |shutdown| async move {
///     tokio::net::TcpListener::bind(addr).await?;
///     shutdown.await;
///     Ok::<_, io::Error>(())
/// });
/// let running = graceful::Config::new().start(server).await.unwrap();
/// let report = running.ended().await;
/// let failure = &report.failures()[0];
/// assert!(failure.to_string().contains("Address already in use"));
/// let error: &io::Error = failure.source().unwrap().downcast_ref().unwrap();
/// assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Failure {
    line: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { line: message.into(), source: None }
    }

    pub(crate) fn from_error(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let error: Arc<dyn Error + Send + Sync> = error.into().into();
        Self { line: chain(&*error), source: Some(error) }
    }

    /// One of which only the text is kept: it cannot be sent to the thread that reports it.
    pub(crate) fn from_text_of(error: &dyn Error) -> Self {
        Self::new(chain(error))
    }

    /// `what` was being done when this happened.
    pub(crate) fn context(self, what: &str) -> Self {
        Self { line: format!("{what}: {}", self.line), ..self }
    }
}

/// An error and its causes, in one line.
fn chain(error: &dyn Error) -> String {
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
    line
}

impl Failure {
    /// What to do about it.
    pub(crate) fn hint(self, what: &str) -> Self {
        Self { line: format!("{}: {what}", self.line), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.line).fmt(f)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
