//! sentry: its guard sends what is under way when it is dropped. Of the stop it gets what was cut,
//! which is an error.

use std::{
    fs::File,
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use sentry::{ClientOptions, Envelope, Transport, TransportFactory};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

/// In the place of the network: what is sent goes to a file, when it is flushed.
struct ToFile(Mutex<Vec<u8>>);

impl Transport for ToFile {
    fn send_envelope(&self, envelope: Envelope) {
        let mut waiting = self.0.lock().expect("nothing has panicked");
        envelope.to_writer(&mut *waiting).expect("into memory");
    }

    fn flush(&self, _: Duration) -> bool {
        let folder = std::env::var("FOLDER").expect("FOLDER is set");
        let waiting = self.0.lock().expect("nothing has panicked");
        File::create(format!("{folder}/log")).and_then(|mut file| file.write_all(&waiting)).is_ok()
    }
}

struct Factory;

impl TransportFactory for Factory {
    fn create_transport(&self, _: &ClientOptions) -> Arc<dyn Transport> {
        Arc::new(ToFile(Mutex::default()))
    }
}

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> impl graceful::Serve {
    let dsn = "https://key@sentry.invalid/1".parse().ok();
    let transport: Arc<dyn TransportFactory> = Arc::new(Factory);
    let transport = Some(transport);
    let guard = sentry::init(ClientOptions { dsn, transport, ..ClientOptions::default() });
    tracing_subscriber::registry().with(sentry::integrations::tracing::layer()).init();
    graceful::keep(guard);
    graceful_frameworks::telling()
}
