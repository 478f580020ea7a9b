//! A server that the service manager of Windows starts and stops.
//!
//! 1. `cargo build --release --target x86_64-pc-windows-gnu` (or on Windows, without a target)
//! 2. As an administrator: `sc create graceful binPath= C:\path\graceful-windows-service.exe`, then
//!    `sc start graceful`; it serves on `http://127.0.0.1:8080`, or at the address that is written
//!    behind it.
//! 3. `sc stop graceful`, or a shutdown of the machine: what is in flight is answered. The manager
//!    sees the service as stopping, for as long as there is progress.

#[cfg(windows)]
fn main() -> windows_service::Result<()> {
    service::run()
}

#[cfg(not(windows))]
fn main() {
    eprintln!("this is for Windows: cargo build --target x86_64-pc-windows-gnu");
}

#[cfg(windows)]
mod service {
    use std::{ffi::OsString, sync::mpsc, time::Duration};

    use axum::{Router, routing::get};
    use graceful::{Config, Running};
    use windows_service::{
        define_windows_service,
        service::{
            ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus,
            ServiceType,
        },
        service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle},
        service_dispatcher,
    };

    const NAME: &str = "graceful";

    /// How often the manager hears of a stop, and how long it waits for the next word.
    const WORD: Duration = Duration::from_secs(1);
    const HINT: Duration = Duration::from_secs(5);

    pub fn run() -> windows_service::Result<()> {
        service_dispatcher::start(NAME, ffi_main)
    }

    define_windows_service!(ffi_main, main);

    fn main(arguments: Vec<OsString>) {
        // The first is the name of the service.
        let addr = arguments.get(1).map(|addr| addr.to_string_lossy().into_owned());
        if let Err(error) = serve(addr.as_deref().unwrap_or("127.0.0.1:8080")) {
            // A service has no console; a real one writes to the event log.
            eprintln!("{error}");
        }
    }

    fn app() -> Router {
        let slow = || async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            "slow"
        };
        Router::new().route("/", get(|| async { "fine" })).route("/slow", get(slow))
    }

    fn serve(addr: &str) -> Result<(), Box<dyn std::error::Error>> {
        let (stop, stops) = mpsc::channel();
        let control = move |control| match control {
            ServiceControl::Stop | ServiceControl::Shutdown => {
                // The receiver is gone: it is stopping already.
                let _ = stop.send(());
                ServiceControlHandlerResult::NoError
            }
            ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
            _ => ServiceControlHandlerResult::NotImplemented,
        };
        let manager = service_control_handler::register(NAME, control)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        // After a shutdown of the machine there are 20 seconds at the most
        // (`WaitToKillServiceTimeout`), and less by default since Windows 10: 5.
        let config = Config::new().timeout(Duration::from_secs(15)).cleanup(Duration::from_secs(2));
        let running =
            runtime.block_on(async { config.start(graceful::serve(addr, app())).await })?;
        tell(&manager, ServiceState::Running, 0, 0)?;
        // Also ends if the channel does.
        let _ = stops.recv();
        let code = runtime.block_on(drain(&manager, running))?;
        tell(&manager, ServiceState::Stopped, 0, code)?;
        Ok(())
    }

    /// Stops, and tells the manager of each second. Returns the exit code.
    async fn drain(
        manager: &ServiceStatusHandle,
        running: Running,
    ) -> windows_service::Result<u32> {
        let mut report = std::pin::pin!(running.stop());
        for checkpoint in 1.. {
            tell(manager, ServiceState::StopPending, checkpoint, 0)?;
            if let Ok(report) = tokio::time::timeout(WORD, &mut report).await {
                return Ok(report.exit().code().into());
            }
        }
        unreachable!("a stop has a limit")
    }

    fn tell(
        manager: &ServiceStatusHandle,
        state: ServiceState,
        checkpoint: u32,
        code: u32,
    ) -> windows_service::Result<()> {
        let accepts = ServiceControlAccept::STOP | ServiceControlAccept::SHUTDOWN;
        let is_pending = state == ServiceState::StopPending;
        manager.set_service_status(ServiceStatus {
            service_type: ServiceType::OWN_PROCESS,
            current_state: state,
            controls_accepted: match state {
                ServiceState::Running => accepts,
                _ => ServiceControlAccept::empty(),
            },
            exit_code: match code {
                0 => ServiceExitCode::NO_ERROR,
                code => ServiceExitCode::ServiceSpecific(code),
            },
            checkpoint,
            wait_hint: if is_pending { HINT } else { Duration::ZERO },
            process_id: None,
        })
    }
}
