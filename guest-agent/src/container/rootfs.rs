//! The root file system of a container, mounted in the agent's own namespace so that it can still be read when the
//! container has stopped.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen, mount, unmount,
};

use super::mounts::{attach, clone_tree};
use super::paths::open_in;
use crate::boot::STATE_DIR;
use crate::contract::{DiskRootfs, FailureReason, ShareRootfs};
use crate::disks::{Access, find_disk, open_disk};
use crate::failure::{Doing, Failure, Result};

/// Freed blocks go back to the host. No thread that completes inode tables or reads bitmaps ahead: it would run exactly
/// while the container starts.
const SCRATCH_OPTIONS: &std::ffi::CStr = c"discard,noinit_itable,no_prefetch_block_bitmaps";

/// Where the pieces of one container's root lie in the guest.
pub struct RootPaths {
    base: PathBuf,
    pub root: PathBuf,
    pub files: PathBuf,
    /// Absent without a scratch disk.
    pub volumes: Option<PathBuf>,
    image: PathBuf,
    scratch: PathBuf,
    disks: PathBuf,
}

/// Devices of a root made of disks.
pub struct DiskPair {
    pub image: Option<(PathBuf, ImageFs)>,
    pub scratch: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFs {
    Ext4,
    Erofs,
}

impl ImageFs {
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "ext4" => Ok(Self::Ext4),
            "erofs" => Ok(Self::Erofs),
            _ => Err(Failure::invalid(format!(
                "an image disk holds ext4 or erofs, not {name:?}"
            ))),
        }
    }
}

impl RootPaths {
    pub fn new(name: &str, has_scratch: bool) -> Self {
        let base = Path::new(STATE_DIR).join("containers").join(name);
        let scratch = base.join("scratch");
        Self {
            root: base.join("root"),
            files: base.join("files"),
            volumes: has_scratch.then(|| scratch.join("volumes")),
            image: base.join("image"),
            disks: base.join("disks"),
            scratch,
            base,
        }
    }

    /// Where the disk of the mount of this index is.
    pub fn disk(&self, index: usize) -> PathBuf {
        self.disks.join(index.to_string())
    }

    /// Mounts the image disk below and the scratch disk above, or the scratch disk alone. Undone when it fails.
    pub fn mount_disks(&self, disks: &DiskPair) -> Result<()> {
        self.undo_unless_ok(|| {
            self.make_directories(&[&self.root, &self.files, &self.scratch])?;
            let flush = |disk: &Path| open_disk(disk, Access::ReadOnly).map(drop);
            flush(&disks.scratch)?;
            mount_device(
                &disks.scratch,
                &self.scratch,
                "ext4",
                MountFlags::empty(),
                SCRATCH_OPTIONS,
            )?;
            let upper = self.scratch.join("upper");
            let work = self.scratch.join("work");
            self.make_directories(&[&work])?;
            let Some((device, image_fs)) = &disks.image else {
                self.make_directories(&[&upper])?;
                return bind(&upper, &self.root);
            };
            self.make_directories(&[&self.image])?;
            flush(device)?;
            match image_fs {
                ImageFs::Ext4 => mount_device(device, &self.image, "ext4", MountFlags::RDONLY, c"noload")?,
                ImageFs::Erofs => mount_device(device, &self.image, "erofs", MountFlags::RDONLY, c"")?,
            }
            make_upper(&self.image, &upper)?;
            mount_overlay(&self.image, &upper, &work, &self.root)
        })
    }

    /// Binds a directory of the share, which must be mounted already. Undone when it fails.
    pub fn mount_share(&self, ShareRootfs { tag, path }: &ShareRootfs) -> Result<()> {
        self.undo_unless_ok(|| {
            self.make_directories(&[&self.root, &self.files])?;
            let doing = || format!("opening {path:?} of the share");
            let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            let share = open(&share_mount_point(tag)).doing(doing)?;
            let source = open_in(share.as_fd(), Path::new(path), OFlags::PATH | OFlags::DIRECTORY).doing(doing)?;
            let copy = clone_tree(source.as_fd(), true).doing(doing)?;
            attach(copy.as_fd(), open(&self.root).doing(doing)?.as_fd()).doing(doing)
        })
    }

    /// Writes everything back and unmounts, newest first.
    pub fn unmount(&self) -> Result<()> {
        if self.volumes.is_some() {
            sync_file_system(&self.scratch)?;
        }
        let disks = self.mounted_disks();
        // A disk that cannot be synced is told of when all of it is down.
        let each = disks.iter().map(|disk| sync_file_system(disk));
        let synced = each.fold(Ok(()), Result::and);
        for mounted in [&self.root, &self.image, &self.scratch].into_iter().chain(&disks) {
            unmount_any(mounted)?;
        }
        for disk in &disks {
            fs::remove_dir(disk).doing(|| format!("removing {}", disk.display()))?;
        }
        self.remove_directories()
            .doing(|| format!("removing {}", self.base.display()))?;
        synced
    }

