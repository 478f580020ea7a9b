//! Server-sent events: a response that never ends by itself ends when the drain starts.
//!
//! 1. `cargo run --example events`
//! 2. In a second terminal, `curl -N http://127.0.0.1:8080`: an event each second.
//! 3. In the first, press Ctrl-C: curl ends well (`echo $?` says 0), and so does the program.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    response::sse::{Event, Sse},
    routing::get,
};
use futures_util::{Stream, stream};
use graceful_examples::addr;

fn ticks() -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(1, |count| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok(Event::default().data(format!("tick {count}"))), count + 1))
    })
}

async fn events() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(graceful::until_shutdown(ticks()))
}

#[graceful::main(timeout = "5s")]
async fn main() -> impl graceful::Serve {
    graceful::serve(addr(), Router::new().route("/", get(events)))
}
