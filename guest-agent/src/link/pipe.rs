//! The two bounded byte queues between the link and one epoch's HTTP/2 connection.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};

/// Bytes held in each direction before the side that produces them has to wait.
pub(super) const QUEUE_LIMIT: usize = 64 * 1024;

/// Shared by an [`EpochStream`] and the link.
#[derive(Default)]
pub(super) struct Queues {
    /// From the host.
    pub inbox: BytesMut,
    /// To the host.
    pub outbox: BytesMut,
    /// No more input comes: the host closed, went away or opened another epoch.
    pub ended: bool,
    /// The stream was dropped or shut down; the link still sends what `outbox` holds, then CLOSE.
    pub finished: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    link: Option<Waker>,
}

impl Queues {
    pub fn deliver(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        wake(&mut self.reader);
    }

    pub fn has_room(&self) -> bool {
        self.inbox.len() < QUEUE_LIMIT
    }

    /// Moves up to `limit` bytes of output into `into`.
    pub fn take_output(&mut self, limit: usize) -> Bytes {
        let length = self.outbox.len().min(limit);
        let taken = self.outbox.split_to(length).freeze();
        wake(&mut self.writer);
        taken
    }

    /// The connection is dead for the stream's owner; bytes of both directions are dropped.
    pub fn end(&mut self) {
        self.ended = true;
        self.inbox.clear();
        self.outbox.clear();
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    /// The host sends no more, what it sent can still be read.
    pub fn end_input(&mut self) {
        self.ended = true;
        self.outbox.clear();
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    pub fn wake_link_on_change(&mut self, cx: &Context<'_>) {
        self.link = Some(cx.waker().clone());
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// One epoch as a byte stream for HTTP/2.
pub struct EpochStream {
    queues: Arc<Mutex<Queues>>,
}

impl EpochStream {
    pub(super) fn new(queues: Arc<Mutex<Queues>>) -> Self {
        Self { queues }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        lock(&self.queues)
    }
}

pub(super) fn lock(queues: &Mutex<Queues>) -> MutexGuard<'_, Queues> {
    queues.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Read for EpochStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut queues = self.lock();
        if queues.inbox.is_empty() {
            if queues.ended {
                return Poll::Ready(Ok(()));
            }
            queues.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let length = queues.inbox.len().min(buf.remaining());
        buf.put_slice(&queues.inbox[..length]);
        queues.inbox.advance(length);
        wake(&mut queues.link);
        Poll::Ready(Ok(()))
    }
}

impl Write for EpochStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut queues = self.lock();
        if queues.ended || queues.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let length = bytes.len().min(QUEUE_LIMIT.saturating_sub(queues.outbox.len()));
        if length == 0 && !bytes.is_empty() {
            queues.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        queues.outbox.extend_from_slice(&bytes[..length]);
        wake(&mut queues.link);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut queues = self.lock();
        queues.finished = true;
        wake(&mut queues.link);
        Poll::Ready(Ok(()))
    }
}

impl Drop for EpochStream {
    fn drop(&mut self) {
        let mut queues = self.lock();
        queues.finished = true;
        wake(&mut queues.link);
    }
}
