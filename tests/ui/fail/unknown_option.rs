#[graceful::main(timout = "3s")]
async fn main() {}
