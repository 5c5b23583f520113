//! PID 1 of the microVM: "runc in the guest", served over one byte stream to one host.

pub mod agent;
mod boot;
mod cgroup;
mod cmdline;
pub mod connection;
mod container;
mod deferred;
mod device_filter;
mod disks;
mod failure;
#[cfg(test)]
mod fuzz;
pub mod link;
mod names;
mod network;
mod personalize;
mod process;
mod processes;
pub mod reaper;
mod seccomp;
pub mod server;
mod sys;
mod vsock;
mod watch;

/// The contract, generated from `proto/` by `make proto`.
#[allow(clippy::all, clippy::undocumented_unsafe_blocks)]
pub mod contract {
    include!("generated/hrun.agent.v1.rs");
}
