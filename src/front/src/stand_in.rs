//! The stand-in: what stands on the caller's side for something that runs in a microVM. See docs/stand-in.md.

mod console;
mod context;
mod lent;
mod outgrow;
mod owners;
mod points;
mod request;
mod server;
mod sockets;
pub mod title;
mod tree;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{Backlog, MsgFlags, getsockopt, listen, recv, sockopt};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, geteuid, getpid, setsid};
use serde_json::{Value, json};

use crate::failure::FAILED;
use crate::frame::{Frame, FrameReader, LIMIT, broken, encode, kind, push_bytes};
use crate::identity::{self, capability};
use crate::input::Input;
use crate::link::Link;
use crate::output::Output;
use crate::{signals, sys, terminal};
use context::Pending;
use lent::Lent;
use request::{Request, Stdio, Trouble, Why, invalid};
use server::Server;
use sockets::Sockets;
use tree::Tree;

/// How long a stand-in waits for the daemon that asked for it.
const FIRST_DIAL: Duration = Duration::from_secs(60);

const VERSION: u32 = 1;

/// What the stand-in tells the process that forked it; anything else is why it cannot be.
const READY: &[u8] = b"ready";

/// Started by the hand with the number of a socket as its argument: the request comes from it, the answer goes to it.
pub fn main() -> ! {
    let number = std::env::args().nth(1).and_then(|number| number.parse().ok());
    let Some(number) = number.filter(|&number: &i32| number > 2) else {
        process::exit(FAILED)
    };
    // SAFETY: the hand left this descriptor open for this process, and nothing else here knows of it.
    let mut hand = unsafe { UnixStream::from_raw_fd(number) };
    let answer = match start(&mut hand) {
        Ok(pid) => json!({ "pid": pid }),
        Err(Trouble { errno, message }) => json!({ "errno": errno as i32, "message": message }),
    };
    // The front door may be gone; then nobody dials, and the stand-in gives up by itself.
    let _ = hand.write_all(answer.to_string().as_bytes());
    process::exit(0)
}

/// In the intermediate process: forks the stand-in and waits until it is ready.
fn start(hand: &mut UnixStream) -> Result<i32, Trouble> {
    let mut text = Vec::new();
    hand.read_to_end(&mut text).why("cannot read the request")?;
    let request = Request::parse(&text)?;
    let mut sockets = Sockets::default();
    sockets.listen(&request)?;
    let mut cgroups = context::make(&request.cgroups)?;
    let pending = context::enter(&request.namespaces)?;
    let (mut outcome, tell) = io::pipe().why("cannot make a pipe")?;
    let own_pids = request.namespaces.new & CloneFlags::CLONE_NEWPID;
    match sys::fork_with(own_pids).why("cannot fork")? {
        Some(child) => {
            drop(tell);
            let mut said = Vec::new();
            outcome.read_to_end(&mut said).why("cannot wait for the stand-in")?;
            if said == READY {
                sockets.keep();
                cgroups.keep();
                return Ok(child.as_raw());
            }
            let _ = waitpid(child, None);
            let said: Value = serde_json::from_slice(&said).unwrap_or_default();
            Err(Trouble {
                errno: said["errno"]
                    .as_i64()
                    .map_or(Errno::EIO, |errno| Errno::from_raw(errno as i32)),
                message: said["message"]
                    .as_str()
                    .unwrap_or("the stand-in ended before it was ready")
                    .to_owned(),
            })
        }
        None => {
            // Not this process's to remove.
            cgroups.keep();
            // Who asked waits until nobody holds this any more.
            let listeners = [&sockets.control, &sockets.server].into_iter().flatten();
            let kept: Vec<_> = listeners
                .map(AsRawFd::as_raw_fd)
                .chain([tell.as_raw_fd()])
                .chain(pending.descriptor())
                .collect();
            sys::close_all_but(&kept);
            match StandIn::open(request, sockets, pending) {
                Ok(stand_in) => {
                    let _ = (&tell).write_all(READY);
                    drop(tell);
                    stand_in.run()
                }
                Err(Trouble { errno, message }) => {
                    let _ = write!(&tell, "{}", json!({ "errno": errno as i32, "message": message }));
                    // SAFETY: _exit has no precondition. No destructor may run: the sockets are not this process's to remove.
                    unsafe { libc::_exit(FAILED) }
                }
            }
        }
    }
}

struct StandIn {
    control: UnixListener,
    signals: SignalFd,
    tree: Option<Tree>,
    server: Option<Server>,
    lent: Option<Lent>,
    /// How the server stands, for HELLO.
    state: String,
    relay: &'static Relay,
    connection: Option<(UnixStream, FrameReader)>,
    /// Until the first dial.
    give_up_at: Option<Instant>,
}

