//! Removing trees of any depth with two descriptors and no recursion.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::tree::open_below;

const LISTING: usize = 16 * 1024;

/// Removes whatever `name` in `directory` is; fine when it is not there. Never leaves the file system it is on,
/// so a mount below it is an error (EXDEV), not a victim.
pub(crate) fn remove(directory: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    match unlink(directory.as_fd(), name) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(Errno::NOENT) => return Ok(()),
        done => return done,
    }
    // Where the walk stands: the path from `directory` as (name, identity of the directory that holds it).
    let mut above: Vec<(Vec<u8>, (u64, u64))> = Vec::new();
    let mut current = open_child(directory.as_fd(), name)?;
    above.push((name.to_vec(), identity(directory.as_fd())?));
    loop {
        if let Some(full) = empty(&current)? {
            let child = open_child(current.as_fd(), &full)?;
            above.push((full, identity(current.as_fd())?));
            current = child;
            continue;
        }
        let Some((name, parent)) = above.pop() else {
            return Ok(());
        };
        if above.is_empty() {
            return unlink(directory.as_fd(), &name);
        }
        // Somebody else may have moved the tree meanwhile; then `..` is not the way this walk came.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let up = rustix::fs::openat(&current, "..", flags, Mode::empty())?;
        if identity(up.as_fd())? != parent {
            return Err(Errno::STALE);
        }
        unlink(up.as_fd(), &name)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        current = rustix::fs::openat(&up, ".", flags, Mode::empty())?;
    }
}

/// Removes the children of `directory` until one is a directory that is not empty, and names that.
fn empty(directory: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
    let mut buffer = [MaybeUninit::uninit(); LISTING];
    let mut listing = RawDir::new(directory, &mut buffer);
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        match unlink(directory.as_fd(), name) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(Some(name.to_vec())),
            Err(Errno::NOENT) => {}
            done => done?,
        }
    }
    Ok(None)
}

fn unlink(directory: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    let directory = directory.as_fd();
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        // POSIX says EPERM for a directory, Linux says EISDIR.
        Err(Errno::ISDIR | Errno::PERM) if is_directory(directory, name) => {
            rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)
        }
        done => done,
    }
}

fn is_directory(directory: impl AsFd, name: &[u8]) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn open_child(directory: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    open_below(
        directory,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
        within,
    )
}

fn identity(directory: impl AsFd) -> Result<(u64, u64), Errno> {
    let Stat { st_dev, st_ino, .. } = rustix::fs::fstat(directory)?;
    Ok((st_dev, st_ino))
}
