//! The attribute in a crate where `::graceful` is not to be found.

/// All that the expansion has to find.
#[renamed::main(
    crate = "::renamed",
    timeout = "3s",
    delay = env("DELAY", "0s"),
    cleanup = "none",
    signals = [SIGTERM],
    flavor = "current_thread"
)]
pub async fn run() -> impl renamed::Serve {}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() {
        assert_eq!(super::run().code(), 0);
    }

    #[renamed::test(crate = "::renamed", timeout = "3s")]
    async fn a_test_runs() {
        renamed::stop();
        renamed::shutdown().await;
    }
}
