//! Probes on their own port, as Kubernetes uses them.

use std::{convert::Infallible, fmt::Write as _};

use http::{
    Method, Request, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use hyper::{body::Incoming, service::service_fn};

use super::server::{Server, serve};
use crate::{
    context::Handle,
    net::Listen,
    stop::{Figure, FigureKind, Phase, Shared},
    util::threads,
    work::InFlight,
};

/// # Probes
impl Server {
    /// Answers probes on their own port until the process ends, even while hooks run
    /// ([`until_exit`](crate::Serve::until_exit)):
    ///
    /// | path | returns 200 |
    /// |---|---|
    /// | `/livez` | while the runtime makes progress; there is no answer if all of its threads are blocked |
    /// | `/readyz` | until the first stop signal, unless the program says otherwise ([`Handle::ready`](crate::Handle::ready)); else 503 with the reason |
    /// | `/startupz` | once every listener is bound |
    /// | `/metrics` | always, with the figures of the run in the text format of Prometheus; see [`Config::scrape`](crate::Config::scrape) |
    /// | `/in-flight` | always, with the work in flight and its age: JSON, or a page for a browser |
    ///
    /// `/in-flight` exposes clients and paths, so keep the port inside the cluster.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # let app = axum::Router::new();
    /// let server = graceful::serve("0.0.0.0:8080", app).probes("0.0.0.0:9000");
    /// ```
    pub fn probes(mut self, addr: impl Listen) -> Self {
        self.probes = Some(Box::new(server(addr)));
        self
    }
}

/// The server for that port.
fn server(addr: impl Listen) -> Server {
    serve(addr, service_fn(async |request| Ok::<_, Infallible>(answer(&request).await)))
}

async fn answer(request: &Request<Incoming>) -> Response<String> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are what there is to ask");
    }
    let handle = Handle::current();
    let program = handle.shared().program();
    match request.uri().path() {
        "/readyz" => match program.unready(Phase::Serving) {
            None => text(StatusCode::OK, "ok"),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &reason),
        },
        "/startupz" if program.phase.now() == Phase::Starting => {
            text(StatusCode::SERVICE_UNAVAILABLE, "starting")
        }
        // If this runs, the runtime makes progress and every listener is bound.
        "/livez" | "/startupz" => text(StatusCode::OK, "ok"),
        "/in-flight" => {
            let (program, as_text) = (program.clone(), wants_text(request.headers()));
            // There may be thousands of requests, too many to format on a worker; and the blocking
            // pool may be what hangs.
            let answer = move || in_flight(&program, as_text);
            threads::on_own_thread("graceful-probe", answer)
                .await
                .unwrap_or_else(|error| text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))
        }
        "/metrics" => metrics(program),
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /livez, /readyz, /startupz, /metrics and /in-flight",
        ),
    }
}

fn text(status: StatusCode, line: &str) -> Response<String> {
    of_type("text/plain; charset=utf-8", status, format!("{line}\n"))
}

fn of_type(kind: &'static str, status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Whether a browser is asking.
fn wants_text(headers: &HeaderMap) -> bool {
    let accepts = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("");
    accepts.contains("text/html") || accepts.contains("text/plain")
}

/// Lists the work in flight and its age: as a page for a browser, otherwise as JSON.
fn in_flight(program: &Shared, as_text: bool) -> Response<String> {
    let counts = program.work.counts();
    let mut all = program.in_flight();
    all.retain(|work| !work.is_idle());
    if as_text {
        let line = |work: &InFlight| format!("\n{work}");
        let lines: String = all.iter().map(line).collect();
        return text(StatusCode::OK, &format!("in flight: {counts}\n{lines}"));
    }
    let json = serde_json::json!({
        "phase": program.phase.now().name(),
        "requests": counts.requests(),
        "connections": counts.connections(),
        "tasks": counts.tasks(),
        "in_flight": all,
    });
    of_type("application/json", StatusCode::OK, format!("{json}\n"))
}

/// Writes the figures in the text format of Prometheus, version 0.0.4.
fn metrics(program: &Shared) -> Response<String> {
    // In this order: what is read after it is the last there is.
    let are_final = program.final_figures.is_final();
    let mut page = String::new();
    for Figure { name, help, kind, label, values } in program.figures() {
        let kind = match kind {
            FigureKind::Gauge => "gauge",
            FigureKind::Counter => "counter",
        };
        // Writing to a `String` cannot fail.
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (of_label, value) in values {
            let _ = match label {
                Some(label) => writeln!(page, "{name}{{{label}=\"{of_label}\"}} {value}"),
                None => writeln!(page, "{name} {value}"),
            };
        }
    }
    if are_final {
        program.final_figures.note_scraped();
    }
    let mut response = Response::new(page);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
