use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use hrun_front::frame::{Body, FrameReader, HELLO_LIMIT, encode, kind};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// What fails a test instead of hanging it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A place of its own: `HRUN_RUN` and everything beside it.
pub struct Place {
    pub directory: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Place {
            directory: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(place.run()).unwrap();
        std::fs::set_permissions(place.run(), PermissionsExt::from_mode(0o700)).unwrap();
        place
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn run(&self) -> PathBuf {
        self.path().join("run")
    }

    pub fn socket(&self) -> PathBuf {
        self.run().join("hrund.sock")
    }

    /// A command of this place, with nobody to start: a test that wants a keeper sets `HRUN_LIBEXEC`.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hrun"));
        command
            .args(arguments)
            .env("HRUN_ROOT", self.path().join("root"))
            .env("HRUN_RUN", self.run())
            .env("HRUN_CONFIG", self.path().join("config.json"))
            .env("HRUN_LIBEXEC", self.path().join("libexec"))
            .env("HRUN_CGROUP", "")
            .env("HRUN_DAEMON_TIMEOUT_MS", "60000")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        reset_signals(&mut command);
        command
    }
}

/// Whoever runs the tests may ignore some, as a shell does for what it starts in the background.
fn reset_signals(command: &mut Command) {
    // SAFETY: signal is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
}

/// A front door that does not outlive its test.
pub struct Front(pub Child);

impl Front {
    pub fn spawn(command: &mut Command) -> Front {
        Front(command.spawn().unwrap())
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }

    /// Its code and what it said on both streams.
    pub fn finish(mut self) -> (Option<i32>, String, String) {
        let stderr = self.0.stderr.take();
        let errors = std::thread::spawn(move || stderr.map(text_of).unwrap_or_default());
        let stdout = self.0.stdout.take().map(text_of).unwrap_or_default();
        (self.wait().code(), stdout, errors.join().unwrap())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn text_of(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn stderr_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The daemon's end, played by the test.
pub struct Daemon {
    listener: UnixListener,
}

pub struct Connection {
    pub stream: UnixStream,
    pub frames: FrameReader,
}

pub struct Hello {
    pub header: Value,
    pub argv: Vec<Vec<u8>>,
    pub environment: Vec<Vec<u8>>,
}

impl Daemon {
    pub fn listen(place: &Place) -> Daemon {
        let _ = std::fs::remove_file(place.socket());
        Daemon {
            listener: UnixListener::bind(place.socket()).unwrap(),
        }
    }

    pub fn accept(&self) -> Connection {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Connection {
            stream,
            frames: FrameReader::new(HELLO_LIMIT),
        }
    }

    /// A connection whose HELLO is read and accepted.
    pub fn accept_command(&self) -> (Connection, Hello) {
        let mut connection = self.accept();
        let hello = connection.hello();
        connection.send(kind::ACCEPTED, &[&std::process::id().to_le_bytes()]);
        (connection, hello)
    }
}

impl Connection {
    pub fn send(&mut self, kind: u8, parts: &[&[u8]]) {
        self.stream.write_all(&encode(kind, parts)).unwrap();
    }

    pub fn try_send(&mut self, kind: u8, parts: &[&[u8]]) -> io::Result<()> {
        self.stream.write_all(&encode(kind, parts))
    }

    pub fn output(&mut self, stream: u8, offset: u64, bytes: &[u8]) {
        let kind = if stream == 1 { kind::STDOUT } else { kind::STDERR };
        self.send(kind, &[&offset.to_le_bytes(), bytes]);
    }

    /// Sends output from `offset` on to a stream that the test has closed, until the front door sees it; returns the
    /// offset after it. A process that another test forks may hold the other end for a moment.
    pub fn until_gone(&mut self, stream: u8, mut offset: u64) -> u64 {
        loop {
            self.output(stream, offset, b"x");
            offset += 1;
            match self.next().expect("a frame") {
                (kind::WRITTEN, body) => assert_eq!(written(&body), (stream, offset)),
                (kind::OUTPUT_GONE, body) => {
                    assert_eq!(body, [stream]);
                    return offset;
                }
                (other, _) => panic!("a frame of type {other}"),
            }
        }
    }

    pub fn stdin_open(&mut self, accepted: u64, limit: u64) {
        self.send(kind::STDIN_OPEN, &[&accepted.to_le_bytes(), &limit.to_le_bytes()]);
    }

    /// The next frame, or `None` when the front door has closed the connection.
    pub fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        match self.frames.next(&mut self.stream) {
            Ok(frame) => frame.map(|frame| (frame.kind, frame.body.0.to_vec())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no frame: {error}"),
        }
    }

    pub fn expect(&mut self, kind: u8) -> Vec<u8> {
        let (found, body) = self.next().expect("a frame");
        assert_eq!(found, kind, "another frame came: {:?}", String::from_utf8_lossy(&body));
        body
    }

    /// Skips frames until one of `kind` comes.
    pub fn until(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let (found, body) = self.next().expect("a frame");
            if found == kind {
                return body;
            }
        }
    }

    pub fn hello(&mut self) -> Hello {
        let body = self.expect(kind::HELLO);
        let mut body = Body(&body);
        let header = serde_json::from_slice(body.sized().unwrap()).unwrap();
        let list = |items: Vec<&[u8]>| items.into_iter().map(<[u8]>::to_vec).collect();
        let argv = list(body.list().unwrap());
        let environment = list(body.list().unwrap());
        assert!(body.0.is_empty());
        Hello {
            header,
            argv,
            environment,
        }
    }

    /// Ends the command; returns once the front door has acknowledged and closed.
    pub fn exit(mut self, code: u8) {
        self.send(kind::EXIT, &[&[code]]);
        self.until(kind::EXIT_ACK);
        assert_eq!(self.next(), None);
    }
}

/// `u8 stream · u64 offset` of a WRITTEN.
pub fn written(body: &[u8]) -> (u8, u64) {
    let mut body = Body(body);
    (body.u8().unwrap(), body.u64().unwrap())
}

/// `u64 offset · bytes` of a STDIN.
pub fn at(body: &[u8]) -> (u64, &[u8]) {
    let mut body = Body(body);
    (body.u64().unwrap(), body.0)
}
