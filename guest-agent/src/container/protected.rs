//! What a container may see but not change, and what it may not see.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;

use super::kernel_fs::detached_fs;
use super::mount_options::{MountOptions, READ_ONLY};
use super::mounts::{attach, clone_tree};
use super::paths::open_in;
use crate::failure::{Doing, Result};
use crate::sys::mount_setattr;

/// Makes the root mount read-only, but nothing that is mounted on it.
pub fn make_root_readonly(root: BorrowedFd<'_>) -> Result<()> {
    mount_setattr(root, false, &READ_ONLY).doing(|| "making the root file system read-only".into())
}

/// Puts a read-only copy of what is mounted at `path` over it. What does not exist needs no protection.
pub fn make_readonly(root: BorrowedFd<'_>, path: &str) -> Result<()> {
    let doing = || format!("making {path} read-only");
    let Some(target) = existing(root, path).doing(doing)? else {
        return Ok(());
    };
    let copy = clone_tree(target.as_fd(), true).doing(doing)?;
    mount_setattr(copy.as_fd(), true, &READ_ONLY).doing(doing)?;
    attach(copy.as_fd(), target.as_fd()).doing(doing)
}

/// What hides masked paths: an empty read-only directory, and /dev/null.
pub struct Masks {
    null: OwnedFd,
    directory: Option<OwnedFd>,
}

impl Masks {
    /// `null` is the guest's own: nothing in the container may stand in for it.
    pub fn new(null: OwnedFd) -> Self {
        Self { null, directory: None }
    }

    pub fn hide(&mut self, root: BorrowedFd<'_>, path: &str) -> Result<()> {
        let doing = || format!("masking {path}");
        let Some(target) = existing(root, path).doing(doing)? else {
            return Ok(());
        };
        let stat = rustix::fs::fstat(&target).doing(doing)?;
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
            let copy = clone_tree(self.null.as_fd(), false).doing(doing)?;
            return attach(copy.as_fd(), target.as_fd()).doing(doing);
        }
        // The first directory is hidden by the file system itself, the others by copies: only what is attached can be
        // copied.
        match &self.directory {
            Some(empty) => {
                let copy = clone_tree(empty.as_fd(), false).doing(doing)?;
                attach(copy.as_fd(), target.as_fd()).doing(doing)
            }
            None => {
                let empty = detached_fs(
                    "tmpfs",
                    "tmpfs",
                    &MountOptions {
                        attr: READ_ONLY,
                        ..MountOptions::default()
                    },
                )?;
                attach(empty.as_fd(), target.as_fd()).doing(doing)?;
                self.directory = Some(empty);
                Ok(())
            }
        }
    }
}

fn existing(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<Option<OwnedFd>> {
    match open_in(root, Path::new(path), OFlags::PATH) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        opened => opened.map(Some),
    }
}
