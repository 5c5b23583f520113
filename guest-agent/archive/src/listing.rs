//! What a directory holds, as far as packing it is concerned.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, RawDir};

use crate::error::{ArchiveError, ArchiveFailure};

/// More names than this in one directory are not sorted in memory.
const MAX_NAMES: usize = 1_000_000;

/// File systems whose files are made up by the kernel when they are read, by the numbers of linux/magic.h.
const KERNEL_VIEWS: [u64; 12] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x6367_7270, // cgroup2
    0x0027_e0eb, // cgroup
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0x4249_4e4d, // binfmt_misc
];

/// The names in `directory`, in byte order.
pub(crate) fn sorted_names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, ArchiveError> {
    let failed = |error| ArchiveError::system("listing it", error);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = rustix::fs::openat(directory, ".", flags, Mode::empty()).map_err(failed)?;
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut listing = RawDir::new(&listed, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = listing.next() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if names.len() == MAX_NAMES {
            return Err(ArchiveError::new(
                ArchiveFailure::TooManyEntries,
                format!("more than {MAX_NAMES} names in one directory"),
            ));
        }
        names.push(name.to_vec());
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether the content of `directory` is a view of the kernel and not stored anywhere.
pub(crate) fn is_kernel_view(directory: &OwnedFd) -> bool {
    rustix::fs::fstatfs(directory).is_ok_and(|system| KERNEL_VIEWS.contains(&u64::from(system.f_type as u32)))
}
