//! Making a container, from the agent's side.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use crate::watch::watch;
use rustix::process::{Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;

use super::channel::AgentEnd;
use super::fork::{Forked, PidNamespace};
use super::plan::ProcessPlan;
use super::rootfs::{DiskPair, ImageFs, RootPaths, mount_shared_directory};
use super::{Container, Forker, INIT, blocking, channel, init, plan, stdio, unsupported};
use crate::cgroup::Cgroup;
use crate::contract::{CreateContainerRequest, Process as ProcessRequest, create_container_request::Rootfs, mount};
use crate::deferred::Deferred;
use crate::device_filter::{LoadedFilter, are_usual};
use crate::disks::find_disk;
use crate::failure::{Doing, Failure, Result};
use crate::process::{Process, ProcessIo, Terminal};
use crate::sys;

/// More than any sensible request has.
const MAX_ITEMS: usize = 1024;
const MAX_FILE: usize = 1 << 20;

/// Everything up to the execve of the init process. Leaves nothing when it fails.
pub async fn create(forker: &Forker, deferred: &Deferred, request: CreateContainerRequest) -> Result<Container> {
    check(&request)?;
    let usual = deferred.finish()?;
    let filter = if are_usual(&request.devices) {
        usual
    } else {
        LoadedFilter::load(&request.devices)?
    };
    let paths = Arc::new(mount_root(&request).await?);
    let made = make_init(forker, &request, &paths, &filter).await;
    match made {
        Ok((init, cgroup, channel)) => Ok(Container {
            id: request.container_id,
            processes: Mutex::new([(INIT.to_owned(), Some(Arc::clone(&init)))].into()),
            init,
            cgroup,
            paths: Arc::try_unwrap(paths).unwrap_or_else(|_| unreachable!("nobody else keeps them")),
            channel: Mutex::new(Some(channel)),
        }),
        Err(failure) => {
            // The reason of the first failure is the one to tell.
            let _ = blocking(move || paths.unmount()).await;
            Err(failure)
        }
    }
}

fn check(request: &CreateContainerRequest) -> Result<()> {
    unsupported::check_request(request)?;
    let counts = [
        request.mounts.len(),
        request.files.len(),
        request.devices.len(),
        request.masked_paths.len(),
        request.readonly_paths.len(),
        request.sysctl.len(),
    ];
    if counts.iter().any(|count| *count > MAX_ITEMS) {
        return Err(Failure::invalid(format!("a list of more than {MAX_ITEMS} items")));
    }
    if let Some(file) = request.files.iter().find(|file| file.content.len() > MAX_FILE) {
        return Err(Failure::invalid(format!(
            "the file {} is larger than {MAX_FILE} bytes",
            file.destination
        )));
    }
    let destinations = request.mounts.iter().map(|mount| &mount.destination);
    let paths = destinations.chain(request.files.iter().map(|file| &file.destination));
    let paths = paths.chain(request.devices.iter().map(|device| &device.path));
    for path in paths.chain(&request.masked_paths).chain(&request.readonly_paths) {
        if !path.starts_with('/') || path.len() > 4096 || path.contains('\0') {
            return Err(Failure::invalid(format!("{path:?} is no absolute path")));
        }
    }
    for tag in request.mounts.iter().filter_map(share_tag).chain(root_tag(request)) {
        if !crate::server::valid_id(tag) {
            return Err(Failure::invalid(format!("{tag:?} is no tag of a share")));
        }
    }
    Ok(())
}

fn share_tag(mount: &crate::contract::Mount) -> Option<&str> {
    match &mount.source {
        Some(mount::Source::Share(share)) => Some(&share.tag),
        _ => None,
    }
}

fn root_tag(request: &CreateContainerRequest) -> Option<&str> {
    match &request.rootfs {
        Some(Rootfs::Share(share)) => Some(&share.tag),
        _ => None,
    }
}

async fn mount_root(request: &CreateContainerRequest) -> Result<RootPaths> {
    let id = request.container_id.clone();
    let mut tags = request
        .mounts
        .iter()
        .filter_map(share_tag)
        .chain(root_tag(request))
        .collect::<Vec<_>>();
    tags.sort_unstable();
    tags.dedup();
    if !tags.is_empty() {
        let tags = tags.into_iter().map(str::to_owned).collect::<Vec<_>>();
        blocking(move || tags.iter().try_for_each(|tag| mount_shared_directory(tag))).await?;
    }
    match request.rootfs.clone() {
        Some(Rootfs::Disks(disks)) => {
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
            let paths = RootPaths::new(&id, true);
            paths.mount_disks(&pair).map(|()| paths)
        }
        Some(Rootfs::Share(share)) => {
            blocking(move || {
                let paths = RootPaths::new(&id, false);
                paths.mount_share(&share).map(|()| paths)
            })
            .await
        }
        None => Err(Failure::invalid("a container needs a root file system")),
    }
}

async fn make_init(
    forker: &Forker,
    request: &CreateContainerRequest,
    paths: &RootPaths,
    filter: &LoadedFilter,
) -> Result<(Arc<Process>, Arc<Cgroup>, AgentEnd)> {
    let process = request
        .process
        .clone()
        .ok_or_else(|| Failure::invalid("a container needs a process"))?;
    let resources = request.resources.clone().unwrap_or_default();
    let cgroup = Arc::new(Cgroup::create(&request.container_id, &resources, filter)?);
    let made = spawn(process, &cgroup, |plan| {
        forker.fork(PidNamespace::New, || init::run(plan, paths, request))
    })
    .await;
    match made {
        Ok(Spawned { forked, io, channel }) => {
            let init = Process::adopt(forked.pid, forked.pidfd, io, &cgroup)?;
            Ok((init, cgroup, channel))
        }
        Err(failure) => {
            let _ = cgroup.remove();
            Err(failure)
        }
    }
}

/// A prepared child that waits for the word to execve.
pub struct Spawned {
    pub forked: Forked,
    pub io: ProcessIo,
    pub channel: AgentEnd,
}

/// Makes the streams, forks, and waits until the child is prepared. A child that fails is reaped.
pub async fn spawn(
    process: ProcessRequest,
    cgroup: &Cgroup,
    fork: impl FnOnce(&ProcessPlan) -> Result<Forked>,
) -> Result<Spawned> {
    let (args, env) = plan::strings(&process)?;
    let (agent_end, child_end) = channel::channel()?;
    let takes_input = process.stdin_open;
    let (agent_stdio, child_stdio) = if process.terminal {
        (None, None)
    } else {
        Some(stdio::pipes(takes_input)?).unzip()
    };
    let forked = {
        let plan = ProcessPlan {
            process,
            args,
            env,
            channel: child_end,
            stdio: child_stdio,
            membership: cgroup.membership()?,
        };
        // The child's ends are closed here when the plan goes.
        fork(&plan)?
    };
    let prepared = match agent_end.prepared().await {
        Ok(master) => io_of(&forked, agent_stdio, master, takes_input),
        Err(failure) => Err(failure),
    };
    match prepared {
        Ok(io) => Ok(Spawned {
            forked,
            io,
            channel: agent_end,
        }),
        Err(failure) => {
            reap_unprepared(&forked.pidfd).await;
            Err(failure)
        }
    }
}

fn io_of(
    forked: &Forked,
    stdio: Option<stdio::AgentStdio>,
    master: Option<i32>,
    takes_input: bool,
) -> Result<ProcessIo> {
    if let Some(stdio) = stdio {
        return Ok(ProcessIo::Pipes(stdio));
    }
    let doing = || "taking over the terminal".to_owned();
    let number = master.ok_or_else(|| Failure::invalid("the process has no terminal"))?;
    let master = stdio::non_blocking(sys::steal_fd(&forked.pidfd, number).doing(doing)?)?;
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).doing(doing)?;
    Ok(ProcessIo::Terminal(Terminal {
        master,
        slave,
        takes_input,
    }))
}

/// Kills and reaps a child that nobody will hear of.
pub async fn reap_unprepared(pidfd: &OwnedFd) {
    let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
    let Ok(watched) = pidfd.try_clone().and_then(|copy| watch(copy, Interest::READABLE)) else {
        return;
    };
    let _ = watched.readable().await;
    let _ = rustix::process::waitid(
        WaitId::PidFd(pidfd.as_fd()),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
    );
}