    fn mounted_disks(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.disks).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// Never recursive where something could still be mounted.
    fn remove_directories(&self) -> std::io::Result<()> {
        let absent_is_fine = |done: std::io::Result<()>| match done {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done,
        };
        absent_is_fine(fs::remove_dir_all(&self.files))?;
        for directory in [&self.root, &self.image, &self.scratch, &self.disks, &self.base] {
            absent_is_fine(fs::remove_dir(directory))?;
        }
        Ok(())
    }

    fn make_directories(&self, directories: &[&Path]) -> Result<()> {
        for directory in directories {
            fs::create_dir_all(directory).doing(|| format!("making {}", directory.display()))?;
        }
        Ok(())
    }

    fn undo_unless_ok(&self, mount: impl FnOnce() -> Result<()>) -> Result<()> {
        let mounted = mount();
        if mounted.is_err() {
            for path in [&self.root, &self.image, &self.scratch] {
                let _ = unmount(path, UnmountFlags::DETACH);
            }
            let _ = self.remove_directories();
        }
        mounted
    }
}

/// The root called `name` of these disks, waiting for one that is just being plugged.
pub async fn mount_root_disks(name: &str, disks: &DiskRootfs) -> Result<RootPaths> {
    let image = if disks.image_serial.is_empty() {
        None
    } else {
        let image_fs = ImageFs::parse(&disks.image_fs)?;
        Some((find_disk(&disks.image_serial).await?, image_fs))
    };
    let pair = DiskPair {
        image,
        scratch: find_disk(&disks.scratch_serial).await?,
    };
    // On this thread: a thread of its own would cost more than these mounts take.
    let paths = RootPaths::new(name, true);
    paths.mount_disks(&pair).map(|()| paths)
}

fn unmount_any(mounted: &Path) -> Result<()> {
    let doing = || format!("unmounting {}", mounted.display());
    match unmount(mounted, UnmountFlags::NOFOLLOW) {
        // Not mounted, or not even made.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        // Something still has a file open there; it is synced, and goes with its last user.
        Err(rustix::io::Errno::BUSY) => unmount(mounted, UnmountFlags::DETACH).doing(doing),
        Err(error) => Err(error).doing(doing),
    }
}

pub fn share_mount_point(tag: &str) -> PathBuf {
    Path::new(STATE_DIR).join("shares").join(tag)
}

/// Mounts the share called `tag` once for the whole guest.
pub fn mount_shared_directory(tag: &str) -> Result<()> {
    // Who comes second must not take the mount point for the mount.
    static MOUNTING: Mutex<()> = Mutex::new(());
    let _mounting = MOUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let target = share_mount_point(tag);
    if target.exists() {
        return Ok(());
    }
    fs::create_dir_all(&target).doing(|| format!("making {}", target.display()))?;
    let mounted = mount(tag, &target, "virtiofs", MountFlags::empty(), None)
        .because(FailureReason::MountFailed, || format!("mounting the share {tag:?}"));
    if mounted.is_err() {
        let _ = fs::remove_dir(&target);
    }
    mounted
}

/// Writes back what the kernel holds for the file system at `path`.
pub fn sync_file_system(path: &Path) -> Result<()> {
    let doing = || format!("syncing {}", path.display());
    let directory = rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .doing(doing)?;
    rustix::fs::syncfs(&directory).doing(doing)
}

pub fn mount_device(device: &Path, target: &Path, kind: &str, flags: MountFlags, data: &std::ffi::CStr) -> Result<()> {
    mount(device, target, kind, flags, data).because(FailureReason::MountFailed, || {
        format!("mounting the {kind} disk {}", device.display())
    })
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    rustix::mount::mount_bind(source, target)
        .because(FailureReason::MountFailed, || format!("binding {}", source.display()))
}

/// The root directory of an overlay shows the attributes of its upper directory: they start as the image's.
fn make_upper(image: &Path, upper: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let doing = || "making the upper directory".to_owned();
    if upper.exists() {
        return Ok(());
    }
    // Renamed into place, so that an upper directory that exists is complete.
    let unfinished = upper.with_file_name("upper.new");
    fs::create_dir_all(&unfinished).doing(doing)?;
    let image = fs::metadata(image).doing(doing)?;
    let (uid, gid) = (Uid::from_raw(image.uid()), Gid::from_raw(image.gid()));
    rustix::fs::chown(&unfinished, Some(uid), Some(gid)).doing(doing)?;
    rustix::fs::chmod(&unfinished, Mode::from_raw_mode(image.mode() & 0o7777)).doing(doing)?;
    fs::rename(&unfinished, upper).doing(doing)
}

fn mount_overlay(lower: &Path, upper: &Path, work: &Path, target: &Path) -> Result<()> {
    let build = || -> rustix::io::Result<()> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let fixed = [("source", "overlay"), ("uuid", "null")].map(|(key, value)| (key, Path::new(value)));
        for (key, value) in fixed
            .into_iter()
            .chain([("lowerdir", lower), ("upperdir", upper), ("workdir", work)])
        {
            fsconfig_set_string(context.as_fd(), key, value)?;
        }
        fsconfig_create(context.as_fd())?;
        let mounted = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        attach(
            mounted.as_fd(),
            rustix::fs::open(target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?.as_fd(),
        )
    };
    build().because(FailureReason::MountFailed, || "mounting the overlay".into())
}
