//! A process that takes memory until the kernel kills it for that: how a manager that looks at the host's cgroup learns of
//! an OOM kill in a guest (docs/stand-in.md).

use std::time::{Duration, Instant};

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

/// More than the limit leaves room for, by far; if nothing stops it, it stops itself.
const MOST: usize = 256 << 20;
const PAGE: usize = 4096;
const LONGEST: Duration = Duration::from_secs(5);

pub fn outgrow() {
    // SAFETY: the child makes system calls only and leaves by _exit.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => drop(waitpid(child, None)),
        Ok(ForkResult::Child) => be_outgrown(),
        Err(_) => {}
    }
}

fn be_outgrown() -> ! {
    let end = Instant::now() + LONGEST;
    // SAFETY: plain system calls; the mapping is this process's own, and every address written to lies in it.
    unsafe {
        let path = c"/proc/self/oom_score_adj".as_ptr();
        let file = libc::open(path, libc::O_WRONLY | libc::O_CLOEXEC);
        libc::write(file, b"1000".as_ptr().cast(), 4);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let start = libc::mmap(
            std::ptr::null_mut(),
            MOST,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        );
        if start != libc::MAP_FAILED {
            for offset in (0..MOST).step_by(PAGE) {
                start.cast::<u8>().add(offset).write_volatile(1);
                if Instant::now() > end {
                    break;
                }
            }
        }
        libc::_exit(0)
    }
}
