//! What stands in for signals on Windows: the events of the console
//! (`SetConsoleCtrlHandler` in Microsoft's documentation).
//!
//! | event | is |
//! |---|---|
//! | Ctrl-C | `SIGINT` |
//! | Ctrl-Break, log-off, shutdown (`docker stop` of a Windows container, too) | `SIGTERM` |
//! | the console is closed | `SIGHUP` |
//!
//! The others never come. After a closed console, a log-off or a shutdown the system ends the
//! process within a few seconds, whatever it does: five by default, 20 for a service.

use std::{
    io,
    task::{Context, Poll},
};

use tokio::signal::windows::{self, CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown};

use super::Signal;

/// The signals of one run. While this exists, none of them has its default action, which is the end
/// of the process.
#[derive(Debug, Default)]
pub(crate) struct Signals(Vec<(Signal, Event)>);

/// One of the console's events.
#[derive(Debug)]
enum Event {
    C(CtrlC),
    Break(CtrlBreak),
    Close(CtrlClose),
    Logoff(CtrlLogoff),
    Shutdown(CtrlShutdown),
}

impl Event {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        match self {
            Self::C(event) => event.poll_recv(cx),
            Self::Break(event) => event.poll_recv(cx),
            Self::Close(event) => event.poll_recv(cx),
            Self::Logoff(event) => event.poll_recv(cx),
            Self::Shutdown(event) => event.poll_recv(cx),
        }
    }
}

impl Signals {
    /// Installs a handler for each signal that has a stand-in. Needs the context of the runtime
    /// that will wait for them.
    pub(crate) fn install(signals: &[Signal]) -> io::Result<Self> {
        let mut all = Vec::new();
        for &signal in signals {
            match signal {
                Signal::SIGINT => all.push((signal, Event::C(windows::ctrl_c()?))),
                Signal::SIGHUP => all.push((signal, Event::Close(windows::ctrl_close()?))),
                Signal::SIGTERM => all.extend([
                    (signal, Event::Break(windows::ctrl_break()?)),
                    (signal, Event::Logoff(windows::ctrl_logoff()?)),
                    (signal, Event::Shutdown(windows::ctrl_shutdown()?)),
                ]),
                _ => {}
            }
        }
        Ok(Self(all))
    }

    /// Waits for the next signal. Never resolves if there are no handlers.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: no signal is lost.
    pub(crate) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        for (signal, event) in &mut self.0 {
            if let Poll::Ready(Some(())) = event.poll_recv(cx) {
                return Poll::Ready(*signal);
            }
        }
        Poll::Pending
    }

    /// On Unix, has each of these end the process at once from here on. Here, the handler's thread
    /// is the system's, and the process ends when this is dropped.
    #[allow(clippy::unused_self, reason = "as on Unix")]
    pub(crate) fn force(&self) {}
}

/// On Unix, notes that a signal that would take its default action is to end the process by
/// `_exit`. Here, the default action is that.
pub(crate) fn process_is_ending() {}

/// Nothing is to be made ready.
#[allow(clippy::unnecessary_wraps, reason = "as on Unix")]
pub(crate) fn prepare(_: &[Signal]) -> io::Result<()> {
    Ok(())
}