/// What the threads of stdin and the outputs use.
struct Relay {
    link: Link,
    stdout: Output,
    stderr: Output,
    input: Input,
}

impl StandIn {
    /// In the stand-in itself.
    fn open(request: Request, mut sockets: Sockets, pending: Pending) -> Result<StandIn, Trouble> {
        context::join(&request.cgroups)?;
        title::show(&request.title);
        setsid().why("cannot begin a session")?;
        sys::default_signals();
        // A closed connection is an error of a write, not an end.
        // SAFETY: SIG_IGN is no handler.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        let awaited = SigSet::from_iter(
            signals::FORWARDED
                .into_iter()
                .chain([Signal::SIGCHLD, Signal::SIGWINCH]),
        );
        awaited.thread_block().why("cannot block signals")?;
        let signals = SignalFd::with_flags(&awaited, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .why("cannot wait for signals")?;
        sockets.keep();
        let control = sockets.control.take().ok_or_else(|| invalid("nothing to listen on"))?;
        // Said again by the process that stays, because the daemon learns its pid from who said it.
        listen(&control, Backlog::new(16).why("cannot listen")?).why("cannot listen")?;
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .why("cannot open /dev/null")?;
        let console = match &request.stdio {
            Stdio::Terminal { console_socket } => Some(console::open(console_socket)?),
            _ => None,
        };
        pending.finish()?;
        let serving = request.served_by.map(lent::namespace_of).transpose()?;
        let mount_point = request.control_path.parent().unwrap_or(Path::new("/"));
        let tree = match request.shares.is_empty() && request.server.is_none() {
            true => None,
            false => Some(Tree::build(mount_point, &request)?),
        };
        let server = match (&request.server, sockets.server.take(), &tree) {
            (Some(argv), Some(socket), Some(tree)) => Some(Server::start(argv, socket, tree.path(), &null)?),
            _ => None,
        };
        let lent = match (serving, &tree) {
            (Some(namespace), Some(tree)) => Some(Lent::lend(tree, namespace)?),
            _ => None,
        };
        match (&request.stdio, &console) {
            (Stdio::Inherit, _) => {}
            (_, Some(slave)) => become_stdio(slave)?,
            _ => become_stdio(&null)?,
        }
        if let Some(tree) = &tree {
            tree.furnish(&request.shares);
            tree.become_root();
        }
        give_up_rights(tree.is_some(), lent.is_some())?;
        let state = if server.is_some() { "running" } else { "none" };
        let relay = Relay {
            link: Link::unconnected(),
            stdout: Output::new(1),
            stderr: Output::new(2),
            input: Input::new().why("cannot make a pipe")?,
        };
        Ok(StandIn {
            control,
            signals,
            tree,
            server,
            lent,
            state: state.into(),
            relay: Box::leak(Box::new(relay)),
            connection: None,
            give_up_at: Some(Instant::now() + FIRST_DIAL),
        })
    }

    fn run(mut self) -> ! {
        loop {
            if self.give_up_at.is_some_and(|at| Instant::now() >= at) {
                self.close_shares();
                process::exit(FAILED)
            }
            let timeout = self.give_up_at.map_or(PollTimeout::NONE, |at| {
                let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            });
            let mut sources = [
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
                self.poll_if(self.server.as_ref().and_then(Server::words)),
                self.poll_if(self.connection.as_ref().map(|(stream, _)| stream.as_fd())),
            ];
            if poll(&mut sources, timeout).is_err() {
                continue;
            }
            let [_, dialled, said, sent] = sources.map(|source| source.any() == Some(true));
            if said && let Some(server) = &mut self.server {
                server.listen();
            }
            while let Ok(Some(signal)) = self.signals.read_signal() {
                self.take_signal(signal.ssi_signo);
            }
            if sent {
                self.serve();
            }
            if dialled {
                self.accept();
            }
        }
    }

    /// What is not there is polled for nothing.
    fn poll_if<'a>(&'a self, fd: Option<BorrowedFd<'a>>) -> PollFd<'a> {
        let events = if fd.is_some() {
            PollFlags::POLLIN
        } else {
            PollFlags::empty()
        };
        PollFd::new(fd.unwrap_or(self.control.as_fd()), events)
    }

