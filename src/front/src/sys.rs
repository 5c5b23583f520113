//! Calls of the kernel that neither std nor nix has in the form needed here.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, umask};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

pub fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// Only while there is one thread: the kernel tells the umask only to who changes it.
pub fn current_umask() -> u32 {
    let mask = umask(Mode::empty());
    umask(mask);
    mask.bits()
}

pub fn stdio(fd: RawFd) -> BorrowedFd<'static> {
    debug_assert!((0..=2).contains(&fd));
    // SAFETY: std opens /dev/null for those of 0, 1 and 2 that are closed at start, and nothing here closes them.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Writes all, with blocking writes; waits where the caller has set O_NONBLOCK on its description.
pub fn write_fully(fd: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match nix::unistd::write(&fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => wait_until(fd.as_fd(), PollFlags::POLLOUT),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One read that waits, whatever the flags of the description are.
pub fn read_once(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match nix::unistd::read(fd, buffer) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => wait_until(fd, PollFlags::POLLIN),
            result => return result,
        }
    }
}

fn wait_until(fd: BorrowedFd<'_>, events: PollFlags) {
    // An error of poll shows at the next attempt.
    let _ = poll(&mut [PollFd::new(fd, events)], PollTimeout::NONE);
}

/// A thread with a small stack: its work is to copy bytes.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    let started = thread::Builder::new()
        .name(name.into())
        .stack_size(128 << 10)
        .spawn(work);
    started.expect("the kernel gives a thread");
}

/// fork(2), the child in new namespaces. `None` in the child. Only in a process of one thread.
pub fn fork_with(new: CloneFlags) -> Result<Option<Pid>, Errno> {
    let flags = (new.bits() | libc::SIGCHLD) as libc::c_ulong;
    // SAFETY: without CLONE_VM and a stack this is fork; the one thread goes on in both processes.
    let forked = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    let pid = Errno::result(forked)?;
    Ok((pid != 0).then(|| Pid::from_raw(pid as i32)))
}

/// Puts `fd` at `number`, open across exec. For use between fork and exec.
pub fn place_at(fd: RawFd, number: RawFd) -> io::Result<()> {
    // SAFETY: both calls only take numbers; the kernel checks them.
    let result = unsafe {
        match fd == number {
            true => libc::fcntl(fd, libc::F_SETFD, 0),
            false => libc::dup2(fd, number),
        }
    };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

/// A copy of `fd` above all numbers that a child is given, closed on exec.
pub fn moved_up(fd: impl AsFd) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: the descriptor is open; the result is a new one that nobody else owns.
    unsafe {
        let copy = Errno::result(libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_DUPFD_CLOEXEC, 16))?;
        Ok(std::os::fd::OwnedFd::from_raw_fd(copy))
    }
}

/// Closes what the caller left open above stderr: who stays must hold nothing of the one who happened to call first.
pub fn close_all_but(kept: &[RawFd]) {
    let mut kept = kept.to_vec();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        close_range(first, fd as u32);
        first = fd as u32 + 1;
    }
    close_range(first, libc::c_uint::MAX);
}

/// From `first` to before `end`.
fn close_range(first: u32, end: u32) {
    if first >= end {
        return;
    }
    // SAFETY: nothing in this process owns these descriptors any more.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, end - 1, 0) != 0 {
            // A kernel before 5.9.
            for fd in first..end.min(65536) {
                libc::close(fd as RawFd);
            }
        }
    }
}

/// Default dispositions and an empty mask, for what is executed next. For use between fork and exec.
pub fn default_signals() {
    // SAFETY: signal and sigprocmask are async-signal-safe; a number that cannot be set is refused by the kernel.
    unsafe {
        for number in 1..=libc::SIGRTMAX() {
            libc::signal(number, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}
