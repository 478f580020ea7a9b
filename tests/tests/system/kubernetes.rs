//! The manifests of the example: that their numbers fit together, and that they run.

use std::{
    fs, io,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use graceful::Config;
use graceful_tests::{Client, container, podman::Podman, systemd::free_addr};

fn example(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name))
        .unwrap()
}

/// The number behind the first `key:` that follows `after`.
fn number(text: &str, after: &str, key: &str) -> u64 {
    let (_, text) = text.split_once(after).unwrap_or_else(|| panic!("no {after}"));
    let (_, text) = text.split_once(&format!("{key}:")).unwrap_or_else(|| panic!("no {key}"));
    let digits: String = text.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{key}:{text}"))
}

/// A variable of the environment that is a duration of whole seconds.
fn seconds(text: &str, name: &str) -> Duration {
    let (_, text) = text.split_once(&format!("name: {name}, value: ")).unwrap();
    let (digits, _) = text.split_once('s').unwrap();
    Duration::from_secs(digits.parse().unwrap())
}

#[test]
fn the_grace_period_is_as_long_as_a_stop_may_take() {
    let deployment = example("kubernetes/deployment.yaml");
    let delay = seconds(&deployment, "DELAY");
    let config = Config::new()
        .delay(delay)
        .timeout(seconds(&deployment, "TIMEOUT"))
        .cleanup(seconds(&deployment, "CLEANUP"));
    let longest = config.longest_stop().unwrap().unwrap().as_secs();
    let grace = number(&deployment, "spec:", "terminationGracePeriodSeconds");
    assert!(longest < grace && grace <= longest + 2, "{longest} s of {grace} s");
    assert!(deployment.contains(&format!("GRACEFUL_GRACE_PERIOD, value: \"{grace}\"")));
    // The probe has said 503, and was heard, before the delay is over.
    let probe = "readinessProbe:";
    let heard = number(&deployment, probe, "periodSeconds")
        * number(&deployment, probe, "failureThreshold");
    assert!(Duration::from_secs(heard) < delay);
    assert!(!deployment.contains("preStop:"));
    // A pod that only starts slowly is not restarted for it.
    assert!(number(&deployment, "startupProbe:", "failureThreshold") >= 10);
    for file in ["service", "disruption-budget"] {
        let selects = "app: graceful-web";
        assert!(example(&format!("kubernetes/{file}.yaml")).contains(selects), "{file}");
    }
}

#[test]
fn compose_gives_the_time_that_a_stop_may_take() {
    let compose = example("container/compose.yaml");
    let seconds = |name| Duration::from_secs(number(&compose, "environment:", name));
    let config = Config::new().timeout(seconds("TIMEOUT")).cleanup(seconds("CLEANUP"));
    let longest = config.longest_stop().unwrap().unwrap().as_secs();
    assert!(longest < number(&compose, "environment:", "stop_grace_period"));
    assert!(longest < number(&compose, "environment:", "GRACEFUL_GRACE_PERIOD"));
}

/// Requests of one client until the port is closed, which is when it returns. Each on a connection
/// of its own, or all on one for as long as the server keeps it.
fn ask(addr: SocketAddr, keep: bool, answered: &AtomicUsize) -> Result<Instant, String> {
    let mut connection: Option<Client> = None;
    loop {
        let mut client = match connection.take() {
            Some(client) => client,
            None => match Client::try_connect(addr) {
                Ok(client) => client,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Ok(Instant::now());
                }
                Err(error) => return Err(format!("connecting: {error}")),
            },
        };
        client.get("/slow/20");
        let response = client.try_response().map_err(|error| error.to_string())?;
        if response.text() != "done\n" {
            return Err(response.text());
        }
        answered.fetch_add(1, Ordering::Relaxed);
        if keep && !response.closes() {
            connection = Some(client);
        }
    }
}

/// `podman kube play` with the Deployment, and its pod stopped under load. Changed are what this
/// engine has no word for here: it maps no ports of the host's own network, and knows no other
/// address than the one that it gives.
#[test]
fn the_manifest_runs_and_its_pod_stops_under_load() {
    let Some(podman) = Podman::start() else { return };
    container::build(&podman);
    let (listen, probes) = (free_addr(), free_addr());
    let deployment = example("kubernetes/deployment.yaml").replace("replicas: 2", "replicas: 1");
    let (before, rest) = deployment.split_once("          ports:\n").unwrap();
    let (_, after) = rest.split_once("          env:\n").unwrap();
    let addresses = format!(
        "          env:\n            - {{ name: LISTEN, value: \"{listen}\" }}\n            \
         - {{ name: PROBES, value: \"{probes}\" }}\n"
    );
    let file = podman.folder().join("deployment.yaml");
    fs::write(&file, format!("{before}{addresses}{after}")).unwrap();
    let file = file.to_str().unwrap();
    podman.done(&["play", "kube", "--network", "host", file]);
    let (pod, web) = ("graceful-web-pod-0", "graceful-web-pod-0-web");
    podman.line(web, &format!("listening on http://{probes}"));
    assert_eq!(Client::connect(probes).fetch("/readyz").status, 200);
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..16)
            .map(|number| {
                let answered = &answered;
                scope.spawn(move || ask(listen, number % 2 == 0, answered))
            })
            .collect();
        while answered.load(Ordering::Relaxed) < 200 {
            thread::yield_now();
        }
        let stop = scope.spawn(|| podman.done(&["pod", "stop", "--time", "32", pod]));
        podman.line(web, "SIGTERM received, still accepting for 6s");
        let signal = Instant::now();
        assert_eq!(Client::connect(probes).fetch("/readyz").status, 503);
        stop.join().unwrap();
        for client in clients {
            // Nobody is refused before the delay of 6 s is over.
            let refused = client.join().unwrap().unwrap();
            let after = refused.saturating_duration_since(signal);
            assert!(after > Duration::from_secs(5), "refused after {after:?}");
        }
    });
    assert_eq!(podman.exit_code(web), 0);
    podman.done(&["play", "kube", "--down", file]);
}
