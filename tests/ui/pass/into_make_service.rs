use axum::Router;

#[graceful::main]
async fn main() -> impl graceful::Serve {
    // Nothing is to be served here.
    graceful::stop();
    graceful::serve("127.0.0.1:0", Router::<()>::new().into_make_service())
}
