use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;

use hrun_front::frame::kind;

use crate::support::{Daemon, Front, Place, stderr_of};

#[test]
fn hands_over_what_it_was_called_with_and_exits_with_the_code_it_is_told() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let mut command = place.command(["run", "--rm", "busybox", ""]);
    let front = Front::spawn(command.env("GREETING", "hello").current_dir(place.path()));
    let (mut connection, hello) = daemon.accept_command();
    assert_eq!(hello.argv, [&b"run"[..], b"--rm", b"busybox", b""]);
    assert!(hello.environment.contains(&b"GREETING=hello".to_vec()));
    let header = &hello.header;
    assert_eq!(header["version"], 1);
    assert_eq!(header["pid"], front.0.id());
    assert_eq!(header["ppid"], std::process::id());
    assert_eq!(header["uid"], nix::unistd::getuid().as_raw());
    assert_eq!(header["tty"], serde_json::json!([false, false, false]));
    assert_eq!(header["cwd"].as_str(), place.path().canonicalize().unwrap().to_str());
    assert!(header["startedMonotonicNs"].as_u64().unwrap() > 0);
    connection.output(1, 0, b"out");
    connection.output(2, 0, b"err");
    connection.exit(42);
    assert_eq!(front.finish(), (Some(42), "out".into(), "err".into()));
}

#[test]
fn passes_bytes_that_are_no_text_and_a_large_environment() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let odd = OsString::from_vec(b"a\xff\xfe=\n".to_vec());
    let mut command = place.command([&odd]);
    for number in 0..20 {
        command.env(format!("LARGE_{number}"), "x".repeat(100_000));
    }
    let front = Front::spawn(command.env("ODD", &odd));
    let (connection, hello) = daemon.accept_command();
    assert_eq!(hello.argv, [b"a\xff\xfe=\n"]);
    assert!(hello.environment.contains(&b"ODD=a\xff\xfe=\n".to_vec()));
    assert!(hello.environment.iter().map(Vec::len).sum::<usize>() > 2_000_000);
    connection.exit(0);
    assert_eq!(front.finish().0, Some(0));
}

#[test]
fn prints_a_refusal_as_it_is() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let front = Front::spawn(&mut place.command(["run"]));
    let mut connection = daemon.accept();
    connection.hello();
    connection.send(
        kind::REFUSED,
        &["hrund 9 speaks version 2 of the wire, this hrun version 1".as_bytes()],
    );
    let said = "hrund 9 speaks version 2 of the wire, this hrun version 1\n";
    assert_eq!(front.finish(), (Some(125), "".into(), said.into()));
}

#[test]
fn says_so_when_the_answer_is_of_another_protocol() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        &[3, 0, 0, 0, 0xee, 1, 2],
        &[0, 0, 0, 0],
    ] {
        let place = Place::new();
        let daemon = Daemon::listen(&place);
        let front = Front::spawn(&mut place.command(["ps"]));
        let mut connection = daemon.accept();
        connection.hello();
        std::io::Write::write_all(&mut connection.stream, answer).unwrap();
        let (code, _, said) = front.finish();
        assert_eq!(code, Some(125));
        let expected = format!("hrun: hrund (pid {}) speaks another protocol", std::process::id());
        assert!(said.starts_with(&expected), "{said}");
    }
}

#[test]
fn waits_for_a_slow_daemon() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let front = Front::spawn(&mut place.command(["ps"]));
    let mut connection = daemon.accept();
    connection.hello();
    // Longer than the front door waits between two looks at the keeper's word.
    std::thread::sleep(std::time::Duration::from_millis(600));
    connection.send(kind::ACCEPTED, &[&1_u32.to_le_bytes()]);
    connection.exit(0);
    assert_eq!(front.finish().0, Some(0));
}

