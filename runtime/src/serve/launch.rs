//! Starts a list of servers: all are bound first, then all serve.

use std::future::poll_fn;

use tokio::task::JoinHandle;

use super::{Bound, Servers, servers::BoxFuture};
use crate::{
    context::{Handle, InContext},
    log::say,
    stop::{Event, Listening, Phase},
    util::{Failure, First, panic_message, poll_catching_panics, race},
    work::{Role, TaskGuard, TaskName},
};

/// Binds and serves on the worker threads. The task ends when the last server has ended.
pub(crate) fn spawn(handle: &Handle, servers: Servers) -> JoinHandle<()> {
    // Held until the servers hold their own guards.
    let starting =
        TaskGuard::new(&handle.shared().work, Role::Server(None), TaskName::Text("binding".into()));
    let task = handle.clone();
    let shared = handle.shared();
    shared.runtime().spawn(InContext::new(shared, async move {
        let handle = task;
        let draining = handle.shared().phase.reached(Phase::Draining);
        let bound = match race(draining, bind(&handle, servers)).await {
            // A stop ends start-up.
            First::Left(()) => return,
            First::Right(Ok(bound)) => bound,
            First::Right(Err(failure)) => return handle.shared().tell(Event::Failed(failure)),
        };
        let running = serve(&handle, bound);
        drop(starting);
        ended(&handle, running).await;
    }))
}

/// Binds every server; after a failure, none stays bound.
pub(crate) async fn bind(handle: &Handle, servers: Servers) -> Result<Vec<Bound>, Failure> {
    let mut all = Vec::new();
    for unbound in servers.into_vec() {
        all.extend((unbound.bind)(handle.clone()).await?);
    }
    Ok(all)
}

/// Spawns a task for each server and logs where it listens.
pub(crate) fn serve(handle: &Handle, bound: Vec<Bound>) -> Vec<Started> {
    let shared = handle.shared();
    // The phase comes first, then the announcements: whoever learns that the program is ready finds
    // it ready. Without a server, there is nothing that could be ready.
    if !bound.is_empty() {
        shared.begin_to_serve();
    }
    let listening = bound.iter().map(|bound| (bound.name.clone(), bound.addr.clone()));
    let listening = (!bound.is_empty()).then(|| Listening::new(listening));
    let mut running = Vec::with_capacity(bound.len());
    for Bound { name, addr, run, context, is_out_of_band, says_its_end, waiting } in bound {
        if addr.is_some() {
            say!(shared.log, info, { addr = name.clone() }, "listening on {name}");
        }
        let server = watched(handle.clone(), name.clone(), run, says_its_end && !is_out_of_band);
        let context = context.unwrap_or_else(|| handle.clone());
        // Until the last of its connections is a member itself.
        let membership = context.shared().membership();
        let server = async move {
            server.await;
            drop(membership);
        };
        let task =
            context.spawn_tracked(Role::Server(waiting), TaskName::Text(name.into()), server);
        running.push(Started { task, is_out_of_band });
    }
    if let Some(listening) = listening {
        #[cfg(feature = "net")]
        for name in crate::net::unclaimed() {
            say!(
                shared.log,
                warn,
                { server = name.clone() },
                "systemd has passed the socket `{name}`, and no address asks for it: its clients \
                 are not served"
            );
        }
        let listening_on = listening.to_string();
        let status = format!("serving on {listening_on}");
        shared.tell_ready(match listening_on.as_str() {
            "" => "serving",
            _ => &status,
        });
        shared.ready.set(&listening);
    }
    running
}

pub(crate) struct Started {
    task: JoinHandle<()>,
    is_out_of_band: bool,
}

/// Waits for the last server and tells the sentinel. Servers that keep running while the program
/// stops are not waited for, unless there are no others.
pub(crate) async fn ended(handle: &Handle, running: Vec<Started>) {
    let all_out_of_band = running.iter().all(|server| server.is_out_of_band);
    for server in running {
        if all_out_of_band || !server.is_out_of_band {
            // A failure has been reported already, and the cut names whatever it aborts.
            let _ = server.task.await;
        }
    }
    handle.shared().tell(Event::Finished);
}

/// Runs a server and tells the sentinel if it fails. This happens within the server's task, so that
/// the drain does not end before the failure is reported.
async fn watched(
    handle: Handle,
    name: String,
    mut run: BoxFuture<Result<(), Failure>>,
    says_its_end: bool,
) {
    let failure = match poll_fn(|cx| poll_catching_panics(|| run.as_mut().poll(cx))).await {
        Ok(Ok(())) => {
            // The others keep running, so it would go unnoticed.
            if says_its_end && !handle.is_stopping() {
                let log = &handle.shared().log;
                say!(log, info, { server = name.clone() }, "server {name} has ended by itself");
            }
            return;
        }
        Ok(Err(failure)) => failure,
        Err(panic) => Failure::new(format!("panicked: {}", panic_message(&*panic))),
    };
    let failure = failure.context(&format!("server {name}"));
    handle.shared().tell(Event::Failed(failure));
}

#[cfg(all(test, not(graceful_loom)))]
mod tests {
    use super::*;
    use crate::stop::Limits;

    /// There is no sentinel here, so only `serve` can have advanced the phase.
    #[tokio::test]
    async fn the_program_serves_before_anybody_is_told() {
        let handle = Handle::for_test(Limits::NONE);
        handle.shared().set_runtime(tokio::runtime::Handle::current());
        let (told, mut phase_when_told) = tokio::sync::mpsc::unbounded_channel();
        let looks = handle.clone();
        handle.shared().ready.call(Box::new(move |_| {
            told.send(looks.shared().phase.now()).unwrap();
        }));
        let run = Box::pin(std::future::ready(Ok(())));
        serve(&handle, vec![Bound::other("a server".into(), None, run)]);
        assert_eq!(phase_when_told.recv().await, Some(Phase::Serving));
    }
}
