//! What is mounted in a container, found in the guest: as trees that are attached nowhere yet.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::{UnmountFlags, unmount};
use rustix::thread::ThreadNameSpaceType;

use super::create::Plan;
use super::devices::mode_and_kind;
use super::id_maps::IdMaps;
use super::kernel_fs::{detached_fs, make_kernel_fs};
use super::mount_options::MountOptions;
use super::mounts::{attach, clone_tree};
use super::paths::open_in;
use super::rootfs::{RootPaths, share_mount_point};
use crate::contract::{ContainerMount, CreateContainerRequest, Device, InjectedFile, Mount, ShareMount, mount};
use crate::failure::{Doing, Failure, Result};

/// What can only be had before the namespaces of the container are entered: all that the guest's root owns, where there is
/// a user namespace, and what other containers have.
pub struct Sources {
    /// The root of the container; absent: it is where the agent mounted it.
    pub root: Option<OwnedFd>,
    mounts: Vec<Option<OwnedFd>>,
    files: Vec<Option<OwnedFd>>,
    /// Nodes to be bound, as a user namespace may not make any.
    pub devices: Option<Vec<OwnedFd>>,
}

impl Sources {
    pub fn find(plan: &Plan, paths: &RootPaths, request: &CreateContainerRequest) -> Result<Self> {
        let early = plan.spaces.in_user_namespace();
        let mounts = request.mounts.iter().enumerate();
        let mounts = mounts.map(|(index, mount)| mount_source(plan, paths, early, index, mount));
        let mut sources = Self {
            mounts: mounts.collect::<Result<_>>()?,
            root: None,
            files: Vec::new(),
            devices: None,
        };
        if early {
            let root = open_plain(&paths.root)?;
            sources.root = Some(clone_tree(root.as_fd(), true).doing(|| "copying the root mount".into())?);
            for (index, file) in request.files.iter().enumerate() {
                sources.files.push(Some(written_file(paths, index, file)?));
            }
            sources.devices = Some(device_nodes(paths, &request.devices, plan.spaces.ids.as_deref())?);
        }
        Ok(sources)
    }

    pub fn take_mount(&mut self, index: usize) -> Option<OwnedFd> {
        self.mounts.get_mut(index)?.take()
    }

    pub fn take_file(&mut self, index: usize) -> Option<OwnedFd> {
        self.files.get_mut(index)?.take()
    }
}

fn mount_source(plan: &Plan, paths: &RootPaths, early: bool, index: usize, request: &Mount) -> Result<Option<OwnedFd>> {
    let options = MountOptions::parse(&request.options)?;
    match &request.source {
        Some(mount::Source::Container(source)) => container_source(plan, source, &options).map(Some),
        Some(mount::Source::Share(share)) if early => share_source(share, &options).map(Some),
        Some(mount::Source::Disk(_)) if early => disk_source(paths, index).map(Some),
        Some(mount::Source::Volume(_)) if early => {
            Err(Failure::invalid("a volume in a container with a user namespace"))
        }
        // Both belong to namespaces that the guest's root owns.
        Some(mount::Source::Kernel(kernel))
            if early && (kernel.r#type == "proc" || kernel.r#type == "sysfs" && !plan.spaces.has_own_network()) =>
        {
            make_kernel_fs(kernel, &options).map(Some)
        }
        _ => Ok(None),
    }
}

pub fn share_source(share: &ShareMount, options: &MountOptions) -> Result<OwnedFd> {
    let doing = || format!("opening {:?} of the share", share.path);
    let shared = open_plain(&share_mount_point(&share.tag))?;
    let source = open_in(shared.as_fd(), Path::new(&share.path), OFlags::PATH).doing(doing)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&source).doing(doing)?.st_mode);
    if !kind.is_dir() && !kind.is_file() {
        let message = format!(
            "{:?} of the share is neither a directory nor a regular file",
            share.path
        );
        return Err(Failure::invalid(message));
    }
    clone_tree(source.as_fd(), options.recursive_bind).doing(doing)
}

