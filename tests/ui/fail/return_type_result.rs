struct App;

#[graceful::main]
async fn main() -> Result<App, std::io::Error> {
    Ok(App)
}
