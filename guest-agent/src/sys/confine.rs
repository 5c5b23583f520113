//! What a process does to itself before it becomes a container's.

use std::ffi::{CStr, c_long};
use std::io;

use super::check;

/// Installs a classic BPF program as a seccomp filter of this process.
pub fn load_seccomp_filter(program: &[crate::seccomp::Instruction], flags: u32) -> io::Result<()> {
    const SECCOMP_SET_MODE_FILTER: c_long = 1;

    /// `struct sock_fprog`
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: u64,
    }
    let program = Program {
        length: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        instructions: program.as_ptr() as u64,
    };
    // SAFETY: the kernel only reads the program, whose instructions have the layout of `struct sock_filter`.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SECCOMP_SET_MODE_FILTER,
            c_long::from(flags),
            &raw const program,
        )
    })
    .map(drop)
}

/// Joins the session keyring of this name, or makes it, and lets its user's processes find it.
pub fn join_session_keyring(name: &CStr) -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_long = 1;
    const KEYCTL_SETPERM: c_long = 5;
    /// All for who possesses it; who only has the same user may search it.
    const PERMISSIONS: c_long = 0x3f08_0000;
    // SAFETY: the name is a C string that outlives the call; the other call has numbers only.
    unsafe {
        let keyring = check(libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            name.as_ptr(),
        ))?;
        // Another's keyring of the same name keeps its permissions.
        let _ = libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, keyring, PERMISSIONS);
    }
    Ok(())
}

/// personality(2)
pub fn set_personality(persona: u32) -> io::Result<()> {
    // SAFETY: plain system call.
    check(unsafe { libc::personality(persona.into()) }.into()).map(drop)
}

/// What sched_setattr(2) sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerAttributes {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime_ns: u64,
    pub deadline_ns: u64,
    pub period_ns: u64,
}

/// Of this process.
pub fn set_scheduler(attributes: &SchedulerAttributes) -> io::Result<()> {
    /// `struct sched_attr`, as it first was.
    #[repr(C)]
    struct Attr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime_ns: u64,
        deadline_ns: u64,
        period_ns: u64,
    }
    let SchedulerAttributes {
        policy,
        flags,
        nice,
        priority,
        runtime_ns,
        deadline_ns,
        period_ns,
    } = *attributes;
    let attr = Attr {
        size: size_of::<Attr>() as u32,
        policy,
        flags,
        nice,
        priority,
        runtime_ns,
        deadline_ns,
        period_ns,
    };
    // SAFETY: the kernel reads as many bytes of `attr` as its size says.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) }).map(drop)
}

/// Of this process; the class is in the upper bits.
pub fn set_io_priority(priority: u32) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: c_long = 1;
    // SAFETY: plain system call.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, c_long::from(priority)) }).map(drop)
}

/// A set of CPUs as sched_setaffinity(2) takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSet([u64; Self::MAX / 64]);

impl CpuSet {
    pub const MAX: usize = 1024;

    pub fn all() -> Self {
        Self([u64::MAX; Self::MAX / 64])
    }

    pub fn add(&mut self, cpu: usize) {
        self.0[cpu / 64] |= 1 << (cpu % 64);
    }
}

/// Of this process. CPUs that there are not are ignored, as long as one is left.
pub fn set_affinity(cpus: &CpuSet) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as it is told there are.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of::<CpuSet>(), cpus.0.as_ptr()) }).map(drop)
}
