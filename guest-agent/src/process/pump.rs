//! Moves bytes between the streams of a process and their buffers, each stream by a task of its own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use crate::watch::{Watched, watch};
use rustix::io::Errno;
use tokio::io::Interest;

use super::output::OutputBuffer;
use super::{Process, ProcessIo, State};
use crate::container::stdio::AgentStdio;

#[derive(Clone, Copy)]
enum Which {
    Stdout,
    Stderr,
}

impl Which {
    fn of(self, state: &mut State) -> (&mut OutputBuffer, &mut Option<Waker>) {
        match self {
            Self::Stdout => (&mut state.stdout, &mut state.stdout_pump),
            Self::Stderr => (&mut state.stderr, &mut state.stderr_pump),
        }
    }
}

pub fn start(process: &Arc<Process>, io: ProcessIo) -> io::Result<()> {
    match io {
        ProcessIo::Pipes(AgentStdio { stdin, stdout, stderr }) => {
            pump_output(process, Which::Stdout, watch(stdout, Interest::READABLE)?, None);
            pump_output(process, Which::Stderr, watch(stderr, Interest::READABLE)?, None);
            if let Some(stdin) = stdin {
                pump_input(process, watch(stdin, Interest::WRITABLE)?);
            }
        }
        ProcessIo::Terminal(pty) => {
            if pty.takes_input {
                let writer = pty.master.try_clone()?;
                pump_input(process, watch(writer, Interest::WRITABLE)?);
            }
            let reader = watch(pty.master, Interest::READABLE)?;
            pump_output(process, Which::Stdout, reader, Some(pty.slave));
        }
    }
    Ok(())
}

/// `held` is kept open as long as the pump runs.
fn pump_output(process: &Arc<Process>, which: Which, source: Watched, held: Option<OwnedFd>) {
    let process = Arc::clone(process);
    tokio::spawn(async move {
        let mut scratch = Vec::new();
        std::future::poll_fn(|cx| poll_output(&process, which, &source, &mut scratch, cx)).await;
        let mut state = process.lock();
        which.of(&mut state).0.finish();
        state.wake_attached();
        drop(held);
    });
}

/// Ready at the end of the stream, or when nobody wants more of it: dropping `source` then breaks the pipe. Once the process is gone, an empty pipe is the end as well: a process it left behind
/// may hold the other end for ever.
fn poll_output(
    process: &Process,
    which: Which,
    source: &Watched,
    scratch: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        let (room, exited) = {
            let mut state = process.lock();
            let exited = state.exit.is_some();
            let (buffer, pump) = which.of(&mut state);
            // A terminal stays: its process gets a hang-up, if anything, not a broken pipe.
            if buffer.unwanted() && process.terminal.is_none() {
                return Poll::Ready(());
            }
            *pump = Some(cx.waker().clone());
            (buffer.room(), exited)
        };
        if room == 0 {
            return Poll::Pending;
        }
        let guard = if exited {
            None
        } else {
            match ready!(source.poll_read_ready(cx)) {
                Ok(guard) => Some(guard),
                Err(_) => return Poll::Ready(()),
            }
        };
        scratch.resize(super::output::CHUNK, 0);
        // Never more than there is room for: what was read cannot be put back.
        let wanted = room.min(super::output::CHUNK);
        match rustix::io::read(source.get_ref(), &mut scratch[..wanted]) {
            Ok(0) => return Poll::Ready(()),
            Ok(count) => {
                let mut state = process.lock();
                which.of(&mut state).0.push(&scratch[..count]);
                state.wake_attached();
            }
            Err(Errno::AGAIN) => match guard {
                Some(mut guard) => {
                    guard.clear_ready();
                    *scratch = Vec::new();
                }
                None => return Poll::Ready(()),
            },
            Err(Errno::INTR) => {}
            // EIO: the terminal was hung up.
            Err(_) => return Poll::Ready(()),
        }
    }
}

fn pump_input(process: &Arc<Process>, target: Watched) {
    let process = Arc::clone(process);
    tokio::spawn(async move {
        let closed_by_process = std::future::poll_fn(|cx| poll_input(&process, &target, cx)).await;
        let mut state = process.lock();
        if closed_by_process {
            state.stdin.close();
        }
        state.wake_attached();
        // Dropping `target` closes the pipe: the process reads its end of file.
    });
}

/// Ready when nothing more is to be written; true when that is the process's doing.
fn poll_input(process: &Process, target: &Watched, cx: &mut Context<'_>) -> Poll<bool> {
    loop {
        {
            let mut state = process.lock();
            state.stdin_pump = Some(cx.waker().clone());
            if state.stdin.closed() {
                return Poll::Ready(true);
            }
            if state.stdin.at_end() && process.terminal.is_none() {
                return Poll::Ready(false);
            }
            if state.stdin.next().is_empty() {
                return Poll::Pending;
            }
        }
        let Ok(mut guard) = ready!(target.poll_write_ready(cx)) else {
            return Poll::Ready(true);
        };
        let mut state = process.lock();
        match rustix::io::write(target.get_ref().as_fd(), state.stdin.next()) {
            Ok(count) => {
                state.stdin.written(count);
                state.wake_attached();
            }
            Err(Errno::AGAIN) => guard.clear_ready(),
            Err(Errno::INTR) => {}
            Err(_) => return Poll::Ready(true),
        }
    }
}
