//! Byte devices below the link: the virtio-serial port, and a socket standing in for it in tests.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::task::{Context, Poll, ready};

use crate::watch::{Watched, watch};
use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::io::Interest;

#[derive(Debug)]
pub enum Received {
    Bytes(usize),
    /// Nobody has the host's end open. Said once each time this is found, not again and again.
    HostAway,
}

/// A byte device used by one task only.
pub trait Port {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Received>>;
    /// Pending while the host is away or does not read.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
}

/// The port as `/dev/vportNpM`.
///
/// Polling it says HUP for as long as the host's side is not connected, and reading gives 0 at once. tokio keeps HUP
/// for ever and would spin. So the port sits in an epoll instance of its own, edge-triggered, and tokio watches that
/// one: it is readable exactly when something about the port has changed.
pub struct VirtioPort {
    port: OwnedFd,
    changes: Watched,
    readable: bool,
    writable: bool,
}

impl VirtioPort {
    /// Must be called inside the runtime.
    pub fn open(path: &std::path::Path) -> io::Result<Self> {
        let port = rustix::fs::open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        let changes = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&changes, &port, epoll::EventData::new_u64(0), interest)?;
        let changes = watch(changes, Interest::READABLE)?;
        Ok(Self {
            port,
            changes,
            readable: true,
            writable: true,
        })
    }

    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = ready!(self.changes.poll_read_ready(cx))?;
        // First clear, then collect: what happens in between wakes us once more.
        guard.clear_ready();
        let mut events = [std::mem::MaybeUninit::<epoll::Event>::uninit(); 1];
        let (events, _) = epoll::wait(
            self.changes.get_ref(),
            &mut events,
            Some(&rustix::time::Timespec::default()),
        )?;
        for event in events {
            let flags = event.flags;
            self.readable |= flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP);
            self.writable |= flags.contains(epoll::EventFlags::OUT);
        }
        Poll::Ready(Ok(()))
    }
}

impl Port for VirtioPort {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Received>> {
        loop {
            if self.readable {
                match rustix::io::read(&self.port, &mut *buf) {
                    Ok(0) => {
                        self.readable = false;
                        return Poll::Ready(Ok(Received::HostAway));
                    }
                    Ok(length) => return Poll::Ready(Ok(Received::Bytes(length))),
                    Err(Errno::AGAIN) => self.readable = false,
                    Err(Errno::INTR) => {}
                    Err(error) => return Poll::Ready(Err(error.into())),
                }
            } else {
                ready!(self.poll_change(cx))?;
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.writable {
                match rustix::io::write(&self.port, bytes) {
                    Err(Errno::AGAIN) => self.writable = false,
                    Err(Errno::INTR) => {}
                    written => return Poll::Ready(written.map_err(io::Error::from)),
                }
            } else {
                ready!(self.poll_change(cx))?;
            }
        }
    }
}

/// A stream socket. Its end of file is final, so it is told once and then nothing comes any more.
pub struct SocketPort {
    socket: Watched,
    ended: bool,
}

impl SocketPort {
    /// `socket` must be non-blocking. Must be called inside the runtime.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            socket: watch(socket, Interest::READABLE | Interest::WRITABLE)?,
            ended: false,
        })
    }
}

impl Port for SocketPort {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Received>> {
        if self.ended {
            return Poll::Pending;
        }
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(cx))?;
            match guard.try_io(|socket| rustix::io::read(socket.as_fd(), &mut *buf).map_err(io::Error::from)) {
                Ok(Ok(0)) => {
                    self.ended = true;
                    return Poll::Ready(Ok(Received::HostAway));
                }
                Ok(length) => return Poll::Ready(length.map(Received::Bytes)),
                Err(_) => {}
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.socket.poll_write_ready(cx))?;
            if let Ok(written) = guard.try_io(|socket| {
                rustix::net::send(socket.as_fd(), bytes, rustix::net::SendFlags::NOSIGNAL).map_err(io::Error::from)
            }) {
                return Poll::Ready(written);
            }
        }
    }
}

/// The device node of the virtio-serial port called `name`, if it has appeared.
pub fn find_virtio_port(name: &str) -> Option<PathBuf> {
    std::fs::read_dir("/sys/class/virtio-ports")
        .ok()?
        .flatten()
        .find_map(|entry| {
            let found = std::fs::read(entry.path().join("name")).ok()?;
            (found.trim_ascii_end() == name.as_bytes()).then(|| PathBuf::from("/dev").join(entry.file_name()))
        })
}