    fn take_signal(&mut self, number: u32) {
        match Signal::try_from(number as i32) {
            Ok(Signal::SIGCHLD) => self.reap(),
            Ok(Signal::SIGWINCH) => signals::send_window(&self.relay.link),
            _ => drop(self.relay.link.send_or_keep(kind::SIGNAL, &[&number.to_le_bytes()])),
        }
    }

    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                return;
            }
            if self
                .server
                .as_ref()
                .is_some_and(|server| Some(server.pid()) == status.pid())
                && let Some(server) = self.server.take()
            {
                self.state = server.epitaph(status);
                self.relay.link.send(kind::SERVER_ENDED, &[self.state.as_bytes()]);
            }
        }
    }

    /// The newest daemon is the one that counts.
    fn accept(&mut self) {
        let Ok((stream, _)) = self.control.accept() else { return };
        let own = getsockopt(&stream, sockopt::PeerCredentials).is_ok_and(|peer| peer.uid() == geteuid().as_raw());
        let Some(sender) = own.then(|| stream.try_clone().ok()).flatten() else {
            return;
        };
        self.give_up_at = None;
        self.disconnect();
        let Relay {
            link, stdout, stderr, ..
        } = self.relay;
        let (rows, columns) = terminal::size().unwrap_or_default();
        let hello = json!({
            "version": VERSION,
            "pid": getpid().as_raw(),
            "stdoutReceived": stdout.received(),
            "stderrReceived": stderr.received(),
            "rows": rows,
            "columns": columns,
            "server": self.state,
        });
        link.renewed(sender, |out| {
            let mut body = Vec::new();
            push_bytes(&mut body, hello.to_string().as_bytes());
            out.extend(encode(kind::HELLO, &[&body]));
            stdout.repeat(out);
            stderr.repeat(out);
        });
        self.connection = Some((stream, FrameReader::new(LIMIT)));
    }

    fn disconnect(&mut self) {
        if self.connection.take().is_some() {
            self.relay.link.lost();
            self.relay.input.disconnected();
        }
    }

    /// Obeys what has arrived. A lost connection, a protocol error included, only means to wait.
    fn serve(&mut self) {
        let Some((stream, mut frames)) = self.connection.take() else {
            return;
        };
        let result = loop {
            match frames.next(&mut Arrived(&stream)) {
                Ok(Some(frame)) => {
                    if let Err(error) = self.obey(frame) {
                        break Err(error);
                    }
                }
                Ok(None) => break Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.connection = Some((stream, frames));
        if result.is_err() {
            self.disconnect();
        }
    }

    fn obey(&mut self, frame: Frame<'_>) -> io::Result<()> {
        let Frame { kind, mut body } = frame;
        let Relay {
            link,
            stdout,
            stderr,
            input,
        } = self.relay;
        match kind {
            kind::STDOUT => stdout.take(body.u64()?, body.0, link),
            kind::STDERR => stderr.take(body.u64()?, body.0, link),
            kind::STDIN_OPEN => input.open(body.u64()?, body.u64()?, link),
            kind::STDIN_CLOSED => {
                input.close();
                Ok(())
            }
            kind::CLOSE_SHARES => {
                self.close_shares();
                link.send(kind::SHARES_CLOSED, &[]);
                Ok(())
            }
            kind::OUTGROW => {
                outgrow::outgrow();
                link.send(kind::OUTGROWN, &[]);
                Ok(())
            }
            kind::EXIT => {
                let code = body.u8()?;
                stdout.flush();
                stderr.flush();
                self.close_shares();
                link.send_last(kind::EXIT_ACK);
                process::exit(code.into())
            }
            _ => Err(broken("a frame of an unknown type")),
        }
    }

    fn close_shares(&mut self) {
        if let Some(server) = self.server.take() {
            server.end();
            self.state = "closed".into();
        }
        if let Some(lent) = self.lent.take() {
            lent.take_back();
        }
        if let Some(tree) = self.tree.take() {
            tree.remove();
        }
    }
}

/// Before there are threads. With a tree it must be able to take the mounts away, whatever the owner and mode of the root that
/// they lie in, and with something lent to enter the namespace that it lies in. It executes nothing any more.
fn give_up_rights(tree: bool, lent: bool) -> Result<(), Trouble> {
    let kept: &[u32] = match (tree, lent) {
        (false, _) => &[],
        (true, false) => &[capability::SYS_ADMIN, capability::DAC_READ_SEARCH],
        (true, true) => &[
            capability::SYS_ADMIN,
            capability::DAC_READ_SEARCH,
            capability::SYS_CHROOT,
        ],
    };
    identity::keep_only(kept)
        .and_then(|()| identity::no_new_privileges())
        .map_err(|message| Trouble {
            errno: Errno::EPERM,
            message,
        })
}

/// Reads only what is there already.
struct Arrived<'a>(&'a UnixStream);

impl Read for Arrived<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
    }
}

fn become_stdio(fd: &impl AsFd) -> Result<(), Trouble> {
    dup2_stdin(fd)
        .and_then(|()| dup2_stdout(fd))
        .and_then(|()| dup2_stderr(fd))
        .why("cannot set its stdio")
}
