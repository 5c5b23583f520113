//! Waiting for a descriptor inside the runtime.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub type Watched = AsyncFd<OwnedFd>;

/// Must be called inside the runtime.
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<Watched> {
    // SAFETY: an OwnedFd stands for one open descriptor until it is dropped, and AsyncFd gives no way to replace it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
