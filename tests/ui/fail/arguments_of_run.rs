#[graceful::main]
async fn run(port: u16, name: String) {
    let _ = (port, name);
}

fn main() -> graceful::Exit {
    run(8080, String::new())
}
