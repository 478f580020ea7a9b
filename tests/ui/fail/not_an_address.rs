#[graceful::main]
async fn main() -> impl graceful::Serve {
    graceful::serve(8080, axum::Router::new())
}
