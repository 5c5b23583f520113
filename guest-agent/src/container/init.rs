//! The init process of a container, in the forked child.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;

use super::create::Plan;
use super::mount_options::Propagation;
use super::plan::ProcessPlan;
use super::rootfs::RootPaths;
use super::sources::{Sources, open_plain};
use super::{child, devices, mounts, protected};
use crate::contract::CreateContainerRequest;
use crate::failure::{Doing, Failure, Result};
use crate::sys::{MountAttr, mount_setattr};

/// Runs in its pid namespace; everything else is still the agent's.
pub fn run(process: &ProcessPlan, plan: &Plan, paths: &RootPaths, request: &CreateContainerRequest) -> ! {
    child::run(process, || {
        let peers = plan.peers.values().map(|peer| peer.init.pidfd().as_raw_fd());
        child::detach_from_agent(
            process,
            &plan.spaces.descriptors().into_iter().chain(peers).collect::<Vec<_>>(),
        )?;
        // Out of reach once the root has changed.
        let own_program = process.process.init.then(open_own_program).transpose()?;
        let (early, late) = sysctls(request, plan)?;
        set_sysctls(&early)?;
        // Modes of nodes and files are as requested.
        rustix::process::umask(Mode::empty());
        let sources = Sources::find(plan, paths, request)?;
        plan.spaces.enter(process)?;
        set_names(request)?;
        build_root(plan, paths, sources, request, &late)?;
        let of_init = child::OfInit {
            hooks: &plan.hooks,
            reaper: own_program.as_ref().map(AsFd::as_fd),
        };
        child::become_process(process, Some(of_init))
    })
}

fn open_own_program() -> Result<OwnedFd> {
    rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .doing(|| "opening the agent's program".into())
}

fn set_names(request: &CreateContainerRequest) -> Result<()> {
    if !request.hostname.is_empty() {
        rustix::system::sethostname(request.hostname.as_bytes()).doing(|| "setting the host name".into())?;
    }
    if !request.domainname.is_empty() {
        rustix::system::setdomainname(request.domainname.as_bytes()).doing(|| "setting the domain name".into())?;
    }
    Ok(())
}

fn build_root(
    plan: &Plan,
    paths: &RootPaths,
    mut sources: Sources,
    request: &CreateContainerRequest,
    sysctls: &[(PathBuf, &str)],
) -> Result<()> {
    let place = open_plain(&paths.root)?;
    let root = match sources.root.take() {
        // A mount of one's own: what a user namespace inherits it can neither pivot to nor unmount.
        Some(copy) => {
            mounts::attach(copy.as_fd(), place.as_fd()).doing(|| "attaching the root".into())?;
            copy
        }
        None => place,
    };
    let root = root.as_fd();
    let null = open_plain("/dev/null".as_ref())?;
    for (index, mount) in request.mounts.iter().enumerate() {
        mounts::apply(root, paths, &mut sources, index, mount)?;
    }
    for (index, device) in request.devices.iter().enumerate() {
        match &sources.devices {
            Some(nodes) => devices::bind_device(root, device, &nodes[index])?,
            None => devices::make_device(root, device)?,
        }
    }
    if !request.devices.is_empty() {
        devices::make_links(root);
    }
    for (index, file) in request.files.iter().enumerate() {
        mounts::inject(root, paths, &mut sources, index, file)?;
    }
    set_sysctls(sysctls)?;
    for path in &request.readonly_paths {
        protected::make_readonly(root, path)?;
    }
    let mut masks = protected::Masks::new(null);
    for path in &request.masked_paths {
        masks.hide(root, path)?;
    }
    if let Some(cwd) = Some(&request.process)
        .and_then(|process| process.as_ref())
        .filter(|process| process.create_cwd)
    {
        // Before the root becomes read-only. A failure is told when the directory is entered.
        let _ = super::paths::make_directory(root, cwd.cwd.as_ref(), Mode::from_raw_mode(0o755));
    }
    if request.process.as_ref().is_some_and(|process| process.terminal) {
        let _ = super::paths::make_file(root, "/dev/console".as_ref());
    }
    if request.readonly_rootfs {
        protected::make_root_readonly(root)?;
    }
    make_it_the_root(root)?;
    propagate(root, plan.propagation)
}

/// As far as it is not what a new root is anyway: private.
fn propagate(root: BorrowedFd<'_>, Propagation { kind, recursive }: Propagation) -> Result<()> {
    if kind == libc::MS_PRIVATE {
        return Ok(());
    }
    // A peer of nobody is a slave of nobody, which the kernel calls private: so it is with a root of a microVM.
    let attr = MountAttr {
        propagation: kind,
        ..MountAttr::default()
    };
    mount_setattr(root, recursive, &attr).doing(|| "setting the root's propagation".into())
}

/// Stacks the new root over the old one and drops the old one, with every mount of the guest's.
fn make_it_the_root(root: BorrowedFd<'_>) -> Result<()> {
    let doing = || "changing the root".to_owned();
    rustix::process::fchdir(root).doing(doing)?;
    rustix::process::pivot_root(".", ".").doing(doing)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing(doing)?;
    rustix::process::chdir("/").doing(doing)
}

type Sysctls<'a> = Vec<(PathBuf, &'a str)>;

/// Those to set before and those to set after the namespaces are entered: root of a user namespace may not touch what
/// belongs to the guest's network.
fn sysctls<'a>(request: &'a CreateContainerRequest, plan: &Plan) -> Result<(Sysctls<'a>, Sysctls<'a>)> {
    let mut all = Vec::new();
    for (key, value) in &request.sysctl {
        all.push((sysctl_path(key)?, value.as_str()));
    }
    let network = Path::new("/proc/sys/net");
    let early = plan.spaces.in_user_namespace() && !plan.spaces.has_own_network();
    Ok(all
        .into_iter()
        .partition(|(path, _)| early && path.starts_with(network)))
}

/// Dots and slashes can change roles, as in sysctl(8): whichever comes first separates.
fn sysctl_path(key: &str) -> Result<PathBuf> {
    let valid = key
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
    if !valid || key.is_empty() || key.split(['.', '/']).any(str::is_empty) {
        return Err(Failure::invalid(format!("{key:?} is no name of a sysctl")));
    }
    let slashes = key
        .find('/')
        .is_some_and(|slash| key.find('.').is_none_or(|dot| slash < dot));
    let path = if slashes { key.to_owned() } else { swap_separators(key) };
    Ok(Path::new("/proc/sys").join(path))
}

fn swap_separators(key: &str) -> String {
    let swap = |character| match character {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    key.chars().map(swap).collect()
}

/// Through the guest's own proc: nothing that the container mounts can stand in for it.
fn set_sysctls(sysctls: &[(PathBuf, &str)]) -> Result<()> {
    for (path, value) in sysctls {
        std::fs::write(path, value).doing(|| format!("setting the sysctl {} to {value:?}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_files_of_sysctls() {
        let path = |key| sysctl_path(key).map(|path| path.display().to_string());
        assert_eq!(path("net.ipv4.ip_forward").unwrap(), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(
            path("net/ipv4/conf/eth0.5/rp_filter").unwrap(),
            "/proc/sys/net/ipv4/conf/eth0.5/rp_filter"
        );
        assert_eq!(
            path("net.ipv4.conf.eth0/5.rp_filter").unwrap(),
            "/proc/sys/net/ipv4/conf/eth0.5/rp_filter"
        );
        for wrong in ["", ".", "..", "a..b", "/a", "a/../b", "a b", "a/", "a\nb"] {
            assert!(path(wrong).is_err(), "{wrong:?}");
        }
    }
}
