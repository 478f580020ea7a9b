#[graceful::main(signals = [SIGTREM, Int, SIGFOO])]
async fn main() {}
