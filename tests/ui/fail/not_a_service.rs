#[graceful::main]
async fn main() -> impl graceful::Serve {
    graceful::serve("127.0.0.1:8080", "hello")
}
