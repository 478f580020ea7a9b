//! In real containers: podman, as root, with runc.

use crate::FIXTURES;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use graceful_tests::{Client, container::build, podman::Podman, systemd::free_addr};

/// Starts the image, with its limits.
fn run(podman: &Podman, timeout: &str) -> SocketAddr {
    let (listen, probes) = (free_addr(), free_addr());
    podman.done(&[
        "run",
        "-d",
        "--network",
        "host",
        "--name",
        "web",
        "--read-only",
        "--cap-drop",
        "all",
        "-e",
        &format!("LISTEN={listen}"),
        "-e",
        &format!("PROBES={probes}"),
        "-e",
        &format!("TIMEOUT={timeout}"),
        "graceful-web",
    ]);
    podman.line("web", "listening on");
    listen
}

#[test]
fn a_request_is_answered_while_the_container_is_stopped() {
    let Some(podman) = Podman::start() else { return };
    build(&podman);
    let addr = run(&podman, "20s");
    let mut client = Client::connect(addr);
    let start = Instant::now();
    client.get("/slow/2000");
    // So that it is not the queue that it waits in.
    Client::connect(addr).fetch("/");
    podman.done(&["stop", "-t", "10", "web"]);
    // Else it was killed.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(client.response().text(), "done\n");
    assert_eq!(podman.exit_code("web"), 0);
    let logs = podman.logs("web");
    assert!(logs.contains("SIGTERM received") && logs.contains("drained 1 request"), "{logs}");
}

#[test]
fn a_limit_that_is_reached_is_the_exit_code_of_the_container() {
    let Some(podman) = Podman::start() else { return };
    build(&podman);
    let addr = run(&podman, "500ms");
    let mut client = Client::connect(addr);
    client.get("/slow/60000");
    Client::connect(addr).fetch("/");
    podman.done(&["stop", "-t", "10", "web"]);
    assert_eq!(podman.exit_code("web"), 124);
    podman.line("web", "cut off: GET /slow/60000");
}

/// A second container beside the first takes over from it, although both are process 1.
#[test]
fn process_1_of_a_container_is_replaced_by_that_of_another() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(podman) = Podman::start() else { return };
    podman.machine_image();
    let addr = free_addr();
    let folder = podman.folder().join("handover");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    let (addr_is, mount) = (format!("ADDR={addr}"), format!("{}:/handover", folder.display()));
    let words = ["-e", &addr_is, "-e", "HANDOVER=/handover/app.sock", "-v", &mount];
    podman.run_machine("first", &words, &[FIXTURES, "upgraded"]);
    podman.line("first", "listening on");
    let mut kept = Client::connect(addr);
    assert_eq!(kept.fetch("/process").text(), "1");
    for (old, new) in [("first", "second"), ("second", "third")] {
        podman.run_machine(new, &words, &[FIXTURES, "upgraded"]);
        podman.line(new, "took over 1 connection from process 1");
        podman.done(&["wait", old]);
        assert_eq!(podman.exit_code(old), 0);
        assert!(podman.logs(old).contains("handed over 1 connection in"), "{}", podman.logs(old));
        let response = kept.fetch("/process");
        assert_eq!((response.text(), response.closes()), ("1".to_owned(), false));
    }
    podman.done(&["stop", "-t", "10", "third"]);
    assert_eq!(podman.exit_code("third"), 0);
}

/// An upgrade of process 1 itself would end its container.
#[test]
fn process_1_refuses_to_start_its_next_version() {
    let Some(podman) = Podman::start() else { return };
    podman.machine_image();
    let addr = free_addr();
    let addr_is = format!("ADDR={addr}");
    podman.run_machine("web", &["-e", &addr_is], &[FIXTURES, "upgraded"]);
    podman.line("web", "listening on");
    let answer = Client::connect(addr).fetch("/upgrade").text();
    assert!(answer.starts_with("failed: this is process 1"), "{answer}");
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
}

/// What happens to the first process of a container that knows of no signals.
#[test]
fn a_program_without_us_is_killed_after_the_grace() {
    let Some(podman) = Podman::start() else { return };
    podman.machine_image();
    let listen = format!("LISTEN={}", free_addr());
    podman.run_machine("plain", &["-e", &listen], &[FIXTURES, "plain"]);
    podman.line("plain", "listening on");
    let start = Instant::now();
    podman.done(&["stop", "-t", "2", "plain"]);
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert_eq!(podman.exit_code("plain"), 137);
}

#[test]
fn a_shell_in_front_that_swallows_the_signal_is_said_at_the_start() {
    let Some(podman) = Podman::start() else { return };
    podman.machine_image();
    let warning = "the first process is `sh`, which does not pass SIGTERM on";
    let start = |name: &str, words: &[&str], script: &str| {
        let listen = format!("LISTEN={}", free_addr());
        let mut all = vec!["-e", listen.as_str()];
        all.extend(words);
        podman.run_machine(name, &all, &["sh", "-c", script, FIXTURES, "managed"]);
        podman.line(name, "listening on");
        podman.logs(name)
    };
    assert!(start("behind", &[], "\"$0\" \"$@\"; true").contains(warning));
    assert!(!start("exec", &[], "exec \"$0\" \"$@\"").contains(warning));
    assert!(
        !start("trap", &[], "trap 'kill $!' TERM; \"$0\" \"$@\" & wait $!; wait $!")
            .contains(warning)
    );
    assert!(!start("init", &["--init"], "exec \"$0\" \"$@\"").contains(warning));
    // The one that it is said to: it hears nothing.
    podman.done(&["stop", "-t", "1", "behind"]);
    assert_eq!(podman.exit_code("behind"), 137);
    for name in ["exec", "trap", "init"] {
        podman.done(&["stop", "-t", "10", name]);
        assert_eq!(podman.exit_code(name), 0, "{name}: {}", podman.logs(name));
    }
}

/// 1,000 children of its own, each with an orphan. No exit status is ever taken from the program;
/// with an init, which the container's engine has, no orphan is left, and without one they stay as
/// zombies.
#[test]
fn orphans_are_for_an_init_and_children_are_the_programs_own() {
    let Some(podman) = Podman::start() else { return };
    podman.machine_image();
    podman.run_machine("init", &["--init"], &[FIXTURES, "orphans"]);
    podman.run_machine("alone", &[], &[FIXTURES, "orphans"]);
    assert!(podman.line("alone", "this is process").ends_with(" 1"));
    for (name, zombies) in [("init", 0), ("alone", 1000)] {
        let line = podman.line(name, "statuses: ");
        assert_eq!(line, format!("statuses: 1000, zombies: {zombies}"), "{name}");
        podman.done(&["stop", "-t", "10", name]);
        assert_eq!(podman.exit_code(name), 0, "{name}");
    }
}
