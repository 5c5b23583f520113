//! The front door: one command, one connection. It knows no verb; see docs/wire.md.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{getegid, geteuid, getpid, getppid};
use serde_json::json;

use crate::connect::{self, Connection};
use crate::failure::{Doing, FAILED, Failure};
use crate::frame::{Body, Frame, HELLO_LIMIT, broken, encode, kind, push_bytes, push_list};
use crate::hands::Hands;
use crate::input::Input;
use crate::link::Link;
use crate::output::Output;
use crate::paths::Paths;
use crate::{signals, sys, terminal};

const VERSION: u32 = 1;

/// A connection that held this long was a good one: the next attempt is made at once.
const STEADY: Duration = Duration::from_secs(1);

struct Door {
    paths: Paths,
    link: Link,
    stdout: Output,
    stderr: Output,
    input: Input,
    hands: Hands,
}

/// What the daemon has told that outlives a connection. Only the main thread changes it.
#[derive(Default)]
struct Told {
    token: Option<[u8; 32]>,
    raw: bool,
    forward: bool,
}

pub fn main(started_ns: u64) -> ! {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        terminal::restore();
        hook(info);
    }));
    let Err(failure) = run(started_ns);
    terminal::restore_for_good();
    let text = match failure {
        Failure::Own(message) => format!("hrun: {message}\n"),
        Failure::Refused(message) => format!("{message}\n"),
    };
    // Nobody may be there to read it.
    let _ = sys::write_fully(sys::stdio(2), text.as_bytes());
    process::exit(FAILED)
}

