#[graceful::main]
const async fn main() {}
