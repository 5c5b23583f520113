use std::collections::VecDeque;
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, execve};

use super::request::{Trouble, Why, invalid};
use crate::{identity, sys};

/// Where the server finds its listening socket.
const SOCKET: i32 = 3;

/// How much of what it said is kept.
const LAST_WORDS: usize = 2 << 10;

/// The share server: init of a pid namespace of its own, so that whatever it starts ends with it, and it ends with the
/// stand-in.
pub struct Server {
    pid: Pid,
    words: Option<PipeReader>,
    last: VecDeque<u8>,
}

impl Server {
    /// `argv` with `{fd}` and `{tree}` filled in. Returns once it is executed.
    pub fn start(argv: &[String], socket: UnixListener, tree: &Path, null: &File) -> Result<Server, Trouble> {
        let program = &argv[0];
        let filled = argv
            .iter()
            .map(|argument| filled(argument, tree))
            .collect::<Result<Vec<_>, _>>()?;
        let (words, speak) = io::pipe().why("cannot make a pipe")?;
        let (mut failure, low) = io::pipe().why("cannot make a pipe")?;
        // Its number must not be one of those that the server gets.
        let fail = sys::moved_up(&low).map(File::from).why("cannot move a descriptor")?;
        drop(low);
        let (go, ready) = io::pipe().why("cannot make a pipe")?;
        let forked = sys::fork_with(CloneFlags::CLONE_NEWPID).why_of("cannot fork for", Path::new(program))?;
        let Some(pid) = forked else {
            drop(ready);
            let Err(errno) = Self::become_server(&filled, &socket, &speak, null, go);
            let _ = (&fail).write_all(&(errno as i32).to_le_bytes());
            // SAFETY: _exit has no precondition.
            unsafe { libc::_exit(127) };
        };
        drop((fail, speak, go));
        let _ = (&ready).write_all(b".");
        let mut errno = [0; 4];
        match failure.read_exact(&mut errno) {
            Err(_) => Ok(Server {
                pid,
                words: Some(words),
                last: VecDeque::new(),
            }),
            Ok(()) => {
                let _ = waitpid(pid, None);
                Err(Errno::from_raw(i32::from_le_bytes(errno)))
                    .why_of("cannot execute the share server", Path::new(program))
            }
        }
    }

    /// In the child.
    fn become_server(
        argv: &[CString],
        socket: &UnixListener,
        speak: &impl AsFd,
        null: &File,
        mut go: PipeReader,
    ) -> Result<Infallible, Errno> {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // Had the stand-in died before the line above, nobody would write.
        go.read_exact(&mut [0]).map_err(|_| Errno::ESRCH)?;
        // Mounts of its own, because the stand-in goes on to give up what the server still has to load; the rest because
        // it is nothing that the server needs.
        let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
        unshare(own | CloneFlags::CLONE_NEWCGROUP)?;
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        identity::leave_keyring();
        set_no_new_privs()?;
        let socket = sys::moved_up(socket).map_err(|_| Errno::EMFILE)?;
        let stdio = [
            null.as_fd().as_raw_fd(),
            speak.as_fd().as_raw_fd(),
            speak.as_fd().as_raw_fd(),
        ];
        for (number, fd) in stdio.into_iter().chain([socket.as_raw_fd()]).enumerate() {
            let number = number as i32;
            debug_assert!(number <= SOCKET);
            sys::place_at(fd, number).map_err(|_| Errno::EBADF)?;
        }
        sys::default_signals();
        execve(
            &argv[0],
            argv,
            &[c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        )
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Where it can be heard, until it has closed that.
    pub fn words(&self) -> Option<BorrowedFd<'_>> {
        self.words.as_ref().map(PipeReader::as_fd)
    }

    /// One read; waits if nothing was said.
    pub fn listen(&mut self) {
        let mut buffer = [0; LAST_WORDS];
        let count = self
            .words
            .as_mut()
            .map_or(0, |words| words.read(&mut buffer).unwrap_or(0));
        if count == 0 {
            self.words = None;
        }
        self.last.extend(&buffer[..count]);
        let surplus = self.last.len().saturating_sub(LAST_WORDS);
        self.last.drain(..surplus);
    }

    /// How it ended, and what it said last.
    pub fn epitaph(mut self, status: WaitStatus) -> String {
        while let Some(words) = self.words() {
            if !matches!(
                poll(&mut [PollFd::new(words, PollFlags::POLLIN)], PollTimeout::ZERO),
                Ok(1..)
            ) {
                break;
            }
            self.listen();
        }
        let how = match status {
            WaitStatus::Exited(_, code) => format!("exit code {code}"),
            WaitStatus::Signaled(_, signal, _) => format!("{signal}"),
            other => format!("{other:?}"),
        };
        let last: Vec<u8> = self.last.into();
        let last = String::from_utf8_lossy(&last);
        format!("{how}: {}", last.trim_end())
    }

    /// Returns when all its processes are gone, and with them every file they had open.
    pub fn end(self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        while waitpid(self.pid, None) == Err(Errno::EINTR) {}
    }
}

fn filled(argument: &str, tree: &Path) -> Result<CString, Trouble> {
    let mut bytes = Vec::new();
    let mut rest = argument;
    while let Some(at) = rest.find('{') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("{fd}") {
            bytes.extend_from_slice(SOCKET.to_string().as_bytes());
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{tree}") {
            bytes.extend_from_slice(tree.as_os_str().as_bytes());
            rest = after;
        } else {
            bytes.push(b'{');
            rest = &rest[1..];
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    CString::new(bytes).map_err(|_| invalid("an argument of the share server holds a zero byte"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_in_where_it_is_asked_and_only_once() {
        let tree = Path::new("/a{fd}b");
        let cases = [
            ("--fd={fd}", "--fd=3"),
            ("source={tree},x={fd}", "source=/a{fd}b,x=3"),
            ("{{fd}{x}", "{3{x}"),
            ("é{", "é{"),
        ];
        for (argument, expected) in cases {
            assert_eq!(filled(argument, tree).unwrap().to_str().unwrap(), expected);
        }
    }
}
