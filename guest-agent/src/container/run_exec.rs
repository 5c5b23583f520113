//! A further process of a running container, from the agent's side.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::fork::PidNamespace;
use super::plan::ProcessPlan;
use super::spawn::{Spawned, Surroundings, reap_unprepared, spawn};
use super::{Container, Forker, Status, exec as child, lock};
use crate::contract::{FailureReason, Process as ProcessRequest};
use crate::failure::{Failure, Result};
use crate::process::Process;

/// Prepares and starts the process. Leaves nothing when it fails.
pub async fn exec(
    forker: &Forker,
    container: &Arc<Container>,
    process_id: &str,
    request: ProcessRequest,
    ignore_paused: bool,
) -> Result<Arc<Process>> {
    if container.is_paused() && !ignore_paused {
        let message = "cannot exec in a paused container (use --ignore-paused to override)";
        return Err(Failure::new(FailureReason::WrongState, message));
    }
    // As runc, also in one that was only created: its namespaces are there.
    if !matches!(container.status(), Status::Created | Status::Running) {
        return Err(container.wrong_state("executed in"));
    }
    {
        let mut processes = lock(&container.processes);
        if processes.contains_key(process_id) {
            let message = format!("container {} already has a process {process_id}", container.id);
            return Err(Failure::new(FailureReason::AlreadyExists, message));
        }
        processes.insert(process_id.to_owned(), None);
    }
    let made = make(forker, container, request).await;
    let mut processes = lock(&container.processes);
    match &made {
        Ok(process) => processes.insert(process_id.to_owned(), Some(Arc::clone(process))),
        Err(_) => processes.remove(process_id),
    };
    made
}

async fn make(forker: &Forker, container: &Container, request: ProcessRequest) -> Result<Arc<Process>> {
    let init = container.init.pidfd();
    let surroundings = Surroundings {
        cgroup: &container.cgroup,
        confinement: &container.confinement,
        ids: container.ids.as_ref(),
    };
    let own = container.spaces;
    let fork = |plan: &ProcessPlan| forker.fork(PidNamespace::Of(init.as_fd()), || child::run(plan, init, own));
    let nothing_to_ask = |_: u8, _| Err(Failure::invalid("an exec asks for nothing"));
    let Spawned { forked, io, channel } = spawn(request, surroundings, fork, nothing_to_ask).await?;
    if let Err(failure) = channel.start().await {
        reap_unprepared(&forked.pidfd).await;
        return Err(failure);
    }
    Process::adopt(forked.pid, forked.pidfd, io, &container.cgroup)
}
