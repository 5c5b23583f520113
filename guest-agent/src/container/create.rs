//! Making a container, from the agent's side.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use super::channel::{ASK_CLOCKS, ASK_IDS, AgentEnd};
use super::confinement::Confinement;
use super::disk_mounts::mount_disks;
use super::hooks::Hooks;
use super::id_maps::{check_clocks, write_clocks};
use super::mount_options::Propagation;
use super::namespaces::Spaces;
use super::plan::ProcessPlan;
use super::ready_root::ReadyRoot;
use super::rootfs::{RootPaths, mount_root_disks, mount_shared_directory};
use super::spawn::{Spawned, Surroundings, spawn};
use super::{Container, Forker, INIT, blocking, init};
use crate::cgroup::Cgroup;
use crate::contract::{CreateContainerRequest, FailureReason, create_container_request::Rootfs, mount};
use crate::deferred::Deferred;
use crate::device_filter::{LoadedFilter, are_usual};
use crate::failure::{Failure, Result};
use crate::process::Process;

/// More than any sensible request has.
const MAX_ITEMS: usize = 1024;
const MAX_FILE: usize = 1 << 20;

/// Everything up to the execve of the init process. Leaves nothing when it fails. `peer` finds another container of this
/// guest.
pub async fn create(
    forker: &Forker,
    deferred: &Deferred,
    ready_root: &ReadyRoot,
    request: CreateContainerRequest,
    peer: impl Fn(&str) -> Result<Arc<Container>>,
) -> Result<Container> {
    let plan = Plan::new(&request, peer)?;
    let filter = device_filter(deferred, &request)?;
    let paths = Arc::new(mount_root(ready_root, &request).await?);
    let made = async {
        mount_disks(&paths, &request.mounts).await?;
        make_init(forker, &request, &plan, &paths, &filter).await
    };
    let made = made.await;
    match made {
        Ok((init, cgroup, channel)) => Ok(Container {
            id: request.container_id,
            processes: Mutex::new([(INIT.to_owned(), Some(Arc::clone(&init)))].into()),
            init,
            cgroup,
            paths: Arc::try_unwrap(paths).unwrap_or_else(|_| unreachable!("nobody else keeps them")),
            channel: Mutex::new(Some(channel)),
            confinement: plan.confinement,
            spaces: plan.spaces.own,
            ids: plan.spaces.ids,
            paused: AtomicBool::new(false),
        }),
        Err(failure) => {
            // The reason of the first failure is the one to tell.
            let _ = blocking(move || paths.unmount()).await;
            Err(failure)
        }
    }
}

/// What of a request can be checked before anything is made.
pub struct Plan {
    pub spaces: Spaces,
    pub confinement: Arc<Confinement>,
    pub hooks: Hooks,
    pub propagation: Propagation,
    /// Containers whose paths are mounted in this one.
    pub peers: BTreeMap<String, Arc<Container>>,
}

impl Plan {
    fn new(request: &CreateContainerRequest, peer: impl Fn(&str) -> Result<Arc<Container>>) -> Result<Self> {
        check(request)?;
        let owners = request.mounts.iter().filter_map(|mount| match &mount.source {
            Some(mount::Source::Container(source)) => Some(&source.container_id),
            _ => None,
        });
        let peers = owners.map(|id| Ok((id.clone(), peer(id)?))).collect::<Result<_>>()?;
        check_clocks(&request.time_offsets)?;
        Ok(Self {
            spaces: Spaces::plan(request, peer)?,
            confinement: Arc::new(Confinement::plan(request)?),
            hooks: Hooks::check(&request.start_container_hooks, &request.hook_state)?,
            propagation: Propagation::parse(&request.rootfs_propagation)?,
            peers,
        })
    }
}

fn device_filter(deferred: &Deferred, request: &CreateContainerRequest) -> Result<LoadedFilter> {
    let usual = deferred.finish()?;
    match request
        .resources
        .as_ref()
        .and_then(|resources| resources.device_rules.as_ref())
    {
        Some(rules) => LoadedFilter::load_rules(rules),
        None if are_usual(&request.devices) => Ok(usual),
        None => LoadedFilter::load(&request.devices),
    }
}

fn check(request: &CreateContainerRequest) -> Result<()> {
    let counts = [
        request.mounts.len(),
        request.files.len(),
        request.devices.len(),
        request.masked_paths.len(),
        request.readonly_paths.len(),
        request.sysctl.len(),
        request.time_offsets.len(),
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
    if let Some(mount) = request
        .mounts
        .iter()
        .find(|mount| !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty())
    {
        let message = format!(
            "the mount on {} is id-mapped, which is not supported",
            mount.destination
        );
        return Err(Failure::new(FailureReason::Unsupported, message));
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

async fn mount_root(ready_root: &ReadyRoot, request: &CreateContainerRequest) -> Result<RootPaths> {
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
        Some(Rootfs::Disks(disks)) => match ready_root.take(&disks)? {
            Some(paths) => Ok(paths),
            None => mount_root_disks(&id, &disks).await,
        },
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
    plan: &Plan,
    paths: &RootPaths,
    filter: &LoadedFilter,
) -> Result<(Arc<Process>, Arc<Cgroup>, AgentEnd)> {
    let process = request
        .process
        .clone()
        .ok_or_else(|| Failure::invalid("a container needs a process"))?;
    let resources = request.resources.clone().unwrap_or_default();
    let cgroup = Arc::new(Cgroup::create(&request.container_id, &resources, filter)?);
    let surroundings = Surroundings {
        cgroup: &cgroup,
        confinement: &plan.confinement,
        ids: plan.spaces.ids.as_ref(),
    };
    let fork = |process: &ProcessPlan| forker.fork(plan.spaces.pid(), || init::run(process, plan, paths, request));
    let help = |what, pid| match (what, &plan.spaces.ids) {
        (ASK_IDS, Some(ids)) => ids.write(pid),
        (ASK_CLOCKS, _) => write_clocks(pid, &request.time_offsets),
        _ => Err(Failure::invalid("the process asks for what nobody knows")),
    };
    match spawn(process, surroundings, fork, help).await {
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
