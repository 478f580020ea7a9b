//! `tracing_appender`: the guard of its writer is kept until the report is in the file.

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> impl graceful::Serve {
    let folder = std::env::var("FOLDER").expect("FOLDER is set");
    let file = tracing_appender::rolling::never(folder, "log");
    let (writer, guard) = tracing_appender::non_blocking(file);
    tracing_subscriber::fmt().with_writer(writer).with_ansi(false).init();
    graceful::keep(guard);
    graceful_frameworks::telling()
}
