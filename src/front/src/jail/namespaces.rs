use std::fs;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid, sethostname};

use super::plan::Plan;
use crate::identity::Done;

/// Each in which nobody else is. That of processes is the child's.
const OWN: [(CloneFlags, &str); 5] = [
    (CloneFlags::CLONE_NEWNS, "mount"),
    (CloneFlags::CLONE_NEWPID, "pid"),
    (CloneFlags::CLONE_NEWIPC, "ipc"),
    (CloneFlags::CLONE_NEWUTS, "uts"),
    (CloneFlags::CLONE_NEWCGROUP, "cgroup"),
];

/// What became of each step.
pub fn enter(plan: &Plan) -> [(&'static str, Done); 2] {
    let user = if plan.user_namespace {
        own_user_namespace()
    } else {
        Ok(())
    };
    let all = OWN.iter().fold(CloneFlags::empty(), |all, (flag, _)| all | *flag);
    let namespaces = user.and_then(|()| {
        // All at once is cheaper; one by one tells which.
        unshare(all).or_else(|_| one_by_one())
    });
    let network = unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("no network namespace: {}", error.desc()));
    if namespaces.is_ok() {
        // The host's name is nobody's business in there.
        let _ = sethostname("hrun");
    }
    [("namespaces", namespaces), ("network", network)]
}

fn one_by_one() -> Done {
    let mut missing = Vec::new();
    for (flag, name) in OWN {
        if let Err(error) = unshare(flag) {
            missing.push(format!("no {name} namespace: {}", error.desc()));
        }
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(missing.join(", ")),
    }
}

fn own_user_namespace() -> Done {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|error: Errno| format!("no user namespace: {}", error.desc()))?;
    let map = |file: &str, content: String| {
        fs::write(format!("/proc/self/{file}"), content).map_err(|error| format!("cannot write {file}: {error}"))
    };
    map("setgroups", "deny".into())?;
    map("uid_map", format!("{uid} {uid} 1"))?;
    map("gid_map", format!("{gid} {gid} 1"))
}
