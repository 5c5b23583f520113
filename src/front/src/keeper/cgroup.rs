use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Leaves the cgroups of the caller, who may be a container manager that will want to remove them, for `hrun` at the
/// root of each hierarchy (`HRUN_CGROUP` names another; empty: stay). Best effort; returns what could not be left.
pub fn leave() -> Vec<String> {
    let name = std::env::var("HRUN_CGROUP").unwrap_or_else(|_| "hrun".into());
    if name.is_empty() {
        return Vec::new();
    }
    let name = Path::new(&name);
    if !name.components().all(|part| matches!(part, Component::Normal(_))) {
        return vec![format!(
            "HRUN_CGROUP must name a cgroup below the root, not {}: stays where it is",
            name.display()
        )];
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    hierarchies(&mounts)
        .into_iter()
        .filter_map(|mount| {
            let error = enter(&mount, &mount.join(name)).err()?;
            Some(format!("stays in the caller's cgroup of {}: {error}", mount.display()))
        })
        .collect()
}

/// The mount points of cgroup file systems, of either version.
fn hierarchies(mountinfo: &str) -> Vec<PathBuf> {
    let of_line = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let kind = file_system.split(' ').next()?;
        // Escaped spaces do not occur where cgroups are mounted; such a mount is not found and stays as it is.
        let point = mount.split(' ').nth(4)?;
        matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(point))
    };
    mountinfo.lines().filter_map(of_line).collect()
}

fn enter(parent: &Path, group: &Path) -> io::Result<()> {
    fs::create_dir_all(group)?;
    // A v1 cpuset takes no process before it has processors and memory.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let missing = fs::read_to_string(group.join(file)).is_ok_and(|text| text.trim().is_empty());
        if missing && parent.join(file).exists() {
            fs::write(group.join(file), fs::read(parent.join(file))?)?;
        }
    }
    fs::write(group.join("cgroup.procs"), "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_hierarchies_of_both_versions() {
        let mountinfo = "22 1 0:20 / /proc rw - proc proc rw\n\
            30 22 0:26 / /sys/fs/cgroup/cpu rw,relatime shared:9 master:2 - cgroup cgroup rw,cpu\n\
            31 22 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            broken line";
        let found = hierarchies(mountinfo);
        assert_eq!(
            found,
            ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"].map(PathBuf::from)
        );
    }
}
