//! stdout and stderr: a thread each, blocking writes, in order. The descriptors belong to the caller too, so their
//! flags are never touched; a slow reader costs the daemon's credit and nothing else.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex};

use crate::frame::{CHUNK, broken, encode, kind};
use crate::link::Link;
use crate::sys;

/// More than this beyond WRITTEN and the daemon does not keep to its credit of 256 KiB.
const UNWRITTEN: u64 = 512 << 10;

pub struct Output {
    stream: u8,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Vec<u8>>,
    received: u64,
    written: u64,
    /// Written, and the daemon has been told so.
    told: u64,
    gone: bool,
    started: bool,
}

impl Output {
    /// `stream` is 1 or 2, and so is its descriptor.
    pub fn new(stream: u8) -> Self {
        Output {
            stream,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Takes bytes that begin at `offset`; those that it has had are dropped.
    pub fn take(&'static self, offset: u64, bytes: &[u8], link: &'static Link) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let known = state
            .received
            .checked_sub(offset)
            .ok_or_else(|| broken("output is missing"))?;
        let Some(new) = bytes.get(known as usize..).filter(|new| !new.is_empty()) else {
            return Ok(());
        };
        if state.received + new.len() as u64 - state.written > UNWRITTEN {
            return Err(broken("more output than was asked for"));
        }
        state.received += new.len() as u64;
        if state.gone {
            state.written = state.received;
            state.told = state.received;
            return Ok(());
        }
        state.chunks.push_back(new.to_vec());
        if !std::mem::replace(&mut state.started, true) {
            sys::spawn("output", move || self.write(link));
        }
        self.changed.notify_all();
        Ok(())
    }

    pub fn received(&self) -> u64 {
        self.state.lock().unwrap().received
    }

    /// What a new connection has to hear: how far this stream is, and whether it goes on at all.
    pub fn repeat(&self, out: &mut Vec<u8>) {
        let state = self.state.lock().unwrap();
        out.extend(encode(kind::WRITTEN, &[&[self.stream], &state.written.to_le_bytes()]));
        if state.gone {
            out.extend(encode(kind::OUTPUT_GONE, &[&[self.stream]]));
        }
    }

    /// Returns when everything received is written, and no word about it can come after EXIT_ACK.
    pub fn flush(&self) {
        let state = self.state.lock().unwrap();
        drop(
            self.changed
                .wait_while(state, |state| state.told < state.received)
                .unwrap(),
        );
    }

    fn write(&self, link: &Link) {
        let mut unsaid = 0;
        loop {
            let state = self.state.lock().unwrap();
            let mut state = self.changed.wait_while(state, |state| state.chunks.is_empty()).unwrap();
            let Some(chunk) = state.chunks.pop_front() else {
                continue;
            };
            drop(state);
            let result = sys::write_fully(sys::stdio(self.stream.into()), &chunk);
            let mut state = self.state.lock().unwrap();
            if result.is_err() {
                // A closed pipe, a terminal that hung up, a full disk: nobody will ever read the rest.
                state.gone = true;
                state.chunks = VecDeque::new();
                state.written = state.received;
                drop(state);
                link.send(kind::OUTPUT_GONE, &[&[self.stream]]);
                return self.tell_flush(None);
            }
            state.written += chunk.len() as u64;
            unsaid += chunk.len();
            let (written, idle) = (state.written, state.chunks.is_empty());
            drop(state);
            if idle || unsaid >= CHUNK {
                unsaid = 0;
                link.send(kind::WRITTEN, &[&[self.stream], &written.to_le_bytes()]);
                self.tell_flush(Some(written));
            }
        }
    }

    /// The daemon knows that everything up to `told` is written; `None`: that nothing will be any more.
    fn tell_flush(&self, told: Option<u64>) {
        let mut state = self.state.lock().unwrap();
        state.told = told.unwrap_or(state.received);
        self.changed.notify_all();
    }
}
