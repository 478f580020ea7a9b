// #[graceful::main]
// fn main(port: u16) {}

fn main() -> ::graceful::Exit {
    async fn main(port: u16) {}
    ::graceful::Config::new().run(async || ::core::unimplemented!())
}
::core::compile_error! {
    "`async` is missing: write `async fn` (and if `#[tokio::main]` stands above, delete that one: it has made this function a blocking one)"
}
::core::compile_error! {
    "the function is called without arguments: read them in its body, as with `std::env::args()`"
}
