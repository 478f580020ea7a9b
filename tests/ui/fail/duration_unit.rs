#[graceful::main(timeout = "3sec", delay = "2d")]
async fn main() {}
