//! A new process of a container, up to the point where it waits for the word to execve.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;

use super::channel::AgentEnd;
use super::confinement::Confinement;
use super::fork::Forked;
use super::id_maps::IdMaps;
use super::plan::ProcessPlan;
use super::scheduling::Scheduling;
use super::{channel, credentials, plan, stdio};
use crate::cgroup::Cgroup;
use crate::contract::Process as ProcessRequest;
use crate::failure::{Doing, Failure, Result};
use crate::process::{ProcessIo, Terminal};
use crate::sys;
use crate::watch::watch;

/// A prepared child that waits for the word to execve.
pub struct Spawned {
    pub forked: Forked,
    pub io: ProcessIo,
    pub channel: AgentEnd,
}

/// What a process finds in its container.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    pub cgroup: &'a Cgroup,
    pub confinement: &'a Arc<Confinement>,
    pub ids: Option<&'a Arc<IdMaps>>,
}

/// Makes the streams, forks, and waits until the child is prepared. A child that fails is reaped. `help` does what the
/// child, whose pid it is given, asks for.
pub async fn spawn(
    process: ProcessRequest,
    surroundings: Surroundings<'_>,
    fork: impl FnOnce(&ProcessPlan) -> Result<Forked>,
    help: impl Fn(u8, Pid) -> Result<()>,
) -> Result<Spawned> {
    let scheduling = Scheduling::plan(&process)?;
    credentials::make_room_for(&process.rlimits)?;
    let (args, env) = plan::strings(&process)?;
    let (agent_end, child_end) = channel::channel()?;
    let takes_input = process.stdin_open;
    let (agent_stdio, child_stdio) = if process.terminal {
        (None, None)
    } else {
        Some(stdio::pipes(takes_input)?).unzip()
    };
    let forked = {
        let plan = ProcessPlan {
            process,
            args,
            env,
            channel: child_end,
            stdio: child_stdio,
            membership: surroundings.cgroup.membership()?,
            scheduling,
            confinement: Arc::clone(surroundings.confinement),
            ids: surroundings.ids.cloned(),
        };
        // The child's ends are closed here when the plan goes.
        fork(&plan)?
    };
    let prepared = match agent_end.prepared(|what| help(what, forked.pid)).await {
        Ok(master) => io_of(&forked, agent_stdio, master, takes_input),
        Err(failure) => Err(failure),
    };
    match prepared {
        Ok(io) => Ok(Spawned {
            forked,
            io,
            channel: agent_end,
        }),
        Err(failure) => {
            reap_unprepared(&forked.pidfd).await;
            Err(failure)
        }
    }
}

fn io_of(
    forked: &Forked,
    stdio: Option<stdio::AgentStdio>,
    master: Option<i32>,
    takes_input: bool,
) -> Result<ProcessIo> {
    if let Some(stdio) = stdio {
        return Ok(ProcessIo::Pipes(stdio));
    }
    let doing = || "taking over the terminal".to_owned();
    let number = master.ok_or_else(|| Failure::invalid("the process has no terminal"))?;
    let master = stdio::non_blocking(sys::steal_fd(&forked.pidfd, number).doing(doing)?)?;
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).doing(doing)?;
    Ok(ProcessIo::Terminal(Terminal {
        master,
        slave,
        takes_input,
    }))
}

/// Kills and reaps a child that nobody will hear of.
pub async fn reap_unprepared(pidfd: &OwnedFd) {
    let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
    let Ok(watched) = pidfd.try_clone().and_then(|copy| watch(copy, Interest::READABLE)) else {
        return;
    };
    let _ = watched.readable().await;
    let _ = rustix::process::waitid(
        WaitId::PidFd(pidfd.as_fd()),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
    );
}
