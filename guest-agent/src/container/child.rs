//! What init and exec have in common in the forked child: everything between its namespaces and its execve.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use rustix::fs::Mode;

use super::plan::ProcessPlan;
use super::terminal::{Pty, bind_console, open_pty, resize};
use super::user::User;
use super::{command, credentials, paths, stdio, user};
use crate::contract::FailureReason;
use crate::failure::{Doing, Failure, Result};
use crate::sys;

/// Runs `prepare` in a forked child and never returns.
pub fn run(plan: &ProcessPlan, prepare: impl FnOnce() -> Result<std::convert::Infallible>) -> ! {
    let Err(failure) = prepare();
    plan.channel.failed(&failure);
    let missing = failure.reason == FailureReason::CommandNotFound;
    sys::exit_now(if missing { 127 } else { 126 })
}

/// First of all: of the agent's descriptors only those named, its signals undone, a session and a cgroup of its own.
pub fn detach_from_agent(plan: &ProcessPlan, further: &[RawFd]) -> Result<()> {
    let mut keep = vec![plan.channel.as_raw_fd(), plan.membership.as_raw_fd()];
    keep.extend_from_slice(further);
    keep.extend(plan.stdio.iter().flat_map(stdio::ChildStdio::numbers));
    sys::close_all_except(&mut keep);
    sys::reset_signals();
    rustix::process::setsid().doing(|| "starting a session".into())?;
    rustix::io::write(&plan.membership, b"0").doing(|| "joining the cgroup".into())?;
    // The guest's own /proc is only reachable before the root changes.
    let score = plan.process.oom_score_adj.unwrap_or(0);
    std::fs::write("/proc/self/oom_score_adj", score.to_string()).doing(|| "setting oom_score_adj".into())
}

/// Inside the container's root and namespaces: becomes the process and executes it when told to; with `reaper`, the open
/// program of an init, that init executes it.
pub fn become_process(
    plan: &ProcessPlan,
    console: bool,
    reaper: Option<BorrowedFd<'_>>,
) -> Result<std::convert::Infallible> {
    let process = &plan.process;
    let root = rustix::fs::open(
        "/",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )
    .doing(|| "opening the root".into())?;
    let user = user::resolve(root.as_fd(), process)?;
    let pty = set_up_stdio(plan, root.as_fd(), &user, console)?;
    credentials::apply_rlimits(&process.rlimits)?;
    let entered = enter_working_directory(root.as_fd(), process)?;
    credentials::become_user(&user, process)?;
    if !entered {
        // Only the user itself may enter, as with a directory on a share that squashes root.
        change_directory(cwd_of(process))?;
    }
    rustix::process::umask(Mode::from_raw_mode(process.umask.unwrap_or(0o022) & 0o777));
    let env = environment(&plan.env, process.terminal, &user);
    let program = command::find_program(&plan.args[0], &env)?;
    plan.channel.prepared(pty.as_ref().map(|pty| pty.master.as_raw_fd()))?;
    let Some(reaper) = reaper else {
        return Err(command::refused(&program, &sys::execve(&program, &plan.args, &env)));
    };
    let args = [crate::reaper::NAME, c"--"].map(CStr::to_owned);
    let args = args.iter().chain(&plan.args).cloned().collect::<Vec<_>>();
    Err(command::refused(&args[0], &sys::execve_open(reaper, &args, &env)))
}

fn set_up_stdio(plan: &ProcessPlan, root: BorrowedFd<'_>, user: &User, console: bool) -> Result<Option<Pty>> {
    if let Some(stdio) = &plan.stdio {
        stdio.give_to(user.uid, user.gid)?;
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
fn enter_working_directory(root: BorrowedFd<'_>, process: &crate::contract::Process) -> Result<bool> {
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

fn cwd_of(process: &crate::contract::Process) -> &str {
    if process.cwd.is_empty() { "/" } else { &process.cwd }
}

fn bad_cwd(cwd: &str, error: rustix::io::Errno) -> Failure {
    let text = crate::failure::describe(&error.into());
    Failure::new(
        FailureReason::BadWorkingDirectory,
        format!("cannot use the working directory {cwd}: {text}"),
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
