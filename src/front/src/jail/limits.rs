use std::fs;
use std::path::PathBuf;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::plan::Plan;
use crate::identity::{Done, MOST_ALONE};

/// Before there are namespaces, so that the root of the cgroup namespace is this very cgroup.
pub fn join_cgroups(cgroups: &[PathBuf]) -> Done {
    for cgroup in cgroups {
        let procs = cgroup.join("cgroup.procs");
        fs::write(&procs, "0").map_err(|error| format!("cannot join {}: {error}", cgroup.display()))?;
    }
    Ok(())
}

pub fn set(plan: &Plan) -> Done {
    let limits = [
        (Resource::RLIMIT_CORE, 0, 0),
        (Resource::RLIMIT_NOFILE, plan.open_files, plan.open_files),
        (Resource::RLIMIT_FSIZE, plan.file_bytes, plan.file_bytes),
        // `allow_processes` raises it.
        (Resource::RLIMIT_NPROC, MOST_ALONE, plan.processes.max(MOST_ALONE)),
    ];
    for (resource, soft, hard) in limits {
        // What is lower already stays so: only root with all its rights could raise it.
        let (_, most) = getrlimit(resource).map_err(|error| format!("cannot read {resource:?}: {}", error.desc()))?;
        setrlimit(resource, soft.min(most), hard.min(most))
            .map_err(|error| format!("cannot set {resource:?}: {}", error.desc()))?;
    }
    fs::write("/proc/self/oom_score_adj", plan.oom_score.to_string())
        .map_err(|error| format!("cannot write oom_score_adj: {error}"))
}

/// Threads count as well.
pub fn allow_processes() -> Done {
    getrlimit(Resource::RLIMIT_NPROC)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NPROC, most, most))
        .map_err(|error| format!("cannot set RLIMIT_NPROC: {}", error.desc()))
}
