use graceful::{Failure, Outcome, via};

struct Own;

impl Outcome<via::Unit> for Own {
    fn outcome(self, _: graceful::util::Sealed) -> Result<(), Failure> {
        Ok(())
    }
}

mod others {
    use graceful::{Fail, HttpService, Main, StartPaused, via};

    use super::Own;

    impl Main<via::Serve> for Own {}

    impl Fail<via::Boxed> for Own {}

    impl HttpService<via::Hyper> for Own {}

    impl StartPaused for Own {}
}

fn main() {}
