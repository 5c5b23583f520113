//! The file system of the program: a tree that the daemon prepared, read-only, with a proc that shows the program itself
//! and the devices it cannot do without. Nothing else is mounted in its namespace.

use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, mknod, stat};
use nix::unistd::{Gid, Uid, chdir, chown, pivot_root, unlink};

use super::plan::Plan;
use crate::identity::Done;
use crate::mounts;

const NONE: Option<&str> = None;
const HARMLESS: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

pub fn enter(tree: &Path, plan: &Plan) -> Done {
    let named = |what: &str, error: Errno| format!("cannot {what} {}: {}", tree.display(), error.desc());
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .map_err(|error| format!("cannot make the mounts private: {}", error.desc()))?;
    // Found in the host's tree, which is left below.
    let devices: Vec<_> = plan
        .devices
        .iter()
        .map(|path| {
            stat(path)
                .map(|found| (path.as_path(), found.st_rdev))
                .map_err(|error| format!("cannot use {}: {}", path.display(), error.desc()))
        })
        .collect::<Result<_, _>>()?;
    bind(tree).map_err(|error| named("mount", error))?;
    chdir(tree).map_err(|error| named("enter", error))?;
    mount_proc().map_err(|error| format!("cannot mount proc: {}", error.desc()))?;
    if !devices.is_empty() {
        make_devices(&devices, plan).map_err(|error| format!("cannot make the devices: {}", error.desc()))?;
    }
    pivot_root(".", ".")
        .and_then(|()| umount2(".", MntFlags::MNT_DETACH))
        .and_then(|()| chdir("/"))
        .map_err(|error| named("make a root of", error))
}

/// Over itself, so that it is a mount: read-only, without devices and set-user-id programs.
fn bind(tree: &Path) -> Result<(), Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let source = open(tree, flags, Mode::empty())?;
    let copied = mounts::copy_tree(&source, false).and_then(|copy| {
        mounts::restrict(&copy, true)?;
        mounts::attach(&copy, tree)
    });
    match copied {
        Err(error) if mounts::is_missing(error) => {
            mounts::bind(&source, tree, false)?;
            mounts::restrict_each(tree, true)
        }
        result => result,
    }
}

/// For /proc/self/fd, by which QEMU opens its memory, kernel and initramfs.
fn mount_proc() -> Result<(), Errno> {
    let flags = HARMLESS | MsFlags::MS_RDONLY;
    let with = |options: &str| mount(Some("proc"), "proc", Some("proc"), flags, Some(options));
    // A kernel before 5.8 has no subset.
    with("subset=pid,hidepid=2").or_else(|_| with("hidepid=2"))
}

/// Nodes of its own where that is allowed (not below a user namespace), so that the host's access rights, which know
/// nothing of this user, do not matter; else the host's.
fn make_devices(devices: &[(&Path, libc::dev_t)], plan: &Plan) -> Result<(), Errno> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(
        Some("dev"),
        "dev",
        Some("tmpfs"),
        flags,
        Some("mode=0755,size=4k,nr_inodes=16"),
    )?;
    for (path, number) in devices {
        let Some(name) = path.file_name() else { continue };
        let target = Path::new("dev").join(name);
        let made = match plan.uid {
            Some(uid) => own_device(&target, *number, uid),
            None => Err(Errno::EPERM),
        };
        if made.is_err() {
            let _ = unlink(&target);
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            open(&target, flags, Mode::empty())?;
            mount(Some(*path), &target, NONE, MsFlags::MS_BIND, NONE)?;
        }
    }
    mount(
        NONE,
        "dev",
        NONE,
        flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY,
        NONE,
    )
}

fn own_device(target: &Path, number: libc::dev_t, uid: u32) -> Result<(), Errno> {
    mknod(target, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, number)?;
    chown(target, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))
}
