use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{READY, environment};
use crate::failure::{Doing, Failure};
use crate::paths::Paths;
use crate::run_directory;

pub enum Start {
    /// A new keeper listens.
    Started,
    /// There is one already, or somebody is starting it at this moment.
    Busy,
}

/// Starts the keeper unless somebody holds its lock. The lock goes to it as an open descriptor, so of any number of
/// commands at once exactly one starts one, and there is no moment at which nobody holds it.
pub fn start(paths: &Paths) -> Result<Start, Failure> {
    run_directory::ensure(&paths.run)?;
    let Some(lock) = take(&paths.lock()).doing(|| format!("cannot lock {}", paths.lock().display()))? else {
        return Ok(Start::Busy);
    };
    let starting = || "cannot start its keeper".to_owned();
    let mut child = Command::new("/proc/self/exe")
        .arg0(crate::KEEPER)
        .env_clear()
        .envs(environment::scrubbed(paths)?)
        .stdin(Stdio::from(lock))
        .stdout(Stdio::piped())
        .spawn()
        .doing(starting)?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said).doing(starting)?;
    }
    child.wait().doing(starting)?;
    match said.as_str() {
        READY => Ok(Start::Started),
        "" => Err(Failure::own(format!("{}: it ended without a word", starting()))),
        reason => Err(Failure::own(format!("{}: {reason}", starting()))),
    }
}

/// A keeper that ends removes its lock file while it holds the lock, so a lock counts only on the file that has the name.
fn take(path: &Path) -> io::Result<Option<File>> {
    loop {
        let options = File::options()
            .read(true)
            .write(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .clone();
        let lock = options.open(path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        match fs::symlink_metadata(path) {
            Ok(named) if named.ino() == lock.metadata()?.ino() => return Ok(Some(lock)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}
