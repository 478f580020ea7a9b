#[graceful::main(delay = "none", linger = "none")]
async fn main() {}
