//! The mounts of a container, made inside its mount namespace before its root becomes "/". Every destination is
//! resolved to a descriptor first and mounted on that, so that no path is walked twice.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::kernel_fs::mount_kernel_fs;
use super::mount_options::MountOptions;
use super::paths::{is_on, make_directory, make_file, open_in};
use super::rootfs::RootPaths;
use super::sources::{Sources, disk_source, share_source, written_file};
use super::volume::{fill_empty, prepare_volume};
use crate::contract::{FailureReason, InjectedFile, Mount, mount};
use crate::failure::{Doing, Failure, Result};
use crate::sys::{MountAttr, mount_setattr};

const PROC_MAGIC: i64 = 0x9fa0;
const DEFAULT_MODE: u32 = 0o755;

/// Files of proc that may be replaced by others, which tools do to show a container its limits (as in runc).
const REPLACEABLE: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Makes the mount of this index of the request.
pub fn apply(
    root: BorrowedFd<'_>,
    paths: &RootPaths,
    sources: &mut Sources,
    index: usize,
    request: &Mount,
) -> Result<()> {
    make(root, paths, sources, index, request).map_err(|failure| match failure.reason {
        FailureReason::DiskFull | FailureReason::InvalidRequest => failure,
        _ => Failure::new(
            FailureReason::MountFailed,
            format!("cannot mount on {}: {}", request.destination, failure.message),
        ),
    })
}

fn make(root: BorrowedFd<'_>, paths: &RootPaths, sources: &mut Sources, index: usize, request: &Mount) -> Result<()> {
    let options = MountOptions::parse(&request.options)?;
    let destination = Path::new(&request.destination);
    let early = sources.take_mount(index);
    let source = match (&request.source, early) {
        (Some(mount::Source::Kernel(kernel)), early) => {
            return mount_kernel_fs(root, destination, kernel, &options, early);
        }
        (_, Some(tree)) => tree,
        (Some(mount::Source::Share(share)), None) => share_source(share, &options)?,
        (Some(mount::Source::Disk(_)), None) => disk_source(paths, index)?,
        (Some(mount::Source::Volume(volume)), None) => {
            if let Ok(target) = open_in(root, destination, OFlags::PATH) {
                refuse_proc(&target, destination)?;
            }
            let volume = prepare_volume(root, paths, &volume.name, destination)?;
            clone_tree(volume.as_fd(), options.recursive_bind).doing(|| "bind".into())?
        }
        (Some(mount::Source::Container(_)) | None, None) => return Err(Failure::invalid("a mount needs a source")),
    };
    if request.populate {
        fill_empty(root, source.as_fd(), destination)?;
    }
    bind(root, destination, source, &options)
}

/// Nothing of a container may stand in for a part of its proc, whichever links its image has.
pub fn refuse_proc(target: &OwnedFd, destination: &Path) -> Result<()> {
    let replaceable = REPLACEABLE.iter().any(|path| destination == Path::new(path));
    if is_on(target, PROC_MAGIC) && !replaceable {
        return Err(Failure::new(FailureReason::MountFailed, "it is inside /proc"));
    }
    Ok(())
}

/// Binds a file of the agent's own tmpfs over the destination.
pub fn inject(
    root: BorrowedFd<'_>,
    paths: &RootPaths,
    sources: &mut Sources,
    index: usize,
    file: &InjectedFile,
) -> Result<()> {
    let source = match sources.take_file(index) {
        Some(source) => source,
        None => written_file(paths, index, file)?,
    };
    bind(root, Path::new(&file.destination), source, &MountOptions::default()).map_err(|failure| {
        Failure::new(
            FailureReason::MountFailed,
            format!("cannot inject {}: {}", file.destination, failure.message),
        )
    })
}

/// `tree` is a copy of a mount that is attached nowhere yet. It keeps the options of its file system, whatever is asked for,
/// as the kernel and runc have it.
fn bind(root: BorrowedFd<'_>, destination: &Path, tree: OwnedFd, options: &MountOptions) -> Result<()> {
    let stat = rustix::fs::fstat(&tree).doing(|| "source".into())?;
    let is_directory = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    let target = if is_directory {
        make_directory(root, destination, Mode::from_raw_mode(DEFAULT_MODE))
    } else {
        make_file(root, destination)
    };
    let target = match target {
        Err(Errno::NOTDIR) if is_directory => return Err(mismatch("a directory", "a file")),
        Err(Errno::ISDIR) => return Err(mismatch("a file", "a directory")),
        opened => opened.doing(|| "destination".into())?,
    };
    let found = rustix::fs::fstat(&target).doing(|| "destination".into())?;
    if !is_directory && rustix::fs::FileType::from_raw_mode(found.st_mode).is_dir() {
        return Err(mismatch("a file", "a directory"));
    }
    refuse_proc(&target, destination)?;
    mount_setattr(tree.as_fd(), false, &options.attr).doing(|| "options".into())?;
    place(tree, target.as_fd(), options)
}

fn mismatch(source: &str, target: &str) -> Failure {
    let message = format!("{source} cannot be mounted over {target}");
    Failure::new(FailureReason::MountFailed, message)
}

pub fn place(new: OwnedFd, target: BorrowedFd<'_>, options: &MountOptions) -> Result<()> {
    if options.recursive_attr != MountAttr::default() {
        mount_setattr(new.as_fd(), true, &options.recursive_attr).doing(|| "options".into())?;
    }
    attach(new.as_fd(), target).doing(|| "attach".into())?;
    for (propagation, recursive) in [(options.propagation, false), (options.recursive_propagation, true)] {
        if propagation != 0 {
            let attr = MountAttr {
                propagation,
                ..MountAttr::default()
            };
            mount_setattr(new.as_fd(), recursive, &attr).doing(|| "propagation".into())?;
        }
    }
    Ok(())
}

pub fn clone_tree(source: BorrowedFd<'_>, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(source, "", flags)
}

pub fn attach(new: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(new, "", target, "", flags)
}
