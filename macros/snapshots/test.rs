// #[graceful::test(timeout = "1s")]
// async fn drains() {
//     graceful::stop();
// }

#[::core::prelude::v1::test]
fn drains() {
    async fn drains() {
        graceful::stop();
    }
    ::graceful::Config::new()
        .flavor(::graceful::Flavor::CurrentThread)
        .timeout(::core::time::Duration::from_secs(1u64))
        .test(drains)
}
