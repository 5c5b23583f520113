//! What the agent and a process it prepares tell each other before the execve, over a socket that the execve closes.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use crate::watch::{Watched, watch};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use tokio::io::Interest;

use crate::contract::FailureReason;
use crate::failure::{Doing, Failure, Result};

const PREPARED: u8 = 1;
const FAILED: u8 = 2;
const GO: u8 = 3;
/// The child needs something done that only the agent may; answered by DONE.
const ASK: u8 = 4;
const DONE: u8 = 5;

/// What can be asked for: maps of ids, offsets of clocks.
pub const ASK_IDS: u8 = 1;
pub const ASK_CLOCKS: u8 = 2;

/// Longer messages of a failure are cut.
const MAX_MESSAGE: usize = 4096;

/// A pair of ends: the agent's, and the one for the child.
pub fn channel() -> Result<(AgentEnd, ChildEnd)> {
    let doing = || "making a channel".to_owned();
    let flags = SocketFlags::CLOEXEC;
    let (agent, child) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).doing(doing)?;
    rustix::io::ioctl_fionbio(&agent, true).doing(doing)?;
    Ok((
        AgentEnd {
            socket: watch(agent, Interest::READABLE | Interest::WRITABLE).doing(doing)?,
        },
        ChildEnd { socket: child },
    ))
}

pub struct AgentEnd {
    socket: Watched,
}

impl AgentEnd {
    /// Waits until everything up to the execve is done, doing what the child asks for meanwhile. Gives the child's number
    /// of its pty master, if it has one.
    pub async fn prepared(&self, help: impl Fn(u8) -> Result<()>) -> Result<Option<RawFd>> {
        loop {
            let message = self.receive().await?;
            match message.split_first() {
                Some((&PREPARED, rest)) => {
                    let number = rest.try_into().map(i32::from_le_bytes).unwrap_or(-1);
                    return Ok((number >= 0).then_some(number));
                }
                Some((&ASK, &[what])) => {
                    help(what)?;
                    send(self.socket.get_ref(), &[DONE], SendFlags::NOSIGNAL)
                        .map_err(|_| died("before it was prepared"))?;
                }
                Some((&FAILED, rest)) => return Err(decode_failure(rest)),
                _ => return Err(died("before it was prepared")),
            }
        }
    }

    /// Lets the child execve and waits until it has.
    pub async fn start(&self) -> Result<()> {
        send(self.socket.get_ref(), &[GO], SendFlags::NOSIGNAL).map_err(|_| died("before it was started"))?;
        let message = self.receive().await?;
        match message.split_first() {
            // The execve closed the child's end.
            None => Ok(()),
            Some((&FAILED, rest)) => Err(decode_failure(rest)),
            Some(_) => Err(died("while it was started")),
        }
    }

    async fn receive(&self) -> Result<Vec<u8>> {
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            let mut guard = self
                .socket
                .readable()
                .await
                .doing(|| "waiting for the process".into())?;
            let received = guard
                .try_io(|socket| recv(socket.as_fd(), &mut buffer[..], RecvFlags::empty()).map_err(io::Error::from));
            if let Ok(length) = received {
                let (length, _) = length.doing(|| "hearing from the process".into())?;
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    }
}

pub struct ChildEnd {
    socket: OwnedFd,
}

impl ChildEnd {
    /// Says that everything is in place and waits for the word to go.
    pub fn prepared(&self, master: Option<RawFd>) -> Result<()> {
        let mut message = vec![PREPARED];
        message.extend_from_slice(&master.unwrap_or(-1).to_le_bytes());
        self.tell(&message)?;
        self.await_answer(GO)
    }

    /// Has the agent do something and waits until it is done.
    pub fn ask(&self, what: u8) -> Result<()> {
        self.tell(&[ASK, what])?;
        self.await_answer(DONE)
    }

    /// By write and read, which any seccomp filter allows that lets the process do anything at all.
    fn tell(&self, message: &[u8]) -> Result<()> {
        rustix::io::write(&self.socket, message)
            .doing(|| "talking to the agent".into())
            .map(drop)
    }

    fn await_answer(&self, expected: u8) -> Result<()> {
        let mut answer = [0u8; 1];
        match rustix::io::read(&self.socket, &mut answer).doing(|| "hearing from the agent".into())? {
            1 if answer == [expected] => Ok(()),
            _ => Err(Failure::invalid("never started")),
        }
    }

    pub fn failed(&self, Failure { reason, message }: &Failure) {
        let mut bytes = vec![FAILED];
        bytes.extend_from_slice(&(*reason as i32).to_le_bytes());
        bytes.extend_from_slice(&message.as_bytes()[..message.len().min(MAX_MESSAGE - bytes.len())]);
        let _ = self.tell(&bytes);
    }
}

impl std::os::fd::AsRawFd for ChildEnd {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn decode_failure(bytes: &[u8]) -> Failure {
    let (reason, message) = bytes.split_at_checked(4).unwrap_or((&[], bytes));
    let reason = reason.try_into().map(i32::from_le_bytes).unwrap_or(0);
    let reason = FailureReason::try_from(reason).unwrap_or(FailureReason::Unspecified);
    Failure::new(reason, String::from_utf8_lossy(message))
}

fn died(when: &str) -> Failure {
    Failure::new(FailureReason::Unspecified, format!("the process ended {when}"))
}
