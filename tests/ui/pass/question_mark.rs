#[graceful::main]
async fn main() -> Result<impl graceful::Serve, Box<dyn std::error::Error + Send + Sync>> {
    let number: u8 = "1".parse()?;
    assert_eq!(number, 1);
    Ok(())
}
