//! A further process of a running container, in the forked child.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::thread::ThreadNameSpaceType;

use super::child;
use super::plan::ProcessPlan;
use crate::failure::Doing;

/// Runs inside the container's pid namespace; joins the others through `init`, a pidfd of its init process.
pub fn run(plan: &ProcessPlan, init: &OwnedFd) -> ! {
    child::run(plan, || {
        child::detach_from_agent(plan, &[init.as_raw_fd()])?;
        let spaces = ThreadNameSpaceType::MOUNT
            | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
            | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
            | ThreadNameSpaceType::CONTROL_GROUP;
        rustix::thread::move_into_thread_name_spaces(init.as_fd(), spaces).doing(|| "entering the container".into())?;
        child::become_process(plan, false, None)
    })
}
