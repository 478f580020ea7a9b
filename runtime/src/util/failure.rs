//! An error with its chain of causes, as text and as a value.

use std::{
    any::Any,
    error::Error,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Poll,
    thread,
};

use super::{Escaped, one_line, via};

/// Why a server or `main` failed.
///
/// Its [`Display`](fmt::Display) form is the error and its causes in one line. If the error's own
/// `{:?}` form has more than one line, as in `anyhow`, `eyre` and `miette`, the process prints that
/// form instead at its end.
///
/// [`source`](Error::source) is the error itself, so that a caller can inspect it. Cloning a
/// failure, and with it a [`Report`](crate::Report), shares the error.
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
    /// The `{:?}` form of the error, if that has more than one line.
    report: Option<String>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { line: message.into(), report: None, source: None }
    }

    pub(crate) fn from_error(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let error = match error.into().downcast::<Self>() {
            // This one was returned through `main`.
            Ok(failure) => return *failure,
            Err(error) => error,
        };
        let text = Self::from_text_of(&*error);
        Self { source: Some(error.into()), ..text }
    }

    /// Keeps only the text of an error that cannot be sent to the thread that reports it.
    pub(crate) fn from_text_of(error: &dyn Error) -> Self {
        Self { report: in_full(error), ..Self::new(chain(error)) }
    }

    /// Adds what was being done when this happened.
    pub(crate) fn context(self, what: &str) -> Self {
        let report = self.report.map(|report| format!("{what}: {report}"));
        Self { line: format!("{what}: {}", self.line), report, ..self }
    }

    /// Returns the `{:?}` form of the error, if that has more than one line.
    pub(crate) fn report(&self) -> Option<String> {
        self.report.clone()
    }
}

/// Returns the `{:?}` form of an error, if that has more than one line. Error types that print
/// reports for people do so there, while a derived `Debug` has one line.
fn in_full(error: &dyn Error) -> Option<String> {
    let report = format!("{error:?}");
    report.trim_end().contains('\n').then_some(report)
}

/// Returns an error and its causes on one line.
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
    /// Returns the kind of the I/O error that is the cause: `AddrInUse`, `PermissionDenied`, …
    /// Without an I/O error among the causes, this is [`Other`](io::ErrorKind::Other).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    /// # let app = axum::Router::new();
    /// let server = graceful::serve(taken.local_addr().unwrap(), app);
    /// let failure = graceful::Config::new().start(server).await.unwrap_err();
    /// assert_eq!(failure.kind(), std::io::ErrorKind::AddrInUse);
    /// # }
    /// ```
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        let mut cause = self.source();
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return error.kind();
            }
            cause = error.source();
        }
        io::ErrorKind::Other
    }

    /// Adds a hint on what to do about it.
    pub(crate) fn hint(self, what: &str) -> Self {
        let report = self.report.map(|report| format!("{}\n{what}", report.trim_end()));
        Self { line: format!("{}: {what}", self.line), report, ..self }
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

// The outcome of a future of the program: success, or an error of any type.

/// The output of a future that this crate runs for the program: `()` or `Result<(), E>`.
#[diagnostic::on_unimplemented(
    message = "this future ends with `()` or a `Result<(), E>`, not with `{Self}`"
)]
pub trait Outcome<Via> {
    #[doc(hidden)]
    fn outcome(self, _: Sealed) -> Result<(), Failure>;
}

impl Outcome<via::Unit> for () {
    fn outcome(self, _: Sealed) -> Result<(), Failure> {
        Ok(())
    }
}

/// The never type, which cannot be named on stable Rust yet.
pub(crate) type Never = <fn() -> ! as sealed::Function>::Output;

mod sealed {
    pub trait Function {
        type Output;
    }

    impl<T> Function for fn() -> T {
        type Output = T;
    }
}

/// It panics, or never ends.
impl Outcome<via::Never> for Never {
    fn outcome(self, _: Sealed) -> Result<(), Failure> {
        self
    }
}

impl<E: Fail<EVia>, EVia> Outcome<via::Result<via::Unit, EVia>> for Result<(), E> {
    fn outcome(self, _: Sealed) -> Result<(), Failure> {
        self.map_err(failure_of)
    }
}

/// Errors that can be reported: everything that `?` converts to a `Box<dyn Error + Send + Sync>`,
/// and `Box<dyn Error>`, of which only the text is kept (see [`Failure`]).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an error that can be printed",
    note = "it has to implement `std::error::Error + Send + Sync`, or be a `Box<dyn Error>`, \
            `anyhow::Error` or `String`"
)]
pub trait Fail<Via> {
    #[doc(hidden)]
    fn fail(self, _: Sealed) -> Failure;
}

impl<E: Into<Box<dyn Error + Send + Sync>>> Fail<via::Boxable> for E {
    fn fail(self, _: Sealed) -> Failure {
        Failure::from_error(self)
    }
}

impl Fail<via::Boxed> for Box<dyn Error> {
    fn fail(self, _: Sealed) -> Failure {
        Failure::from_text_of(&*self)
    }
}

pub(crate) fn failure_of<E: Fail<Via>, Via>(error: E) -> Failure {
    error.fail(Sealed)
}

// Seals traits that users are not meant to implement.

/// An argument of the hidden methods of traits that only this crate implements. It is public
/// because public traits mention it, but it cannot be named from outside, so nobody else can write
/// the method.
///
/// A sealed supertrait would also work, but the compiler would then name that trait in its messages
/// instead of the one with the helpful diagnostic.
#[derive(Debug)]
pub struct Sealed;

// Panics as values.

/// Polls a future and catches its panic, which makes the poll ready. The future must not be polled
/// again after a panic.
pub(crate) fn poll_catching_panics<T>(poll: impl FnOnce() -> Poll<T>) -> Poll<thread::Result<T>> {
    match catch_unwind(AssertUnwindSafe(poll)) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    }
}

/// Returns the message of a panic on one line.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    one_line(text.unwrap_or("a panic without a message"))
}
