//! How a future may end that the program is about: well, or with an error of whichever type.

use std::error::Error;

use super::{Failure, Sealed, via};

/// How the future of a server, or of a task that the program cannot do without, may end.
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

/// The type of what never returns, which has no name yet on stable Rust.
pub(crate) type Never = <fn() -> ! as sealed::Function>::Output;

mod sealed {
    pub trait Function {
        type Output;
    }

    impl<T> Function for fn() -> T {
        type Output = T;
    }
}

/// It panics, or goes on for good.
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

/// Errors that can be reported: whatever `?` turns into a `Box<dyn Error + Send + Sync>`, and a
/// `Box<dyn Error>`, of which only the text is kept ([`Failure`] says more).
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
