use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use hrun_front::frame::{Body, kind};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};

use crate::support::{Connection, Daemon, Front, Place, at, text_of};

struct Terminal {
    master: File,
    slave: OwnedFd,
    before: Termios,
}

nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, Winsize);

impl Terminal {
    fn new() -> Terminal {
        let pty = openpty(&size(24, 80), None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        Terminal {
            master: File::from(pty.master),
            slave: pty.slave,
            before,
        }
    }

    fn on(&self) -> Stdio {
        Stdio::from(self.slave.try_clone().unwrap())
    }

    /// In a session of its own, whose terminal this is.
    fn attach(&self, command: &mut Command) {
        let slave = self.slave.as_raw_fd();
        // SAFETY: both calls are async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                libc::setsid();
                libc::ioctl(slave, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
    }

    fn resize(&self, rows: u16, columns: u16) {
        // SAFETY: the winsize lives through the call.
        unsafe { set_size(self.master.as_raw_fd(), &size(rows, columns)) }.unwrap();
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave)
            .unwrap()
            .local_flags
            .contains(LocalFlags::ICANON | LocalFlags::ECHO)
    }

    fn assert_restored(&self) {
        let now: libc::termios = tcgetattr(&self.slave).unwrap().into();
        let before: libc::termios = self.before.clone().into();
        assert_eq!(now, before);
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn start(terminal: &Terminal, place: &Place, daemon: &Daemon) -> (Front, Connection) {
    let mut command = place.command(["run", "-it"]);
    command
        .stdin(terminal.on())
        .stdout(terminal.on())
        .stderr(Stdio::piped());
    terminal.attach(&mut command);
    let front = Front::spawn(&mut command);
    let (mut connection, hello) = daemon.accept_command();
    assert_eq!(hello.header["tty"], serde_json::json!([true, true, false]));
    assert_eq!(
        (hello.header["rows"].as_u64(), hello.header["columns"].as_u64()),
        (Some(24), Some(80))
    );
    connection.send(kind::TOKEN, &[&[3; 32]]);
    connection.send(kind::TERMINAL, &[&[1]]);
    until_obeyed(&mut connection, 0);
    assert!(terminal.is_raw());
    (front, connection)
}

/// An answer to this output means that the frames before it were obeyed.
fn until_obeyed(connection: &mut Connection, offset: u64) {
    connection.output(2, offset, b".");
    connection.until(kind::WRITTEN);
}

#[test]
fn is_raw_while_asked_and_restored_at_exit() {
    let (terminal, place) = (Terminal::new(), Place::new());
    let daemon = Daemon::listen(&place);
    let (mut front, mut connection) = start(&terminal, &place, &daemon);
    connection.stdin_open(0, 100);
    (&terminal.master).write_all(b"\x03").unwrap();
    assert_eq!(at(&connection.expect(kind::STDIN)), (0, &b"\x03"[..]));
    connection.send(kind::TERMINAL, &[&[0]]);
    until_obeyed(&mut connection, 1);
    terminal.assert_restored();
    connection.send(kind::TERMINAL, &[&[1]]);
    until_obeyed(&mut connection, 2);
    assert!(terminal.is_raw());
    connection.output(1, 0, b"a\r\n");
    let mut out = [0; 3];
    (&terminal.master).read_exact(&mut out).unwrap();
    assert_eq!(&out, b"a\r\n");
    connection.exit(5);
    assert_eq!(front.wait().code(), Some(5));
    terminal.assert_restored();
}

#[test]
fn is_restored_whatever_ends_the_front_door() {
    let deaths = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGSEGV,
        Signal::SIGABRT,
    ];
    for signal in deaths {
        let (terminal, place) = (Terminal::new(), Place::new());
        let daemon = Daemon::listen(&place);
        let (mut front, _connection) = start(&terminal, &place, &daemon);
        front.signal(signal);
        assert_eq!(front.wait().signal(), Some(signal as i32));
        terminal.assert_restored();
    }
}

#[test]
fn is_restored_when_the_daemon_refuses_to_go_on() {
    let (terminal, place) = (Terminal::new(), Place::new());
    let daemon = Daemon::listen(&place);
    let (mut front, connection) = start(&terminal, &place, &daemon);
    drop(connection);
    let mut connection = daemon.accept();
    connection.expect(kind::RESUME);
    connection.send(kind::REFUSED, &[b"gone"]);
    assert_eq!(text_of(front.0.stderr.take().unwrap()), ".gone\n");
    assert_eq!(front.wait().code(), Some(125));
    terminal.assert_restored();
}

#[test]
fn stays_raw_while_the_daemon_is_away() {
    let (terminal, place) = (Terminal::new(), Place::new());
    let daemon = Daemon::listen(&place);
    let (mut front, connection) = start(&terminal, &place, &daemon);
    drop(connection);
    let mut connection = daemon.accept();
    connection.expect(kind::RESUME);
    assert!(terminal.is_raw());
    terminal.resize(30, 90);
    connection.send(kind::ACCEPTED, &[&1_u32.to_le_bytes()]);
    assert_eq!(window(&mut connection), (30, 90));
    connection.exit(0);
    front.wait();
    terminal.assert_restored();
}

fn window(connection: &mut Connection) -> (u16, u16) {
    let body = connection.until(kind::WINDOW);
    let mut body = Body(&body);
    (body.u16().unwrap(), body.u16().unwrap())
}

#[test]
fn tells_a_new_size_and_ignores_one_of_nothing() {
    let (terminal, place) = (Terminal::new(), Place::new());
    let daemon = Daemon::listen(&place);
    let (mut front, mut connection) = start(&terminal, &place, &daemon);
    connection.send(kind::SIGNALS, &[&[1]]);
    until_obeyed(&mut connection, 1);
    terminal.resize(50, 132);
    assert_eq!(window(&mut connection), (50, 132));
    terminal.resize(0, 0);
    terminal.resize(51, 133);
    assert_eq!(window(&mut connection), (51, 133));
    connection.exit(0);
    front.wait();
}

#[test]
fn a_size_is_known_from_stdout_alone() {
    let (terminal, place) = (Terminal::new(), Place::new());
    let daemon = Daemon::listen(&place);
    let mut command = place.command(["run", "-t"]);
    command.stdout(terminal.on());
    terminal.attach(&mut command);
    let mut front = Front::spawn(&mut command);
    let (mut connection, hello) = daemon.accept_command();
    assert_eq!(hello.header["columns"], 80);
    // There is no terminal on stdin to be made raw.
    connection.send(kind::TERMINAL, &[&[1]]);
    connection.send(kind::SIGNALS, &[&[1]]);
    until_obeyed(&mut connection, 0);
    assert!(!terminal.is_raw());
    terminal.resize(10, 20);
    assert_eq!(window(&mut connection), (10, 20));
    connection.exit(0);
    front.wait();
}

#[test]
fn exit_waits_for_no_key() {
    let (terminal, place) = (Terminal::new(), Place::new());
    let daemon = Daemon::listen(&place);
    let (mut front, mut connection) = start(&terminal, &place, &daemon);
    connection.stdin_open(0, 100);
    until_obeyed(&mut connection, 1);
    connection.exit(0);
    assert_eq!(front.wait().code(), Some(0));
    terminal.assert_restored();
}

#[test]
fn is_raw_again_after_a_stop() {
    let (terminal, place) = (Terminal::new(), Place::new());
    let daemon = Daemon::listen(&place);
    let (mut front, mut connection) = start(&terminal, &place, &daemon);
    front.signal(Signal::SIGSTOP);
    let stopped = nix::sys::wait::waitpid(front.pid(), Some(nix::sys::wait::WaitPidFlag::WUNTRACED)).unwrap();
    assert!(matches!(stopped, nix::sys::wait::WaitStatus::Stopped(..)));
    // What a shell does for itself meanwhile.
    nix::sys::termios::tcsetattr(&terminal.slave, nix::sys::termios::SetArg::TCSANOW, &terminal.before).unwrap();
    front.signal(Signal::SIGCONT);
    assert_eq!(window(&mut connection), (24, 80));
    assert!(terminal.is_raw());
    connection.exit(0);
    front.wait();
    terminal.assert_restored();
}
