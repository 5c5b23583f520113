//! One process of a container as the agent sees it: its streams, its end, and who is attached.

mod attach;
mod input;
mod output;
mod pump;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use crate::watch::{Watched, watch};
use rustix::process::{Pid, WaitId, WaitIdOptions};
use tokio::io::Interest;

use crate::cgroup::Cgroup;
use crate::container::stdio::AgentStdio;
use crate::contract::{ProcessExit, TerminalSize};
use crate::failure::{Doing, Result};
use input::InputBuffer;
use output::OutputBuffer;

pub use attach::{Attachment, attach};

/// The agent's ends of the streams of a process.
pub enum ProcessIo {
    Pipes(AgentStdio),
    Terminal(Terminal),
}

pub struct Terminal {
    pub master: OwnedFd,
    /// Held open so that the master gives no end of file while the process has closed its own descriptors for a while.
    pub slave: OwnedFd,
    /// Absent: input is ignored.
    pub takes_input: bool,
}

pub struct Process {
    pub pid: Pid,
    pidfd: Watched,
    state: Mutex<State>,
    /// For resizing.
    terminal: Option<OwnedFd>,
}

/// Everything that changes, with those who wait for a change.
struct State {
    stdout: OutputBuffer,
    stderr: OutputBuffer,
    stdin: InputBuffer,
    exit: Option<Exit>,
    /// Which attachment is the current one.
    attachment: u64,
    attached: Option<Waker>,
    stdout_pump: Option<Waker>,
    stderr_pump: Option<Waker>,
    stdin_pump: Option<Waker>,
    on_exit: Vec<Waker>,
}

#[derive(Clone, Copy, Debug)]
struct Exit {
    code: u32,
    signal: u32,
    oom_killed: bool,
    oom_kills: u64,
}

impl State {
    fn wake_attached(&mut self) {
        if let Some(waker) = self.attached.take() {
            waker.wake();
        }
    }

    fn wake_pumps(&mut self) {
        for pump in [&mut self.stdout_pump, &mut self.stderr_pump, &mut self.stdin_pump] {
            if let Some(waker) = pump.take() {
                waker.wake();
            }
        }
    }

    /// What the host is told once all output was.
    fn final_word(&self) -> Option<ProcessExit> {
        let Exit {
            code,
            signal,
            oom_killed,
            oom_kills,
        } = self.exit?;
        let all = self.stdout.ended() && self.stderr.ended();
        all.then(|| ProcessExit {
            code,
            signal,
            oom_killed,
            stdout_length: self.stdout.length(),
            stderr_length: self.stderr.length(),
            oom_kills,
        })
    }
}

impl Process {
    /// Starts to pump the streams and to wait for the end. Must be called inside the runtime.
    pub fn adopt(pid: Pid, pidfd: OwnedFd, io: ProcessIo, cgroup: &Arc<Cgroup>) -> Result<Arc<Self>> {
        let doing = || "watching the process".to_owned();
        let pidfd = watch(pidfd, Interest::READABLE).doing(doing)?;
        let (takes_input, has_stderr, terminal) = match &io {
            ProcessIo::Pipes(stdio) => (stdio.stdin.is_some(), true, None),
            ProcessIo::Terminal(pty) => (pty.takes_input, false, Some(pty.master.try_clone().doing(doing)?)),
        };
        let mut stderr = OutputBuffer::default();
        if !has_stderr {
            stderr.finish();
        }
        let process = Arc::new(Self {
            pid,
            pidfd,
            terminal,
            state: Mutex::new(State {
                stdout: OutputBuffer::default(),
                stderr,
                stdin: InputBuffer::new(takes_input),
                exit: None,
                attachment: 0,
                attached: None,
                stdout_pump: None,
                stderr_pump: None,
                stdin_pump: None,
                on_exit: Vec::new(),
            }),
        });
        pump::start(&process, io).doing(doing)?;
        tokio::spawn(reap(Arc::clone(&process), Arc::clone(cgroup)));
        Ok(process)
    }

    pub fn has_exited(&self) -> bool {
        self.lock().exit.is_some()
    }

    pub fn pidfd(&self) -> &OwnedFd {
        self.pidfd.get_ref()
    }

    /// Resolves when the process is gone; its output may still be on its way.
    pub async fn exited(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.lock();
            if state.exit.is_some() {
                return std::task::Poll::Ready(());
            }
            state.on_exit.push(cx.waker().clone());
            std::task::Poll::Pending
        })
        .await;
    }

    pub fn resize(&self, size: &TerminalSize) {
        if let Some(terminal) = &self.terminal {
            // A terminal that is gone needs no size.
            let _ = crate::container::terminal::resize(terminal, size);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Waits for the end of the process and tells everybody.
async fn reap(process: Arc<Process>, cgroup: Arc<Cgroup>) {
    let oom_kills_before = cgroup.oom_kills();
    let exit = loop {
        let Ok(mut guard) = process.pidfd.readable().await else {
            return;
        };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match rustix::process::waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(process.pidfd())), options) {
            Ok(Some(status)) => {
                let oom_kills = cgroup.oom_kills();
                let signal = status.terminating_signal().unwrap_or(0) as u32;
                let code = status.exit_status().map_or(128 + signal, |code| code as u32 & 0xff);
                break Exit {
                    code,
                    signal,
                    oom_killed: oom_kills > oom_kills_before,
                    oom_kills,
                };
            }
            Ok(None) => guard.clear_ready(),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => {
                break Exit {
                    code: 255,
                    signal: 0,
                    oom_killed: false,
                    oom_kills: 0,
                };
            }
        }
    };
    let mut state = process.lock();
    state.exit = Some(exit);
    state.stdin.close();
    state.wake_pumps();
    state.wake_attached();
    for waker in state.on_exit.drain(..) {
        waker.wake();
    }
}
