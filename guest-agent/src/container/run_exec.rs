//! A further process of a running container, from the agent's side.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::create::{Spawned, reap_unprepared, spawn};
use super::fork::PidNamespace;
use super::{Container, Forker, Status, exec as child, lock, unsupported};
use crate::contract::{FailureReason, Process as ProcessRequest};
use crate::failure::{Failure, Result};
use crate::process::Process;

/// Prepares and starts the process. Leaves nothing when it fails.
pub async fn exec(
    forker: &Forker,
    container: &Arc<Container>,
    process_id: &str,
    request: ProcessRequest,
) -> Result<Arc<Process>> {
    unsupported::check_process(&request)?;
    if container.status() != Status::Running {
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
    let Spawned { forked, io, channel } = spawn(request, &container.cgroup, |plan| {
        forker.fork(PidNamespace::Of(init.as_fd()), || child::run(plan, init))
    })
    .await?;
    if let Err(failure) = channel.start().await {
        reap_unprepared(&forked.pidfd).await;
        return Err(failure);
    }
    Process::adopt(forked.pid, forked.pidfd, io, &container.cgroup)
}
