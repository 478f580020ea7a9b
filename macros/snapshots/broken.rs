// #[graceful::main(timout = "3s", delay = "5")]
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
    "unknown option `timout`: did you mean `timeout`?"
}
::core::compile_error! {
    "a number without a unit: write `\"5s\"`"
}
