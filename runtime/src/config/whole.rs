//! What the main thread waits for: `main`, what it returns, the report, and what it has kept.

use std::future::{Future, pending};

use tokio::sync::oneshot;

use super::body::BodyGuard;
use crate::{
    context::{self, Handle},
    log::say,
    serve::{BodyKind, Main, Servers, launch},
    stop::{Event, Report},
    util::{First, Sealed, race},
};

/// All of it, from the first line of `main` on.
pub(super) async fn whole<F, Fut, Via>(handle: &Handle, main: F, over: oneshot::Receiver<Report>)
where
    F: FnOnce() -> Fut,
    Fut: Future<Output: Main<Via>>,
{
    let body = async {
        body(handle, main).await;
        pending::<()>().await;
    };
    match race(over, body).await {
        First::Left(_) | First::Right(()) => {}
    }
    drop_kept(handle).await;
}

/// Drops what the program has kept, now that the report is out: on a thread of its own, so that the
/// runtime goes on, which it may need to flush what it has.
async fn drop_kept(handle: &Handle) {
    if handle.shared().kept.is_empty() {
        return;
    }
    let (done, dropped) = oneshot::channel::<()>();
    let (handle, runtime) = (handle.clone(), tokio::runtime::Handle::current());
    let thread = std::thread::Builder::new().name("graceful-keep".to_owned());
    let spawned = thread.spawn(move || {
        let _runtime = runtime.enter();
        let _context = context::enter(handle.shared().clone());
        handle.shared().kept.drop_all();
        drop(done);
    });
    // Without a thread they are dropped on this one, a little later. The end of the sender is all
    // that is waited for.
    if spawned.is_ok() {
        let _ = dropped.await;
    }
}

/// Runs the body of `main` and starts what it returns.
async fn body<F, Fut, Via>(handle: &Handle, main: F)
where
    F: FnOnce() -> Fut,
    Fut: Future<Output: Main<Via>>,
{
    let shared = handle.shared();
    let kind = <Fut::Output as Main<Via>>::body_kind(Sealed);
    // Goes last: by then the servers hold guards of their own.
    let guard = BodyGuard::new(shared, kind);
    let result = match guard.run(async { main().await }).await {
        // The stop has dropped it.
        None => {
            // Or the limit, which names it.
            if kind == BodyKind::StartUp && !shared.main_has_asked() {
                say!(
                    shared.log,
                    info,
                    {},
                    "`main` had not returned its server yet, and was dropped"
                );
            }
            return;
        }
        Some(Err(_panic)) => return shared.tell(Event::Panicked),
        Some(Ok(value)) => {
            let mut servers = Servers::default();
            value.into_servers(&mut servers, Sealed).map(|()| servers)
        }
    };
    let servers = match result {
        Err(failure) => return shared.tell(Event::Failed(failure)),
        Ok(servers) => servers,
    };
    if servers.is_empty() {
        say_what_is_not_served(handle, kind);
    }
    drop(launch::spawn(handle, servers));
}

/// A program that ends before it was meant to looks like one that has done its work.
fn say_what_is_not_served(handle: &Handle, kind: BodyKind) {
    let shared = handle.shared();
    if shared.phase.is_stopping() {
        return;
    }
    let alive = shared.runtime().metrics().num_alive_tasks();
    match (kind, shared.take_unserved()) {
        (_, Some(server)) => say!(
            shared.log,
            warn,
            { server = server.clone() },
            "nothing to serve: the server for {server} was dropped; return it from `main`"
        ),
        (BodyKind::StartUp, None) => {
            say!(shared.log, warn, {}, "nothing to serve: `main` has returned no server");
        }
        // Nothing that is waited for, and yet something runs. A program that has asked for the stop
        // has seen to its end.
        (BodyKind::Work, None) if alive > 0 && !shared.has_work() && !shared.main_has_asked() => {
            let what = if alive == 1 { "a task" } else { "tasks" };
            say!(
                shared.log,
                warn,
                { tasks = alive },
                "`main` has returned and ended {what} of `tokio::spawn`; `graceful::spawn` is \
                 waited for"
            );
        }
        (BodyKind::Work, None) => {}
    }
}
