//! The mounts of a container, made inside its mount namespace before its root becomes "/". Every destination is
//! resolved to a descriptor first and mounted on that, so that no path is walked twice.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::copy_tree::copy_tree;
use super::mount_options::{MountOptions, READ_ONLY};
use super::paths::{is_on, make_directory, make_file, open_in};
use super::rootfs::{RootPaths, share_mount_point};
use super::volume::prepare_volume;
use crate::contract::{FailureReason, InjectedFile, KernelMount, Mount, mount};
use crate::failure::{Doing, Failure, Result};
use crate::sys::{MountAttr, mount_setattr};

const PROC_MAGIC: i64 = 0x9fa0;
const DEFAULT_MODE: u32 = 0o755;

/// Makes one mount of the request.
pub fn apply(root: BorrowedFd<'_>, paths: &RootPaths, request: &Mount) -> Result<()> {
    make(root, paths, request).map_err(|failure| match failure.reason {
        FailureReason::DiskFull | FailureReason::InvalidRequest => failure,
        _ => Failure::new(
            FailureReason::MountFailed,
            format!("cannot mount on {}: {}", request.destination, failure.message),
        ),
    })
}

fn make(root: BorrowedFd<'_>, paths: &RootPaths, request: &Mount) -> Result<()> {
    let options = MountOptions::parse(&request.options);
    let destination = Path::new(&request.destination);
    match &request.source {
        Some(mount::Source::Kernel(kernel)) => mount_kernel_fs(root, destination, kernel, &options),
        Some(mount::Source::Share(share)) => {
            let shared = open_plain(&share_mount_point(&share.tag))?;
            let source = open_in(shared.as_fd(), Path::new(&share.path), OFlags::PATH)
                .doing(|| format!("opening {:?} of the share", share.path))?;
            bind(root, destination, source.as_fd(), &options)
        }
        Some(mount::Source::Container(_)) => Err(super::unsupported("mount.container")),
        Some(mount::Source::Volume(volume)) => {
            refuse_proc(&open_in(root, destination, OFlags::PATH))?;
            let source = prepare_volume(root, paths, &volume.name, destination)?;
            bind(root, destination, source.as_fd(), &options)
        }
        None => Err(Failure::invalid("a mount needs a source")),
    }
}

/// Nothing of a container may stand in for a part of its proc, whichever links its image has.
fn refuse_proc(target: &rustix::io::Result<OwnedFd>) -> Result<()> {
    match target {
        Ok(target) if is_on(target, PROC_MAGIC) => Err(Failure::new(
            FailureReason::MountFailed,
            "the destination lies inside proc",
        )),
        _ => Ok(()),
    }
}

/// Writes the file to the agent's own tmpfs and binds it over the destination.
pub fn inject(root: BorrowedFd<'_>, paths: &RootPaths, index: usize, file: &InjectedFile) -> Result<()> {
    let doing = || format!("injecting {}", file.destination);
    let path = paths.files.join(index.to_string());
    std::fs::write(&path, &file.content).doing(doing)?;
    rustix::fs::chmod(&path, Mode::from_raw_mode(file.mode & 0o7777)).doing(doing)?;
    let source = open_plain(&path)?;
    bind(
        root,
        Path::new(&file.destination),
        source.as_fd(),
        &MountOptions::default(),
    )
    .map_err(|failure| {
        Failure::new(
            FailureReason::MountFailed,
            format!("cannot inject {}: {}", file.destination, failure.message),
        )
    })
}

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

fn mount_kernel_fs(
    root: BorrowedFd<'_>,
    destination: &Path,
    kernel: &KernelMount,
    options: &MountOptions,
) -> Result<()> {
    // Inside the guest there is only the unified hierarchy, whichever the caller knows.
    let kind = if kernel.r#type == "cgroup" {
        "cgroup2"
    } else {
        &kernel.r#type
    };
    let new = detached_fs(kind, &kernel.source, options)?;
    let target = make_directory(root, destination, Mode::from_raw_mode(DEFAULT_MODE)).doing(|| "destination".into())?;
    if matches!(kind, "proc" | "sysfs") {
        check_not_linked(root, destination)?;
    }
    if options.copy_up && kind == "tmpfs" {
        copy_tree(target.as_fd(), new.as_fd()).doing(|| "copying what the image has there".into())?;
    }
    place(new, target.as_fd(), options)
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
        "the destination is a symbolic link",
    ))
}

/// A new file system, mounted nowhere yet.
fn detached_fs(kind: &str, source: &str, options: &MountOptions) -> Result<OwnedFd> {
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
    for option in &options.data {
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

fn bind(root: BorrowedFd<'_>, destination: &Path, source: BorrowedFd<'_>, options: &MountOptions) -> Result<()> {
    let stat = rustix::fs::fstat(source).doing(|| "source".into())?;
    let target = if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        make_directory(root, destination, Mode::from_raw_mode(DEFAULT_MODE))
    } else {
        make_file(root, destination)
    };
    refuse_proc(&target)?;
    let target = target.doing(|| "destination".into())?;
    let copy = clone_tree(source, options.recursive_bind).doing(|| "bind".into())?;
    mount_setattr(copy.as_fd(), false, &options.attr).doing(|| "options".into())?;
    place(copy, target.as_fd(), options)
}

fn place(new: OwnedFd, target: BorrowedFd<'_>, options: &MountOptions) -> Result<()> {
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

/// Opens a path of the guest itself.
fn open_plain(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("opening {}", path.display()))
}
