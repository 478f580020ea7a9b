#[graceful::main]
async fn main() -> impl graceful::Serve {
    let port: u16 = "8080";
    graceful::serve(("127.0.0.1", port), axum::Router::new())
}
