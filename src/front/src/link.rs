//! The sending side of the connection. Many threads send; while the connection is lost nobody waits for it, because
//! everything that matters is said again after RESUME.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::frame::encode;

pub struct Link {
    outgoing: Mutex<Outgoing>,
    /// Which connection this is; changes under the lock, but can be read while a send waits for the daemon.
    generation: AtomicU64,
}

struct Outgoing {
    stream: Option<UnixStream>,
    kept: Vec<Vec<u8>>,
}

/// Signals that wait for the next connection.
const KEPT: usize = 32;

impl Link {
    pub fn new(stream: UnixStream) -> Self {
        Link::of(Some(stream))
    }

    /// One on which nobody has connected yet.
    pub fn unconnected() -> Self {
        Link::of(None)
    }

    fn of(stream: Option<UnixStream>) -> Self {
        let kept = Vec::new();
        Link {
            outgoing: Mutex::new(Outgoing { stream, kept }),
            generation: AtomicU64::new(1),
        }
    }

    /// Sends, or drops the frame if there is no connection: the reader finds out and says everything again.
    pub fn send(&self, kind: u8, parts: &[&[u8]]) {
        self.outgoing.lock().unwrap().send(&encode(kind, parts));
    }

    /// Sends only on the connection that was there when `generation` was asked for.
    pub fn send_on(&self, generation: u64, kind: u8, parts: &[&[u8]]) {
        let mut outgoing = self.outgoing.lock().unwrap();
        if self.generation() == generation {
            outgoing.send(&encode(kind, parts));
        }
    }

    /// Sends now or on the next connection. False: it waits.
    pub fn send_or_keep(&self, kind: u8, parts: &[&[u8]]) -> bool {
        let frame = encode(kind, parts);
        let mut outgoing = self.outgoing.lock().unwrap();
        if outgoing.send(&frame) {
            return true;
        }
        if outgoing.kept.len() < KEPT {
            outgoing.kept.push(frame);
        }
        false
    }

    /// Sends the last frame: no other thread says anything after it.
    pub fn send_last(&self, kind: u8) {
        let mut outgoing = self.outgoing.lock().unwrap();
        outgoing.send(&encode(kind, &[]));
        outgoing.stream = None;
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    pub fn lost(&self) {
        let mut outgoing = self.outgoing.lock().unwrap();
        outgoing.stream = None;
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// A new connection, on which `repeat` goes first and then what was kept. Nothing is sent while `repeat` looks,
    /// so that no word about a change is lost between the two connections.
    pub fn renewed(&self, stream: UnixStream, repeat: impl FnOnce(&mut Vec<u8>)) {
        let mut outgoing = self.outgoing.lock().unwrap();
        outgoing.stream = Some(stream);
        let mut repeated = Vec::new();
        repeat(&mut repeated);
        outgoing.send(&repeated);
        for frame in std::mem::take(&mut outgoing.kept) {
            outgoing.send(&frame);
        }
    }
}

impl Outgoing {
    fn send(&mut self, frame: &[u8]) -> bool {
        let sent = self
            .stream
            .as_mut()
            .is_some_and(|stream| stream.write_all(frame).is_ok());
        if !sent {
            self.stream = None;
        }
        sent
    }
}
