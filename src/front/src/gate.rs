//! The gate: one process between a guest's network device and passt, which speaks for the guest to the host's network
//! without any rights (docs/network.md, "Without root"). It starts passt, tells on stdout once that is ready, and then
//! passes frames on, of the guest's only those that its policy lets through. QEMU holds the other end of its first
//! connection: when QEMU ends, so does the gate, and with the gate passt.

mod acknowledge;
mod dns;
mod frames;
mod names;
mod pace;
mod packet;
mod plan;
mod policy;
mod reply;

use std::env;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::failure::{Doing, FAILED, Failure};
use crate::{identity, sys};
use acknowledge::acknowledgement;
use frames::{Sink, pass_on};
use pace::Pace;
use plan::Plan;
use policy::Policy;

/// Where the daemon puts the connection to QEMU.
const GUEST: i32 = 3;
/// passt ends by itself when its connection does.
const PASST_ENDS_WITHIN: Duration = Duration::from_secs(2);

pub fn main() -> ! {
    let code = match run() {
        Ok(()) => 0,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{failure}");
            FAILED
        }
    };
    process::exit(code)
}

fn run() -> Result<(), Failure> {
    let text = env::args_os().nth(1).unwrap_or_default().into_vec();
    let plan = Plan::parse(&text).ok_or_else(|| Failure::own("the gate was started without a plan"))?;
    sys::close_all_but(&[GUEST]);
    // SAFETY: the daemon opened this descriptor for this process, and nothing else here knows of it.
    let guest = unsafe { UnixStream::from_raw_fd(GUEST) };
    fcntl(&guest, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).doing(|| "the guest's end".into())?;
    set_child_subreaper(true).doing(|| "waiting for passt".into())?;
    let host = start_passt(&plan)?;
    become_nobody(&plan)?;
    sys::write_fully(sys::stdio(1), b"ready\n").doing(|| "telling the daemon".into())?;
    relay(guest, host, plan.policy, plan.rate);
    await_passt();
    Ok(())
}

/// Returns once passt has its ports and is behind its own walls: it puts itself into the background then.
fn start_passt(plan: &Plan) -> Result<UnixStream, Failure> {
    let (host, other) = UnixStream::pair().doing(|| "a pair of sockets".into())?;
    let number = other.as_raw_fd();
    fcntl(&other, FcntlArg::F_SETFD(FdFlag::empty())).doing(|| "the end of passt".into())?;
    let done = Command::new(&plan.program)
        .args(&plan.arguments)
        .args(["--fd", &number.to_string()])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .doing(|| format!("{} cannot be executed", plan.program))?;
    if done.status.success() {
        return Ok(host);
    }
    Err(Failure::own(String::from_utf8_lossy(&done.stderr).trim()))
}

fn become_nobody(plan: &Plan) -> Result<(), Failure> {
    identity::leave_keyring();
    let user = plan.uid.map_or(Ok(()), identity::become_user);
    user.and_then(|()| identity::drop_capabilities())
        .and_then(|()| identity::no_new_privileges())
        .map_err(Failure::own)
}

/// Until either end is gone. What one direction learns of peers is what the other one lets answers pass by.
fn relay(guest: UnixStream, host: UnixStream, policy: Policy, rate: Option<u64>) {
    let (Ok(to_guest), Ok(to_host)) = (guest.try_clone(), host.try_clone()) else {
        return;
    };
    let (to_guest, to_host) = (Sink::new(to_guest), Sink::new(to_host));
    thread::scope(|threads| {
        threads.spawn(|| {
            pass_on(&guest, &to_host, Pace::new(rate), |frame| {
                let passes = policy.lets_out(frame);
                let said = if passes {
                    acknowledgement(frame)
                } else {
                    policy.refusal(frame)
                };
                if let Some(said) = said {
                    // A guest that is gone is noticed at the next read.
                    to_guest.put(&said);
                }
                passes
            });
            hang_up(&guest, &host);
        });
        pass_on(&host, &to_guest, Pace::new(rate), |frame| {
            policy.saw_coming(frame);
            true
        });
        hang_up(&guest, &host);
    });
}

fn hang_up(one: &UnixStream, other: &UnixStream) {
    for end in [one, other] {
        // It may be gone already.
        let _ = end.shutdown(Shutdown::Both);
    }
}

/// So that its ports are free when the gate is gone.
fn await_passt() {
    let begun = Instant::now();
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return,
            Ok(WaitStatus::StillAlive) if begun.elapsed() > PASST_ENDS_WITHIN => return,
            Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_millis(2)),
            _ => {}
        }
    }
}
