#[graceful::main]
fn main() -> impl graceful::Serve {}
