// #[graceful::main(timeout = "3s")]
// async fn main() -> impl graceful::Serve {
//     let app = axum::Router::new().route("/", axum::routing::get(|| async { "Hello world!" }));
//     graceful::serve("127.0.0.1:8080", app)
// }

fn main() -> ::graceful::Exit {
    async fn main() -> impl graceful::Serve {
        let app = axum::Router::new()
            .route("/", axum::routing::get(|| async { "Hello world!" }));
        graceful::serve("127.0.0.1:8080", app)
    }
    ::graceful::Config::new().timeout(::core::time::Duration::from_secs(3u64)).run(main)
}
