//! A real container engine, with images and containers of its own in a temporary folder.

#![allow(clippy::must_use_candidate, reason = "what is said is often not what is asked for")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use crate::{PATIENCE, can};

/// The engine. Its containers end with it.
#[derive(Debug)]
pub struct Podman {
    folder: PathBuf,
}

impl Podman {
    /// `None`: it cannot run here, which has been said.
    #[must_use]
    pub fn start() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let is_there = |program| Command::new(program).arg("--version").output().is_ok();
        let possible =
            rustix::process::getuid().is_root() && is_there("podman") && is_there("runc");
        let what = "containers (as root; Debian: apt-get install podman runc catatonit)";
        if !can(what, possible) {
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("graceful-podman-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        // What a run with the same number has left.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        // Without a booted systemd, and with limits that a container may set.
        let configuration = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \
                             \"nproc=4096:4096\"]\n[engine]\ncgroup_manager = \"cgroupfs\"\n";
        fs::write(folder.join("containers.conf"), configuration).unwrap();
        Some(Self { folder })
    }

    /// A folder for files of the test.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.folder.join("containers.conf"));
        command.env("STORAGE_DRIVER", "vfs");
        command.arg("--root").arg(self.folder.join("storage"));
        command.arg("--runroot").arg(self.folder.join("run"));
        command.args(["--runtime", "runc"]);
        command
    }

    /// `podman` with these words.
    pub fn podman(&self, words: &[&str]) -> Output {
        self.command().args(words).output().expect("podman starts")
    }

    /// The same, which has to succeed. Returns what it has said.
    pub fn done(&self, words: &[&str]) -> String {
        let output = self.podman(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// An image in which programs of this machine run, with its libraries.
    pub fn machine_image(&self) {
        let dockerfile = self.folder.join("Dockerfile");
        fs::write(&dockerfile, "FROM scratch\nLABEL of=this-machine\n").unwrap();
        self.done(&["build", "-t", "machine", "-f", dockerfile.to_str().unwrap(), "."]);
    }

    /// Starts a container of that image. `words` come before the image, `program` after it; the
    /// folder of the first path in it is there.
    pub fn run_machine(&self, name: &str, words: &[&str], program: &[&str]) {
        let path = program.iter().find(|word| word.starts_with('/')).expect("a path");
        let target = Path::new(path).parent().expect("a file");
        let target = format!("{0}:{0}:ro", target.display());
        let mut all = vec!["run", "-d", "--network", "host", "--name", name];
        for folder in ["/usr:/usr:ro", "/bin:/bin:ro", "/lib:/lib:ro", "/lib64:/lib64:ro"] {
            all.extend(["-v", folder]);
        }
        all.extend(["-v", &target]);
        all.extend(words);
        all.push("machine");
        all.extend(program);
        self.done(&all);
    }

    /// What a container has said.
    #[must_use]
    pub fn logs(&self, name: &str) -> String {
        let output = self.podman(&["logs", name]);
        let (out, err) = (output.stdout, output.stderr);
        format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err))
    }

    /// Waits until a container has said `text`, and returns the line.
    pub fn line(&self, name: &str, text: &str) -> String {
        let start = Instant::now();
        loop {
            let logs = self.logs(name);
            if let Some(line) = logs.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(start.elapsed() < PATIENCE, "no {text:?} in:\n{logs}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// How a container has ended.
    #[must_use]
    pub fn exit_code(&self, name: &str) -> i32 {
        let code =
            self.done(&["inspect", name, "--format", "{{.State.Status}} {{.State.ExitCode}}"]);
        let code = code.strip_prefix("exited ").unwrap_or_else(|| panic!("{name} is {code}"));
        code.parse().unwrap()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.podman(&["rm", "--force", "--all", "--time", "1"]);
        self.podman(&["pod", "rm", "--force", "--all"]);
        let _ = fs::remove_dir_all(&self.folder);
    }
}
