#[graceful::main]
async fn main() {
    #![allow(unused_variables)]
    let unused = 1;
}
