//! Windows, as far as wine is that: Ctrl-C at a console, and the service manager.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use graceful_tests::{Client, PATIENCE};

use crate::{MINGW, WINDOWS, anywhere, workspace};

/// A home of its own for wine, with the programs in it.
struct Wine {
    home: PathBuf,
    /// Somebody who is logged in: wine ends its services with the last of them.
    user: Option<Child>,
}

impl Wine {
    /// `programs` are copied there.
    fn begin(name: &str, programs: &[PathBuf]) -> Self {
        let home =
            std::env::temp_dir().join(format!("graceful-wine-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let mut wine = Self { home, user: None };
        for program in programs {
            std::fs::copy(program, wine.home.join(program.file_name().unwrap())).unwrap();
        }
        // What Rust's std wants and an older wine lacks.
        let library = Command::new(MINGW)
            .args(["-shared", "-o"])
            .arg(wine.home.join("bcryptprimitives.dll"))
            .arg(workspace().join("tests/windows/random.c"))
            .arg("-ladvapi32")
            .status();
        assert!(library.unwrap().success());
        assert!(wine.run(&["wineboot", "-i"]).0);
        // What the first start has set up holds from the second one on.
        wine.end();
        let user = wine
            .command(&["cmd"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        wine.user = Some(user.unwrap());
        wine
    }

    fn variables(&self) -> [(&'static str, String); 2] {
        [
            ("WINEPREFIX", self.home.join("prefix").display().to_string()),
            ("WINEDEBUG", "-all".into()),
        ]
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(WINDOWS.runner[0]);
        command.args(arguments).envs(self.variables()).current_dir(&self.home);
        command
    }

    /// Returns whether it succeeds, and what it prints: through a file, because what it leaves in
    /// the background would hold a pipe open.
    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let said = self.home.join("said");
        let out = std::fs::File::create(&said).unwrap();
        let mut command = self.command(arguments);
        let status = command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).status();
        (status.unwrap().success(), std::fs::read_to_string(said).unwrap())
    }

    fn program(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }
}

impl Wine {
    /// Ends whatever still runs in it.
    fn end(&self) {
        let server = Path::new(WINDOWS.runner[0]).with_file_name("wineserver");
        let _ = Command::new(server).arg("-k").envs(self.variables()).status();
    }
}

impl Drop for Wine {
    fn drop(&mut self) {
        self.end();
        if let Some(mut user) = self.user.take() {
            let _ = user.kill();
            let _ = user.wait();
        }
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

#[test]
fn at_a_console() {
    if !WINDOWS.can() {
        return;
    }
    let program = WINDOWS.build("graceful-anywhere", "tests/anywhere");
    let wine = Wine::begin("console", &[program]);
    let variables = wine.variables().map(|(name, value)| format!("{name}={value}")).join(" ");
    let program = anywhere::command(WINDOWS, &wine.program("graceful-anywhere.exe"));
    anywhere::everything(WINDOWS.name, &format!("{variables} {program}"));
}

/// The recipe in `docs/platforms.md`.
#[test]
fn as_a_service() {
    if !WINDOWS.can() {
        return;
    }
    let program = WINDOWS.build("graceful-windows-service", "examples/windows-service");
    let wine = Wine::begin("service", &[program]);
    let program = wine.program("graceful-windows-service.exe");
    // As Windows writes it: `Z:` is this machine's root.
    let path = format!("Z:{}", program.display().to_string().replace('/', "\\"));
    assert!(wine.run(&["sc", "create", "graceful", "binPath=", &path]).0);
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let started = wine.run(&["sc", "start", "graceful", &addr.to_string()]);
    assert!(started.0, "{started:?}");
    let start = Instant::now();
    let mut client = loop {
        match Client::try_connect(addr) {
            Ok(client) => break client,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
    };
    assert_eq!(client.fetch("/").text(), "fine");
    client.get("/slow");
    // Answered in two seconds: long enough that the manager is told twice.
    let stopped = wine.run(&["net", "stop", "graceful"]);
    assert!(stopped.0, "{stopped:?}");
    let state = |wine: &Wine| wine.run(&["sc", "query", "graceful"]).1;
    let pending = state(&wine);
    assert!(pending.contains("STOP_PENDING"), "{pending}");
    let response = client.response();
    assert_eq!((response.text().as_str(), response.closes()), ("slow", true));
    let start = Instant::now();
    loop {
        let now = state(&wine);
        if now.contains(": 1  STOPPED") {
            assert!(now.contains("WIN32_EXIT_CODE    : 0 "), "{now}");
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{now}");
    }
}