#[test]
fn names_the_pid_of_a_daemon_that_hangs() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let front = Front::spawn(place.command(["ps"]).env("HRUN_DAEMON_TIMEOUT_MS", "300"));
    let mut connection = daemon.accept();
    connection.hello();
    let (code, _, said) = front.finish();
    assert_eq!(code, Some(125));
    let expected = format!("hrun: hrund (pid {}) does not answer", std::process::id());
    assert!(said.starts_with(&expected), "{said}");
}

#[test]
fn a_hello_that_nobody_reads_times_out_too() {
    let place = Place::new();
    let _daemon = Daemon::listen(&place);
    let mut command = place.command(["ps"]);
    for number in 0..10 {
        command.env(format!("LARGE_{number}"), "x".repeat(100_000));
    }
    let output = command.env("HRUN_DAEMON_TIMEOUT_MS", "300").output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr_of(&output).contains("does not answer"), "{}", stderr_of(&output));
}

#[test]
fn asks_again_when_the_daemon_dies_before_it_accepts() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let front = Front::spawn(&mut place.command(["ps"]));
    drop(daemon.accept());
    let mut connection = daemon.accept();
    connection.hello();
    drop(connection);
    let (connection, _) = daemon.accept_command();
    connection.exit(3);
    assert_eq!(front.finish().0, Some(3));
}

#[test]
fn says_what_is_missing_when_no_daemon_can_be_started() {
    let place = Place::new();
    let output = place.command(["ps"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(
        stderr_of(&output).starts_with("hrun: cannot start its daemon: no hrund.mjs in "),
        "{}",
        stderr_of(&output)
    );
}

#[test]
fn refuses_a_run_directory_that_others_may_write() {
    let place = Place::new();
    std::fs::set_permissions(place.run(), PermissionsExt::from_mode(0o777)).unwrap();
    let output = place.command(["ps"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr_of(&output).contains("mode 0777"), "{}", stderr_of(&output));
}

#[test]
fn follows_no_link_to_a_run_directory() {
    let place = Place::new();
    let link = place.path().join("link");
    std::os::unix::fs::symlink(place.run(), &link).unwrap();
    let output = place.command(["ps"]).env("HRUN_RUN", &link).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(
        stderr_of(&output).starts_with("hrun: cannot use "),
        "{}",
        stderr_of(&output)
    );
    assert_eq!(std::fs::read_dir(place.run()).unwrap().count(), 0);
}

#[test]
fn refuses_a_time_out_that_is_no_number() {
    let place = Place::new();
    let _daemon = Daemon::listen(&place);
    let output = place
        .command(["ps"])
        .env("HRUN_DAEMON_TIMEOUT_MS", "soon")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr_of(&output).contains("HRUN_DAEMON_TIMEOUT_MS"));
}

#[test]
fn a_connection_lost_without_a_token_is_a_failure() {
    for stdin in [&b""[..], b"unread by the daemon"] {
        let place = Place::new();
        let daemon = Daemon::listen(&place);
        let front = Front::spawn(&mut place.command(["run"]));
        let (mut connection, _) = daemon.accept_command();
        if !stdin.is_empty() {
            connection.stdin_open(0, 100);
        }
        drop(connection);
        let (code, _, said) = front.finish();
        assert_eq!(code, Some(125));
        let expected = format!(
            "hrun: the connection to hrund (pid {}) was lost before it answered\n",
            std::process::id()
        );
        assert_eq!(said, expected);
    }
}

#[test]
fn unknown_and_broken_frames_end_a_command() {
    let cases: [(u8, &[u8]); 5] = [
        (0xee, b""),
        (kind::STDOUT, b"short"),
        (kind::HAND, b"\0\0\0\0\xff\xff\xff\xff"),
        (kind::TOKEN, b"x"),
        (kind::EXIT, b""),
    ];
    for (kind, body) in cases {
        let place = Place::new();
        let daemon = Daemon::listen(&place);
        let front = Front::spawn(&mut place.command(["run"]));
        let (mut connection, _) = daemon.accept_command();
        connection.send(kind, &[body]);
        let (code, _, said) = front.finish();
        assert_eq!(code, Some(125));
        assert!(said.contains("does not keep to the protocol"), "{said}");
    }
}
