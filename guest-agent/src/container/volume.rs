//! Volumes start as a copy of what the image has at their destination: directories of the scratch disk, and shares and
//! disks that are empty.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;

use super::copy_tree::{copy_attributes, copy_tree, remove_tree};
use super::paths::open_in;
use super::rootfs::RootPaths;
use crate::failure::{Doing, Failure, Result};

/// The volume's directory, filled the first time it is used.
pub fn prepare_volume(root: BorrowedFd<'_>, paths: &RootPaths, name: &str, destination: &Path) -> Result<OwnedFd> {
    if !crate::server::valid_id(name) {
        return Err(Failure::invalid(format!("{name:?} is no name of a volume")));
    }
    let Some(volumes) = &paths.volumes else {
        return Err(Failure::invalid("a volume needs a scratch disk"));
    };
    let doing = || format!("preparing the volume {name}");
    std::fs::create_dir_all(volumes).doing(doing)?;
    let volumes = rustix::fs::open(
        volumes,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .doing(doing)?;
    match open_directory(volumes.as_fd(), name) {
        Err(Errno::NOENT) => {}
        opened => return opened.doing(doing),
    }
    // Names of volumes never start with a dot. One that was not finished is made anew.
    let unfinished = format!(".{name}");
    remove_tree(volumes.as_fd(), unfinished.as_ref()).doing(doing)?;
    rustix::fs::mkdirat(&volumes, &unfinished, Mode::from_raw_mode(0o755)).doing(doing)?;
    let new = open_directory(volumes.as_fd(), &unfinished).doing(doing)?;
    match open_in(root, destination, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(source) => {
            copy_attributes(source.as_fd(), new.as_fd()).doing(doing)?;
            copy_tree(source.as_fd(), new.as_fd()).doing(doing)?;
        }
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(error) => return Err(error).doing(doing),
    }
    rustix::fs::renameat(&volumes, &unfinished, &volumes, name).doing(doing)?;
    Ok(new)
}

/// Copies what the image has at the destination into the directory that is to be mounted there, if that is empty.
pub fn fill_empty(root: BorrowedFd<'_>, tree: BorrowedFd<'_>, destination: &Path) -> Result<()> {
    let doing = || "filling the new volume with what the image has there".to_owned();
    let new = match open_directory(tree, ".") {
        Err(Errno::NOTDIR) => return Ok(()),
        opened => opened.doing(doing)?,
    };
    if !is_empty(&new).doing(doing)? {
        return Ok(());
    }
    match open_in(root, destination, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(source) => {
            copy_tree(source.as_fd(), new.as_fd()).doing(doing)?;
            copy_attributes(source.as_fd(), new.as_fd()).doing(doing)
        }
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(error) => Err(error).doing(doing),
    }
}

fn is_empty(directory: &OwnedFd) -> rustix::io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        // mkfs leaves a lost+found
        if !matches!(entry?.file_name().to_bytes(), b"." | b".." | b"lost+found") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn open_directory(parent: BorrowedFd<'_>, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}
