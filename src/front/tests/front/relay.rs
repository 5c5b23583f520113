use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::Stdio;

use hrun_front::frame::kind;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;

use crate::support::{Daemon, Front, Place, at, written};

const CREDIT: u64 = 256 << 10;
const CHUNK: usize = 64 << 10;

#[test]
fn moves_100_mb_to_a_slow_reader_in_bounded_memory() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let mut front = Front::spawn(&mut place.command(["run"]));
    let (mut connection, _) = daemon.accept_command();
    let total: u64 = 100 << 20;
    let mut stdout = front.0.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        // Small reads: each wakes the writer for little.
        let mut buffer = [0; 4096];
        let (mut count, mut sum) = (0_u64, 0_u64);
        loop {
            match stdout.read(&mut buffer).unwrap() {
                0 => return (count, sum),
                read => {
                    count += read as u64;
                    sum += buffer[..read].iter().map(|&byte| u64::from(byte)).sum::<u64>();
                }
            }
        }
    });
    let chunk: Vec<u8> = (0..CHUNK).map(|index| (index % 251) as u8).collect();
    let (mut sent, mut acknowledged) = (0, 0);
    while sent < total {
        while sent + CHUNK as u64 > acknowledged + CREDIT {
            let (stream, offset) = written(&connection.expect(kind::WRITTEN));
            assert_eq!(stream, 1);
            assert!(offset > acknowledged && offset <= sent);
            acknowledged = offset;
        }
        connection.output(1, sent, &chunk);
        sent += CHUNK as u64;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", front.0.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    connection.exit(0);
    let sum = chunk.iter().map(|&byte| u64::from(byte)).sum::<u64>() * (total / CHUNK as u64);
    assert_eq!(reader.join().unwrap(), (total, sum));
    assert!(front.wait().success());
    // The binary of the tests is not the small one, so this bounds what is buffered rather than the 3 MiB of a release.
    assert!(peak < 16 << 10, "{peak} kB");
}

#[test]
fn exit_waits_until_everything_is_written() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let mut front = Front::spawn(&mut place.command(["run"]));
    let (mut connection, _) = daemon.accept_command();
    let bytes = vec![b'x'; CHUNK];
    for index in 0..4 {
        connection.output(1, index * CHUNK as u64, &bytes);
    }
    connection.send(kind::EXIT, &[&[9]]);
    // The pipe holds 64 KiB: nothing is acknowledged as over before the rest was read.
    let mut stdout = front.0.stdout.take().unwrap();
    let mut rest = vec![0; 4 * CHUNK];
    stdout.read_exact(&mut rest).unwrap();
    connection.until(kind::EXIT_ACK);
    assert_eq!(front.wait().code(), Some(9));
}

#[test]
fn exits_only_with_the_acknowledged_code_though_stdin_stays_unread() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let full = vec![b'i'; 200_000];
    for round in 0..500_u32 {
        let (reader, mut writer) = io::pipe().unwrap();
        let feeder = std::thread::spawn({
            let full = full.clone();
            move || drop(writer.write_all(&full))
        });
        let mut front = Front::spawn(place.command(["run", "-i"]).stdin(reader));
        let (mut connection, _) = daemon.accept_command();
        connection.stdin_open(0, 1 << 18);
        if round % 2 == 0 {
            connection.expect(kind::STDIN);
        }
        // What the front door still sends stays unread, and closing then resets the connection under its EXIT.
        connection.send(kind::EXIT, &[&[(round % 256) as u8]]);
        if round % 3 == 0 {
            connection.until(kind::EXIT_ACK);
        }
        drop(connection);
        assert_eq!(front.wait().code(), Some((round % 256) as i32), "round {round}");
        drop(front);
        feeder.join().unwrap();
    }
}

#[test]
fn a_closed_stdout_is_told_and_ends_nothing() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let mut front = Front::spawn(&mut place.command(["run"]));
    let (mut connection, _) = daemon.accept_command();
    let mut head = BufReader::new(front.0.stdout.take().unwrap());
    connection.output(1, 0, b"first\n");
    let mut line = String::new();
    head.read_line(&mut line).unwrap();
    drop(head);
    assert_eq!(written(&connection.expect(kind::WRITTEN)), (1, 6));
    let offset = connection.until_gone(1, 6);
    connection.output(1, offset, &vec![b'x'; CHUNK]);
    connection.output(2, 0, b"still here\n");
    assert_eq!(written(&connection.expect(kind::WRITTEN)), (2, 11));
    connection.exit(141);
    assert_eq!(front.finish(), (Some(141), "".into(), "still here\n".into()));
}

