//! What init and exec have in common in the forked child: everything between its namespaces and its execve.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use rustix::fs::Mode;

use super::hooks::Hooks;
use super::plan::ProcessPlan;
use super::terminal::{Pty, bind_console, open_pty, resize};
use super::user::User;
use super::{command, credentials, paths, stdio, user};
use crate::contract::{FailureReason, Process};
use crate::failure::{Doing, Failure, Result};
use crate::sys;

/// Runs `prepare` in a forked child and never returns.
pub fn run(plan: &ProcessPlan, prepare: impl FnOnce() -> Result<std::convert::Infallible>) -> ! {
    let Err(failure) = prepare();
    plan.channel.failed(&failure);
    let missing = failure.reason == FailureReason::CommandNotFound;
    sys::exit_now(if missing { 127 } else { 126 })
}

/// First of all: of the agent's descriptors only those named, its signals undone, a session and a cgroup of its own, and
/// what only the guest's root may do.
pub fn detach_from_agent(plan: &ProcessPlan, further: &[RawFd]) -> Result<()> {
    let mut keep = vec![plan.channel.as_raw_fd(), plan.membership.as_raw_fd()];
    keep.extend_from_slice(further);
    keep.extend(plan.stdio.iter().flat_map(stdio::ChildStdio::numbers));
    sys::close_all_except(&mut keep);
    sys::reset_signals();
    rustix::process::setsid().doing(|| "starting a session".into())?;
    plan.scheduling.before_cgroup()?;
    rustix::io::write(&plan.membership, b"0").doing(|| "joining the cgroup".into())?;
    plan.scheduling.in_cgroup()?;
    // The guest's own /proc is only reachable before the root changes.
    let score = plan.process.oom_score_adj.unwrap_or(0);
    std::fs::write("/proc/self/oom_score_adj", score.to_string()).doing(|| "setting oom_score_adj".into())?;
    if let (Some(stdio), Some(ids)) = (&plan.stdio, &plan.ids) {
        let Process { uid, gid, .. } = plan.process;
        if let (Some(uid), Some(gid)) = (ids.uid(uid), ids.gid(gid)) {
            stdio.give_to(uid, gid)?;
        }
    }
    plan.scheduling.apply()?;
    if plan.ids.is_some() {
        // Root of a user namespace may not raise them.
        credentials::apply_rlimits(&plan.process.rlimits)?;
    }
    Ok(())
}

/// What only the init process of a container has.
pub struct OfInit<'a> {
    pub hooks: &'a Hooks,
    /// The open program of an init that executes the process instead.
    pub reaper: Option<BorrowedFd<'a>>,
}

/// Inside the container's root and namespaces: becomes the process and executes it when told to. A seccomp filter comes
/// as late as it can: with no_new_privs right before the execve, without it while there is the right to load one.
pub fn become_process(plan: &ProcessPlan, of_init: Option<OfInit<'_>>) -> Result<std::convert::Infallible> {
    let process = &plan.process;
    let root = rustix::fs::open(
        "/",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )
    .doing(|| "opening the root".into())?;
    let user = user::resolve(root.as_fd(), process)?;
    let pty = set_up_stdio(plan, root.as_fd(), &user, of_init.is_some())?;
    if plan.ids.is_none() {
        credentials::apply_rlimits(&process.rlimits)?;
    }
    let entered = enter_working_directory(root.as_fd(), process)?;
    plan.confinement.enter()?;
    let env = environment(&plan.env, process.terminal, &user);
    rustix::process::umask(Mode::from_raw_mode(process.umask.unwrap_or(0o022) & 0o777));
    if !process.no_new_privileges {
        plan.confinement.load_filter()?;
    }
    credentials::become_user(&user, process)?;
    if !entered {
        // Only the user itself may enter, as with a directory on a share that squashes root.
        change_directory(cwd_of(process))?;
    }
    let program = command::find_program(&plan.args[0], &env)?;
    if process.no_new_privileges {
        plan.confinement.load_filter()?;
    }
    plan.channel.prepared(pty.as_ref().map(|pty| pty.master.as_raw_fd()))?;
    if let Some(OfInit { hooks, .. }) = &of_init {
        hooks.run()?;
    }
    let Some(reaper) = of_init.and_then(|of_init| of_init.reaper) else {
        return Err(command::refused(&program, &sys::execve(&program, &plan.args, &env)));
    };
    let args = [crate::reaper::NAME, c"--"].map(CStr::to_owned);
    let args = args.iter().chain(&plan.args).cloned().collect::<Vec<_>>();
    Err(command::refused(&args[0], &sys::execve_open(reaper, &args, &env)))
}

fn set_up_stdio(plan: &ProcessPlan, root: BorrowedFd<'_>, user: &User, console: bool) -> Result<Option<Pty>> {
    if let Some(stdio) = &plan.stdio {
        // In a user namespace nobody may any more.
        if plan.ids.is_none() {
            stdio.give_to(user.uid, user.gid)?;
        }
        stdio.install()?;
        return Ok(None);
    }
    let pty = open_pty(root, user.uid)?;
    if let Some(size) = &plan.process.terminal_size {
        resize(&pty.slave, size).doing(|| "setting the terminal's size".into())?;
    }
    rustix::process::ioctl_tiocsctty(&pty.slave).doing(|| "taking the terminal".into())?;
    let slave = pty.slave.as_fd();
    stdio::install([slave, slave, slave])?;
    if console {
        bind_console(root, slave)?;
    }
    Ok(Some(pty))
}

/// As root. False when only the user itself may enter.
fn enter_working_directory(root: BorrowedFd<'_>, process: &Process) -> Result<bool> {
    let cwd = cwd_of(process);
    if process.create_cwd {
        paths::make_directory(root, Path::new(cwd), Mode::from_raw_mode(0o755)).map_err(|error| bad_cwd(cwd, error))?;
    }
    match rustix::process::chdir(cwd) {
        Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Ok(false),
        Err(error) => Err(bad_cwd(cwd, error)),
        Ok(()) => check_inside(cwd).map(|()| true),
    }
}

fn change_directory(cwd: &str) -> Result<()> {
    rustix::process::chdir(cwd).map_err(|error| bad_cwd(cwd, error))?;
    check_inside(cwd)
}

/// A working directory outside of the root, reached through a leaked descriptor, has no path that starts with "/".
fn check_inside(cwd: &str) -> Result<()> {
    let path = rustix::process::getcwd(Vec::new()).map_err(|error| bad_cwd(cwd, error))?;
    if path.to_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(bad_cwd(cwd, rustix::io::Errno::NOENT))
    }
}

fn cwd_of(process: &Process) -> &str {
    if process.cwd.is_empty() { "/" } else { &process.cwd }
}

fn bad_cwd(cwd: &str, error: rustix::io::Errno) -> Failure {
    let text = crate::failure::describe(&error.into());
    Failure::new(
        FailureReason::BadWorkingDirectory,
        format!("chdir to cwd (\"{cwd}\") set in config.json failed: {text}"),
    )
}

fn environment(given: &[CString], terminal: bool, user: &User) -> Vec<CString> {
    let has = |name: &[u8]| given.iter().any(|entry| entry.as_bytes().starts_with(name));
    let home = (!has(b"HOME="))
        .then(|| CString::new(format!("HOME={}", user.home)).ok())
        .flatten();
    let term = (terminal && !has(b"TERM=")).then(|| c"TERM=xterm".to_owned());
    given.iter().cloned().chain(home).chain(term).collect()
}
