use axum::Router;
use tokio::net::TcpListener;

#[graceful::main]
async fn main() -> std::io::Result<impl graceful::Serve> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    Ok(axum::serve(listener, Router::new()).with_graceful_shutdown(graceful::shutdown()))
}
