macro_rules! program {
    ($limit:expr) => {
        #[graceful::main(timeout = $limit)]
        async fn main() {}
    };
}

program!(std::time::Duration::from_secs(3));
