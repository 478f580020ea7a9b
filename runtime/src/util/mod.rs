//! Helpers that are independent of the subject of this crate.
//!
//! May use: nothing else of this crate.

mod addr;
pub(crate) mod duration;
mod failure;
mod race;
#[cfg(all(test, not(graceful_loom)))]
mod random;
pub(crate) mod sync;
mod text;
pub(crate) mod threads;
pub mod via;

pub use failure::{Fail, Failure, Outcome};

pub(crate) use addr::{LocalAddr, Peer, ProxiedAddrs};
pub(crate) use failure::{Never, Sealed, failure_of, panic_message, poll_catching_panics};
pub(crate) use race::{First, beside, race, within};
#[cfg(all(test, not(graceful_loom)))]
pub(crate) use random::Random;
pub(crate) use text::{Escaped, HumanDuration, one_line};
