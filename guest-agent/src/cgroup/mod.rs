//! One cgroup v2 per container: limits, membership, the OOM counter, the list of processes.

mod freezer;
mod limits;
mod stats;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::process::Pid;

use crate::contract::Resources;
use crate::device_filter::LoadedFilter;
use crate::failure::{Doing, Result};

const ROOT: &str = "/sys/fs/cgroup";
/// Holds the cgroups of all containers.
const CONTAINERS: &str = "/sys/fs/cgroup/containers";

/// What a container can be limited by from the start. The others cost time, and are switched on for the first who needs
/// them.
const CONTROLLERS: &str = "+cpu +memory +pids";

/// Bounds what is read of the list of processes and of descending into cgroups a container makes itself.
const MAX_PROCESSES: usize = 4096;
const MAX_DEPTH: usize = 16;

/// Makes the parent of the containers' cgroups. The first cgroup with these controllers costs ten times what later ones
/// cost: the kernel patches its own code for it.
pub fn prepare() -> Result<()> {
    let doing = || "preparing the cgroups".to_owned();
    fs::write(format!("{ROOT}/cgroup.subtree_control"), CONTROLLERS).doing(doing)?;
    fs::create_dir(CONTAINERS).doing(doing)?;
    fs::write(format!("{CONTAINERS}/cgroup.subtree_control"), CONTROLLERS).doing(doing)
}

pub struct Cgroup {
    path: PathBuf,
    directory: OwnedFd,
}

impl Cgroup {
    /// Makes the cgroup with its limits and its device filter. Nothing is left when this fails.
    pub fn create(name: &str, resources: &Resources, devices: &LoadedFilter) -> Result<Self> {
        let path = PathBuf::from(CONTAINERS).join(name);
        let doing = || format!("making the cgroup of {name}");
        fs::create_dir(&path).doing(doing)?;
        let made = open_directory(&path).doing(doing).map(|directory| Self {
            path: path.clone(),
            directory,
        });
        let filled = made.and_then(|cgroup| {
            cgroup.apply(resources)?;
            cgroup.filter_devices(devices)?;
            Ok(cgroup)
        });
        if filled.is_err() {
            let _ = fs::remove_dir(&path);
        }
        filled
    }

    /// In place of the filter before.
    pub fn filter_devices(&self, devices: &LoadedFilter) -> Result<()> {
        devices.attach(self.directory.as_fd())
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        fs::write(self.path.join(file), value).doing(|| format!("setting {file} to {value}"))
    }

    fn read(&self, file: &str) -> Result<String> {
        fs::read_to_string(self.path.join(file)).doing(|| format!("reading {file}"))
    }

    /// Opened before the fork; writing "0" to it moves the writer.
    pub fn membership(&self) -> Result<OwnedFd> {
        rustix::fs::openat(
            &self.directory,
            "cgroup.procs",
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .doing(|| "opening cgroup.procs".into())
    }

    /// How many processes the kernel has killed for memory so far.
    pub fn oom_kills(&self) -> u64 {
        let events = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Kills everything inside, descendants included.
    pub fn kill(&self) -> Result<()> {
        self.write("cgroup.kill", "1")
    }

    /// Pids in the guest's root namespace, of nested cgroups as well; at most 4096.
    pub fn processes(&self) -> io::Result<Vec<Pid>> {
        let mut pids = Vec::new();
        collect_processes(self.directory.as_fd(), 0, &mut pids)?;
        Ok(pids)
    }

    /// Everything inside must be dead.
    pub fn remove(&self) -> Result<()> {
        remove_tree(self.directory.as_fd(), 0);
        fs::remove_dir(&self.path).doing(|| format!("removing the cgroup {}", self.path.display()))
    }
}

fn open_directory(path: &std::path::Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn collect_processes(cgroup: BorrowedFd<'_>, depth: usize, pids: &mut Vec<Pid>) -> io::Result<()> {
    let procs = rustix::fs::openat(cgroup, "cgroup.procs", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    // A threaded cgroup has no list of processes; its threads are listed at the root of the threaded tree.
    let _ = File::from(procs).take(1 << 20).read_to_string(&mut text);
    pids.extend(
        text.lines()
            .filter_map(|line| line.parse().ok().and_then(Pid::from_raw)),
    );
    pids.truncate(MAX_PROCESSES);
    if depth < MAX_DEPTH && pids.len() < MAX_PROCESSES {
        for child in children(cgroup) {
            collect_processes(child.1.as_fd(), depth + 1, pids)?;
        }
    }
    Ok(())
}

fn remove_tree(cgroup: BorrowedFd<'_>, depth: usize) {
    if depth < MAX_DEPTH {
        for (name, child) in children(cgroup) {
            remove_tree(child.as_fd(), depth + 1);
            let _ = rustix::fs::unlinkat(cgroup, name.as_c_str(), AtFlags::REMOVEDIR);
        }
    }
}

fn children(cgroup: BorrowedFd<'_>) -> Vec<(std::ffi::CString, OwnedFd)> {
    let Ok(entries) = rustix::fs::Dir::read_from(cgroup) else {
        return Vec::new();
    };
    let directories = entries.flatten().filter(|entry| {
        entry.file_type() == rustix::fs::FileType::Directory && !matches!(entry.file_name().to_bytes(), b"." | b"..")
    });
    directories
        .filter_map(|entry| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let child = rustix::fs::openat(cgroup, entry.file_name(), flags, Mode::empty()).ok()?;
            Some((entry.file_name().to_owned(), child))
        })
        .collect()
}
