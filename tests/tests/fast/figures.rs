//! Figures for dashboards, until the very end.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use graceful_tests::{Client, Fixture, PATIENCE, Process, Signal, fixture};

/// A page of figures, line by line.
struct Page(String);

impl Page {
    fn of(addr: SocketAddr) -> Self {
        let response = Client::connect(addr).fetch("/metrics");
        assert_eq!(response.status, 200);
        Self(response.text())
    }

    /// Waits until the page has this line.
    #[track_caller]
    fn with(addr: SocketAddr, line: &str) -> Self {
        let start = Instant::now();
        loop {
            let page = Self::of(addr);
            if page.has(line) {
                return page;
            }
            assert!(start.elapsed() < PATIENCE, "{line} is missing: {}", page.0);
        }
    }

    fn has(&self, line: &str) -> bool {
        self.0.lines().any(|other| other == line)
    }

    #[track_caller]
    fn says(&self, lines: &[&str]) {
        for line in lines {
            assert!(self.has(line), "{line} is missing: {}", self.0);
        }
    }

    fn value(&self, name: &str) -> f64 {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().parse().unwrap()
    }
}

fn serve(fixture: Fixture) -> (Process, SocketAddr, SocketAddr) {
    let (mut process, addr) = fixture.serve();
    let figures = process.addr();
    (process, addr, figures)
}

fn managed() -> Fixture {
    let fixture = fixture!("managed").env("LISTEN", "127.0.0.1:0");
    fixture.env("PROBES", "127.0.0.1:0")
}

/// What was read may have been a moment too early to be the last.
fn scrape_until_the_end(process: &mut Process, addr: SocketAddr) {
    let start = Instant::now();
    while !process.is_over() {
        assert!(start.elapsed() < PATIENCE, "it is still there");
        if let Ok(mut client) = Client::try_connect(addr) {
            client.get("/metrics");
            // Too late is no error here.
            let _ = client.try_response();
        }
    }
}

/// From the first request to what the limit has cut, by our own page and by an exporter.
#[test]
fn figures_tell_the_whole_story() {
    for fixture in [managed().env("SCRAPE", "10m"), fixture!("figures")] {
        let (mut process, addr, figures) = serve(fixture.env("TIMEOUT", "1s"));
        Page::with(figures, "graceful_phase{phase=\"serving\"} 1").says(&[
            "graceful_in_flight{kind=\"request\"} 0",
            "graceful_in_flight{kind=\"task\"} 0",
            "graceful_drain_seconds 0",
            "graceful_cut_total{kind=\"request\"} 0",
            "graceful_handed_over_total 0",
            "# TYPE graceful_phase gauge",
            "# TYPE graceful_cut_total counter",
        ]);
        let client = process.hold(addr);
        let idle = Client::connect(addr);
        Page::with(figures, "graceful_in_flight{kind=\"request\"} 1")
            .says(&["graceful_phase{phase=\"draining\"} 0"]);
        Page::with(figures, "graceful_connections 2");
        process.term();
        // A scrape in the drain is not the last.
        Page::with(figures, "graceful_phase{phase=\"draining\"} 1")
            .says(&["graceful_phase{phase=\"serving\"} 0"]);
        let page = Page::with(figures, "graceful_cut_total{kind=\"request\"} 1");
        page.says(&["graceful_phase{phase=\"cut\"} 1", "graceful_cut_total{kind=\"task\"} 0"]);
        let seconds = page.value("graceful_drain_seconds");
        assert!((0.9..20.0).contains(&seconds), "{seconds}");
        drop((client, idle));
        scrape_until_the_end(&mut process, figures);
        let _ = process.wait().expect(124);
    }
}

/// The answer with the last figures is delivered, on a connection that stays open otherwise.
#[test]
fn the_process_ends_when_its_last_figures_have_been_read() {
    let (mut process, _, figures) = serve(managed().env("SCRAPE", "10m"));
    let mut scraper = Client::connect(figures);
    assert_eq!(scraper.fetch("/metrics").status, 200);
    process.term();
    // Until the drain is over, nothing that is read is the last; and what comes after the last is
    // answered, too.
    let page = loop {
        let response = scraper.fetch("/metrics");
        if response.closes() {
            break Page(response.text());
        }
    };
    page.says(&["graceful_phase{phase=\"cleanup\"} 1"]);
    scraper.closed();
    let _ = process.wait().expect(0);
}

#[test]
fn without_a_scrape_the_process_stays_for_all_of_the_time() {
    let (mut process, ..) = serve(managed().env("SCRAPE", "700ms"));
    let start = Instant::now();
    process.term();
    process.line("drained, waiting for the last figures to be read, for at most 700ms");
    let ended = process.wait().expect(0);
    let after = ended.after(start);
    assert!((Duration::from_millis(700)..Duration::from_secs(5)).contains(&after), "{after:?}");
}

#[test]
fn a_second_signal_waits_for_no_scrape() {
    let (mut process, _, probes) = serve(managed().env("SCRAPE", "10m").env("HOOK", "yes"));
    process.term();
    process.line("hook begins");
    // This is read in time, and then the hook holds the process.
    assert!(Page::of(probes).has("graceful_phase{phase=\"cleanup\"} 1"));
    // As a second one, and not as an echo of the first.
    std::thread::sleep(Duration::from_millis(250));
    process.signal(Signal::TERM);
    let _ = process.wait().expect(128 + 15);
}

/// Each query asks for figures that there are, and each phase has its colour.
#[test]
fn the_dashboard_asks_for_what_there_is() {
    let dashboard = include_str!("../../../docs/grafana.json");
    let json: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let (mut process, _, figures) = serve(managed());
    let page = Page::of(figures);
    let mut asked = 0;
    for panel in json["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            for piece in query.split("graceful_").skip(1) {
                let name: String =
                    piece.chars().take_while(|it| it.is_ascii_lowercase() || *it == '_').collect();
                assert!(page.0.contains(&format!("# TYPE graceful_{name} ")), "{name} in {query}");
                asked += 1;
            }
            for phase in query.split("phase=\"").skip(1) {
                let phase = phase.split('"').next().unwrap();
                assert!(page.0.contains(&format!("{{phase=\"{phase}\"}}")), "{phase}");
            }
        }
    }
    assert!(asked > 10, "{asked}");
    process.signal(Signal::TERM);
    let _ = process.wait().expect(0);
}

/// The bound of a stop has it, too.
#[test]
fn the_longest_stop_counts_the_scrape() {
    let config = graceful::Config::new().scrape(Duration::from_secs(15));
    assert_eq!(config.longest_stop().unwrap(), Some(Duration::from_secs(20 + 5 + 15)));
}
