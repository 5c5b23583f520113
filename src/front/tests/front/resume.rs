use std::io::{Read, Write};
use std::process::Stdio;

use hrun_front::frame::{Body, kind};
use nix::sys::signal::Signal;

use crate::support::{Connection, Daemon, Front, Place, at, written};

const TOKEN: [u8; 32] = [7; 32];

/// Accepts a RESUME; returns what the front door says it has received.
fn resumed(daemon: &Daemon) -> (Connection, u64, u64) {
    let mut connection = daemon.accept();
    let body = connection.expect(kind::RESUME);
    let mut body = Body(&body);
    assert_eq!(body.token().unwrap(), TOKEN);
    let received = (body.u64().unwrap(), body.u64().unwrap());
    connection.send(kind::ACCEPTED, &[&2_u32.to_le_bytes()]);
    (connection, received.0, received.1)
}

#[test]
fn goes_on_where_it_was_when_the_daemon_comes_back() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let mut front = Front::spawn(place.command(["run", "-i"]).stdin(Stdio::piped()));
    let (mut connection, _) = daemon.accept_command();
    connection.send(kind::TOKEN, &[&TOKEN]);
    connection.output(1, 0, b"hello ");
    connection.output(2, 0, b"err");
    connection.until(kind::WRITTEN);
    connection.until(kind::WRITTEN);
    connection.stdin_open(0, 100);
    front.0.stdin.as_mut().unwrap().write_all(b"0123456789").unwrap();
    let mut sent = 0;
    while sent < 10 {
        sent += at(&connection.expect(kind::STDIN)).1.len();
    }
    connection.stdin_open(4, 100);
    connection.output(1, 6, b"w");
    connection.until(kind::WRITTEN);
    drop(connection);
    drop(daemon);

    let daemon = Daemon::listen(&place);
    let (mut connection, stdout, stderr) = resumed(&daemon);
    assert_eq!((stdout, stderr), (7, 3));
    assert_eq!(written(&connection.expect(kind::WRITTEN)), (1, 7));
    assert_eq!(written(&connection.expect(kind::WRITTEN)), (2, 3));
    // A daemon that knows less than it was told says it again.
    connection.output(1, 3, b"lo wor");
    connection.output(1, 0, b"hello");
    connection.output(1, 8, b"rld\n");
    connection.output(2, 0, b"err");
    connection.stdin_open(6, 100);
    let mut stdin = Vec::new();
    while stdin.len() < 4 {
        let body = connection.until(kind::STDIN);
        let (offset, bytes) = at(&body);
        assert_eq!(offset, 6 + stdin.len() as u64);
        stdin.extend_from_slice(bytes);
    }
    assert_eq!(stdin, b"6789");
    drop(front.0.stdin.take());
    assert_eq!(at(&connection.until(kind::STDIN_END)).0, 10);
    drop(connection);
    drop(daemon);

    let daemon = Daemon::listen(&place);
    let (mut connection, stdout, _) = resumed(&daemon);
    assert_eq!(stdout, 12);
    connection.stdin_open(10, 100);
    assert_eq!(at(&connection.until(kind::STDIN_END)).0, 10);
    connection.exit(17);
    assert_eq!(front.finish(), (Some(17), "hello world\n".into(), "err".into()));
}

#[test]
fn keeps_trying_while_nobody_can_be_reached() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let front = Front::spawn(&mut place.command(["run"]));
    let (mut connection, _) = daemon.accept_command();
    connection.send(kind::TOKEN, &[&TOKEN]);
    connection.output(1, 0, b"a");
    connection.until(kind::WRITTEN);
    drop(connection);
    // One that accepts and dies, one that resets with unread bytes, then none at all, then one that answers.
    drop(daemon.accept());
    drop(daemon.accept());
    drop(daemon);
    let daemon = Daemon::listen(&place);
    let (mut connection, stdout, _) = resumed(&daemon);
    connection.output(1, stdout, b"b");
    connection.exit(0);
    assert_eq!(front.finish(), (Some(0), "ab".into(), "".into()));
}

