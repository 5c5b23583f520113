//! From nothing to a daemon that has said ACCEPTED.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::geteuid;

use crate::failure::{Doing, Failure};
use crate::frame::{FrameReader, LIMIT, kind};
use crate::keeper::{self, Status};
use crate::paths::Paths;

pub struct Connection {
    pub stream: UnixStream,
    pub frames: FrameReader,
    pub daemon_pid: u32,
}

/// How long a daemon may need to say ACCEPTED.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// While it waits, the front door looks this often whether the keeper has given up hope.
const LOOK: Duration = Duration::from_millis(250);

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

enum Attempt {
    Accepted(Connection),
    /// Nobody listens.
    Nobody,
    /// The daemon ended before it said anything: it has begun nothing, so it may be asked again.
    Lost,
}

/// Sends `first` (HELLO or RESUME) until a daemon accepts it; starts the keeper if there is none. Without a time-out it
/// tries for ever, and only a refusal ends it.
pub fn open(paths: &Paths, first: &[u8], timeout: Option<Duration>) -> Result<Connection, Failure> {
    let begun = Instant::now();
    let deadline = timeout.map(|timeout| begun + timeout);
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt(paths, first, begun, deadline)? {
            Attempt::Accepted(connection) => return Ok(connection),
            Attempt::Lost => {}
            Attempt::Nobody => match keeper::start(paths) {
                Ok(keeper::Start::Started) => continue,
                Ok(keeper::Start::Busy) => {}
                Err(failure) if deadline.is_some() => return Err(failure),
                Err(_) => {}
            },
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(silent(paths, None, begun));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// As rootless podman calls its runtime: uid 0 of a user namespace that some user has made.
fn is_only_called_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    geteuid().is_root() && map.split_whitespace().ne(["0", "0", "4294967295"])
}

fn attempt(paths: &Paths, first: &[u8], begun: Instant, deadline: Option<Instant>) -> Result<Attempt, Failure> {
    let mut stream = match dial(&paths.socket(), deadline.map(remaining)) {
        Ok(stream) => stream,
        Err(Errno::ENOENT | Errno::ECONNREFUSED) => return Ok(Attempt::Nobody),
        Err(Errno::EAGAIN) => return Err(silent(paths, None, begun)),
        Err(Errno::EACCES) if is_only_called_root() => {
            return Err(Failure::own(format!(
                "{} is root's, and root of a user namespace is not: rootless containers are not supported",
                paths.socket().display()
            )));
        }
        Err(error) => return Err(error).doing(|| format!("cannot connect to {}", paths.socket().display())),
    };
    let peer = getsockopt(&stream, sockopt::PeerCredentials).doing(|| "cannot tell who listens".into())?;
    if peer.uid() != geteuid().as_raw() {
        let socket = paths.socket();
        return Err(Failure::own(format!(
            "{} belongs to user {}, not to {}",
            socket.display(),
            peer.uid(),
            geteuid()
        )));
    }
    if let Err(error) = stream.write_all(first) {
        return match error.kind() {
            io::ErrorKind::WouldBlock => Err(silent(paths, Some(peer.pid()), begun)),
            _ => Ok(Attempt::Lost),
        };
    }
    let mut frames = FrameReader::new(LIMIT);
    loop {
        // None would mean for ever.
        let patience = deadline.map(|deadline| remaining(deadline).min(LOOK).max(Duration::from_millis(1)));
        stream
            .set_read_timeout(patience)
            .doing(|| "cannot set a time-out".into())?;
        match frames.next(&mut stream) {
            Ok(Some(mut frame)) if frame.kind == kind::ACCEPTED => {
                let Ok(daemon_pid) = frame.body.u32() else {
                    return Err(foreign(paths, peer.pid()));
                };
                stream.set_read_timeout(None).doing(|| "cannot set a time-out".into())?;
                stream
                    .set_write_timeout(None)
                    .doing(|| "cannot set a time-out".into())?;
                return Ok(Attempt::Accepted(Connection {
                    stream,
                    frames,
                    daemon_pid,
                }));
            }
            Ok(Some(frame)) if frame.kind == kind::REFUSED => {
                return Err(Failure::Refused(
                    String::from_utf8_lossy(frame.body.0).trim_end().to_owned(),
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Some(Status {
                    trouble: Some(trouble), ..
                }) = Status::read(paths)
                {
                    return Err(Failure::own(format!(
                        "hrund does not stay up: {trouble}{}",
                        log_end(paths)
                    )));
                }
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Err(silent(paths, Some(peer.pid()), begun));
                }
            }
            Ok(Some(_)) => return Err(foreign(paths, peer.pid())),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(foreign(paths, peer.pid())),
            Ok(None) | Err(_) => return Ok(Attempt::Lost),
        }
    }
}

fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// `timeout` bounds the wait for a place in the listener's queue, and each write.
fn dial(path: &Path, timeout: Option<Duration>) -> Result<UnixStream, Errno> {
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    if let Some(timeout) = timeout {
        setsockopt(
            &fd,
            sockopt::SendTimeout,
            &TimeVal::milliseconds(timeout.as_millis().max(1) as i64),
        )?;
    }
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}

fn silent(paths: &Paths, listener: Option<i32>, begun: Instant) -> Failure {
    let log = paths.log();
    let seconds = begun.elapsed().as_secs_f64();
    match (Status::read(paths), listener) {
        (Some(Status { daemon: Some(pid), .. }), _) => Failure::own(format!(
            "hrund (pid {pid}) does not answer: nothing came within {seconds:.1} s; its log is {}, and after kill -9 {pid} its keeper starts another",
            log.display()
        )),
        (None, Some(pid)) if pid > 0 => Failure::own(format!(
            "hrund (pid {pid}) does not answer: nothing came within {seconds:.1} s"
        )),
        (Some(Status { keeper, .. }), _) => Failure::own(format!(
            "no hrund answers: its keeper (pid {keeper}) has not brought one up within {seconds:.1} s; its log is {}",
            log.display()
        )),
        (None, _) => Failure::own(format!(
            "no hrund answers: nobody listened on {} within {seconds:.1} s, though {} is locked",
            paths.socket().display(),
            paths.lock().display()
        )),
    }
}

fn foreign(paths: &Paths, listener: i32) -> Failure {
    let pid = Status::read(paths)
        .and_then(|status| status.daemon)
        .unwrap_or(listener.unsigned_abs());
    Failure::own(format!(
        "hrund (pid {pid}) speaks another protocol than this hrun (version 1): stop the one of the two that is old"
    ))
}

/// The last lines of the daemon's log, for whom it was meant.
fn log_end(paths: &Paths) -> String {
    let log = paths.log();
    let text = std::fs::read(&log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(8)..].join("\n  ");
    format!("; its log {} ends with\n  {last}", log.display())
}
