//! The init process of a container, in the forked child.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;
use rustix::thread::UnshareFlags;

use super::plan::ProcessPlan;
use super::rootfs::RootPaths;
use super::{child, devices, mounts};
use crate::contract::CreateContainerRequest;
use crate::failure::{Doing, Failure, Result};

/// Runs as pid 1 of a new pid namespace; everything else is still the agent's.
pub fn run(plan: &ProcessPlan, paths: &RootPaths, request: &CreateContainerRequest) -> ! {
    child::run(plan, || {
        child::detach_from_agent(plan, &[])?;
        // Out of reach once the root has changed.
        let own_program = plan.process.init.then(open_own_program).transpose()?;
        enter_namespaces(request)?;
        build_root(paths, request)?;
        child::become_process(plan, true, own_program.as_ref().map(AsFd::as_fd))
    })
}

fn open_own_program() -> Result<OwnedFd> {
    rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .doing(|| "opening the agent's program".into())
}

fn enter_namespaces(request: &CreateContainerRequest) -> Result<()> {
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC | UnshareFlags::NEWCGROUP;
    // SAFETY: this process has one thread, and CLONE_FILES is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(flags) }.doing(|| "entering new namespaces".into())?;
    if !request.hostname.is_empty() {
        rustix::system::sethostname(request.hostname.as_bytes()).doing(|| "setting the host name".into())?;
    }
    if !request.domainname.is_empty() {
        rustix::system::setdomainname(request.domainname.as_bytes()).doing(|| "setting the domain name".into())?;
    }
    Ok(())
}

fn build_root(paths: &RootPaths, request: &CreateContainerRequest) -> Result<()> {
    let open = |path: &std::path::Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .doing(|| format!("opening {}", path.display()))
    };
    let root = open(&paths.root)?;
    let null = open("/dev/null".as_ref())?;
    // Modes of nodes and files are as requested.
    rustix::process::umask(Mode::empty());
    for mount in &request.mounts {
        mounts::apply(root.as_fd(), paths, mount)?;
    }
    for device in &request.devices {
        devices::make_device(root.as_fd(), device)?;
    }
    devices::make_links(root.as_fd());
    for (index, file) in request.files.iter().enumerate() {
        mounts::inject(root.as_fd(), paths, index, file)?;
    }
    for (key, value) in &request.sysctl {
        set_sysctl(key, value)?;
    }
    for path in &request.readonly_paths {
        mounts::make_readonly(root.as_fd(), path)?;
    }
    let mut masks = mounts::Masks::new(null);
    for path in &request.masked_paths {
        masks.hide(root.as_fd(), path)?;
    }
    if let Some(cwd) = Some(&request.process)
        .and_then(|process| process.as_ref())
        .filter(|process| process.create_cwd)
    {
        // Before the root becomes read-only. A failure is told when the directory is entered.
        let _ = super::paths::make_directory(root.as_fd(), cwd.cwd.as_ref(), Mode::from_raw_mode(0o755));
    }
    if request.process.as_ref().is_some_and(|process| process.terminal) {
        let _ = super::paths::make_file(root.as_fd(), "/dev/console".as_ref());
    }
    if request.readonly_rootfs {
        mounts::make_root_readonly(root.as_fd())?;
    }
    make_it_the_root(root.as_fd())
}

/// Stacks the new root over the old one and drops the old one, with every mount of the guest's.
fn make_it_the_root(root: BorrowedFd<'_>) -> Result<()> {
    let doing = || "changing the root".to_owned();
    rustix::process::fchdir(root).doing(doing)?;
    rustix::process::pivot_root(".", ".").doing(doing)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing(doing)?;
    rustix::process::chdir("/").doing(doing)
}

fn set_sysctl(key: &str, value: &str) -> Result<()> {
    let valid = key
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
    if !valid || key.contains("..") || key.starts_with(['.', '/']) {
        return Err(Failure::invalid(format!("{key:?} is no name of a sysctl")));
    }
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    std::fs::write(&path, value).doing(|| format!("setting the sysctl {key} to {value:?}"))
}
