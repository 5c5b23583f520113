//! Forking into another pid namespace than the agent's own.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags};

use crate::failure::{Doing, Result};
use crate::sys::{Fork, fork};

/// Only the pid namespace of a *future child* can be chosen, and it is chosen for the calling thread. So the thread sets
/// it, forks, and sets it back; in between nothing else runs on it.
pub struct Forker {
    own_pid_namespace: OwnedFd,
}

#[derive(Clone, Copy)]
pub enum PidNamespace<'a> {
    New,
    /// That of a process, by its pidfd.
    Of(BorrowedFd<'a>),
}

pub struct Forked {
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

impl Forker {
    pub fn new() -> Result<Self> {
        let own = File::open("/proc/self/ns/pid").doing(|| "opening the agent's pid namespace".into())?;
        Ok(Self {
            own_pid_namespace: own.into(),
        })
    }

    /// Runs `child`, which never returns, in a new process.
    pub fn fork(&self, namespace: PidNamespace<'_>, child: impl FnOnce()) -> Result<Forked> {
        let doing = || "making a process".to_owned();
        match namespace {
            // SAFETY: CLONE_FILES is not among the flags.
            PidNamespace::New => unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) },
            PidNamespace::Of(process) => {
                rustix::thread::move_into_thread_name_spaces(process, ThreadNameSpaceType::PROCESS_ID)
            }
        }
        .doing(doing)?;
        let forked = fork();
        if let Ok(Fork::Child) = forked {
            child();
            crate::sys::exit_now(126);
        }
        let own = self.own_pid_namespace.as_fd();
        rustix::thread::move_into_link_name_space(own, Some(LinkNameSpaceType::ProcessID)).doing(doing)?;
        match forked.doing(doing)? {
            Fork::Parent(pid) => {
                let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).doing(doing)?;
                Ok(Forked { pid, pidfd })
            }
            Fork::Child => unreachable!("the child has left"),
        }
    }
}
