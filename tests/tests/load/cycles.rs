//! Servers that are started and stopped inside one process, again and again: what each of them took
//! is given back.

use std::time::Duration;

use graceful::{Config, TaskGroup};
use graceful_tests::{Client, app::router, held::Held, in_time};

/// In their long form: `GRACEFUL_CYCLES=2000`.
const CYCLES: usize = 200;

fn held() -> Held {
    Held::by(std::process::id())
}

/// With everything that a context can have: requests, tasks, a group, hooks, a server until the
/// exit, a spread, and every tenth time something that is cut.
async fn cycle(number: usize) {
    use graceful::Serve as _;
    let config = Config::new()
        .timeout(Duration::from_millis(50))
        .linger(Duration::ZERO)
        .spread(Duration::from_millis(1));
    let server = graceful::serve("127.0.0.1:0", router());
    let beside = graceful::serve("127.0.0.1:0", router()).until_exit();
    let running = config.start((server, beside)).await.unwrap();
    let (addr, handle) = (running.local_addr().unwrap(), running.handle().clone());
    let group: TaskGroup = handle.task_group("group");
    let shutdown = group.shutdown();
    group.spawn(shutdown);
    handle.on_stop(async {});
    let shutdown = handle.shutdown();
    handle.spawn(shutdown);
    handle.lame_duck(number.is_multiple_of(2));
    let fetch = move || assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    in_time(tokio::task::spawn_blocking(fetch)).await.unwrap();
    let is_cut = number.is_multiple_of(10);
    let _endless = is_cut.then(|| handle.spawn(std::future::pending::<()>()));
    let report = in_time(running.stop()).await;
    assert_eq!(report.is_clean(), !is_cut, "{report}");
}

#[test]
fn what_a_run_takes_is_given_back() {
    let _alone = super::alone();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap().block_on(cycles());
}

async fn cycles() {
    let cycles = std::env::var("GRACEFUL_CYCLES").map_or(CYCLES, |count| count.parse().unwrap());
    let quarter = cycles / 4;
    for number in 0..quarter {
        cycle(number).await;
    }
    let before = held();
    for number in quarter..cycles {
        cycle(number).await;
    }
    // The last sentinel may still be on its way out.
    let start = std::time::Instant::now();
    let after = loop {
        let after = held();
        let is_back =
            after.descriptors <= before.descriptors && after.threads <= before.threads + 1;
        if is_back || start.elapsed() > graceful_tests::PATIENCE {
            break after;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    println!("{cycles} cycles: {before:?}, then {after:?}");
    assert!(after.descriptors <= before.descriptors, "{before:?}, then {after:?}");
    assert!(after.threads <= before.threads + 1, "{before:?}, then {after:?}");
    // A kilobyte for each would be three quarters of this in the long form.
    assert!(after.kilobytes < before.kilobytes + 2_048, "{before:?}, then {after:?}");
}
