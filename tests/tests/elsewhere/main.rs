//! One server on systems and processors other than this machine's: under wine, under qemu, with
//! another C library, where panics abort. Each test builds it first, which takes a while:
//! `.ci/elsewhere`.

mod abort;
mod anywhere;
mod windows;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// What `cargo` and the target need here.
#[derive(Clone, Copy)]
struct Target {
    name: &'static str,
    /// If it is another than this machine's, and what Debian calls its package.
    linker: Option<(&'static str, &'static str)>,
    /// What runs a program of it, if this machine cannot.
    runner: &'static [&'static str],
    /// The end of a program's name.
    suffix: &'static str,
}

const MUSL: Target =
    Target { name: "x86_64-unknown-linux-musl", linker: None, runner: &[], suffix: "" };

const AARCH64: Target = Target {
    name: "aarch64-unknown-linux-gnu",
    linker: Some(("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")),
    runner: &["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"],
    suffix: "",
};

/// The compiler for Windows.
const MINGW: &str = "x86_64-w64-mingw32-gcc";

const WINDOWS: Target = Target {
    name: "x86_64-pc-windows-gnu",
    linker: Some((MINGW, "gcc-mingw-w64-x86-64")),
    runner: &["/usr/lib/wine/wine64"],
    suffix: ".exe",
};

fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).canonicalize().unwrap()
}

impl Target {
    /// Whether its programs can be built and run here.
    fn can(self) -> bool {
        let linker = self.linker.map(|(linker, _)| linker);
        let mut tools = linker.into_iter().chain(self.runner.first().copied());
        let has_std = Command::new("rustc")
            .args(["--print", "target-libdir", "--target", self.name])
            .output()
            .is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).exists());
        let has_them =
            has_std && tools.all(|tool| Command::new(tool).arg("--version").output().is_ok());
        let package = self.linker.map_or("none", |(_, package)| package);
        let runner = self.runner.first().unwrap_or(&"nothing");
        let what = format!(
            "programs for {0} (rustup target add {0}; packages: {package}, and {runner})",
            self.name
        );
        graceful_tests::can(&what, has_them)
    }

    /// Builds a program in the folder `manifest`, and returns where it is.
    fn build(self, package: &str, folder: &str) -> PathBuf {
        let (workspace, target) = (workspace(), workspace().join("target/elsewhere"));
        let linker = format!("CARGO_TARGET_{}_LINKER", self.name.replace('-', "_").to_uppercase());
        let mut cargo = Command::new(env!("CARGO"));
        if let Some((program, _)) = self.linker {
            cargo.env(linker, program);
        }
        let status = cargo
            .args(["build", "-q", "--target", self.name, "--target-dir"])
            .arg(&target)
            .current_dir(workspace.join(folder))
            .status()
            .unwrap();
        assert!(status.success(), "{package} for {} does not build", self.name);
        target.join(self.name).join("debug").join(format!("{package}{}", self.suffix))
    }
}
