use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::unistd::geteuid;

use crate::failure::{Doing, Failure};

/// Makes `$HRUN_RUN`, or proves that the one that is there belongs to this user alone: whoever may write in it can
/// put a socket of his own where commands, with their environment, are sent.
pub fn ensure(path: &Path) -> Result<(), Failure> {
    let named = || format!("cannot use {}", path.display());
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).create(parent).doing(named)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error).doing(named),
        _ => {}
    }
    let directory = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path)
        .doing(named)?;
    let found = directory.metadata().doing(named)?;
    if found.uid() != geteuid().as_raw() {
        return Err(Failure::own(format!(
            "{}: it belongs to user {}, not to {}",
            named(),
            found.uid(),
            geteuid()
        )));
    }
    let mode = found.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(Failure::own(format!(
            "{}: with mode {mode:04o} others may write there; chmod 700 it",
            named()
        )));
    }
    if mode != 0o700 {
        directory.set_permissions(Permissions::from_mode(0o700)).doing(named)?;
    }
    Ok(())
}
