// #[graceful::main(timeout = "auto")]
// async fn main() -> impl graceful::Serve {
//     graceful::serve("127.0.0.1:8080", app())
// }

fn main() -> ::graceful::Exit {
    async fn main() -> impl graceful::Serve {
        graceful::serve("127.0.0.1:8080", app())
    }
    ::graceful::Config::new().auto_timeout().run(main)
}
