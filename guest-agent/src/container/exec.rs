//! A further process of a running container, in the forked child.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::thread::ThreadNameSpaceType;

use super::child;
use super::namespaces::become_root;
use super::plan::ProcessPlan;
use crate::failure::Doing;

/// Runs inside the container's pid namespace; joins the others through `init`, a pidfd of its init process.
pub fn run(plan: &ProcessPlan, init: &OwnedFd, own: ThreadNameSpaceType) -> ! {
    child::run(plan, || {
        child::detach_from_agent(plan, &[init.as_raw_fd()])?;
        let spaces = own.difference(ThreadNameSpaceType::PROCESS_ID);
        rustix::thread::move_into_thread_name_spaces(init.as_fd(), spaces).doing(|| "entering the container".into())?;
        if own.contains(ThreadNameSpaceType::USER) {
            become_root()?;
        }
        child::become_process(plan, None)
    })
}
