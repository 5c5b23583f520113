//! File systems of the guest's kernel: proc, sysfs, tmpfs and their like.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::copy_tree::copy_tree;
use super::mount_options::MountOptions;
use super::mounts::{place, refuse_proc};
use super::paths::{make_directory, open_in};
use crate::contract::{FailureReason, KernelMount};
use crate::failure::{Doing, Failure, Result};

/// Mounts it on its destination, which is made where missing. `made` is the file system itself where it had to be made
/// before the container's namespaces were entered.
pub fn mount_kernel_fs(
    root: BorrowedFd<'_>,
    destination: &Path,
    kernel: &KernelMount,
    options: &MountOptions,
    made: Option<OwnedFd>,
) -> Result<()> {
    let new = match made {
        Some(made) => made,
        None => make_kernel_fs(kernel, options)?,
    };
    let kind = kind_of(kernel);
    let mode = if kind == "proc" || kind == "sysfs" {
        0o755
    } else {
        options.directory_mode.unwrap_or(0o755)
    };
    let target = make_directory(root, destination, Mode::from_raw_mode(mode)).doing(|| "destination".into())?;
    if matches!(kind, "proc" | "sysfs") {
        check_not_linked(root, destination)?;
    } else {
        refuse_proc(&target, destination)?;
    }
    if options.copy_up && kind == "tmpfs" {
        copy_tree(target.as_fd(), new.as_fd()).doing(|| "copying what the image has there".into())?;
    }
    place(new, target.as_fd(), options)
}

/// As the mounter's namespaces have it, mounted nowhere yet.
pub fn make_kernel_fs(kernel: &KernelMount, options: &MountOptions) -> Result<OwnedFd> {
    detached_fs(kind_of(kernel), &kernel.source, options)
}

/// Inside the guest there is only the unified hierarchy, whichever the caller knows.
fn kind_of(kernel: &KernelMount) -> &str {
    match kernel.r#type.as_str() {
        "cgroup" => "cgroup2",
        kind => kind,
    }
}

/// A link in place of /proc could make later writes below it land anywhere in the image.
fn check_not_linked(root: BorrowedFd<'_>, destination: &Path) -> Result<()> {
    let opened = open_in(root, destination, OFlags::PATH | OFlags::NOFOLLOW).doing(|| "destination".into())?;
    let stat = rustix::fs::fstat(&opened).doing(|| "destination".into())?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Ok(());
    }
    Err(Failure::new(
        FailureReason::MountFailed,
        "it must be mounted on an ordinary directory",
    ))
}

/// A new file system, mounted nowhere yet.
pub fn detached_fs(kind: &str, source: &str, options: &MountOptions) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).doing(|| format!("file system {kind:?}"))?;
    let explain = |error: rustix::io::Errno, what: &str| -> Failure {
        let told = kernel_message(context.as_fd());
        let text = if told.is_empty() {
            crate::failure::describe(&error.into())
        } else {
            told
        };
        Failure::new(FailureReason::MountFailed, format!("{what}: {text}"))
    };
    if !source.is_empty() {
        fsconfig_set_string(context.as_fd(), "source", source).map_err(|error| explain(error, kind))?;
    }
    for option in options.data.iter().chain(&options.superblock) {
        let set = match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(context.as_fd(), key, value),
            None => fsconfig_set_flag(context.as_fd(), option.as_str()),
        };
        set.map_err(|error| explain(error, &format!("{kind} option {option:?}")))?;
    }
    fsconfig_create(context.as_fd()).map_err(|error| explain(error, kind))?;
    let attr = MountAttrFlags::from_bits_retain(options.attr.set as u32);
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attr).map_err(|error| explain(error, kind))
}

/// What the kernel says about a refused option, without its "e " in front.
fn kernel_message(context: BorrowedFd<'_>) -> String {
    let mut buffer = [0u8; 256];
    let length = rustix::io::read(context, &mut buffer).unwrap_or(0);
    let text = String::from_utf8_lossy(&buffer[..length]);
    text.trim_end().trim_start_matches("e ").to_owned()
}
