//! Readable snapshots of the expansion, in `macros/snapshots/`. The workspace's tests compare them
//! with the README.
//!
//! `GRACEFUL_BLESS=1 cargo test -p graceful-main-macros` rewrites them.

use std::{fs, path::PathBuf};

use proc_macro2::TokenStream;

use crate::expand::{Attribute, expand};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Attribute and function in, expansion out.
fn expansion(attribute: Attribute, args: &str, item: &str) -> String {
    let parse = |text: &str| text.parse::<TokenStream>().expect("tokens");
    let tokens = expand(attribute, parse(args), parse(item));
    prettyplease::unparse(&syn::parse2(tokens).expect("the expansion is valid"))
}

fn check(name: &str, attribute: Attribute, args: &str, item: &str) {
    let list = if args.is_empty() { String::new() } else { format!("({args})") };
    let input = format!("#[graceful::{}{list}]\n{item}", attribute.name());
    let input = input.replace('\n', "\n// ");
    let now = format!("// {input}\n\n{}", expansion(attribute, args, item));
    check_file(&format!("{name}.rs"), &now);
}

/// Compares a snapshot file with what it should contain.
pub(crate) fn check_file(name: &str, now: &str) {
    let file = folder().join("snapshots").join(name);
    if std::env::var_os("GRACEFUL_BLESS").is_some() {
        fs::write(&file, now).expect("the snapshot can be written");
    }
    let then = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(now, then, "{} is another now: GRACEFUL_BLESS=1 accepts it", file.display());
}

const HELLO: &str = "async fn main() -> impl graceful::Serve {
    graceful::serve(\"127.0.0.1:8080\", app())
}";

#[test]
fn bare() {
    check("bare", Attribute::Main, "", HELLO);
}

#[test]
fn every_option() {
    let args = "timeout = \"none\", signals = [SIGTERM, SIGINT], dump = [SIGUSR1], upgrade = [SIGUSR2], upgrade_timeout = \"10s\", handover = env(\"HANDOVER\", \"/run/app/handover.sock\"), quiet = true, delay = \"1m30s\", linger = \"100ms\", \
                cleanup = env(\"CLEANUP\", \"5s\"), flavor = \"current_thread\", name = \"web\", \
                start_paused = true, unhandled_panic = \"shutdown_runtime\", crate = \"renamed\"";
    let item = format!("/// The program.\n#[allow(unused)]\npub(crate) {HELLO}");
    check("every_option", Attribute::Main, args, &item);
    check("worker_threads", Attribute::Main, "timeout = LIMIT, worker_threads = 4", HELLO);
    check("auto", Attribute::Main, "timeout = \"auto\"", HELLO);
}

#[test]
fn broken_input() {
    check("broken", Attribute::Main, "timout = \"3s\", delay = \"5\"", HELLO);
    check("broken_auto", Attribute::Main, "cleanup = \"auto\", delay = \"auto\"", HELLO);
    check("broken_function", Attribute::Main, "", "fn main(port: u16) {}");
}

#[test]
fn test_attribute() {
    let item = "async fn drains() {\n    graceful::stop();\n}";
    check("test", Attribute::Test, "timeout = \"1s\"", item);
}

/// The first example of the README, which shows this expansion.
#[test]
fn readme() {
    let item = "async fn main() -> impl graceful::Serve {
    let app = axum::Router::new().route(\"/\", axum::routing::get(|| async { \"Hello world!\" }));
    graceful::serve(\"127.0.0.1:8080\", app)
}";
    check("readme", Attribute::Main, "timeout = \"3s\"", item);
}

#[test]
fn the_body_is_not_looked_at() {
    let parse = |text: &str| text.parse::<TokenStream>().expect("tokens");
    let nonsense = "{ let + ? => fn ; half( a ) $ }";
    let item = parse(&format!("async fn main() {nonsense}"));
    let tokens = expand(Attribute::Main, TokenStream::new(), item).to_string();
    assert!(!tokens.contains("compile_error"), "{tokens}");
    assert!(tokens.contains(&parse(nonsense).to_string()), "{tokens}");
}

/// The body is never parsed: a long one costs only its tokens, a fraction of what parsing takes.
/// `.ci/compile-time` prints the time.
#[test]
fn a_long_body_is_not_parsed() {
    use std::time::{Duration, Instant};

    let lines =
        "let x = vec![1, 2, 3].into_iter().map(|n| n + 1).collect::<Vec<_>>();\n".repeat(1_000);
    let item: TokenStream = format!("async fn main() {{ {lines} }}").parse().expect("tokens");
    let args: TokenStream = "timeout = \"3s\"".parse().expect("tokens");
    let (mut expanded, mut parsed): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
    // Alternates, so that other load on the machine affects both.
    for _ in 0..50 {
        let (args, tokens) = (args.clone(), item.clone());
        let start = Instant::now();
        assert!(!expand(Attribute::Main, args, tokens).is_empty());
        expanded.push(start.elapsed());
        let tokens = item.clone();
        let start = Instant::now();
        let function: syn::ItemFn = syn::parse2(tokens).expect("a function");
        parsed.push(start.elapsed());
        assert_eq!(function.block.stmts.len(), 1_000);
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[25]
    };
    let (expanded, parsed) = (median(expanded), median(parsed));
    println!(
        "expansion of a body of 1,000 lines: {expanded:?} in the median, to parse it {parsed:?}"
    );
    assert!(expanded * 2 < parsed, "{expanded:?}, to parse it {parsed:?}");
}
