//! Who a process is and what it may: groups, ids, capabilities, limits. Applied last before its program is looked up.

use rustix::fs::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::user::User;
use crate::contract::{Capabilities, Process, Rlimit};
use crate::failure::{Doing, Failure, Result};
use crate::sys;

/// capabilities(7), by number.
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

const RLIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

/// The kernel lets no limit of open files be above this number, which may be raised up to 2^31 - 64.
const NR_OPEN: &str = "/proc/sys/fs/nr_open";
const MOST_OPEN_FILES: u64 = 0x7fff_ffc0;

/// Lets the limits of open files be as high as they are asked to.
pub fn make_room_for(rlimits: &[Rlimit]) -> Result<()> {
    let wanted = rlimits.iter().filter(|limit| limit.r#type == "RLIMIT_NOFILE");
    let Some(wanted) = wanted.map(|limit| limit.hard.min(MOST_OPEN_FILES)).max() else {
        return Ok(());
    };
    let doing = || format!("raising {NR_OPEN}");
    let now = std::fs::read_to_string(NR_OPEN).doing(doing)?;
    if now.trim_end().parse::<u64>().is_ok_and(|now| now < wanted) {
        std::fs::write(NR_OPEN, wanted.to_string()).doing(doing)?;
    }
    Ok(())
}

pub fn apply_rlimits(rlimits: &[Rlimit]) -> Result<()> {
    for Rlimit { r#type, soft, hard } in rlimits {
        let resource = RLIMITS
            .iter()
            .position(|name| name == r#type)
            .ok_or_else(|| Failure::invalid(format!("unknown resource limit {:?}", r#type)))?;
        sys::set_rlimit(resource as u32, *soft, *hard)
            .doing(|| format!("setting {type} to {soft}:{hard}", type = r#type))?;
    }
    Ok(())
}

/// Becomes the user, keeping exactly the requested capabilities. Without a request none are kept.
pub fn become_user(user: &User, process: &Process) -> Result<()> {
    let doing = |what: &'static str| move || what.to_owned();
    let requested = process.capabilities.clone().unwrap_or_default();
    limit_bounding_set(set_of(&requested.bounding))?;
    rustix::thread::set_keep_capabilities(true).doing(doing("keeping capabilities"))?;
    let groups = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect::<Vec<_>>();
    rustix::thread::set_thread_groups(&groups).doing(doing("setting groups"))?;
    let gid = Gid::from_raw(user.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).doing(doing("setting the group"))?;
    let uid = Uid::from_raw(user.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).doing(doing("setting the user"))?;
    apply_capability_sets(user, &requested)?;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).doing(doing("setting no_new_privs"))?;
    }
    Ok(())
}

fn apply_capability_sets(user: &User, requested: &Capabilities) -> Result<()> {
    let ambient = set_of(&requested.ambient);
    // An execve leaves a user other than root only the ambient ones. Dropping the others here already makes the look-up
    // of the program see what the program will see.
    let narrow = |set| if user.uid == 0 { set } else { ambient };
    let sets = CapabilitySets {
        effective: narrow(set_of(&requested.effective)),
        permitted: narrow(set_of(&requested.permitted)),
        inheritable: set_of(&requested.inheritable),
    };
    rustix::thread::set_capabilities(None, sets).doing(|| "setting capabilities".into())?;
    for capability in ambient.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)
            .doing(|| "raising ambient capabilities".into())?;
    }
    Ok(())
}

fn limit_bounding_set(keep: CapabilitySet) -> Result<()> {
    for capability in (0..64).map(|number| CapabilitySet::from_bits_retain(1 << number)) {
        if keep.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Beyond the last one this kernel knows.
            Err(rustix::io::Errno::INVAL) => return Ok(()),
            dropped => dropped.doing(|| "dropping capabilities".into())?,
        }
    }
    Ok(())
}

/// Unknown names are ignored, as the OCI runtime-spec wants it.
fn set_of(names: &[String]) -> CapabilitySet {
    let bit = |name: &String| {
        CAPABILITIES
            .iter()
            .position(|known| known == name)
            .map(|number| 1u64 << number)
    };
    CapabilitySet::from_bits_retain(names.iter().filter_map(bit).fold(0, |set, bit| set | bit))
}
