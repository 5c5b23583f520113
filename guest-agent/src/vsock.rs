//! AF_VSOCK: real connections, so no link below HTTP/2.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::watch::{Watched, watch};
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::Interest;

pub const PORT: u32 = 1024;
const CID_LOCAL: u32 = 1;
const CID_HOST: u32 = 2;

pub struct VsockListener {
    socket: Watched,
    allow_loopback: bool,
}

impl VsockListener {
    /// Listens on [`PORT`] for the host, and with `allow_loopback` for this guest itself.
    pub fn bind(allow_loopback: bool) -> io::Result<Self> {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the descriptor is new and ours; the address outlives the call, and its size is the one passed.
        let socket = unsafe {
            let socket = OwnedFd::from_raw_fd(check(libc::socket(libc::AF_VSOCK, kind, 0))?);
            let mut address: libc::sockaddr_vm = std::mem::zeroed();
            address.svm_family = libc::AF_VSOCK as u16;
            address.svm_port = PORT;
            address.svm_cid = libc::VMADDR_CID_ANY;
            check(libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_vm>() as u32,
            ))?;
            check(libc::listen(socket.as_raw_fd(), 4))?;
            socket
        };
        Ok(Self {
            socket: watch(socket, Interest::READABLE | Interest::WRITABLE)?,
            allow_loopback,
        })
    }

    /// The next connection of a peer that may connect.
    pub async fn accept(&self) -> VsockStream {
        loop {
            let Ok(mut guard) = self.socket.readable().await else {
                return std::future::pending().await;
            };
            let accepted = guard.try_io(|socket| accept(socket.get_ref()));
            if let Ok(Ok((stream, peer))) = accepted
                && (peer == CID_HOST || self.allow_loopback && peer == CID_LOCAL)
                && let Ok(socket) = watch(stream, Interest::READABLE | Interest::WRITABLE)
            {
                return VsockStream { socket };
            }
        }
    }
}

fn accept(listener: &OwnedFd) -> io::Result<(OwnedFd, u32)> {
    let mut address = MaybeUninit::<libc::sockaddr_vm>::zeroed();
    let mut length = size_of::<libc::sockaddr_vm>() as u32;
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the kernel writes at most `length` bytes into `address`, for which all zeroes are valid as well; the
    // descriptor is new and ours.
    unsafe {
        let fd = libc::accept4(
            listener.as_raw_fd(),
            address.as_mut_ptr().cast(),
            &raw mut length,
            flags,
        );
        Ok((OwnedFd::from_raw_fd(check(fd)?), address.assume_init().svm_cid))
    }
}

pub struct VsockStream {
    socket: Watched,
}

impl Read for VsockStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0u8; 8192];
        let room = buf.remaining().min(scratch.len());
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(cx))?;
            let read = guard.try_io(|socket| Ok(rustix::io::read(socket.as_fd(), &mut scratch[..room])?));
            if let Ok(read) = read {
                buf.put_slice(&scratch[..read?]);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Write for VsockStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.socket.poll_write_ready(cx))?;
            let flags = rustix::net::SendFlags::NOSIGNAL;
            if let Ok(written) = guard.try_io(|socket| Ok(rustix::net::send(socket.as_fd(), bytes, flags)?)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = rustix::net::shutdown(self.socket.get_ref(), rustix::net::Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
