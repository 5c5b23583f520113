//! Containers: what is mounted, which processes there are, what state they are in.

mod channel;
mod child;
mod command;
mod confinement;
mod copy_tree;
mod create;
mod credentials;
mod devices;
mod disk_mounts;
mod exec;
mod fork;
pub(crate) mod hooks;
pub(crate) mod id_maps;
mod init;
mod kernel_fs;
pub(crate) mod mount_options;
mod mounts;
mod namespaces;
mod paths;
pub(crate) mod plan;
mod protected;
mod ready_root;
mod rootfs;
mod run_exec;
pub(crate) mod scheduling;
mod sources;
mod spawn;
pub mod stdio;
pub mod terminal;
pub mod user;
mod volume;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use rustix::thread::ThreadNameSpaceType;

use crate::cgroup::Cgroup;
use crate::contract::{FailureReason, Resources};
use crate::device_filter::LoadedFilter;
use crate::failure::{Doing, Failure, Result};
use crate::process::Process;
use channel::AgentEnd;
use confinement::Confinement;
use id_maps::IdMaps;
use rootfs::RootPaths;

pub use command::{find_program, refused};
pub use create::create;
pub use fork::Forker;
pub use ready_root::ReadyRoot;
pub use rootfs::{mount_device, sync_file_system};
pub use run_exec::exec;

/// The name of the process that a container is created with.
pub const INIT: &str = "init";

pub struct Container {
    pub id: String,
    pub init: Arc<Process>,
    pub cgroup: Arc<Cgroup>,
    paths: RootPaths,
    /// Taken by the start.
    channel: Mutex<Option<AgentEnd>>,
    confinement: Arc<Confinement>,
    /// The namespaces that are not the guest's.
    spaces: ThreadNameSpaceType,
    ids: Option<Arc<IdMaps>>,
    paused: AtomicBool,
    /// Those not yet released; `None` while one is being made.
    processes: Mutex<BTreeMap<String, Option<Arc<Process>>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Created,
    Running,
    Stopped,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

impl Container {
    pub fn status(&self) -> Status {
        if self.init.has_exited() {
            Status::Stopped
        } else if lock(&self.channel).is_some() {
            Status::Created
        } else {
            Status::Running
        }
    }

    pub async fn start(&self) -> Result<()> {
        let channel = lock(&self.channel).take();
        match channel {
            Some(channel) => channel.start().await,
            None => Err(self.wrong_state("started")),
        }
    }

    /// Changes limits; what the request does not name stays.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        if self.status() == Status::Stopped {
            return Err(self.not_running());
        }
        let filter = resources
            .device_rules
            .as_ref()
            .map(LoadedFilter::load_rules)
            .transpose()?;
        self.cgroup.apply(resources)?;
        filter.map_or(Ok(()), |filter| self.cgroup.filter_devices(&filter))
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    pub async fn pause(&self) -> Result<()> {
        if self.status() == Status::Stopped {
            return Err(self.not_running());
        }
        self.cgroup.freeze().await?;
        self.paused.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub fn resume(&self) -> Result<()> {
        if !self.is_paused() {
            return Err(Failure::new(FailureReason::WrongState, "container not paused"));
        }
        self.cgroup.thaw()?;
        self.paused.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn not_running(&self) -> Failure {
        Failure::new(FailureReason::WrongState, "container not running")
    }

    pub fn process(&self, id: &str) -> Result<Arc<Process>> {
        let found = lock(&self.processes).get(id).cloned().flatten();
        found.ok_or_else(|| no_such_process(&self.id, id))
    }

    pub fn process_ids(&self) -> Vec<String> {
        let processes = lock(&self.processes);
        processes
            .iter()
            .filter(|(_, process)| process.is_some())
            .map(|(id, _)| id.clone())
            .collect()
    }

    pub fn release(&self, id: &str) -> Result<()> {
        if !self.process(id)?.has_exited() {
            let message = format!("process {id} of container {} still runs", self.id);
            return Err(Failure::new(FailureReason::WrongState, message));
        }
        lock(&self.processes).remove(id);
        Ok(())
    }

    pub fn signal(&self, process_id: &str, signal: Signal) -> Result<()> {
        let process = self.process(process_id)?;
        let gone = || {
            let message = format!("process {process_id} of container {} has exited", self.id);
            Failure::new(FailureReason::WrongState, message)
        };
        if process.has_exited() {
            return Err(gone());
        }
        match rustix::process::pidfd_send_signal(process.pidfd(), signal) {
            Err(rustix::io::Errno::SRCH) => Err(gone()),
            sent => sent.doing(|| format!("signalling {process_id}")),
        }
    }

    pub fn signal_all(&self, signal: Signal) -> Result<()> {
        if signal == Signal::KILL {
            return self.cgroup.kill();
        }
        for pid in self.cgroup.processes().doing(|| "listing the processes".into())? {
            match rustix::process::kill_process(pid, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error).doing(|| format!("signalling {}", pid.as_raw_nonzero())),
            }
        }
        Ok(())
    }

    /// The root as the container itself sees it, its mounts included, for as long as it lives.
    pub fn root_view(&self) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let doing = || format!("opening the root of container {}", self.id);
        // The pid stays the init process's own until we have reaped it.
        if !self.init.has_exited() {
            let path = format!("/proc/{}/root", self.init.pid.as_raw_nonzero());
            match rustix::fs::open(path, flags, Mode::empty()) {
                // A zombie has no root any more.
                Err(rustix::io::Errno::NOENT) => {}
                opened => return opened.doing(doing),
            }
        }
        rustix::fs::open(&self.paths.root, flags, Mode::empty()).doing(doing)
    }

    /// Kills what is left, then unmounts and syncs.
    pub async fn delete(self: &Arc<Self>) -> Result<()> {
        self.cgroup.kill()?;
        self.init.exited().await;
        let processes = lock(&self.processes).values().flatten().cloned().collect::<Vec<_>>();
        for process in processes {
            process.exited().await;
        }
        let container = Arc::clone(self);
        blocking(move || container.paths.unmount()).await?;
        self.remove_cgroup().await
    }

    /// The last processes leave their cgroup a moment after they were reaped.
    async fn remove_cgroup(&self) -> Result<()> {
        let mut pause = Duration::from_millis(1);
        loop {
            match self.cgroup.remove() {
                Err(failure) if pause > Duration::from_secs(1) => return Err(failure),
                Err(_) => tokio::time::sleep(pause).await,
                Ok(()) => return Ok(()),
            }
            pause *= 2;
        }
    }

    fn wrong_state(&self, wanted: &str) -> Failure {
        let message = format!(
            "container {} is {}: it cannot be {wanted}",
            self.id,
            self.status().name()
        );
        Failure::new(FailureReason::WrongState, message)
    }
}

fn no_such_process(container: &str, process: &str) -> Failure {
    Failure::new(
        FailureReason::NoSuchProcess,
        format!("container {container} has no process {process}"),
    )
}

/// Runs what may block for long on a thread of its own.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Failure::new(FailureReason::Unspecified, "the agent is shutting down")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