#[test]
fn a_full_disk_is_an_end_of_output_too() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let front = Front::spawn(place.command(["run"]).stdout(full));
    let (mut connection, _) = daemon.accept_command();
    connection.output(1, 0, b"lost");
    assert_eq!(connection.expect(kind::OUTPUT_GONE), [1]);
    connection.exit(0);
    assert_eq!(front.finish().0, Some(0));
}

#[test]
fn reads_stdin_only_when_and_as_far_as_it_may() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let (mut reader, mut writer) = io::pipe().unwrap();
    let front = Front::spawn(place.command(["run", "-i"]).stdin(reader.try_clone().unwrap()));
    let (mut connection, _) = daemon.accept_command();
    writer.write_all(b"0123456789abcdef").unwrap();
    connection.stdin_open(0, 4);
    assert_eq!(at(&connection.expect(kind::STDIN)), (0, &b"0123"[..]));
    connection.stdin_open(4, 10);
    assert_eq!(at(&connection.expect(kind::STDIN)), (4, &b"456789"[..]));
    connection.exit(0);
    assert_eq!(front.finish().0, Some(0));
    drop(writer);
    let mut left = String::new();
    reader.read_to_string(&mut left).unwrap();
    assert_eq!(left, "abcdef");
}

#[test]
fn leaves_stdin_to_the_next_reader_once_the_workload_has_closed_it() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let (mut reader, mut writer) = io::pipe().unwrap();
    let front = Front::spawn(place.command(["run", "-i"]).stdin(reader.try_clone().unwrap()));
    let (mut connection, _) = daemon.accept_command();
    writer.write_all(b"mine").unwrap();
    connection.stdin_open(0, 1 << 18);
    assert_eq!(at(&connection.expect(kind::STDIN)), (0, &b"mine"[..]));
    connection.send(kind::STDIN_CLOSED, &[]);
    // An answer to a later frame: the one before has been obeyed.
    connection.output(1, 0, b".");
    connection.expect(kind::WRITTEN);
    writer.write_all(b"yours").unwrap();
    connection.exit(0);
    assert_eq!(front.finish().0, Some(0));
    drop(writer);
    let mut left = String::new();
    reader.read_to_string(&mut left).unwrap();
    assert_eq!(left, "yours");
}

#[test]
fn the_end_of_stdin_is_told_with_its_offset() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let mut front = Front::spawn(place.command(["run", "-i"]).stdin(Stdio::piped()));
    let (mut connection, _) = daemon.accept_command();
    connection.stdin_open(0, 1 << 18);
    front.0.stdin.take().unwrap().write_all(b"x\n").unwrap();
    assert_eq!(at(&connection.expect(kind::STDIN)), (0, &b"x\n"[..]));
    assert_eq!(at(&connection.expect(kind::STDIN_END)).0, 2);
    connection.exit(0);
    assert_eq!(front.finish().0, Some(0));
}

#[test]
fn never_makes_an_inherited_descriptor_non_blocking() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let (input, mut feed) = io::pipe().unwrap();
    let (mut seen, output) = io::pipe().unwrap();
    let shared = (input.try_clone().unwrap(), output.try_clone().unwrap());
    let mut command = place.command(["run", "-i"]);
    command.stdin(input).stdout(output.try_clone().unwrap()).stderr(output);
    let front = Front::spawn(&mut command);
    drop(command);
    let (mut connection, _) = daemon.accept_command();
    let blocking = |fd: &dyn AsFd| {
        let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL).unwrap());
        !flags.contains(OFlag::O_NONBLOCK)
    };
    connection.send(kind::SIGNALS, &[&[1]]);
    connection.stdin_open(0, 1 << 18);
    feed.write_all(b"in").unwrap();
    connection.expect(kind::STDIN);
    connection.output(1, 0, b"out");
    connection.output(2, 0, b"err");
    connection.until(kind::WRITTEN);
    connection.until(kind::WRITTEN);
    assert!(blocking(&shared.0) && blocking(&shared.1));
    connection.exit(0);
    assert!(blocking(&shared.0) && blocking(&shared.1));
    assert_eq!(front.finish().0, Some(0));
    let mut bytes = [0; 6];
    seen.read_exact(&mut bytes).unwrap();
}

