//! actix-web as it stops by itself: it listens for the signals, and drains.

use actix_web::{App, HttpServer, web};

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let app = || App::new().route("/", web::get().to(async || "hello"));
    let server = HttpServer::new(app).workers(2).bind("127.0.0.1:0")?;
    println!("listening on http://{}", server.addrs()[0]);
    server.run().await
}
