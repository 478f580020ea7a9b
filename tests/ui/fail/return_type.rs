struct App;

#[graceful::main]
async fn main() -> App {
    App
}
