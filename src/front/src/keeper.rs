//! The keeper: one per daemon. It owns the listening socket, so that no command ever finds the door shut, starts the
//! daemon in clean surroundings and starts another within 100 ms when that one dies. Exit code 0 of the daemon means
//! that it was asked to stop; then the keeper removes socket and lock and ends too.

mod cgroup;
mod environment;
mod log;
mod restarts;
mod start;
mod status;

use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{Backlog, listen};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, dup2_stdin, dup2_stdout, fork, getpid, setsid};

use crate::failure::{Doing, FAILED, Failure};
use crate::identity::{self, capability};
use crate::paths::{self, Paths};
use crate::sys;
use log::Log;
use restarts::Restarts;
pub use start::{Start, start};
pub use status::Status;

/// What the keeper says on its stdout once commands may connect; anything else is the reason why not.
const READY: &str = "ready";

/// A daemon that does not end of SIGTERM within this time is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The daemon finds the listening socket here …
const LISTENER: i32 = 3;
/// … and here a pipe that ends when the keeper is gone.
const LIFELINE: i32 = 4;

/// Started by `start` with the lock as stdin and a pipe to the front door as stdout.
pub fn main() -> ! {
    let failure = match prepare() {
        Ok(mut keeper) => keeper.run(),
        Err(failure) => failure,
    };
    // The front door may be gone.
    let _ = write!(io::stdout(), "{failure}");
    std::process::exit(FAILED)
}

struct Keeper {
    paths: Paths,
    libexec: PathBuf,
    lock: File,
    listener: UnixListener,
    /// Its end in the daemon; the other end is only held, for as long as the keeper lives.
    lifeline: PipeReader,
    _life: PipeWriter,
    log: Log,
    signals: SignalFd,
    restarts: Restarts,
    daemon: Option<Pid>,
    /// Asked to end: when a daemon that is still there is killed.
    kill_at: Option<Instant>,
    _reserved: File,
}

fn prepare() -> Result<Keeper, Failure> {
    sys::close_all_but(&[]);
    sys::default_signals();
    umask(Mode::from_bits_truncate(0o077));
    chdir("/").doing(|| "cannot go to /".into())?;
    let lock = sys::moved_up(sys::stdio(0))
        .map(File::from)
        .doing(|| "cannot keep the lock".into())?;
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .doing(|| "cannot open /dev/null".into())?;
    dup2_stdin(&null).doing(|| "cannot close stdin".into())?;
    // Numbers 3 and 4 stay taken here, so that nothing else can be there when the daemon is given its own.
    let reserved = null.try_clone().doing(|| "cannot reserve a descriptor".into())?;
    std::mem::forget(null);
    become_session()?;
    let paths = Paths::from_environment()?;
    let libexec = paths::libexec()?;
    let notes = cgroup::leave();
    set_child_subreaper(true).doing(|| "cannot become the reaper of its children".into())?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).doing(|| "cannot read its limits".into())?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).doing(|| "cannot raise its limits".into())?;
    let awaited = SigSet::from_iter([
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGHUP,
    ]);
    awaited.thread_block().doing(|| "cannot block signals".into())?;
    let signals = SignalFd::with_flags(&awaited, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .doing(|| "cannot wait for signals".into())?;
    let (lifeline, life) = io::pipe().doing(|| "cannot make a pipe".into())?;
    let mut log = Log::open(paths.log())?;
    for note in notes {
        log.note(&note);
    }
    let listener = listen_on(&paths)?;
    give_up_rights()?;
    let keeper = Keeper {
        paths,
        libexec,
        lock,
        listener,
        lifeline,
        _life: life,
        log,
        signals,
        restarts: Restarts::new(),
        daemon: None,
        kill_at: None,
        _reserved: reserved,
    };
    Ok(keeper)
}

/// For itself, the daemon and whatever that executes (docs/security.md, "The daemon").
fn give_up_rights() -> Result<(), Failure> {
    use capability::*;
    let kept = [
        CHOWN,
        DAC_OVERRIDE,
        DAC_READ_SEARCH,
        FOWNER,
        FSETID,
        KILL,
        SETGID,
        SETUID,
        SETPCAP,
        NET_BIND_SERVICE,
        NET_ADMIN,
        NET_RAW,
        SYS_CHROOT,
        SYS_PTRACE,
        SYS_ADMIN,
        SYS_RESOURCE,
        MKNOD,
        SETFCAP,
    ];
    identity::keep_only(&kept)
        .and_then(|()| identity::no_new_privileges())
        .map_err(Failure::own)
}

/// Two forks: a session of its own, no way back to a controlling terminal, nobody's child.
fn become_session() -> Result<(), Failure> {
    for step in [true, false] {
        // SAFETY: this process has one thread.
        match unsafe { fork() }.doing(|| "cannot fork".into())? {
            // SAFETY: _exit has no precondition; nothing here is to be flushed.
            ForkResult::Parent { .. } => unsafe { libc::_exit(0) },
            ForkResult::Child if step => drop(setsid().doing(|| "cannot begin a session".into())?),
            ForkResult::Child => {}
        }
    }
    Ok(())
}

