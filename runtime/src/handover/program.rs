//! The next version as a process that this one starts.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _},
        net::UnixListener,
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex},
};

use rustix::process::{Signal, WaitId, WaitIdOptions};
use tokio::sync::oneshot;

use crate::{
    net::{FileId, file_id},
    util::{sync::lock_std, threads},
};

/// How this process was started, as of its first moment: the next version is started so, whatever
/// the program does to its environment or its folder meanwhile.
#[derive(Debug)]
pub(super) struct Program {
    path: Option<PathBuf>,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    /// Where the socket for the next version lies.
    base: PathBuf,
}

/// Variables about descriptors and processes that are not the next version's (`sd_listen_fds(3)`,
/// `sd_watchdog_enabled(3)`).
const NOT_PASSED_ON: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

impl Program {
    pub(super) fn of_this_process(path: Option<&Path>) -> Self {
        let folder = env::current_dir().ok();
        let path = match path {
            Some(path) => Some(absolute(folder.as_deref(), path)),
            None => started_by(folder.as_deref()),
        };
        let is_passed_on = |(name, _): &(OsString, OsString)| {
            !NOT_PASSED_ON.iter().any(|it| name.as_os_str() == *it)
        };
        Self {
            path,
            arguments: env::args_os().collect(),
            environment: initial_environment().into_iter().filter(is_passed_on).collect(),
            folder,
            base: base(),
        }
    }

    /// Returns the file that would be run.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Starts the next version, and binds the socket by which it comes to this process.
    ///
    /// # Errors
    ///
    /// If it cannot be started: the file is missing, is not executable, or is for another machine.
    pub(super) fn start(&self) -> io::Result<Started> {
        let folder = self.folder()?;
        let socket = folder.socket();
        let listener = UnixListener::bind(&socket).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot bind {}: {error}", socket.display()))
        })?;
        listener.set_nonblocking(true)?;
        let process = self.spawn()?;
        Ok(Started { process, listener, folder })
    }

    fn spawn(&self) -> io::Result<NewProcess> {
        let Some(path) = &self.path else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "it is not known which file this process was started by: name it with \
                 `Config::program`",
            ));
        };
        let mut arguments = self.arguments.iter();
        let mut command = Command::new(path);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments).env_clear().envs(self.environment.iter().cloned());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let child = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("cannot run {}: {error}", path.display()))
        })?;
        Ok(NewProcess::watch(child))
    }

    /// Makes the folder, which nobody else can enter, for the socket by which the next version
    /// comes to this process.
    fn folder(&self) -> io::Result<Folder> {
        let path = folder_of(&self.base, std::process::id());
        // Left over from a process with the same number.
        let _ = fs::remove_dir_all(&path);
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            let hint = "set TMPDIR to a folder that this process may write to";
            io::Error::new(
                error.kind(),
                format!("cannot create {}: {error}; {hint}", path.display()),
            )
        })?;
        let file = file_id(&path);
        Ok(Folder { path, file })
    }
}

/// Returns the path of the socket that the parent of this process has made for it, if there is one
/// that nobody else can have made.
///
/// The parent's number is all that has to be known, so there is no variable that children of this
/// process would see.
pub(super) fn socket_of_parent() -> Option<PathBuf> {
    let folder = folder_of(&base(), std::os::unix::process::parent_id());
    let metadata = fs::symlink_metadata(&folder).ok()?;
    (metadata.is_dir() && is_private(&metadata)).then(|| folder.join(SOCKET))
}

/// Whether nobody but this user can use a file, or enter a folder.
pub(super) fn is_private(metadata: &fs::Metadata) -> bool {
    /// All that the group and the others may do (inode(7)).
    const OTHERS: u32 = 0o077;
    let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
    is_own && (metadata.mode() & OTHERS).eq(&0)
}

const SOCKET: &str = "next";

/// A folder that is removed on drop, unless a later attempt has replaced it, which happens if a
/// slow file system delays this one.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    file: Option<FileId>,
}

