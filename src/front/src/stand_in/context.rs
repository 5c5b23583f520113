//! Where a stand-in lives: namespaces, entered by the process that forks it, and cgroups, joined by itself.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

use super::request::{Cgroup, Namespaces, Trouble, Why};

/// What only the forked process enters, because its console socket is found in the caller's mount namespace.
pub struct Pending(Option<File>);

/// Enters all namespaces but the mount namespace; that of pids is the forked process's.
pub fn enter(namespaces: &Namespaces) -> Result<Pending, Trouble> {
    let mut pending = Pending(None);
    if let Some(pid) = namespaces.of {
        let open = |name: &str| {
            let path = PathBuf::from(format!("/proc/{pid}/ns/{name}"));
            File::open(&path).why_of("cannot open", &path)
        };
        let joined = ["net", "ipc", "uts", "pid"].map(|name| open(name).map(|file| (name, file)));
        pending = Pending(Some(open("mnt")?));
        for joined in joined {
            let (name, file) = joined?;
            setns(&file, CloneFlags::empty()).why(format_args!("cannot join the {name} namespace of process {pid}"))?;
        }
    }
    for (kind, path) in &namespaces.join {
        let file = File::open(path).why_of("cannot open", path)?;
        setns(&file, *kind).why_of("cannot join the namespace", path)?;
    }
    let own = namespaces.new - CloneFlags::CLONE_NEWPID;
    unshare(own).why("cannot have namespaces of its own")?;
    if own.contains(CloneFlags::CLONE_NEWNET) {
        raise_loopback().why("cannot bring up the loopback interface")?;
    }
    Ok(pending)
}

impl Pending {
    pub fn descriptor(&self) -> Option<RawFd> {
        self.0.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// The last of it: from here on the caller's paths are out of reach.
    pub fn finish(self) -> Result<(), Trouble> {
        match self.0 {
            Some(mounts) => setns(&mounts, CloneFlags::CLONE_NEWNS).why("cannot join a mount namespace"),
            None => Ok(()),
        }
    }
}

fn raise_loopback() -> Result<(), Errno> {
    // SAFETY: plain system calls; the request is zeroed, its name ends with a zero, and it lives through both ioctls.
    unsafe {
        let socket = Errno::result(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
        let mut request: libc::ifreq = std::mem::zeroed();
        for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
            *place = *byte as libc::c_char;
        }
        let mut done = Errno::result(libc::ioctl(socket, libc::SIOCGIFFLAGS, &mut request));
        if done.is_ok() {
            request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
            done = Errno::result(libc::ioctl(socket, libc::SIOCSIFFLAGS, &request));
        }
        libc::close(socket);
        done.map(drop)
    }
}

/// Cgroups that were made; removed again, as far as they are empty, unless they are kept.
#[derive(Default)]
pub struct Made(Vec<PathBuf>);

impl Made {
    pub fn keep(&mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Makes what is missing of each cgroup, usable: cpusets filled, controllers handed down.
pub fn make(cgroups: &[Cgroup]) -> Result<Made, Trouble> {
    let mut made = Made::default();
    for cgroup in cgroups {
        let mut path = cgroup.mount.clone();
        for name in cgroup.path.components().filter_map(|part| match part {
            std::path::Component::Normal(name) => Some(name),
            _ => None,
        }) {
            hand_down_controllers(&path);
            let parent = path.clone();
            path.push(name);
            match fs::create_dir(&path) {
                Ok(()) => made.0.push(path.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result.why_of("cannot create the cgroup", &path)?,
            }
            fill_cpuset(&parent, &path);
        }
    }
    Ok(made)
}

/// Of cgroup v2; a controller that cannot be had is not needed, or missed by who sets its limit.
fn hand_down_controllers(path: &Path) {
    let Ok(controllers) = fs::read_to_string(path.join("cgroup.controllers")) else {
        return;
    };
    for name in controllers.split_whitespace() {
        let _ = fs::write(path.join("cgroup.subtree_control"), format!("+{name}"));
    }
}

/// Of cgroup v1: nobody can join one whose sets are empty.
fn fill_cpuset(parent: &Path, path: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if fs::read_to_string(path.join(file)).is_ok_and(|set| set.trim().is_empty())
            && let Ok(set) = fs::read(parent.join(file))
        {
            let _ = fs::write(path.join(file), set);
        }
    }
}

/// Moves this process.
pub fn join(cgroups: &[Cgroup]) -> Result<(), Trouble> {
    for Cgroup { mount, path } in cgroups {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let procs = mount.join(relative).join("cgroup.procs");
        fs::write(&procs, "0").why_of("cannot join the cgroup", &procs)?;
    }
    Ok(())
}
