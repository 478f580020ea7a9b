#[graceful::main(signals = [SIGKILL, SIGSTOP])]
async fn main() {}
