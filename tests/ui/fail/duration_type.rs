#[graceful::main(timeout = String::from("3s"))]
async fn main() {}
