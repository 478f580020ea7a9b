#[graceful::main]
async fn main() -> graceful::Server {
    "server"
}
