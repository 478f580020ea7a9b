#[graceful::main]
#[tokio::main]
async fn main() {}
