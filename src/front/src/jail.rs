//! The launcher: the last steps before QEMU, taken by the process that becomes QEMU, so that nothing stays beside it. The
//! daemon says what is wanted in one JSON argument (`plan`); what follows it is executed. What was done is told over a
//! pipe, line by line, which closes with the execve (docs/security.md, "The launcher").

mod limits;
mod namespaces;
mod plan;
mod root;

use std::convert::Infallible;
use std::env;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStringExt;
use std::process;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{execve, setsid};

use crate::failure::FAILED;
use crate::identity::{self, Done};
use crate::sys;
use plan::Plan;

pub fn main() -> ! {
    let mut arguments = env::args_os().skip(1);
    let Some(plan) = arguments.next().and_then(|text| Plan::parse(&text.into_vec())) else {
        process::exit(FAILED)
    };
    let number = 3 + plan.descriptors;
    // SAFETY: the daemon opened this descriptor for this process, and nothing else here knows of it.
    let pipe = unsafe { File::from_raw_fd(number) };
    if fcntl(&pipe, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_err() {
        process::exit(FAILED)
    }
    let kept: Vec<_> = (3..=number).collect();
    sys::close_all_but(&kept);
    let report = Report { pipe, plan: &plan };
    report.take("cgroup", limits::join_cgroups(&plan.cgroups));
    for (step, done) in namespaces::enter(&plan) {
        report.take(step, done);
    }
    // The child of whoever started this: with a pid namespace of its own it has to be another process, but no third one.
    match sys::fork_with(CloneFlags::CLONE_PARENT) {
        Ok(Some(pid)) => {
            report.say(&format!("pid {pid}"));
            process::exit(0)
        }
        Ok(None) => {
            let Err(error) = become_program(&plan, &report, arguments.collect());
            report.say(&format!("failed execute {}: {error}", plan.program));
        }
        Err(error) => report.say(&format!("failed namespaces cannot fork: {error}")),
    }
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(FAILED) }
}

fn become_program(plan: &Plan, report: &Report, arguments: Vec<OsString>) -> Result<Infallible, Errno> {
    setsid()?;
    sys::default_signals();
    umask(Mode::from_bits_truncate(0o077));
    identity::leave_keyring();
    report.take("limits", limits::set(plan));
    let argv: Vec<CString> = [OsString::from(&plan.program)]
        .into_iter()
        .chain(arguments)
        .map(c_string)
        .collect::<Result<_, _>>()?;
    let environment: Vec<CString> = env::vars_os()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            c_string(name)
        })
        .collect::<Result<_, _>>()?;
    if let Some(tree) = &plan.tree {
        report.take("root", root::enter(tree, plan));
    }
    report.take("capabilities", identity::forbid_capabilities());
    if let Some(uid) = plan.uid {
        report.take("uid", identity::become_user(uid));
    }
    report.take("capabilities", identity::drop_capabilities());
    report.take("no-new-privileges", identity::no_new_privileges());
    if plan.uid.is_some() && identity::is_shared() {
        report.say("busy");
        // SAFETY: _exit has no precondition.
        unsafe { libc::_exit(FAILED) }
    }
    report.take("limits", limits::allow_processes());
    execve(&argv[0], &argv, &environment)
}

fn c_string(text: OsString) -> Result<CString, Errno> {
    CString::new(text.into_vec()).map_err(|_| Errno::EINVAL)
}

struct Report<'a> {
    pipe: File,
    plan: &'a Plan,
}

impl Report<'_> {
    /// Goes on after a step that failed only where that was allowed, and says so.
    fn take(&self, step: &str, done: Done) {
        let Err(why) = done else { return };
        let allowed = self.plan.weaker.iter().any(|name| name == step);
        self.say(&format!("{} {step} {why}", if allowed { "weaker" } else { "failed" }));
        if !allowed {
            // SAFETY: _exit has no precondition.
            unsafe { libc::_exit(FAILED) }
        }
    }

    fn say(&self, line: &str) {
        debug_assert!(self.pipe.as_raw_fd() > 2);
        // Whoever does not listen any more does not care.
        let _ = (&self.pipe).write_all(format!("{}\n", line.replace('\n', " ")).as_bytes());
    }
}
