//! actix-web, which has a server and workers of its own.

use actix_web::{App, HttpServer, web};
use graceful_frameworks::{addr, slow};

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> std::io::Result<impl graceful::Serve> {
    let app = || App::new().route("/slow", web::get().to(slow));
    let server = HttpServer::new(app).workers(2).bind(addr())?;
    // Its limit, in seconds, above any `timeout`, which names what it cuts.
    let server = server.disable_signals().shutdown_timeout(31_536_000).run();
    let handle = server.handle();
    Ok(graceful::serve_fn(move |shutdown| async move {
        tokio::spawn(async move {
            shutdown.await;
            handle.stop(true).await;
        });
        server.await
    })
    .name("actix")
    .addr(addr()))
}
