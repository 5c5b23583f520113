//! A pty of the container's own devpts, for its init process or an exec.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::mounts::{attach, clone_tree, refuse_proc};
use super::paths::{is_on, make_file, open_in};
use crate::contract::{FailureReason, TerminalSize};
use crate::failure::{Doing, Failure, Result};

const DEVPTS_MAGIC: i64 = 0x1cd1;

pub struct Pty {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

/// Opens a new pty. The slave comes from the master itself, not from a path that the image may have put there.
pub fn open_pty(root: BorrowedFd<'_>, uid: u32) -> Result<Pty> {
    let doing = || "opening a terminal".to_owned();
    let master = open_in(root, Path::new("/dev/pts/ptmx"), OFlags::RDWR | OFlags::NOCTTY).doing(doing)?;
    if !is_on(&master, DEVPTS_MAGIC) {
        return Err(Failure::new(
            FailureReason::MountFailed,
            "a terminal needs a devpts mount on /dev/pts",
        ));
    }
    rustix::pty::unlockpt(&master).doing(doing)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).doing(doing)?;
    rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(uid)), None).doing(doing)?;
    Ok(Pty { master, slave })
}

/// Shows the pty as /dev/console.
pub fn bind_console(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> Result<()> {
    let doing = || "binding /dev/console".to_owned();
    let target = make_file(root, Path::new("/dev/console")).doing(doing)?;
    refuse_proc(&target, Path::new("/dev/console"))?;
    let copy = clone_tree(slave, false).doing(doing)?;
    attach(copy.as_fd(), target.as_fd()).doing(doing)
}

/// A size of 0 by 0 means "unknown" and changes nothing.
pub fn resize(terminal: impl AsFd, size: &TerminalSize) -> rustix::io::Result<()> {
    let (rows, columns) = (clamp(size.rows), clamp(size.columns));
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size)
}

fn clamp(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}
