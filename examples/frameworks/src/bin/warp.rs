//! warp: its filters are a tower service, and `serve` takes it. Its WebSockets are waited for.

use graceful_frameworks::{addr, slow};
use warp::{Filter, filters::ws::Ws};

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> impl graceful::Serve {
    let route = warp::path("slow").then(slow);
    // Until the client closes it, or the limit cuts it.
    let socket = warp::path("ws").and(warp::ws()).map(|ws: Ws| {
        ws.on_upgrade(async |socket| {
            println!("socket begins");
            use futures_util::StreamExt as _;
            let (_, messages) = socket.split();
            messages.for_each(async |_| ()).await;
        })
    });
    let never = warp::any().and_then(async || Err::<&str, _>(warp::reject::not_found()));
    graceful::serve(addr(), warp::service(route.or(socket).or(never)))
}
