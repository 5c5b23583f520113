//! The tiny init of a container that was created with `--init`: pid 1, which passes signals on to the workload, reaps
//! what is left to it, and exits as the workload does. It is this program, executed anew: a fork of the agent would keep
//! the agent's memory within reach of the container.

use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStringExt;

use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::container::{find_program, refused};
use crate::contract::FailureReason;
use crate::failure::Failure;
use crate::sys::{self, Fork};

/// By its first argument the program knows its role; the name is the one that Docker's init has.
pub const NAME: &CStr = c"/sbin/docker-init";

/// Whether the program was executed as a container's init.
pub fn is_asked_for() -> bool {
    std::env::args_os()
        .next()
        .is_some_and(|name| name.into_vec() == NAME.to_bytes())
}

/// Starts the command that follows `--` and exits with its code, 128 + the signal that killed it, or 127 and 126 as a
/// shell does when there is none or it cannot be executed.
pub fn main() -> ! {
    let args = strings(std::env::args_os().skip(2));
    let env = strings(std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    }));
    let _ = rustix::thread::set_name(c"docker-init");
    // From here on no signal is lost: what comes before the workload runs waits.
    sys::block_signals();
    match sys::fork() {
        Ok(Fork::Child) => become_workload(&args, &env),
        Ok(Fork::Parent(workload)) => sys::exit_now(watch(workload)),
        Err(error) => give_up(&format!("cannot fork: {error}"), 1),
    }
}

fn strings(all: impl Iterator<Item = OsString>) -> Vec<CString> {
    // They came through an execve: no null byte is in them.
    all.filter_map(|string| CString::new(string.into_vec()).ok()).collect()
}

fn become_workload(args: &[CString], env: &[CString]) -> ! {
    // The terminal's signals are for the workload's group. Without a terminal there is nothing to take.
    let _ = rustix::process::setpgid(None, None);
    let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid());
    sys::reset_signals();
    let Some(name) = args.first() else {
        give_up("no command specified", 127)
    };
    match find_program(name, env) {
        Ok(program) => {
            let error = sys::execve(&program, args, env);
            give_up_on(&refused(&program, &error))
        }
        Err(failure) => give_up_on(&failure),
    }
}

fn give_up_on(failure: &Failure) -> ! {
    let missing = failure.reason == FailureReason::CommandNotFound;
    give_up(&failure.message, if missing { 127 } else { 126 })
}

fn give_up(message: &str, code: i32) -> ! {
    let _ = rustix::io::write(rustix::stdio::stderr(), format!("init: {message}\n").as_bytes());
    sys::exit_now(code)
}

/// Serves the workload until it has ended; answers the code to exit with.
fn watch(workload: Pid) -> i32 {
    loop {
        match sys::wait_for_signal() {
            libc::SIGCHLD => {
                if let Some(code) = reap(workload) {
                    return code;
                }
            }
            // It may have ended meanwhile.
            signal => drop(sys::kill(workload, signal)),
        }
    }
}

/// Reaps all that has ended; the code of the workload if it is among them.
fn reap(workload: Pid) -> Option<i32> {
    let mut code = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == workload {
            code = Some(code_of(status));
        }
    }
    code
}

fn code_of(status: WaitStatus) -> i32 {
    status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
        .unwrap_or(1)
}
