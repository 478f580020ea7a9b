#[graceful::test]
#[test]
async fn stops() {}

fn main() {}
