#[graceful::main(colour = "red")]
async fn main() {}
