//! The watchdog of the service manager: told that the process is alive as long as it is.

use std::{
    convert::Infallible,
    future::{pending, ready},
};

use super::{phase::Phase, shared::Shared};
use crate::util::race;

/// Tells the manager so, twice in the time that it allows (`sd_watchdog_enabled(3)`), and before the
/// stop only when a task of the program's runtime has had its turn. A runtime that is busy gives it
/// one, if late; one whose threads are all blocked does not. In a stop there are the limits for
/// that.
pub(super) async fn feed(shared: &Shared) -> Infallible {
    let Some(period) = shared.manager.watchdog() else {
        return pending().await;
    };
    loop {
        tokio::time::sleep(period / 2).await;
        let stopping = shared.phase.reached(Phase::Stopping);
        let turn = shared.runtime().spawn(ready(()));
        let _ = race(stopping, turn).await;
        shared.manager.alive();
    }
}