#[test]
fn a_broken_frame_is_a_lost_connection_when_there_is_a_token() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let front = Front::spawn(&mut place.command(["run"]));
    let (mut connection, _) = daemon.accept_command();
    connection.send(kind::TOKEN, &[&TOKEN]);
    connection.output(1, 5, b"from nowhere");
    let (connection, stdout, _) = resumed(&daemon);
    assert_eq!(stdout, 0);
    connection.exit(4);
    assert_eq!(front.finish().0, Some(4));
}

#[test]
fn a_refused_resume_ends_it() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let front = Front::spawn(&mut place.command(["run"]));
    let (mut connection, _) = daemon.accept_command();
    connection.send(kind::TOKEN, &[&TOKEN]);
    drop(connection);
    let mut connection = daemon.accept();
    connection.expect(kind::RESUME);
    connection.send(kind::REFUSED, &[b"hrun: the container is gone"]);
    assert_eq!(
        front.finish(),
        (Some(125), "".into(), "hrun: the container is gone\n".into())
    );
}

#[test]
fn signals_wait_for_the_next_daemon_and_the_third_interrupt_leaves() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let mut front = Front::spawn(&mut place.command(["run"]));
    let (mut connection, _) = daemon.accept_command();
    connection.send(kind::TOKEN, &[&TOKEN]);
    connection.send(kind::SIGNALS, &[&[1]]);
    connection.output(1, 0, b".");
    connection.until(kind::WRITTEN);
    drop(connection);
    let mut waiting = daemon.accept();
    waiting.expect(kind::RESUME);
    front.signal(Signal::SIGTERM);
    front.signal(Signal::SIGUSR1);
    // The signal thread has them when it shows that it still lives after they were sent.
    until_handled(&front);
    waiting.send(kind::ACCEPTED, &[&2_u32.to_le_bytes()]);
    let mut seen = [waiting.until(kind::SIGNAL), waiting.until(kind::SIGNAL)];
    seen.sort();
    let mut expected = [Signal::SIGTERM, Signal::SIGUSR1].map(|signal| (signal as u32).to_le_bytes().to_vec());
    expected.sort();
    assert_eq!(seen, expected);
    drop(waiting);
    let mut waiting = daemon.accept();
    waiting.expect(kind::RESUME);
    for _ in 0..3 {
        front.signal(Signal::SIGINT);
        until_handled(&front);
    }
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&front.wait()),
        Some(Signal::SIGINT as i32)
    );
}

/// Every signal sent has run its handler: none is pending, and the pipe behind it is empty when its thread sleeps.
fn until_handled(front: &Front) {
    let task = format!("/proc/{}/task", front.0.id());
    let idle = || {
        let Ok(threads) = std::fs::read_dir(&task) else {
            return true;
        };
        threads.flatten().all(|thread| {
            let read = |file: &str| std::fs::read_to_string(thread.path().join(file)).unwrap_or_default();
            let status = read("status");
            let pending = status.lines().any(|line| {
                let set = line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:"));
                set.is_some_and(|set| set.trim().bytes().any(|digit| digit != b'0'))
            });
            let signals = read("comm").trim() == "signals";
            !pending && (!signals || read("stat").contains(") S "))
        })
    };
    while !idle() {
        std::thread::yield_now();
    }
}

#[test]
fn output_gone_is_said_again() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let mut front = Front::spawn(&mut place.command(["run"]));
    let (mut connection, _) = daemon.accept_command();
    connection.send(kind::TOKEN, &[&TOKEN]);
    drop(front.0.stdout.take());
    connection.until_gone(1, 0);
    drop(connection);
    let (mut connection, _, _) = resumed(&daemon);
    assert_eq!(connection.until(kind::OUTPUT_GONE), [1]);
    connection.exit(0);
    let mut nothing = String::new();
    front.0.stderr.take().unwrap().read_to_string(&mut nothing).unwrap();
    assert_eq!(nothing, "");
    assert_eq!(front.wait().code(), Some(0));
}
