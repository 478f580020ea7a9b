macro_rules! program {
    ($name:ident, $limit:literal, $body:block) => {
        #[graceful::main(timeout = $limit)]
        async fn $name() $body
    };
}

program!(main, "3s", {
    let _ = 1 + 1;
});
