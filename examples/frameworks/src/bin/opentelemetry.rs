//! OpenTelemetry: the provider is shut down, which exports what it has, once the report is out.

use std::{fs::File, io::Write, sync::Mutex};

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

/// Has it export what it has when it is dropped.
struct Telemetry(SdkTracerProvider);

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            eprintln!("telemetry is not complete: {error}");
        }
    }
}

/// In the place of an exporter to a collector: spans and their events, a line each.
#[derive(Debug)]
struct ToFile(Mutex<File>);

impl SpanExporter for ToFile {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut file = self.0.lock().expect("no export has panicked");
        for span in batch {
            for event in span.events.iter() {
                writeln!(file, "{}: {}", span.name, event.name).expect("written");
            }
        }
        Ok(())
    }
}

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> std::io::Result<impl graceful::Serve> {
    let folder = std::env::var("FOLDER").expect("FOLDER is set");
    let exporter = ToFile(Mutex::new(File::create(format!("{folder}/log"))?));
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("example"));
    tracing_subscriber::registry().with(layer).init();
    graceful::keep(Telemetry(provider));
    Ok(graceful_frameworks::telling())
}
