#[graceful::main(dump = [SIGTERM], timeout = "3s")]
async fn main() {}

mod both {
    #[graceful::main(signals = [SIGINT, SIGUSR1], dump = [SIGUSR1])]
    async fn main() {}
}

mod empty {
    #[graceful::main(dump = [])]
    async fn main() {}
}

#[graceful::test(dump = [SIGUSR2])]
async fn nobody_sends_one_here() {}
