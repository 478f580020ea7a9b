//! Settings that are there only with a feature, or with a flag of the compiler.

use super::flavor::UnhandledPanic;
use crate::util::Sealed;

/// `bool`, where the feature `test-util` is on.
#[diagnostic::on_unimplemented(
    message = "`start_paused` needs the feature `test-util` of `graceful-main`",
    label = "the feature `test-util` is not enabled",
    note = "enable it: `cargo add graceful-main --features test-util`"
)]
pub trait StartPaused {
    #[doc(hidden)]
    fn into_bool(self, _: Sealed) -> bool;
}

#[cfg(feature = "test-util")]
impl StartPaused for bool {
    fn into_bool(self, _: Sealed) -> bool {
        self
    }
}

/// [`UnhandledPanic`], where `tokio_unstable` is set.
#[diagnostic::on_unimplemented(
    message = "`unhandled_panic` needs tokio's unstable features",
    label = "`tokio_unstable` is not set",
    note = "build with `RUSTFLAGS=\"--cfg tokio_unstable\"`"
)]
pub trait OnUnhandledPanic {
    #[doc(hidden)]
    fn into_behavior(self, _: Sealed) -> UnhandledPanic;
}

#[cfg(tokio_unstable)]
impl OnUnhandledPanic for UnhandledPanic {
    fn into_behavior(self, _: Sealed) -> UnhandledPanic {
        self
    }
}
