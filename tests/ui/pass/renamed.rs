extern crate graceful as renamed;

mod inner {
    #[renamed::main(crate = "::renamed", timeout = "3s", signals = [SIGTERM])]
    pub async fn run() -> impl renamed::Serve {}
}

fn main() {
    assert_eq!(inner::run().code(), 0);
}
