//! Hooks that run inside the container, by its init process right before its execve.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use super::stdio;
use crate::contract::{FailureReason, Hook};
use crate::failure::{Failure, Result, describe};
use crate::sys::{self, Fork};

const MAX_HOOKS: usize = 64;
/// Of what a hook that failed has said.
const MAX_OUTPUT: usize = 1024;

/// Hooks as execve wants them, with what they read from stdin.
pub struct Hooks {
    hooks: Vec<Program>,
    state: String,
}

struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    limit: Option<Duration>,
}

impl Hooks {
    pub fn check(hooks: &[Hook], state: &str) -> Result<Self> {
        if hooks.len() > MAX_HOOKS {
            return Err(Failure::invalid(format!("more than {MAX_HOOKS} hooks")));
        }
        if !hooks.is_empty() && !state.starts_with('{') {
            return Err(Failure::invalid("hooks need the container's state"));
        }
        Ok(Self {
            hooks: hooks.iter().map(Program::check).collect::<Result<_>>()?,
            state: state.to_owned(),
        })
    }

    /// One after the other; the first that fails ends it.
    pub fn run(&self) -> Result<()> {
        if self.hooks.is_empty() {
            return Ok(());
        }
        let pid = rustix::process::getpid().as_raw_nonzero();
        let rest = &self.state[1..];
        let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
        let state = format!("{{\"pid\":{pid}{comma}{rest}");
        for (index, hook) in self.hooks.iter().enumerate() {
            hook.run(&state).map_err(|why| {
                let message = format!("error running startContainer hook #{index}: {why}");
                Failure::new(FailureReason::HookFailed, message)
            })?;
        }
        Ok(())
    }
}

impl Program {
    fn check(hook: &Hook) -> Result<Self> {
        let text = |text: &String| CString::new(text.as_str()).map_err(|_| Failure::invalid("a null byte in a hook"));
        if !hook.path.starts_with('/') {
            return Err(Failure::invalid(format!("the hook {:?} is not absolute", hook.path)));
        }
        let path = text(&hook.path)?;
        let mut args = hook.args.iter().map(text).collect::<Result<Vec<_>>>()?;
        if args.is_empty() {
            args.push(path.clone());
        }
        Ok(Self {
            path,
            args,
            env: hook.env.iter().map(text).collect::<Result<_>>()?,
            limit: (hook.timeout_s > 0).then(|| Duration::from_secs(hook.timeout_s.into())),
        })
    }

    fn run(&self, state: &str) -> Result<(), String> {
        let told = |error: &io::Error| describe(error);
        let pipes = || -> io::Result<_> { Ok((pipe_with(PipeFlags::CLOEXEC)?, pipe_with(PipeFlags::CLOEXEC)?)) };
        let ((stdin, to_hook), (from_hook, output)) = pipes().map_err(|error| told(&error))?;
        let pid = match sys::fork().map_err(|error| told(&error))? {
            Fork::Child => self.become_hook(&stdin, &output),
            Fork::Parent(pid) => pid,
        };
        drop((stdin, output));
        // Who does not read what it is told must not end this process.
        sys::ignore_broken_pipes(true);
        let outcome = Talk {
            to_hook: Some(to_hook),
            from_hook,
            state: state.as_bytes(),
            said: Vec::new(),
        }
        .with(pid, self.limit);
        sys::ignore_broken_pipes(false);
        let (ended, said) = outcome.map_err(|error| told(&error))?;
        if !ended {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        let status = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        if !ended {
            return Err("timeout".to_owned());
        }
        let status = status.map_err(|error| told(&error.into()))?;
        let status = status.ok_or("it is gone")?.1;
        match (status.exit_status(), status.terminating_signal()) {
            (Some(0), _) => Ok(()),
            (Some(code), _) => Err(format!("exit status {code}, output: {said}")),
            (None, signal) => Err(format!("signal {}, output: {said}", signal.unwrap_or(0))),
        }
    }

    fn become_hook(&self, stdin: &OwnedFd, output: &OwnedFd) -> ! {
        sys::reset_signals();
        let failed = stdio::install([stdin.as_fd(), output.as_fd(), output.as_fd()]).is_err();
        if !failed {
            let error = sys::execve(&self.path, &self.args, &self.env);
            let line = format!("{}: {}", self.path.to_string_lossy(), describe(&error));
            let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
        }
        sys::exit_now(127)
    }
}

/// The state on its way in and what the hook says on its way out.
struct Talk<'a> {
    to_hook: Option<OwnedFd>,
    from_hook: OwnedFd,
    state: &'a [u8],
    said: Vec<u8>,
}

impl Talk<'_> {
    /// Until the hook has ended, or its time has; and what it has said.
    fn with(mut self, pid: Pid, limit: Option<Duration>) -> io::Result<(bool, String)> {
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        rustix::io::ioctl_fionbio(&self.from_hook, true)?;
        if let Some(stdin) = &self.to_hook {
            rustix::io::ioctl_fionbio(stdin, true)?;
        }
        let deadline = limit.map(|limit| Instant::now() + limit);
        let ended = loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break false;
            }
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds = vec![
                PollFd::new(&pidfd, PollFlags::IN),
                PollFd::new(&self.from_hook, PollFlags::IN),
            ];
            fds.extend(self.to_hook.iter().map(|stdin| PollFd::new(stdin, PollFlags::OUT)));
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ended = !fds[0].revents().is_empty();
            let said = !fds[1].revents().is_empty();
            drop(fds);
            self.tell();
            let heard = self.hear();
            if ended {
                break true;
            }
            if said && !heard {
                // It closed its output: only its end is left to wait for.
                break Self::ends(&pidfd, deadline)?;
            }
        };
        let said = String::from_utf8_lossy(&self.said).trim_end().to_owned();
        Ok((ended, said))
    }

    fn ends(pidfd: &OwnedFd, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], timeout.as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn tell(&mut self) {
        let Some(stdin) = &self.to_hook else { return };
        match rustix::io::write(stdin, self.state) {
            Ok(length) => self.state = &self.state[length..],
            Err(Errno::AGAIN | Errno::INTR) => return,
            // A hook need not read.
            Err(_) => self.state = &[],
        }
        if self.state.is_empty() {
            self.to_hook = None;
        }
    }

    /// False at the end.
    fn hear(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&self.from_hook, &mut buffer) {
                Ok(0) => return false,
                Ok(length) => {
                    let room = MAX_OUTPUT.saturating_sub(self.said.len());
                    self.said.extend_from_slice(&buffer[..length.min(room)]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
    }
}
