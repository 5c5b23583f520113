//! Device nodes and the links that programs expect in /dev.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::mounts::attach;
use super::paths::{make_file, make_parent, open_in};
use crate::contract::Device;
use crate::failure::{Doing, Failure, Result};

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

pub fn mode_and_kind(device: &Device) -> Result<(Mode, FileType)> {
    let kind = match device.r#type.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => {
            return Err(Failure::invalid(format!(
                "{}: no type of device: {other:?}",
                device.path
            )));
        }
    };
    Ok((Mode::from_raw_mode(device.mode & 0o7777), kind))
}

/// Shows a node that was made elsewhere.
pub fn bind_device(root: BorrowedFd<'_>, device: &Device, node: &OwnedFd) -> Result<()> {
    let doing = || format!("binding the device {}", device.path);
    let target = make_file(root, Path::new(&device.path)).doing(doing)?;
    attach(node.as_fd(), target.as_fd()).doing(doing)
}

pub fn make_device(root: BorrowedFd<'_>, device: &Device) -> Result<()> {
    let doing = || format!("making the device {}", device.path);
    let (mode, kind) = mode_and_kind(device)?;
    let number = rustix::fs::makedev(device.major, device.minor);
    let (parent, name) = make_parent(root, Path::new(&device.path)).doing(doing)?;
    let make = || rustix::fs::mknodat(&parent, name, kind, mode, number);
    match make() {
        // Whatever the image has in this place is not what was asked for.
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(&parent, name, AtFlags::empty()).doing(doing)?;
            make().doing(doing)?;
        }
        made => made.doing(doing)?,
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    if (device.uid, device.gid) != (0, 0) {
        rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).doing(doing)?;
    }
    Ok(())
}

/// Best effort: a container without /dev, or with its own links there, is fine.
pub fn make_links(root: BorrowedFd<'_>) {
    if let Ok(dev) = open_in(root, Path::new("/dev"), OFlags::PATH | OFlags::DIRECTORY) {
        for (name, target) in LINKS {
            let _ = rustix::fs::symlinkat(target, &dev, name);
        }
    }
}
