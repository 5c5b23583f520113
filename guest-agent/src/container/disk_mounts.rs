//! Disks that a container has beside its root. The agent mounts each for itself and copies the mount into the container, so
//! that it can sync and unmount it when the container is gone.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::blocking;
use super::kernel_fs::detached_fs;
use super::mount_options::MountOptions;
use super::mounts::attach;
use super::rootfs::RootPaths;
use super::sources::open_plain;
use crate::contract::{DiskMount, FailureReason, Mount, mount};
use crate::disks::{Access, find_disk, open_disk};
use crate::failure::{Doing, Failure, Result};
use crate::sys::grow_ext4;

/// As far into a disk as the superblocks that are known reach.
const PROBED: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FsKind {
    Ext4,
    Xfs,
    Erofs,
}

impl FsKind {
    fn parse(name: &str) -> Result<Self> {
        match name {
            "ext4" => Ok(Self::Ext4),
            "xfs" => Ok(Self::Xfs),
            "erofs" => Ok(Self::Erofs),
            _ => Err(Failure::invalid(format!(
                "a disk holds ext4, xfs or erofs, not {name:?}"
            ))),
        }
    }

    /// By the magic numbers of their superblocks: ext4's at 1024 + 56, XFS's at 0, EROFS's at 1024.
    fn probe(start: &[u8; PROBED]) -> Option<Self> {
        match start {
            _ if start.starts_with(b"XFSB") => Some(Self::Xfs),
            _ if start[1024..1028] == 0xe0f5_e1e2_u32.to_le_bytes() => Some(Self::Erofs),
            _ if start[1080..1082] == 0xef53_u16.to_le_bytes() => Some(Self::Ext4),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Erofs => "erofs",
        }
    }

    /// Of a disk that is read-only not even the journal is played back. A damaged ext4 is not written to any further.
    fn options(self, readonly: bool) -> &'static [&'static str] {
        match (self, readonly) {
            (Self::Ext4, true) => &["ro", "noload"],
            (Self::Ext4, false) => &["discard", "errors=remount-ro"],
            (Self::Xfs, true) => &["ro", "norecovery"],
            (Self::Xfs, false) => &["discard"],
            (Self::Erofs, _) => &["ro"],
        }
    }
}

/// Mounts the disks of these mounts. What was mounted when one of them fails goes with the root.
pub async fn mount_disks(paths: &RootPaths, mounts: &[Mount]) -> Result<()> {
    for (index, request) in mounts.iter().enumerate() {
        let Some(mount::Source::Disk(disk)) = &request.source else {
            continue;
        };
        let disk = disk.clone();
        let device = find_disk(&disk.serial).await?;
        let target = paths.disk(index);
        // on a thread that may block: a journal may be long
        let mounted = blocking(move || mount_disk(&device, &target, &disk)).await;
        mounted.map_err(|failure| {
            let message = format!("cannot mount the disk for {}: {}", request.destination, failure.message);
            Failure::new(failure.reason, message)
        })?;
    }
    Ok(())
}

fn mount_disk(device: &Path, target: &Path, disk: &DiskMount) -> Result<()> {
    let kind = match disk.fs.as_str() {
        "" => probe(device)?,
        name => FsKind::parse(name)?,
    };
    let options = MountOptions {
        data: kind.options(disk.readonly).iter().map(ToString::to_string).collect(),
        ..MountOptions::default()
    };
    let source = device.to_string_lossy();
    let mounted = detached_fs(kind.name(), &source, &options)?;
    fs::create_dir_all(target).doing(|| format!("making {}", target.display()))?;
    attach(mounted.as_fd(), open_plain(target)?.as_fd()).doing(|| "attaching it".into())?;
    if disk.grow && kind == FsKind::Ext4 && !disk.readonly {
        return grow(device, target);
    }
    Ok(())
}

fn grow(device: &Path, target: &Path) -> Result<()> {
    let doing = || "growing its file system".to_owned();
    let bytes = File::open(device)
        .and_then(|mut disk| disk.seek(SeekFrom::End(0)))
        .doing(doing)?;
    let directory = File::open(target).doing(doing)?;
    let block_bytes = rustix::fs::fstatvfs(&directory).doing(doing)?.f_bsize;
    grow_ext4(directory.as_fd(), bytes / block_bytes).doing(doing)
}

fn probe(device: &Path) -> Result<FsKind> {
    let mut start = [0; PROBED];
    let disk = open_disk(device, Access::ReadOnly)?;
    let read = disk.read_exact_at(&mut start, 0);
    read.ok().and_then(|()| FsKind::probe(&start)).ok_or_else(|| {
        let message = "it holds neither ext4 nor xfs nor erofs".to_owned();
        Failure::new(FailureReason::MountFailed, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_file_systems_by_their_superblocks() {
        let disk_with = |offset: usize, magic: &[u8]| {
            let mut start = [0; PROBED];
            start[offset..offset + magic.len()].copy_from_slice(magic);
            FsKind::probe(&start)
        };
        assert_eq!(disk_with(1080, &[0x53, 0xef]), Some(FsKind::Ext4));
        assert_eq!(disk_with(0, b"XFSB"), Some(FsKind::Xfs));
        assert_eq!(disk_with(1024, &[0xe2, 0xe1, 0xf5, 0xe0]), Some(FsKind::Erofs));
        assert_eq!(disk_with(0, b"QFI\xfb"), None);
    }

    #[test]
    fn takes_only_file_systems_that_are_meant_for_disks() {
        assert!(FsKind::parse("ext4").is_ok());
        for name in ["", "ext3", "tmpfs", "vfat", "EXT4"] {
            assert!(FsKind::parse(name).is_err(), "{name:?}");
        }
    }
}