impl Folder {
    fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.file.is_some() && self.file == file_id(&self.path) {
            // If it is gone already, that is as good.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn base() -> PathBuf {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    runtime.filter(|path| path.is_absolute() && path.is_dir()).unwrap_or_else(env::temp_dir)
}

fn folder_of(base: &Path, process: u32) -> PathBuf {
    base.join(format!("graceful-{}-{process}", rustix::process::geteuid().as_raw()))
}

fn absolute(folder: Option<&Path>, path: &Path) -> PathBuf {
    folder.map_or_else(|| path.to_owned(), |folder| folder.join(path))
}

/// The path that this process was started by, which may have another file by the time of an
/// upgrade. `/proc/self/exe` is the file itself, also after another has taken its place.
fn started_by(folder: Option<&Path>) -> Option<PathBuf> {
    let this = env::current_exe().ok();
    let written = PathBuf::from(env::args_os().next()?);
    let candidates = if written.components().count() > 1 {
        vec![absolute(folder, &written)]
    } else {
        let search = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&search).map(|it| absolute(folder, &it.join(&written))).collect()
    };
    // A program may be called by whatever name its parent likes.
    let is_this = |path: &PathBuf| {
        let file = |path: &Path| fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
        this.as_deref().and_then(file).is_none_or(|this| file(path) == Some(this))
    };
    candidates.into_iter().find(is_this).or(this)
}

/// The environment as the process was given it: libraries have removed some of it since, such as
/// `NOTIFY_SOCKET`.
fn initial_environment() -> Vec<(OsString, OsString)> {
    use std::os::unix::ffi::OsStringExt as _;
    let Ok(environ) = fs::read("/proc/self/environ") else {
        return env::vars_os().collect();
    };
    let entries = environ.split(|byte| *byte == 0).filter_map(|entry| {
        let at = entry.iter().skip(1).position(|byte| *byte == b'=')? + 1;
        let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Some((os(&entry[..at]), os(&entry[at + 1..])))
    });
    entries.collect()
}

/// A next version that has been started. The fields are dropped in this order, so that the process
/// is killed before it can find nobody listening and start as if it were the first.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) process: NewProcess,
    pub(super) listener: UnixListener,
    pub(super) folder: Folder,
}

/// A process that this one has started. It is killed when this is dropped, unless it is let go.
#[derive(Debug)]
pub(super) struct NewProcess {
    pid: u32,
    child: Arc<Mutex<Watched>>,
    ended: oneshot::Receiver<io::Result<ExitStatus>>,
    is_let_go: bool,
}

#[derive(Debug)]
struct Watched {
    child: Child,
    /// Whether its number may be another process's by now.
    is_reaped: bool,
}

impl NewProcess {
    fn watch(child: Child) -> Self {
        let pid = child.id();
        let child = Arc::new(Mutex::new(Watched { child, is_reaped: false }));
        let (tell, ended) = oneshot::channel();
        let watched = child.clone();
        // Without a thread `ended` says so at once, and the upgrade fails.
        let _ = threads::spawn("graceful-upgrade", move || {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed());
            // It stays what it is until it is reaped, under the lock: so no other is killed.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Some(pid) = pid
                && let Err(rustix::io::Errno::INTR) =
                    rustix::process::waitid(WaitId::Pid(pid), options)
            {}
            let mut watched = lock_std(&watched);
            let status = watched.child.wait();
            watched.is_reaped = true;
            drop(watched);
            // Nobody may be left to hear it.
            let _ = tell.send(status);
        });
        Self { pid, child, ended, is_let_go: false }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Resolves when it has ended, with how.
    pub(super) async fn ended(&mut self) -> String {
        match (&mut self.ended).await {
            Ok(Ok(status)) => format!("the new process ended ({status})"),
            Ok(Err(error)) => format!("the new process cannot be waited for: {error}"),
            Err(_) => "the new process cannot be watched: there are no threads left".to_owned(),
        }
    }

    /// From here on it goes on by itself.
    pub(super) fn let_go(&mut self) {
        self.is_let_go = true;
    }
}

impl Drop for NewProcess {
    fn drop(&mut self) {
        let watched = lock_std(&self.child);
        if !self.is_let_go
            && !watched.is_reaped
            && let Some(pid) = rustix::process::Pid::from_raw(self.pid.cast_signed())
        {
            // It has accepted nobody yet.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}
