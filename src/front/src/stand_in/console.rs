use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_path};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use super::request::{Trouble, Why};

/// A pty whose master the manager gets through `socket`; the slave becomes the controlling terminal. Only a session
/// leader may call this. Raw, because the line discipline that counts is the guest's.
pub fn open(socket: &Path) -> Result<OwnedFd, Trouble> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = open_path("/dev/ptmx", flags, Mode::empty()).why("cannot open /dev/ptmx")?;
    let (mut number, unlocked) = (0_u32, 0_i32);
    // SAFETY: both take a pointer to an int of this frame.
    unsafe {
        let fd = master.as_raw_fd();
        Errno::result(libc::ioctl(fd, libc::TIOCGPTN, &mut number)).why("cannot name the pty")?;
        Errno::result(libc::ioctl(fd, libc::TIOCSPTLCK, &unlocked)).why("cannot unlock the pty")?;
    }
    // Not by its path: /dev/pts of this mount namespace may be another instance.
    // SAFETY: TIOCGPTPEER gives a new descriptor.
    let slave = unsafe {
        let fd = libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags.bits());
        OwnedFd::from_raw_fd(Errno::result(fd).why("cannot open the pty")?)
    };
    let mut modes = tcgetattr(&slave).why("cannot read the modes of the pty")?;
    cfmakeraw(&mut modes);
    tcsetattr(&slave, SetArg::TCSANOW, &modes).why("cannot make the pty raw")?;
    let console = UnixStream::connect(socket).why_of("cannot connect to", socket)?;
    let name = format!("/dev/pts/{number}");
    let rights = [master.as_fd().as_raw_fd()];
    let messages = [ControlMessage::ScmRights(&rights)];
    sendmsg::<()>(
        console.as_raw_fd(),
        &[IoSlice::new(name.as_bytes())],
        &messages,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .why_of("cannot send the pty to", socket)?;
    drop(master);
    // SAFETY: TIOCSCTTY takes a number.
    let controlling = unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) };
    Errno::result(controlling).why("cannot make the pty the controlling terminal")?;
    Ok(slave)
}
