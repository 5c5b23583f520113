//! The descriptors a process gets as 0, 1 and 2, and the agent's ends of them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::failure::{Doing, Result};

/// The child's ends; without a terminal only.
pub struct ChildStdio {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// The agent's ends: non-blocking.
pub struct AgentStdio {
    /// `None`: the process reads from /dev/null.
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

pub fn pipes(stdin_open: bool) -> Result<(AgentStdio, ChildStdio)> {
    let (stdin, child_stdin) = if stdin_open {
        let (read, write) = pipe()?;
        (Some(non_blocking(write)?), read)
    } else {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        (
            None,
            rustix::fs::open("/dev/null", flags, Mode::empty()).doing(|| "opening /dev/null".into())?,
        )
    };
    let (stdout, child_stdout) = pipe()?;
    let (stderr, child_stderr) = pipe()?;
    Ok((
        AgentStdio {
            stdin,
            stdout: non_blocking(stdout)?,
            stderr: non_blocking(stderr)?,
        },
        ChildStdio {
            stdin: child_stdin,
            stdout: child_stdout,
            stderr: child_stderr,
        },
    ))
}

/// In the child: makes `fds` its 0, 1 and 2. None of them may be one of these numbers already.
pub fn install(fds: [BorrowedFd<'_>; 3]) -> Result<()> {
    let doing = || "setting up standard input and output".to_owned();
    rustix::stdio::dup2_stdin(fds[0]).doing(doing)?;
    rustix::stdio::dup2_stdout(fds[1]).doing(doing)?;
    rustix::stdio::dup2_stderr(fds[2]).doing(doing)
}

impl ChildStdio {
    pub fn install(&self) -> Result<()> {
        install([self.stdin.as_fd(), self.stdout.as_fd(), self.stderr.as_fd()])
    }

    /// Lets the user reopen its own output as /dev/stdout; pipes are the agent's to give away.
    pub fn give_to(&self, uid: u32, gid: u32) -> Result<()> {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        for fd in [&self.stdin, &self.stdout, &self.stderr] {
            let is_pipe = rustix::fs::fstat(fd)
                .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo);
            if is_pipe {
                rustix::fs::fchown(fd, Some(uid), Some(gid)).doing(|| "handing over standard output".into())?;
            }
        }
        Ok(())
    }

    pub fn numbers(&self) -> [RawFd; 3] {
        use std::os::fd::AsRawFd;
        [self.stdin.as_raw_fd(), self.stdout.as_raw_fd(), self.stderr.as_raw_fd()]
    }
}

pub fn non_blocking(fd: OwnedFd) -> Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&fd, true).doing(|| "making a descriptor non-blocking".into())?;
    Ok(fd)
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).doing(|| "making a pipe".into())
}
