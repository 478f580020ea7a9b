use axum::Router;

#[graceful::main]
async fn main() -> impl graceful::Serve {
    Router::<()>::new()
}
