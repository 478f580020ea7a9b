// #[graceful::main(cleanup = "auto", delay = "auto")]
// async fn main() -> impl graceful::Serve {
//     graceful::serve("127.0.0.1:8080", app())
// }

fn main() -> ::graceful::Exit {
    async fn main() -> impl graceful::Serve {
        graceful::serve("127.0.0.1:8080", app())
    }
    ::graceful::Config::new().run(main)
}
::core::compile_error! {
    "only `timeout` can be `\"auto\"`: write `cleanup = \"5s\"`"
}
::core::compile_error! {
    "only `timeout` can be `\"auto\"`: write `delay = \"5s\"`"
}
