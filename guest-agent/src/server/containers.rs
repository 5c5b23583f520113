//! Containers and their processes.

use std::collections::HashMap;
use std::sync::Arc;

use rustix::process::Signal;

use super::{Agent, check_id, no_such_container};
use crate::container::{self, INIT};
use crate::contract::{
    ContainerInfo, CreateContainerRequest, ExecRequest, FailureReason, PrepareRootRequest, ProcessInfo, Resources,
    SignalRequest,
};
use crate::failure::{Failure, Result};
use crate::processes;

impl Agent {
    pub(super) async fn create(self: Arc<Self>, request: CreateContainerRequest) -> Result<u32> {
        self.require_personalized().await?;
        let id = request.container_id.clone();
        check_id(&id)?;
        {
            let mut containers = self.lock();
            if containers.contains_key(&id) {
                return Err(Failure::new(
                    FailureReason::AlreadyExists,
                    format!("container {id} exists already"),
                ));
            }
            containers.insert(id.clone(), None);
        }
        let made = container::create(&self.forker, &self.deferred, &self.ready_root, request, |id| {
            self.container(id)
        })
        .await;
        let mut containers = self.lock();
        match made {
            Ok(container) => {
                let pid = guest_pid(&container.init);
                containers.insert(id, Some(Arc::new(container)));
                Ok(pid)
            }
            Err(failure) => {
                containers.remove(&id);
                Err(failure)
            }
        }
    }

    pub(super) async fn prepare_root(self: Arc<Self>, request: PrepareRootRequest) -> Result<()> {
        self.require_personalized().await?;
        let disks = request.disks.unwrap_or_default();
        self.ready_root.prepare(disks, request.process.as_ref()).await?;
        // whoever gets this guest makes it another one first
        self.personalized.send_replace(false);
        Ok(())
    }

    pub(super) async fn start(self: Arc<Self>, id: String) -> Result<()> {
        self.container(&id)?.start().await
    }

    pub(super) fn update(&self, id: &str, resources: &Resources) -> Result<()> {
        self.container(id)?.update(resources)
    }

    pub(super) async fn pause(self: Arc<Self>, id: String) -> Result<()> {
        self.container(&id)?.pause().await
    }

    pub(super) fn resume(&self, id: &str) -> Result<()> {
        self.container(id)?.resume()
    }

    pub(super) fn stats(&self, id: &str) -> Result<HashMap<String, String>> {
        Ok(self.container(id)?.cgroup.stats())
    }

    pub(super) async fn delete(self: Arc<Self>, id: String) -> Result<()> {
        let container = {
            let mut containers = self.lock();
            let entry = containers.get_mut(&id).ok_or_else(|| no_such_container(&id))?;
            entry.take().ok_or_else(|| {
                Failure::new(
                    FailureReason::WrongState,
                    format!("container {id} is being made or deleted"),
                )
            })?
        };
        let deleted = container.delete().await;
        let mut containers = self.lock();
        match deleted {
            Ok(()) => containers.remove(&id),
            Err(_) => containers.insert(id, Some(container)),
        };
        deleted
    }

    pub(super) async fn exec(self: Arc<Self>, request: ExecRequest) -> Result<u32> {
        let container = self.container(&request.container_id)?;
        check_id(&request.process_id)?;
        let process = request
            .process
            .ok_or_else(|| Failure::invalid("an exec needs a process"))?;
        let ignore_paused = request.ignore_paused;
        let process = container::exec(&self.forker, &container, &request.process_id, process, ignore_paused).await?;
        Ok(guest_pid(&process))
    }

    pub(super) fn signal(&self, request: &SignalRequest) -> Result<()> {
        let container = self.container(&request.container_id)?;
        let signal = i32::try_from(request.signal).ok().and_then(signal_of);
        let signal = signal.ok_or_else(|| Failure::invalid(format!("no signal has the number {}", request.signal)))?;
        if request.all {
            return container.signal_all(signal);
        }
        let process = if request.process_id.is_empty() {
            INIT
        } else {
            &request.process_id
        };
        container.signal(process, signal)
    }

    pub(super) fn list_processes(&self, id: &str) -> Result<Vec<ProcessInfo>> {
        processes::list(&*self.container(id)?)
    }

    pub(super) fn list_containers(&self) -> Vec<ContainerInfo> {
        let containers = self.lock();
        let info = containers.values().flatten().map(|container| ContainerInfo {
            container_id: container.id.clone(),
            status: container.status().name().to_owned(),
            process_ids: container.process_ids(),
            paused: container.is_paused(),
        });
        info.collect()
    }
}

fn guest_pid(process: &crate::process::Process) -> u32 {
    process.pid.as_raw_nonzero().get() as u32
}

/// Real-time signals included, which have no names.
fn signal_of(number: i32) -> Option<Signal> {
    let valid = (1..=64).contains(&number);
    // SAFETY: the kernel knows every number up to 64; those the C library keeps for itself are only sent, never handled.
    valid.then(|| unsafe { Signal::from_raw_unchecked(number) })
}
