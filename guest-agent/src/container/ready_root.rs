//! A root made ahead of the container that it is for.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::{Advice, Mode, OFlags};

use super::command::search_path;
use super::lock;
use super::paths::open_in;
use super::rootfs::{RootPaths, mount_root_disks};
use super::user;
use crate::contract::{DiskRootfs, Process};
use crate::failure::Result;

/// No id of a container.
const NAME: &str = ".ready";
/// Of a program, from its beginning.
const READ_AHEAD: u64 = 4 << 20;

#[derive(Default)]
pub struct ReadyRoot(Mutex<Option<(DiskRootfs, RootPaths)>>);

impl ReadyRoot {
    pub async fn prepare(&self, disks: DiskRootfs, process: Option<&Process>) -> Result<()> {
        self.take_down()?;
        let paths = mount_root_disks(NAME, &disks).await?;
        if let Some(process) = process {
            read_ahead(&paths, process);
        }
        *lock(&self.0) = Some((disks, paths));
        Ok(())
    }

    /// The root, if it is of these disks; one of others would have them mounted twice and is taken down.
    pub fn take(&self, disks: &DiskRootfs) -> Result<Option<RootPaths>> {
        let taken = lock(&self.0).take_if(|(ready, _)| ready == disks);
        match taken {
            Some((_, paths)) => Ok(Some(paths)),
            None => self.take_down().map(|()| None),
        }
    }

    pub fn is_there(&self) -> bool {
        lock(&self.0).is_some()
    }

    fn take_down(&self) -> Result<()> {
        let taken = lock(&self.0).take();
        taken.map_or(Ok(()), |(_, paths)| paths.unmount())
    }
}

/// Whatever fails here fails again, and is told, when the container is made.
fn read_ahead(paths: &RootPaths, process: &Process) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::open(&paths.root, flags, Mode::empty()) else {
        return;
    };
    let root = root.as_fd();
    let _ = user::resolve(root, process);
    for file in ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"] {
        let _ = open_in(root, Path::new(file), OFlags::PATH);
    }
    let Some(name) = process.args.first() else { return };
    if name.contains('/') {
        let _ = read_program(root, Path::new(name));
        return;
    }
    let env = process.env.iter().map(String::as_bytes);
    let _ = search_path(env).any(|directory| read_program(root, &directory.join(name)).is_ok());
}

fn read_program(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<()> {
    // never a device or a fifo, whatever the image has there: opening one may do or block something
    let found = open_in(root, path, OFlags::PATH)?;
    if !rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode).is_file() {
        return Err(rustix::io::Errno::INVAL);
    }
    let program = open_in(root, path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    rustix::fs::fadvise(&program, 0, std::num::NonZeroU64::new(READ_AHEAD), Advice::WillNeed)
}
