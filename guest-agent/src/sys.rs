//! System calls that rustix does not offer. Everything unsafe about them stays in here.

mod confine;

use std::ffi::{CStr, CString, c_long};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

pub use confine::{
    CpuSet, SchedulerAttributes, join_session_keyring, load_seccomp_filter, set_affinity, set_io_priority,
    set_personality, set_scheduler,
};

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttr {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    pub userns_fd: u64,
}

/// Changes the mount that `mount` is the root of, with `recursive` those below it as well.
pub fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string, `attr` has the layout and the size that are passed, and both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    check(result).map(drop)
}

/// Grows the mounted ext4 that `directory` is on to this number of blocks; nothing to do when it has them.
pub fn grow_ext4(directory: BorrowedFd<'_>, blocks: u64) -> io::Result<()> {
    // _IOW('f', 16, __u64) of fs/ext4/ext4.h
    const EXT4_IOC_RESIZE_FS: libc::Ioctl = 0x4008_6610;
    // SAFETY: the kernel reads the eight bytes that it is given the address of.
    check(unsafe { libc::ioctl(directory.as_raw_fd(), EXT4_IOC_RESIZE_FS, &raw const blocks) }.into()).map(drop)
}

pub enum Fork {
    Child,
    Parent(Pid),
}

/// fork(2). The child is a copy of the calling thread only. glibc's wrapper keeps its allocator usable in the child;
/// locks of this program that another thread holds are never released there.
pub fn fork() -> io::Result<Fork> {
    // SAFETY: the child runs code of this crate that takes no lock another thread can hold, and leaves by execve or
    // `exit_now`.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        pid => match Pid::from_raw(pid) {
            Some(pid) if pid.as_raw_nonzero().get() > 0 => Ok(Fork::Parent(pid)),
            _ => Err(io::Error::last_os_error()),
        },
    }
}

/// Leaves a forked child without running anything of the parent's.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no requirements.
    unsafe { libc::_exit(code) }
}

/// Returns only with an error.
pub fn execve(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer and point to C strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Executes the program that is open as `program`. Returns only with an error.
pub fn execve_open(program: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> io::Error {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer and point to C strings that outlive the call.
    unsafe {
        libc::execveat(
            program.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr().cast(),
            env.as_ptr().cast(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// Unblocks all signals and gives all of them back their default action: Rust's start-up ignores SIGPIPE, and what
/// is ignored stays so across an execve.
pub fn reset_signals() {
    // SAFETY: plain system calls on a signal set that lives on the stack; SIG_DFL is a valid action for every signal,
    // and numbers that cannot be changed only give an error.
    unsafe {
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// Blocks every signal that can be blocked, for `wait_for_signal`.
pub fn block_signals() {
    // SAFETY: plain system calls on a signal set that lives on the stack.
    unsafe {
        let all = every_signal();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// The number of the next signal to come, or of one that came since `block_signals`.
pub fn wait_for_signal() -> i32 {
    loop {
        // SAFETY: the set lives on the stack; a null pointer means that nothing more is to be told.
        let signal = unsafe {
            let all = every_signal();
            libc::sigwaitinfo(&raw const all, std::ptr::null_mut())
        };
        if signal > 0 {
            return signal;
        }
    }
}

fn every_signal() -> libc::sigset_t {
    // SAFETY: a set of zeroes is valid, and sigfillset only writes it.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        all
    }
}

/// Sends any signal, realtime ones included.
pub fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: plain system call.
    check(unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) }.into()).map(drop)
}

/// Whether writing to a pipe that nobody reads is only an error, or the end of this process.
pub fn ignore_broken_pipes(ignore: bool) {
    let action = if ignore { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: both are valid actions.
    unsafe { libc::signal(libc::SIGPIPE, action) };
}

/// Limits of this process; all ones means unlimited.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the kernel only reads `limit`.
    check(unsafe { libc::setrlimit(resource, &raw const limit) }.into()).map(drop)
}

/// Closes every descriptor from 3 on except those in `keep`.
pub fn close_all_except(keep: &mut [RawFd]) {
    keep.sort_unstable();
    let mut first = 3;
    for &fd in keep.iter().filter(|fd| **fd >= 3) {
        close_range(first, fd - 1);
        first = fd + 1;
    }
    close_range(first, RawFd::MAX);
}

fn close_range(first: RawFd, last: RawFd) {
    if first <= last {
        // SAFETY: only called in a forked child, which never again touches the descriptors it inherited and did not
        // ask to keep.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

/// Takes ownership of a descriptor number that another process told us about through `pidfd`.
pub fn steal_fd(pidfd: impl AsFd, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: plain system call; the descriptor it returns is new and ours.
    unsafe {
        let fd = check(libc::syscall(
            libc::SYS_pidfd_getfd,
            pidfd.as_fd().as_raw_fd(),
            number,
            0,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Credits `entropy` to the kernel's pool and reseeds the generator from it.
pub fn add_entropy(random: BorrowedFd<'_>, entropy: &[u8]) -> io::Result<()> {
    const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
    const RNDRESEEDCRNG: libc::Ioctl = 0x5207;
    let mut info = Vec::with_capacity(8 + entropy.len());
    info.extend_from_slice(&(entropy.len() as i32 * 8).to_ne_bytes());
    info.extend_from_slice(&(entropy.len() as i32).to_ne_bytes());
    info.extend_from_slice(entropy);
    // SAFETY: `info` is a `struct rand_pool_info`: two ints, the second giving the length of the bytes that follow.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, info.as_ptr()) }.into())?;
    // SAFETY: this request has no argument.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG) }.into()).map(drop)
}

/// Sets IFF_UP on an interface.
pub fn interface_up(socket: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: an `ifreq` of zeroes is valid; the name fits with its terminator because of `take`; the kernel reads
    // and writes only this struct.
    unsafe {
        let mut request = std::mem::zeroed::<libc::ifreq>();
        for (to, from) in request
            .ifr_name
            .iter_mut()
            .zip(name.to_bytes().iter().take(libc::IFNAMSIZ - 1))
        {
            *to = *from as libc::c_char;
        }
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request).into())?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request).into()).map(drop)
    }
}

/// Loads a BPF program of the type cgroup device filter.
pub fn load_device_filter(program: &[u64]) -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: c_long = 5;
    const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;

    #[repr(C)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        /// log_level, log_size, log_buf, kern_version, prog_flags: all zero.
        rest: [u64; 3],
    }
    let load = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        rest: [0; 3],
    };
    // SAFETY: `load` is a prefix of `union bpf_attr` whose pointers outlive the call; the result is a new descriptor.
    unsafe {
        let fd = check(libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const load,
            size_of::<Load>(),
        ))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Lets a loaded filter decide about devices for the cgroup and those below it.
pub fn attach_device_filter(cgroup: BorrowedFd<'_>, filter: BorrowedFd<'_>) -> io::Result<()> {
    const BPF_PROG_ATTACH: c_long = 8;
    const BPF_CGROUP_DEVICE: u32 = 6;

    #[repr(C)]
    struct Attach {
        target_fd: u32,
        attach_bpf_fd: u32,
        attach_type: u32,
        flags: u32,
    }
    let attach = Attach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: filter.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        flags: 0,
    };
    // SAFETY: `attach` is a prefix of `union bpf_attr`.
    check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<Attach>()) }).map(drop)
}

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