#[test]
fn works_on_descriptors_that_the_caller_made_non_blocking() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let (input, mut feed) = io::pipe().unwrap();
    let (mut seen, output) = io::pipe().unwrap();
    for fd in [input.as_fd(), output.as_fd()] {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    }
    let front = Front::spawn(place.command(["run", "-i"]).stdin(input).stdout(output));
    let (mut connection, _) = daemon.accept_command();
    connection.stdin_open(0, 1 << 18);
    feed.write_all(b"late").unwrap();
    assert_eq!(at(&connection.expect(kind::STDIN)).1, b"late");
    let bytes = vec![b'x'; CHUNK];
    for index in 0..4 {
        connection.output(1, index * CHUNK as u64, &bytes);
    }
    let mut all = vec![0; 4 * CHUNK];
    seen.read_exact(&mut all).unwrap();
    connection.exit(0);
    assert_eq!(front.finish().0, Some(0));
}

#[test]
fn signals_kill_it_until_they_are_forwarded() {
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
    ] {
        let place = Place::new();
        let daemon = Daemon::listen(&place);
        let mut front = Front::spawn(&mut place.command(["run"]));
        let (mut connection, _) = daemon.accept_command();
        front.signal(signal);
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&front.wait()),
            Some(signal as i32)
        );
        assert_eq!(connection.next(), None);
    }
}

#[test]
fn forwards_signals_and_stops_forwarding_them() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let mut front = Front::spawn(&mut place.command(["run"]));
    let (mut connection, _) = daemon.accept_command();
    connection.send(kind::SIGNALS, &[&[1]]);
    connection.output(1, 0, b".");
    connection.expect(kind::WRITTEN);
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        front.signal(signal);
        assert_eq!(connection.expect(kind::SIGNAL), (signal as u32).to_le_bytes());
    }
    connection.send(kind::SIGNALS, &[&[0]]);
    connection.output(1, 1, b".");
    connection.expect(kind::WRITTEN);
    front.signal(Signal::SIGTERM);
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&front.wait()),
        Some(Signal::SIGTERM as i32)
    );
}

#[test]
fn a_signal_that_the_caller_ignores_stays_ignored() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let mut command = place.command(["run"]);
    // SAFETY: signal is async-signal-safe.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, || {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            Ok(())
        });
    }
    let front = Front::spawn(&mut command);
    let (mut connection, _) = daemon.accept_command();
    connection.send(kind::SIGNALS, &[&[1]]);
    connection.output(1, 0, b".");
    connection.expect(kind::WRITTEN);
    front.signal(Signal::SIGHUP);
    front.signal(Signal::SIGTERM);
    assert_eq!(connection.expect(kind::SIGNAL), (Signal::SIGTERM as u32).to_le_bytes());
    connection.exit(0);
    assert_eq!(front.finish().0, Some(0));
}

#[test]
fn a_killed_front_door_drops_its_connection() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let front = Front::spawn(&mut place.command(["run"]));
    let (mut connection, _) = daemon.accept_command();
    connection.send(kind::TOKEN, &[&[1; 32]]);
    connection.send(kind::SIGNALS, &[&[1]]);
    front.signal(Signal::SIGKILL);
    assert_eq!(connection.next(), None);
}

#[test]
fn more_output_than_the_credit_is_refused() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let front = Front::spawn(&mut place.command(["run"]));
    let (mut connection, _) = daemon.accept_command();
    let bytes = vec![b'x'; CHUNK];
    for index in 0..64 {
        if connection
            .try_send(kind::STDOUT, &[&(index * CHUNK as u64).to_le_bytes(), &bytes])
            .is_err()
        {
            break;
        }
    }
    let (code, _, said) = front.finish();
    assert_eq!(code, Some(125));
    assert!(said.contains("more output than was asked for"), "{said}");
}
