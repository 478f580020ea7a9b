//! warp: its filters are a tower service, and `serve` takes it.

use graceful_frameworks::{addr, slow};
use warp::Filter;

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> impl graceful::Serve {
    let route = warp::path("slow").then(slow);
    let never = warp::any().and_then(async || Err::<&str, _>(warp::reject::not_found()));
    graceful::serve(addr(), warp::service(route.or(never)))
}
