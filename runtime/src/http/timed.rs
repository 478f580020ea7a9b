//! What bounds a connection in service, besides its heads and its end.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{io::Io, options::Options};
use crate::net::GuardedConn;

/// Kept for connections of servers that have set such a bound.
pub(super) struct Timed {
    /// When the connection is old enough.
    pub(super) retires: Option<Instant>,
    /// Its local address, by which the kernel is asked about it.
    pub(super) local: Option<SocketAddr>,
}

impl Timed {
    pub(super) fn new(io: &Io, options: &Options) -> Self {
        let accepted = io.guard().conn().core().accepted_at();
        Self {
            retires: options.max_connection_age.map(|age| accepted + with_jitter(age)),
            local: io.stream().local_addr(),
        }
    }
}

/// A tenth more or less, so that connections that were opened together do not end together.
fn with_jitter(age: Duration) -> Duration {
    // Random enough: each has a key of its own.
    let random = RandomState::new().build_hasher().finish();
    #[allow(clippy::cast_precision_loss, reason = "a fraction")]
    let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
    age.mul_f64(0.9 + 0.2 * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_a_tenth_at_the_most() {
        let age = Duration::from_secs(100);
        let ages: Vec<_> = (0..1_000).map(|_| with_jitter(age).as_secs_f64()).collect();
        assert!(ages.iter().all(|age| (90.0..=110.0).contains(age)));
        assert!(ages.iter().any(|age| *age < 94.0) && ages.iter().any(|age| *age > 106.0));
    }
}
