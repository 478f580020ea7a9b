//! salvo, whose server is stopped by its handle.

use graceful_frameworks::addr;
use salvo::prelude::*;

#[handler]
async fn slow() -> &'static str {
    graceful_frameworks::slow().await
}

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> impl graceful::Serve {
    let server = graceful::serve_fn(|shutdown| async {
        let acceptor = TcpListener::new(addr()).try_bind().await?;
        let server = Server::new(acceptor);
        let handle = server.handle();
        tokio::spawn(async move {
            shutdown.await;
            // No limit of its own: the `timeout` is the one that counts.
            handle.stop_graceful(None);
        });
        let served = server.try_serve(Router::with_path("slow").get(slow)).await;
        served.map_err(salvo::Error::from)
    });
    server.name("salvo").addr(addr())
}
