//! What the contract can say and this agent does not do: refused by name, never ignored.

use crate::contract::{CreateContainerRequest, FailureReason, Mount, Process, Resources, mount};
use crate::failure::{Failure, Result};

pub fn unsupported(what: &str) -> Failure {
    Failure::new(
        FailureReason::Unsupported,
        format!("{what} is not supported by this agent"),
    )
}

pub fn check_request(request: &CreateContainerRequest) -> Result<()> {
    refuse(&[
        ("namespaces", request.namespaces.is_some()),
        ("uid_mappings", !request.uid_mappings.is_empty()),
        ("gid_mappings", !request.gid_mappings.is_empty()),
        ("time_offsets", !request.time_offsets.is_empty()),
        ("rootfs_propagation", !request.rootfs_propagation.is_empty()),
        ("seccomp", request.seccomp.is_some()),
        ("personality", request.personality.is_some()),
        ("start_container_hooks", !request.start_container_hooks.is_empty()),
    ])?;
    request.mounts.iter().try_for_each(check_mount)?;
    request.process.iter().try_for_each(check_process)?;
    request.resources.iter().try_for_each(check_resources)
}

pub fn check_process(process: &Process) -> Result<()> {
    refuse(&[
        ("process.scheduler", process.scheduler.is_some()),
        ("process.io_priority", process.io_priority.is_some()),
        ("process.exec_cpu_affinity", process.exec_cpu_affinity.is_some()),
    ])
}

fn check_mount(mount: &Mount) -> Result<()> {
    let mapped = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    refuse(&[
        ("mount.uid_mappings", mapped),
        (
            "mount.container",
            matches!(mount.source, Some(mount::Source::Container(_))),
        ),
    ])
}

fn check_resources(resources: &Resources) -> Result<()> {
    refuse(&[
        ("resources.memory_low_bytes", resources.memory_low_bytes.is_some()),
        (
            "resources.memory_swap_max_bytes",
            resources.memory_swap_max_bytes.is_some(),
        ),
        ("resources.cpu_weight", resources.cpu_weight.is_some()),
        ("resources.cpu_burst_us", resources.cpu_burst_us.is_some()),
        ("resources.cpu_idle", resources.cpu_idle.is_some()),
        ("resources.cpuset_cpus", !resources.cpuset_cpus.is_empty()),
        ("resources.cpuset_mems", !resources.cpuset_mems.is_empty()),
        ("resources.io_weight", resources.io_weight.is_some()),
        ("resources.io_device_weights", !resources.io_device_weights.is_empty()),
        ("resources.io_device_limits", !resources.io_device_limits.is_empty()),
        ("resources.hugepage_limits", !resources.hugepage_limits.is_empty()),
        ("resources.unified", !resources.unified.is_empty()),
        ("resources.device_rules", resources.device_rules.is_some()),
    ])
}

fn refuse(used: &[(&str, bool)]) -> Result<()> {
    match used.iter().find(|(_, used)| *used) {
        Some((name, _)) => Err(unsupported(name)),
        None => Ok(()),
    }
}
