//! Attributes, docs, lints and visibility stay on the function, whatever its name.
#![deny(warnings, missing_docs)]
#![forbid(unsafe_code)]
#![deny(clippy::pedantic)]

/// A module.
pub mod inner {
    /// Runs.
    #[must_use]
    #[graceful::main(timeout = "3s")]
    #[allow(unused_variables)]
    pub async fn run() {
        let unused = 3;
    }
}

fn main() {
    assert_eq!(inner::run().code(), 0);
}
