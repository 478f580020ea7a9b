//! The example for containers, built as its head says.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::podman::Podman;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/container")
}

/// The program of the example, built for a container without anything else in it.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // Of the build that this test belongs to: target/debug/deps/name.
        let this = std::env::current_exe().unwrap();
        let target = this.ancestors().nth(3).unwrap().join("container");
        let added = Command::new("rustup").args(["target", "add", TARGET]).output();
        assert!(added.is_ok_and(|it| it.status.success()), "`rustup target add {TARGET}`");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "-q", "--target", TARGET, "--target-dir"]).arg(&target);
        // Of this build, and not of that one.
        build.env_remove("RUSTFLAGS").current_dir(example());
        assert!(build.status().unwrap().success(), "the example builds");
        target.join(TARGET).join("debug/web")
    })
}

const TARGET: &str = "x86_64-unknown-linux-musl";

/// The image of the example, by its `Dockerfile`.
pub fn build(podman: &Podman) {
    let context = podman.folder().join("context");
    let release = context.join("target").join(TARGET).join("release");
    std::fs::create_dir_all(&release).unwrap();
    std::fs::copy(program(), release.join("web")).unwrap();
    let dockerfile = example().join("Dockerfile");
    podman.done(&[
        "build",
        "-t",
        "graceful-web",
        "-f",
        dockerfile.to_str().unwrap(),
        context.to_str().unwrap(),
    ]);
}
