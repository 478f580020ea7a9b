//! tonic: its routes are a service, and `serve` takes it. With health checks, which say at the
//! first signal that no new calls should come here, and end the streams of those that watch.

use graceful_frameworks::{addr, slow};
use tonic::{codegen::http::Request, service::Routes, transport::server::TcpConnectInfo};

/// What tonic's `Request::remote_addr` looks for.
fn tell_tonic<B>(mut request: Request<B>) -> Request<B> {
    if let Some(info) = request.extensions().get::<graceful::ConnectInfo>() {
        let (local_addr, remote_addr) = (info.local_addr(), info.peer_addr());
        request.extensions_mut().insert(TcpConnectInfo { local_addr, remote_addr });
    }
    request
}

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> impl graceful::Serve {
    let (mut health, checks) = tonic_health::server::health_reporter();
    let (stopping, shutdown) = (graceful::stopping(), graceful::shutdown());
    graceful::spawn(async move {
        stopping.await;
        health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        // A stream of `Watch` ends with the status that it watches.
        shutdown.await;
        health.clear_service_status("").await;
    });
    // Your services go here; over HTTP/1 there is a route of axum's beside them.
    let routes = Routes::new(checks).prepare().into_axum_router();
    let routes = routes.route("/slow", axum::routing::get(slow));
    let routes = routes.layer(tower::util::MapRequestLayer::new(tell_tonic));
    graceful::serve(addr(), routes).connect_info()
}
