//! poem, whose server takes the future.

use graceful_frameworks::addr;
use poem::{Route, Server, get, handler, listener::TcpListener};

#[handler]
async fn slow() -> &'static str {
    graceful_frameworks::slow().await
}

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> impl graceful::Serve {
    let server = graceful::serve_fn(|shutdown| {
        let app = Route::new().at("/slow", get(slow));
        // No limit of its own: the `timeout` is the one that counts.
        Server::new(TcpListener::bind(addr())).run_with_graceful_shutdown(app, shutdown, None)
    });
    server.name("poem").addr(addr())
}
