//! The caller's stdin: read only as far as the daemon's limit, because what the workload does not take belongs to who
//! reads next; kept until accepted, because a new daemon may ask for it again.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::frame::{CHUNK, broken, kind};
use crate::link::Link;
use crate::sys;

/// However far the limit is, not more than this is kept.
const KEPT: u64 = 1 << 20;

pub struct Input {
    state: Mutex<State>,
    changed: Condvar,
    wake: PipeWriter,
    woken: PipeReader,
}

#[derive(Default)]
struct State {
    /// Bytes from `accepted` to `read`.
    kept: VecDeque<u8>,
    accepted: u64,
    limit: u64,
    read: u64,
    sent: u64,
    /// The connection that STDIN_OPEN came on; 0: none, nothing is sent.
    generation: u64,
    ended: bool,
    end_sent: bool,
    closed: bool,
    started: bool,
}

enum Step {
    Send {
        generation: u64,
        offset: u64,
        bytes: Vec<u8>,
    },
    End {
        generation: u64,
        offset: u64,
    },
    Read(usize),
    Stop,
}

impl Input {
    pub fn new() -> io::Result<Self> {
        let (woken, wake) = io::pipe()?;
        Ok(Input {
            state: Mutex::default(),
            changed: Condvar::new(),
            wake,
            woken,
        })
    }

    /// STDIN_OPEN. The first one on a connection says where to send from.
    pub fn open(&'static self, accepted: u64, limit: u64, link: &'static Link) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let generation = link.generation();
        let sent = if state.generation == generation {
            state.sent
        } else {
            state.read
        };
        if accepted < state.accepted || accepted > sent {
            return Err(broken("stdin was accepted that was not sent"));
        }
        let done = (accepted - state.accepted) as usize;
        state.kept.drain(..done);
        state.accepted = accepted;
        state.limit = limit.min(accepted.saturating_add(KEPT));
        if state.generation != generation {
            state.generation = generation;
            state.sent = accepted;
            state.end_sent = false;
            // Its thread may wait for the next byte while there are old ones to be sent again.
            self.wake();
        }
        if !state.closed && !std::mem::replace(&mut state.started, true) {
            sys::spawn("stdin", move || self.relay(link));
        }
        self.changed.notify_all();
        Ok(())
    }

    pub fn disconnected(&self) {
        self.state.lock().unwrap().generation = 0;
    }

    /// STDIN_CLOSED: not one byte more is taken from the caller.
    pub fn close(&self) {
        self.state.lock().unwrap().closed = true;
        self.changed.notify_all();
        self.wake();
    }

    fn wake(&self) {
        let _ = (&self.wake).write(&[1]);
    }

    fn relay(&self, link: &Link) {
        let mut buffer = vec![0; CHUNK];
        loop {
            match self.next_step() {
                Step::Send {
                    generation,
                    offset,
                    bytes,
                } => {
                    link.send_on(generation, kind::STDIN, &[&offset.to_le_bytes(), &bytes]);
                }
                Step::End { generation, offset } => {
                    link.send_on(generation, kind::STDIN_END, &[&offset.to_le_bytes()]);
                }
                Step::Read(most) => self.read(&mut buffer[..most]),
                Step::Stop => return,
            }
        }
    }

    fn next_step(&self) -> Step {
        let mut state = self.state.lock().unwrap();
        loop {
            if state.closed {
                return Step::Stop;
            }
            let (generation, offset) = (state.generation, state.sent);
            let sendable = state.read.min(state.limit).saturating_sub(offset).min(CHUNK as u64);
            if generation != 0 && sendable > 0 {
                let skipped = (offset - state.accepted) as usize;
                let bytes = state
                    .kept
                    .range(skipped..skipped + sendable as usize)
                    .copied()
                    .collect();
                state.sent += sendable;
                return Step::Send {
                    generation,
                    offset,
                    bytes,
                };
            }
            if generation != 0 && state.ended && !state.end_sent && offset == state.read {
                state.end_sent = true;
                return Step::End { generation, offset };
            }
            if !state.ended && state.read < state.limit {
                return Step::Read((state.limit - state.read).min(CHUNK as u64) as usize);
            }
            state = self.changed.wait(state).unwrap();
        }
    }

    /// Waits with poll, so that a STDIN_CLOSED comes in time to leave the next key to the next reader.
    fn read(&self, buffer: &mut [u8]) {
        let stdin = sys::stdio(0);
        let mut sources = [
            PollFd::new(stdin, PollFlags::POLLIN),
            PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
        ];
        if poll(&mut sources, PollTimeout::NONE).is_err() {
            return;
        }
        if sources[1].any() == Some(true) {
            let _ = (&self.woken).read(&mut [0]);
            return;
        }
        let result = sys::read_once(stdin, buffer);
        let mut state = self.state.lock().unwrap();
        match result {
            Ok(count) if count > 0 => {
                state.kept.extend(&buffer[..count]);
                state.read += count as u64;
            }
            // An error is an end too: a terminal that hung up says EIO.
            _ => state.ended = true,
        }
    }
}
