//! Who a program is, and what it is allowed, before it is executed.

use nix::errno::Errno;
use nix::sys::prctl::set_no_new_privs;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Uid, fork, setgroups, setresgid, setresuid};
use serde_json::Value;

/// What could not be done, in words.
pub type Done = Result<(), String>;

/// A user who is alone has this process, and a child of it.
pub const MOST_ALONE: u64 = 2;

/// _LINUX_CAPABILITY_VERSION_3 of capget(2).
const CAPABILITY_VERSION: u32 = 0x2008_0522;
const MOST_CAPABILITIES: libc::c_ulong = 64;

/// Numbers of capabilities(7), which are the kernel's for ever.
pub mod capability {
    pub const CHOWN: u32 = 0;
    pub const DAC_OVERRIDE: u32 = 1;
    pub const DAC_READ_SEARCH: u32 = 2;
    pub const FOWNER: u32 = 3;
    pub const FSETID: u32 = 4;
    pub const KILL: u32 = 5;
    pub const SETGID: u32 = 6;
    pub const SETUID: u32 = 7;
    pub const SETPCAP: u32 = 8;
    pub const NET_BIND_SERVICE: u32 = 10;
    pub const NET_ADMIN: u32 = 12;
    pub const NET_RAW: u32 = 13;
    pub const SYS_CHROOT: u32 = 18;
    pub const SYS_PTRACE: u32 = 19;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_RESOURCE: u32 = 24;
    pub const MKNOD: u32 = 27;
    pub const SETFCAP: u32 = 31;
}
const JOIN_SESSION_KEYRING: libc::c_long = 1;

/// A session keyring of its own: keys of the daemon are not for it. Kernels without keyrings have none to leave.
pub fn leave_keyring() {
    // SAFETY: null is the name of a new keyring.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
}

/// Gives up every capability but `kept`, for this thread, the threads it makes and the programs they execute. Nothing is
/// gained: of `kept` only what is there stays. Who may not bound its capabilities is left with the bound of whoever started it.
pub fn keep_only(kept: &[u32]) -> Done {
    match bound_capabilities(kept) {
        Err(Errno::EPERM) => {}
        bounded => bounded.map_err(|error| format!("cannot bound the capabilities: {}", error.desc()))?,
    }
    let mut sets = [0_u32; 6];
    let header = [CAPABILITY_VERSION, 0];
    // SAFETY: both arrays have the layout of capget(2) and live through the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) })
        .map_err(|error| format!("cannot read the capabilities: {}", error.desc()))?;
    let bits = kept.iter().fold(0_u64, |bits, &number| bits | 1 << number);
    for (word, wanted) in [bits as u32, (bits >> 32) as u32].into_iter().enumerate() {
        // effective, permitted, inheritable, of 32 capabilities each
        let [effective, permitted, inheritable] = [0, 1, 2].map(|set| word * 3 + set);
        sets[permitted] &= wanted;
        sets[effective] = sets[permitted];
        sets[inheritable] = 0;
    }
    set_capabilities(sets)
}

/// What no program executed from here on can gain.
pub fn forbid_capabilities() -> Done {
    bound_capabilities(&[]).map_err(|error| format!("cannot bound the capabilities: {}", error.desc()))
}

fn bound_capabilities(kept: &[u32]) -> Result<(), Errno> {
    for capability in (0..MOST_CAPABILITIES).filter(|&number| !kept.contains(&(number as u32))) {
        // SAFETY: plain numbers.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match Errno::result(dropped) {
            Ok(_) => {}
            // The first that this kernel does not know.
            Err(Errno::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The user that a plan names, if any: neither root nor what chown(2) takes for "unchanged". `None` for what is no user.
pub fn own_user(uid: &Value) -> Option<Option<u32>> {
    if uid.is_null() {
        return Some(None);
    }
    let uid = u32::try_from(uid.as_u64()?).ok()?;
    (uid != 0 && uid != u32::MAX).then_some(Some(uid))
}

pub fn become_user(uid: u32) -> Done {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[])
        .and_then(|()| setresgid(group, group, group))
        .and_then(|()| setresuid(user, user, user))
        .map_err(|error| format!("cannot become user {uid}: {}", error.desc()))
}

/// Of every set; from root to another user the kernel leaves the inheritable ones.
pub fn drop_capabilities() -> Done {
    set_capabilities([0; 6])
}

fn set_capabilities(sets: [u32; 6]) -> Done {
    let header = [CAPABILITY_VERSION, 0];
    // SAFETY: both arrays have the layout of capset(2) and live through the calls.
    let done = unsafe {
        let ambient = libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        Errno::result(ambient)
            .and_then(|_| Errno::result(libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr())))
    };
    done.map(drop)
        .map_err(|error| format!("cannot drop the capabilities: {}", error.desc()))
}

pub fn no_new_privileges() -> Done {
    set_no_new_privs().map_err(|error| format!("cannot forbid new privileges: {}", error.desc()))
}

/// Whether some other process has this user, wherever it is. The kernel counts the processes of each, and lets one that
/// has no privileges fork only below the limit: of two that become the same user at once, at least one finds out.
pub fn is_shared() -> bool {
    // SAFETY: the child makes one system call.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => waitpid(child, None).is_err(),
        // SAFETY: _exit has no precondition.
        Ok(ForkResult::Child) => unsafe { libc::_exit(0) },
        Err(_) => true,
    }
}