/// The disk of the mount of this index, which the agent has mounted for itself.
pub fn disk_source(paths: &RootPaths, index: usize) -> Result<OwnedFd> {
    let mounted = open_plain(&paths.disk(index))?;
    clone_tree(mounted.as_fd(), false).doing(|| "opening the disk".into())
}

/// Enters the other container's mount namespace for it: a tree can only be copied from inside.
fn container_source(plan: &Plan, source: &ContainerMount, options: &MountOptions) -> Result<OwnedFd> {
    let doing = || format!("opening {:?} of container {}", source.path, source.container_id);
    let owner = plan
        .peers
        .get(&source.container_id)
        .ok_or_else(|| Failure::invalid("a mount of an unknown container"))?;
    let own = rustix::fs::open("/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).doing(doing)?;
    let init = owner.init.pidfd().as_fd();
    rustix::thread::move_into_thread_name_spaces(init, ThreadNameSpaceType::MOUNT).doing(doing)?;
    let copied = open_plain(Path::new("/")).and_then(|root| {
        let found = open_in(root.as_fd(), Path::new(&source.path), OFlags::PATH).doing(doing)?;
        clone_tree(found.as_fd(), options.recursive_bind).doing(doing)
    });
    rustix::thread::move_into_link_name_space(own.as_fd(), None).doing(doing)?;
    copied
}

/// Writes the file to the agent's own tmpfs.
pub fn written_file(paths: &RootPaths, index: usize, file: &InjectedFile) -> Result<OwnedFd> {
    let doing = || format!("injecting {}", file.destination);
    let path = paths.files.join(index.to_string());
    std::fs::write(&path, &file.content).doing(doing)?;
    rustix::fs::chmod(&path, Mode::from_raw_mode(file.mode & 0o7777)).doing(doing)?;
    clone_tree(open_plain(&path)?.as_fd(), false).doing(doing)
}

/// On a file system of their own, owned by whom the container's ids stand for.
fn device_nodes(paths: &RootPaths, devices: &[Device], ids: Option<&IdMaps>) -> Result<Vec<OwnedFd>> {
    // Only of what is attached somewhere trees can be copied.
    let place = paths.files.join("devices");
    let doing = || "making a place for devices".to_owned();
    std::fs::create_dir(&place).doing(doing)?;
    let tray = detached_fs("tmpfs", "tmpfs", &MountOptions::default())?;
    attach(tray.as_fd(), open_plain(&place)?.as_fd()).doing(doing)?;
    let nodes = make_nodes(&tray, devices, ids);
    unmount(&place, UnmountFlags::DETACH).doing(doing)?;
    std::fs::remove_dir(&place).doing(doing)?;
    nodes
}

fn make_nodes(tray: &OwnedFd, devices: &[Device], ids: Option<&IdMaps>) -> Result<Vec<OwnedFd>> {
    let mut nodes = Vec::with_capacity(devices.len());
    for (index, device) in devices.iter().enumerate() {
        let doing = || format!("making the device {}", device.path);
        let (mode, kind) = mode_and_kind(device)?;
        let number = rustix::fs::makedev(device.major, device.minor);
        let name = index.to_string();
        rustix::fs::mknodat(tray, name.as_str(), kind, mode, number).doing(doing)?;
        let node = rustix::fs::openat(tray, name.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let node = node.doing(doing)?;
        let outside = |id: Option<u32>| id.unwrap_or(0);
        let uid = Uid::from_raw(outside(ids.map_or(Some(device.uid), |ids| ids.uid(device.uid))));
        let gid = Gid::from_raw(outside(ids.map_or(Some(device.gid), |ids| ids.gid(device.gid))));
        rustix::fs::chownat(
            tray,
            name.as_str(),
            Some(uid),
            Some(gid),
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        )
        .doing(doing)?;
        nodes.push(clone_tree(node.as_fd(), false).doing(doing)?);
    }
    Ok(nodes)
}

/// Opens a path of the guest itself.
pub fn open_plain(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("opening {}", path.display()))
}
