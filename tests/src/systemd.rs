//! A real systemd user manager of its own for a test, and the real `systemctl` to it.

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt::Write as _,
    fs,
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{PATIENCE, can};

/// The manager, its units, and what its services say. Ends with all of them when it is dropped.
#[derive(Debug)]
pub struct Manager {
    folder: PathBuf,
    process: Child,
    /// The ends of the pipes that are the services' input. They are open from the start: a service
    /// waits for whoever writes (fifo(7)).
    inputs: RefCell<HashMap<String, fs::File>>,
}

impl Manager {
    /// Starts one. `None`: it cannot run here, which has been said.
    #[must_use]
    pub fn start() -> Option<Self> {
        let possible =
            rustix::process::getuid().is_root() && Path::new("/lib/systemd/systemd").exists();
        if !can("systemd (as root; Debian: apt-get install systemd)", possible) {
            return None;
        }
        let folder = std::env::temp_dir().join(format!(
            "graceful-systemd-{}-{:?}",
            std::process::id(),
            thread::current().id()
        ));
        // What a run with the same number has left.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("units")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/user-manager");
        let said = fs::File::create(folder.join("manager.log")).unwrap();
        let process = Command::new(script)
            .arg(folder.join("units"))
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .expect("the manager starts");
        let manager = Self { folder, process, inputs: RefCell::default() };
        manager.wait("the manager", || {
            let state = manager.systemctl(&["is-system-running"]);
            let state = String::from_utf8_lossy(&state.stdout).into_owned();
            ["running", "degraded"].contains(&state.trim())
        });
        Some(manager)
    }

    /// Writes a unit and has the manager read it. `%` is doubled by nobody here.
    pub fn unit(&self, name: &str, text: &str) {
        fs::write(self.folder.join("units").join(name), text).unwrap();
        self.done(&["daemon-reload"]);
    }

    /// A service of type `notify` that runs `program` with `environment`, and with `lines` in its
    /// section. Its input is what [`release`](Self::release) writes, and its output is kept.
    pub fn service(&self, name: &str, program: &str, environment: &[(&str, &str)], lines: &str) {
        let pipe = self.file(name, "stdin");
        if !pipe.exists() {
            let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
            assert!(made.success(), "{}", pipe.display());
            // For both, so that this waits for nobody either.
            let input = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
            self.inputs.borrow_mut().insert(name.to_owned(), input);
        }
        let mut lines = lines.to_owned();
        for (name, value) in environment {
            // A `String` takes everything.
            let _ = write!(lines, "\nEnvironment={name}={value}");
        }
        let text = format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=notify\nExecStart={program}\nStandardInput=file:{}\n\
             StandardOutput=append:{log}\nStandardError=append:{log}\n{lines}\n",
            pipe.display(),
            log = self.file(name, "log").display(),
        );
        self.unit(&format!("{name}.service"), &text);
    }

    fn file(&self, name: &str, what: &str) -> PathBuf {
        self.folder.join(format!("{name}.{what}"))
    }

    /// The folder of the units.
    #[must_use]
    pub fn units(&self) -> PathBuf {
        self.folder.join("units")
    }

    /// The file of what a service says.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.file(name, "log")
    }

    /// What a service has said so far.
    #[must_use]
    pub fn said(&self, name: &str) -> String {
        fs::read_to_string(self.file(name, "log")).unwrap_or_default()
    }

    /// Waits until a service has said `text`.
    pub fn line(&self, name: &str, text: &str) {
        self.wait(&format!("{text:?}"), || self.said(name).contains(text));
    }

    /// Lets the handlers go on that wait for the test.
    pub fn release(&self, name: &str) {
        self.inputs.borrow_mut().get_mut(name).unwrap().write_all(b"\n").unwrap();
    }

    /// The command that runs `program` where the manager is.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.process.id().to_string(), "--mount", program]);
        command.env("XDG_RUNTIME_DIR", "/run/manager");
        command
    }

    /// `systemctl --user` with these words.
    pub fn systemctl(&self, words: &[&str]) -> Output {
        self.command("systemctl").arg("--user").args(words).output().expect("systemctl starts")
    }

    /// The same, which has to succeed.
    pub fn done(&self, words: &[&str]) {
        let output = self.systemctl(words);
        let log = || fs::read_to_string(self.folder.join("manager.log")).unwrap_or_default();
        assert!(output.status.success(), "{words:?}: {output:?}\n{}", log());
    }

    /// A property of a unit.
    #[must_use]
    pub fn property(&self, unit: &str, name: &str) -> String {
        let output = self.systemctl(&["show", unit, "--value", "--property", name]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Waits until a property of a unit is as it should be, and returns it.
    pub fn wait_for(&self, unit: &str, name: &str, is: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            last = self.property(unit, name);
            if is(&last) {
                return last;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{name} of {unit} is {last:?}");
    }

    fn wait(&self, what: &str, is: impl Fn() -> bool) {
        let start = Instant::now();
        while !is() {
            let log = || fs::read_to_string(self.folder.join("manager.log")).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "no {what}:\n{}", log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        // Ends its services first.
        let _ = rustix::process::kill_process(pid, crate::Signal::TERM);
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
        for root in ["", "systemd", "unified"] {
            let root = Path::new("/sys/fs/cgroup").join(root);
            remove_group(&root.join(format!("graceful-{}", self.process.id())));
        }
    }
}

/// Removes a control group and those in it, which are folders that hold none of the files that they
/// show (cgroups(7)).
fn remove_group(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_group(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

/// An address of this machine that nobody listens on, for a unit that has to name one.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn free_addr() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
