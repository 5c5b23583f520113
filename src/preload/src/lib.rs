//! Preloaded into the QEMU of a clone, whose RAM is a private mapping of a sealed file.
//!
//! When a guest gives memory back, QEMU (`ram_block_discard_range` in softmmu/physmem.c) first punches a hole into the
//! file and only then tells the kernel to forget the private pages. The seals refuse the hole, which is what they are for:
//! the file is every clone's. But QEMU then gives up, and the private pages stay. So a hole that seals refuse counts as made
//! here, and QEMU goes on to the part that matters: the pages read as the template's afterwards, which a guest that gave them
//! back does not mind.

use libc::{c_int, c_long, off_t};

/// fallocate(2) as QEMU's own build names it.
///
/// # Safety
/// As fallocate(2), which has no requirements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate64(fd: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int {
    // SAFETY: a plain system call on numbers.
    let done = unsafe {
        libc::syscall(
            libc::SYS_fallocate,
            c_long::from(fd),
            c_long::from(mode),
            offset,
            length,
        )
    };
    if done == 0 || is_hole_in_sealed_file(fd, mode) {
        0
    } else {
        -1
    }
}

/// The same under its other name.
///
/// # Safety
/// As fallocate(2), which has no requirements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate(fd: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int {
    // SAFETY: the same function.
    unsafe { fallocate64(fd, mode, offset, length) }
}

/// Leaves errno as it is unless the answer is yes.
fn is_hole_in_sealed_file(fd: c_int, mode: c_int) -> bool {
    // SAFETY: errno of the calling thread is always there.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let refused = unsafe { *errno };
    if refused != libc::EPERM || mode & libc::FALLOC_FL_PUNCH_HOLE == 0 {
        return false;
    }
    // SAFETY: a plain system call on numbers.
    let seals = unsafe { libc::fcntl(fd, libc::F_GET_SEALS) };
    // SAFETY: as above.
    unsafe { *errno = refused };
    seals >= 0 && seals & libc::F_SEAL_WRITE != 0
}
