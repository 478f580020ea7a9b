//! actix-web, which has a server and workers of its own.

use actix_web::{App, HttpServer, web};
use graceful_frameworks::{addr, slow};

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> std::io::Result<impl graceful::Serve> {
    let app = || App::new().route("/slow", web::get().to(slow));
    Ok(graceful::actix!(HttpServer::new(app).workers(2).bind(addr())?))
}
