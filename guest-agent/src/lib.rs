//! PID 1 of the microVM: "runc in the guest", served over one byte stream to one host.

/// The contract, generated from `proto/` by `make proto`.
#[allow(clippy::all, clippy::undocumented_unsafe_blocks)]
pub mod contract {
    include!("generated/hrun.agent.v1.rs");
}
