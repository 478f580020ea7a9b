//! The path at which a next process asks, whoever has started it.

use std::{
    fs, io,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
};

use super::take::{self, Arriving};
use crate::{
    net::{FileId, file_id},
    util::Failure,
};

/// A socket in a folder that only this user can enter.
#[derive(Debug)]
pub(super) struct Door {
    path: PathBuf,
    listener: Option<UnixListener>,
    /// The file that this process has made there.
    held: Option<FileId>,
}

impl Door {
    /// # Errors
    ///
    /// If others can enter the folder.
    pub(super) fn at(path: &Path) -> Result<Self, Failure> {
        let name = path.display();
        let folder = match path.parent() {
            Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
            Some(folder) => folder,
            None => return Err(Failure::new(format!("`handover` is no path of a socket: {name}"))),
        };
        let metadata = fs::metadata(folder).map_err(|error| {
            Failure::from_error(error)
                .context(&format!("cannot use {name} for `handover`"))
                .hint(&format!("make the folder: `mkdir -m 700 {}`", folder.display()))
        })?;
        if !super::program::is_private(&metadata) {
            return Err(Failure::new(format!(
                "cannot use {name} for `handover`: others can enter {}",
                folder.display()
            ))
            .hint(&format!(
                "give it a folder of its own: `mkdir -m 700 {}/handover`",
                folder.display()
            )));
        }
        Ok(Self { path: path.to_owned(), listener: None, held: None })
    }

    /// Asks whoever holds the path. If nobody does, this process does from here on.
    ///
    /// # Errors
    ///
    /// If the path cannot be used, or the process there refuses.
    pub(super) fn open(&mut self) -> Result<Option<Arriving>, Failure> {
        match take::connect(&self.path).map_err(|error| self.failure(error))? {
            // A helper of the process that holds the path, not the next version of it.
            Some(socket) if take::is_of_parent(&socket) => Ok(None),
            Some(socket) => match take::ask(socket)? {
                Some(arriving) => Ok(Some(arriving)),
                // It was about to end.
                None => self.open(),
            },
            None => {
                self.hold().map_err(|error| self.failure(error))?;
                Ok(None)
            }
        }
    }

    fn failure(&self, error: io::Error) -> Failure {
        Failure::from_error(error)
            .context(&format!("cannot use {} for `handover`", self.path.display()))
    }

    /// Holds the path, in the place of whoever did.
    ///
    /// # Errors
    ///
    /// If it cannot be bound.
    pub(super) fn hold(&mut self) -> io::Result<()> {
        // By a name of its own first: so the path leads to one of the two at any time.
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{}.new", std::process::id()));
        let new = PathBuf::from(name);
        let _ = fs::remove_file(&new);
        let listener = UnixListener::bind(&new)?;
        listener.set_nonblocking(true)?;
        fs::rename(&new, &self.path)?;
        self.held = file_id(&self.path);
        self.listener = Some(listener);
        Ok(())
    }

    /// Whether the path leads to this process.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some() && self.held == file_id(&self.path)
    }

    /// Leaves the path to the next process: `drop` does not remove it.
    pub(super) fn leave(&mut self) {
        self.held = None;
    }

    /// The listener, for the runtime in whose context this is called. Once.
    pub(super) fn listener(&mut self) -> io::Result<Option<tokio::net::UnixListener>> {
        self.listener.take().map(tokio::net::UnixListener::from_std).transpose()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Another process may have the path by now.
        if self.is_held() {
            // If it is gone already, that is as good.
            let _ = fs::remove_file(&self.path);
        }
    }
}