fn run(started_ns: u64) -> Result<Infallible, Failure> {
    let paths = Paths::from_environment()?;
    let hello = hello(started_ns)?;
    let Connection {
        mut stream,
        mut frames,
        mut daemon_pid,
    } = connect::open(&paths, &hello, Some(timeout()?))?;
    drop(hello);
    let sending = || "cannot copy a descriptor".into();
    // For the rest of the process: its threads are never joined, since one may wait for a key or a slow reader.
    let door: &'static Door = Box::leak(Box::new(Door {
        paths,
        link: Link::new(stream.try_clone().doing(sending)?),
        stdout: Output::new(1),
        stderr: Output::new(2),
        input: Input::new().doing(|| "cannot make a pipe".into())?,
        hands: Hands::new(),
    }));
    let mut told = Told::default();
    let mut pause = Duration::ZERO;
    loop {
        let since = Instant::now();
        let lost = loop {
            let obeyed = match frames.next(&mut stream) {
                Ok(Some(frame)) => door.obey(frame, &mut told),
                Ok(None) => break None,
                Err(error) => Err(error),
            };
            if let Err(error) = obeyed {
                break Some(error);
            }
        };
        door.link.lost();
        door.input.disconnected();
        door.hands.drop_all();
        drop(stream);
        let Some(token) = told.token else {
            return Err(without_token(daemon_pid, lost));
        };
        pause = if since.elapsed() > STEADY {
            Duration::ZERO
        } else {
            (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
        };
        thread::sleep(pause);
        let received = [
            door.stdout.received().to_le_bytes(),
            door.stderr.received().to_le_bytes(),
        ];
        let resume = encode(kind::RESUME, &[&token, &received[0], &received[1]]);
        Connection {
            stream,
            frames,
            daemon_pid,
        } = connect::open(&door.paths, &resume, None)?;
        let sender = stream.try_clone().doing(sending)?;
        door.link.renewed(sender, |out| door.repeat(out));
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

fn without_token(daemon_pid: u32, lost: Option<io::Error>) -> Failure {
    match lost {
        Some(error) if error.kind() == io::ErrorKind::InvalidData => Failure::own(format!(
            "hrund (pid {daemon_pid}) does not keep to the protocol: {error}"
        )),
        _ => Failure::own(format!(
            "the connection to hrund (pid {daemon_pid}) was lost before it answered"
        )),
    }
}

impl Door {
    /// Does what one frame says.
    fn obey(&'static self, frame: Frame<'_>, told: &mut Told) -> io::Result<()> {
        let Frame { kind, mut body } = frame;
        match kind {
            kind::STDOUT => self.stdout.take(body.u64()?, body.0, &self.link)?,
            kind::STDERR => self.stderr.take(body.u64()?, body.0, &self.link)?,
            kind::STDIN_OPEN => self.input.open(body.u64()?, body.u64()?, &self.link)?,
            kind::STDIN_CLOSED => self.input.close(),
            kind::TERMINAL => self.set_raw(body.u8()? != 0, told),
            kind::SIGNALS => {
                told.forward = body.u8()? != 0;
                signals::arrange(told.raw, told.forward, &self.link);
            }
            kind::TOKEN => told.token = Some(body.token()?),
            kind::HAND => self.lend_hand(body)?,
            kind::EXIT => self.finish(body.u8()?, told),
            _ => return Err(broken("a frame of an unknown type")),
        }
        Ok(())
    }

    fn set_raw(&'static self, raw: bool, told: &mut Told) {
        told.raw = raw && terminal::is_terminal(0);
        // The dispositions that give the terminal back come first, and go last.
        if told.raw {
            signals::arrange(true, told.forward, &self.link);
            terminal::make_raw();
        } else {
            terminal::restore();
            signals::arrange(false, told.forward, &self.link);
        }
    }

    fn lend_hand(&'static self, mut body: Body<'_>) -> io::Result<()> {
        let id = body.u32()?;
        let request = serde_json::from_slice(body.sized()?)?;
        self.hands.lend(id, request, body.0.to_vec(), &self.link);
        Ok(())
    }

    /// EXIT: from here a signal may end the wait for a reader that does not read.
    fn finish(&'static self, code: u8, told: &Told) -> ! {
        signals::arrange(told.raw, false, &self.link);
        self.stdout.flush();
        self.stderr.flush();
        terminal::restore_for_good();
        self.link.send_last(kind::EXIT_ACK);
        process::exit(code.into())
    }

    fn repeat(&self, out: &mut Vec<u8>) {
        self.stdout.repeat(out);
        self.stderr.repeat(out);
        if let Some((rows, columns)) = terminal::size() {
            out.extend(encode(kind::WINDOW, &[&rows.to_le_bytes(), &columns.to_le_bytes()]));
        }
    }
}

fn hello(started_ns: u64) -> Result<Vec<u8>, Failure> {
    let (rows, columns) = terminal::size().unwrap_or_default();
    let lossy = |path: io::Result<std::path::PathBuf>| path.ok().map(|path| path.to_string_lossy().into_owned());
    let header = json!({
        "version": VERSION,
        "pid": getpid().as_raw(),
        "ppid": getppid().as_raw(),
        "uid": geteuid().as_raw(),
        "gid": getegid().as_raw(),
        "umask": sys::current_umask(),
        "cwd": lossy(std::env::current_dir()).unwrap_or_default(),
        "tty": ([0, 1, 2].map(terminal::is_terminal)),
        "rows": rows,
        "columns": columns,
        "executable": lossy(std::env::current_exe()).unwrap_or_default(),
        "startedMonotonicNs": started_ns,
    });
    let argv: Vec<_> = std::env::args_os().skip(1).collect();
    let environment: Vec<Vec<u8>> = std::env::vars_os()
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .collect();
    let mut body = Vec::new();
    push_bytes(&mut body, header.to_string().as_bytes());
    push_list(&mut body, argv.iter().map(|argument| OsStr::as_bytes(argument)));
    push_list(&mut body, environment.iter().map(Vec::as_slice));
    match body.len() < HELLO_LIMIT {
        true => Ok(encode(kind::HELLO, &[&body])),
        false => Err(Failure::own("the arguments and the environment are too long together")),
    }
}

fn timeout() -> Result<Duration, Failure> {
    match std::env::var("HRUN_DAEMON_TIMEOUT_MS") {
        Err(_) => Ok(connect::DEFAULT_TIMEOUT),
        Ok(text) => match text.parse() {
            Ok(milliseconds @ 1..) => Ok(Duration::from_millis(milliseconds)),
            _ => Err(Failure::own(format!(
                "HRUN_DAEMON_TIMEOUT_MS must be a number of milliseconds above 0, not {text}"
            ))),
        },
    }
}
