//! A request for a process, checked and turned into what the child needs after the fork.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::channel::ChildEnd;
use super::confinement::Confinement;
use super::id_maps::IdMaps;
use super::scheduling::Scheduling;
use super::stdio::ChildStdio;
use crate::contract::Process;
use crate::failure::{Failure, Result};

/// The kernel's own limit is a quarter of the stack limit; nothing sensible comes near.
const MAX_STRINGS: usize = 16384;
const MAX_STRING_BYTES: usize = 2 << 20;

pub struct ProcessPlan {
    pub process: Process,
    pub args: Vec<CString>,
    pub env: Vec<CString>,
    pub channel: ChildEnd,
    /// `None` with a terminal.
    pub stdio: Option<ChildStdio>,
    /// cgroup.procs of the container, open for writing.
    pub membership: OwnedFd,
    pub scheduling: Scheduling,
    pub confinement: Arc<Confinement>,
    /// Of the container's user namespace.
    pub ids: Option<Arc<IdMaps>>,
}

/// The strings of `process` as execve wants them.
pub fn strings(process: &Process) -> Result<(Vec<CString>, Vec<CString>)> {
    if process.args.is_empty() {
        return Err(Failure::invalid("no command specified"));
    }
    let bytes: usize = process.args.iter().chain(&process.env).map(String::len).sum();
    if process.args.len() + process.env.len() > MAX_STRINGS || bytes > MAX_STRING_BYTES {
        return Err(Failure::invalid("arguments and environment are too long"));
    }
    if !process.cwd.is_empty() && !process.cwd.starts_with('/') {
        return Err(Failure::invalid(format!(
            "the working directory {:?} is not absolute",
            process.cwd
        )));
    }
    let convert = |strings: &[String]| {
        let converted = strings
            .iter()
            .map(|string| CString::new(string.as_str()))
            .collect::<Result<Vec<_>, _>>();
        converted.map_err(|_| Failure::invalid("a null byte in an argument or in the environment"))
    };
    Ok((convert(&process.args)?, convert(&process.env)?))
}