/// The lock is held, so whatever is there is of a keeper that died.
fn listen_on(paths: &Paths) -> Result<UnixListener, Failure> {
    let socket = paths.socket();
    let named = || format!("cannot listen on {}", socket.display());
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).doing(named),
        _ => {}
    }
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(&socket);
    umask(before);
    let listener = listener.doing(named)?;
    // std listens with 128 only; a burst of commands during a restart of the daemon has to find room.
    listen(&listener, Backlog::MAXALLOWABLE).doing(named)?;
    Ok(listener)
}

impl Keeper {
    /// Returns only if it cannot go on.
    fn run(&mut self) -> Failure {
        self.tell();
        // The front door may be gone; the daemon is wanted all the same.
        let _ = write!(io::stdout(), "{READY}").and_then(|()| io::stdout().flush());
        let silence = dup2_stdout(&self._reserved).and_then(|()| nix::unistd::dup2_stderr(&self._reserved));
        if let Err(error) = silence {
            return Failure::own(format!("cannot close stdout: {error}"));
        }
        loop {
            let now = Instant::now();
            if self.daemon.is_none() && self.restarts.due(now) {
                self.start_daemon();
            }
            if self.daemon.is_some() && self.restarts.settle(now) {
                self.tell();
            }
            if let (Some(at), Some(pid)) = (self.kill_at, self.daemon)
                && now >= at
            {
                self.log
                    .note(&format!("hrund (pid {pid}) does not end of SIGTERM: killed"));
                let _ = kill(pid, Signal::SIGKILL);
                self.kill_at = Some(now + PATIENCE);
            }
            if let Err(error) = self.wait() {
                return Failure::own(format!("cannot wait: {error}"));
            }
        }
    }

    fn wait(&mut self) -> Result<(), Errno> {
        let next = [self.kill_at, self.restarts.next(self.daemon.is_some())]
            .into_iter()
            .flatten()
            .min();
        let timeout = next.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now());
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let mut sources = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.log.source(), PollFlags::POLLIN),
        ];
        match poll(&mut sources, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        let said = sources[1].any() == Some(true);
        if said {
            self.log.take_in();
        }
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(Signal::SIGCHLD) => self.reap(),
                Ok(Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT) => self.stop(),
                _ => {}
            }
        }
        Ok(())
    }

    fn start_daemon(&mut self) {
        match self.spawn() {
            Ok(pid) => {
                self.daemon = Some(pid);
                self.restarts.started(Instant::now());
                self.log.note(&format!("hrund started (pid {pid})"));
            }
            Err(error) => {
                let node = self.libexec.join("node");
                self.died(&format!("cannot be started: {}: {error}", node.display()));
            }
        }
        self.tell();
    }

    fn spawn(&self) -> io::Result<Pid> {
        let (listener, lifeline) = (self.listener.as_raw_fd(), self.lifeline.as_raw_fd());
        let mut command = Command::new(self.libexec.join("node"));
        command
            // A small young generation: the daemon is idle nearly always, and 8 MiB smaller so.
            .arg("--max-semi-space-size=1")
            .arg(self.libexec.join("hrund.mjs"))
            .env("HRUN_KEEPER_PID", getpid().to_string())
            .stdin(Stdio::null())
            .stdout(self.log.sink()?)
            .stderr(self.log.sink()?);
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                sys::place_at(listener, LISTENER)?;
                sys::place_at(lifeline, LIFELINE)?;
                sys::default_signals();
                Ok(())
            });
        }
        Ok(Pid::from_raw(command.spawn()?.id() as i32))
    }

    /// Also the children of a dead daemon, the virtual machines, end here: they are reaped, never killed.
    fn reap(&mut self) {
        loop {
            let (pid, status) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::from_raw(code << 8)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ExitStatus::from_raw(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if self.daemon == Some(pid) {
                self.daemon = None;
                if self.kill_at.is_some() || status.success() {
                    self.end();
                }
                self.died(&format!("(pid {pid}) ended: {status}"));
                self.tell();
            }
        }
    }

    fn died(&mut self, how: &str) {
        let pause = self.restarts.died(how, Instant::now());
        let next = match pause {
            Duration::ZERO => "another is started at once".to_owned(),
            pause => format!("it does so too often; another is started in {} ms", pause.as_millis()),
        };
        self.log.take_in_rest();
        self.log.note(&format!("hrund {how}; {next}"));
    }

    fn stop(&mut self) {
        let Some(pid) = self.daemon else { self.end() };
        let _ = kill(pid, Signal::SIGTERM);
        self.kill_at = Some(Instant::now() + PATIENCE);
    }

    /// The socket goes first: who comes now finds none, and whoever takes the next lock makes both anew.
    fn end(&mut self) -> ! {
        self.log.take_in_rest();
        self.log.note("hrund has stopped, and so does its keeper");
        let _ = fs::remove_file(self.paths.socket());
        let _ = fs::remove_file(self.paths.lock());
        std::process::exit(0)
    }

    /// Keeps in the lock's file what the front door tells the user when no daemon answers.
    fn tell(&self) {
        let status = Status {
            keeper: getpid().as_raw() as u32,
            daemon: self.daemon.map(|pid| pid.as_raw() as u32),
            trouble: self.restarts.trouble().map(str::to_owned),
        };
        status.write(&self.lock);
    }
}
