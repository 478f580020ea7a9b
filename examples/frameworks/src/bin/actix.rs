//! actix-web, which has a server and workers of its own: told to leave the signals alone, and to stop
//! by its handle.

use actix_web::{App, HttpServer, web};
use graceful_frameworks::{addr, slow};

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> impl graceful::Serve {
    let server = graceful::serve_fn(|shutdown| async {
        let app = || App::new().route("/slow", web::get().to(slow));
        let server = HttpServer::new(app).disable_signals().workers(2);
        // Longer than the `timeout`, which then is the one that counts.
        let server = server.shutdown_timeout(3_600).bind(addr())?.run();
        let handle = server.handle();
        tokio::spawn(async move {
            shutdown.await;
            handle.stop(true).await;
        });
        server.await
    });
    server.name("actix").addr(addr())
}
