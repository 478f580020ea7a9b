use std::error::Error;

#[graceful::main]
async fn unit() {}

#[graceful::main]
async fn result_unit() -> Result<(), String> {
    Ok(())
}

#[graceful::main]
async fn boxed() -> Result<(), Box<dyn Error>> {
    Ok(())
}

#[graceful::main]
async fn servers() -> Vec<graceful::Server> {
    Vec::new()
}

#[graceful::main]
async fn tuple() -> ((), Vec<graceful::ServeFn>) {
    ((), Vec::new())
}

#[graceful::main]
async fn future() -> impl Future<Output = ()> {
    async {}
}

#[graceful::main]
async fn future_result() -> impl Future<Output = Result<(), std::io::Error>> {
    async { Ok(()) }
}

#[graceful::main]
async fn result_of_future() -> Result<impl Future<Output = Result<(), Box<dyn Error + Send + Sync>>>, String> {
    Ok(async { Ok(()) })
}

fn main() {
    for run in [unit, result_unit, boxed, servers, tuple, future, future_result, result_of_future] {
        assert_eq!(run().code(), 0);
    }
}
