//! What is in flight, said whenever somebody asks for it by a signal.

use std::{convert::Infallible, sync::Arc};

use super::{messages, shared::Shared};
use crate::signal::Signals;

/// Says it at each of `signals`, for as long as there is a sentinel.
pub(super) async fn on_signal(shared: &Arc<Shared>, signals: &mut Signals) -> Infallible {
    loop {
        let signal = signals.next().await;
        messages::in_flight(shared, signal);
    }
}
