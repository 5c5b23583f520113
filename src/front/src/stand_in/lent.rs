//! The shares of a stand-in without a share server: moved into the tree that another one's server has open, so that
//! several containers can live in one microVM.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::request::{Trouble, Why};
use super::tree::Tree;
use crate::mounts;

/// The mount namespace of a share server, whose root is its tree.
pub struct Lent {
    namespace: File,
    names: Vec<CString>,
}

/// Opened before the caller's proc is out of reach: the namespace of the share server of the stand-in `pid`.
pub fn namespace_of(pid: i32) -> Result<File, Trouble> {
    let children = PathBuf::from(format!("/proc/{pid}/task/{pid}/children"));
    let text = std::fs::read_to_string(&children).why_of("cannot find the share server in", &children)?;
    let server = text
        .split_whitespace()
        .next()
        .ok_or(Errno::ESRCH)
        .why_of("there is no share server in", &children)?;
    let path = PathBuf::from(format!("/proc/{server}/ns/mnt"));
    File::open(&path).why_of("cannot open", &path)
}

impl Lent {
    pub fn lend(tree: &Tree, namespace: File) -> Result<Lent, Trouble> {
        let mut lent = Lent {
            namespace,
            names: Vec::new(),
        };
        for name in tree.names() {
            let path = tree.path().join(name);
            let opened = open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).why_of("cannot open", &path)?;
            let copy = mounts::copy_tree(&opened, true).why_of("cannot copy", &path)?;
            let is_directory = path.is_dir();
            let name = CString::new(name.as_str())
                .map_err(|_| Errno::EINVAL)
                .why("cannot name a share")?;
            lent.names.push(name.clone());
            lent.inside(|| place(&name, is_directory, &copy))
                .why_of("cannot hand over", Path::new(&path))?;
        }
        Ok(lent)
    }

    /// Takes all of it out again.
    pub fn take_back(self) {
        let _ = self.inside(|| {
            for name in &self.names {
                remove(name);
            }
            Ok(())
        });
    }

    /// In a process of its own, which alone may change its namespace. `work` makes system calls and nothing else: this
    /// process may have threads that hold the allocator.
    fn inside(&self, work: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
        // SAFETY: the child makes system calls only and leaves by _exit.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => loop {
                match waitpid(child, None) {
                    Err(Errno::EINTR) => {}
                    Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
                    Ok(WaitStatus::Exited(_, errno)) => return Err(Errno::from_raw(errno)),
                    _ => return Err(Errno::EIO),
                }
            },
            ForkResult::Child => {
                let done = setns(&self.namespace, CloneFlags::CLONE_NEWNS).and_then(|()| work());
                let code = done.err().map_or(0, |errno| errno as i32);
                // SAFETY: _exit has no precondition.
                unsafe { libc::_exit(code) }
            }
        }
    }
}

/// At the top of the server's tree, which is read-only but for this moment.
fn place(name: &CString, is_directory: bool, copy: &OwnedFd) -> Result<(), Errno> {
    let kept = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: all paths are C strings, and null means no data.
    unsafe {
        let (null, root) = (std::ptr::null(), c"/".as_ptr());
        Errno::result(libc::chdir(root))?;
        let mut found: libc::statfs = std::mem::zeroed();
        Errno::result(libc::statfs(root, &mut found))?;
        // A server that has not made the tree its root would put it where everybody sees it.
        if found.f_type != libc::TMPFS_MAGIC {
            return Err(Errno::ENOTSUP);
        }
        Errno::result(libc::mount(null, root, null, kept, null.cast()))?;
        let made = match is_directory {
            true => libc::mkdir(name.as_ptr(), 0o755),
            false => libc::mknod(name.as_ptr(), libc::S_IFREG | 0o644, 0),
        };
        let made = Errno::result(made).map(drop);
        let locked = Errno::result(libc::mount(null, root, null, kept | libc::MS_RDONLY, null.cast())).map(drop);
        made.and(locked)?;
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
        let (from, empty) = (copy.as_raw_fd(), c"".as_ptr());
        Errno::result(libc::syscall(
            libc::SYS_move_mount,
            from,
            empty,
            libc::AT_FDCWD,
            name.as_ptr(),
            flags,
        ))
        .map(drop)
    }
}

fn remove(name: &CString) {
    let kept = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: all paths are C strings, and null means no data.
    unsafe {
        let (null, root) = (std::ptr::null(), c"/".as_ptr());
        if libc::chdir(root) != 0 {
            return;
        }
        libc::umount2(name.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW);
        libc::mount(null, root, null, kept, null.cast());
        libc::rmdir(name.as_ptr());
        libc::unlink(name.as_ptr());
        libc::mount(null, root, null, kept | libc::MS_RDONLY, null.cast());
    }
}
