use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, mkfifo};
use serde_json::Value;

use crate::support::{Front, Place, stderr_of};

const DAEMON: &str = include_str!("../fixtures/hrund.mjs");

/// A place with a `libexec` whose daemon is `tests/fixtures/hrund.mjs`; its keeper ends with the test.
struct Kept(Place);

impl Kept {
    fn new() -> Kept {
        Kept::with_node(&node())
    }

    fn with_node(node: &PathBuf) -> Kept {
        let place = Place::new();
        let libexec = place.path().join("libexec");
        fs::create_dir(&libexec).unwrap();
        fs::write(libexec.join("hrund.mjs"), DAEMON).unwrap();
        std::os::unix::fs::symlink(node, libexec.join("node")).unwrap();
        Kept(place)
    }

    /// In place of node: a shell script that appends a line to the FIFO `starts` and then does `rest`.
    fn with_script(rest: &str) -> (Kept, BufReader<fs::File>) {
        let place = Place::new();
        let libexec = place.path().join("libexec");
        fs::create_dir(&libexec).unwrap();
        fs::write(libexec.join("hrund.mjs"), "").unwrap();
        let starts = place.path().join("starts");
        mkfifo(&starts, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let script = format!("#!/bin/sh\necho $$ > {}\n{rest}\n", starts.display());
        fs::write(libexec.join("node"), script).unwrap();
        fs::set_permissions(libexec.join("node"), PermissionsExt::from_mode(0o755)).unwrap();
        // Open for both, so that neither side waits for the other and no end is seen between two starts.
        let starts = fs::OpenOptions::new().read(true).write(true).open(starts).unwrap();
        (Kept(place), BufReader::new(starts))
    }

    fn ask(&self, deed: &str) -> String {
        let output = self.0.command([deed]).output().unwrap();
        assert!(
            output.status.success(),
            "{deed}: {:?} {}",
            output.status,
            stderr_of(&output)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn facts(&self) -> Value {
        serde_json::from_str(&self.ask("facts")).unwrap()
    }

    fn status(&self) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.0.run().join("keeper.lock")).ok()?).ok()
    }

    fn keeper(&self) -> Option<Pid> {
        Some(Pid::from_raw(self.status()?["keeper"].as_i64()? as i32))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.0.run().join("hrund.log")).unwrap()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(keeper) = self.keeper() else { return };
        let gone = Gone::of(keeper);
        if kill(keeper, Signal::SIGTERM).is_ok() {
            gone.wait();
        }
    }
}

/// The end of a process that is not a child of the test.
pub struct Gone(std::os::fd::OwnedFd);

impl Gone {
    pub fn of(pid: Pid) -> Gone {
        // SAFETY: pidfd_open gives a new descriptor or an error.
        unsafe {
            let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0)).unwrap();
            Gone(std::os::fd::FromRawFd::from_raw_fd(fd as i32))
        }
    }

    pub fn wait(&self) {
        use nix::poll::{PollFd, PollFlags, poll};
        use std::os::fd::AsFd;
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, 60_000_u16).unwrap(), 1, "a process does not end");
    }
}

fn node() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|directory| directory.join("node"))
        .find(|node| node.exists())
        .expect("node on PATH")
}

#[test]
fn starts_a_daemon_in_clean_surroundings() {
    let kept = Kept::new();
    let (inherited, _write) = std::io::pipe().unwrap();
    fcntl(&inherited, FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let mut command = kept.0.command(["facts"]);
    command
        .env("NODE_OPTIONS", "--bad-option")
        .env("LD_PRELOAD", "/nope")
        .env("SECRET", "1")
        .env("HRUN_EXTRA", "2");
    command.env("http_proxy", "http://proxy").current_dir(kept.0.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    let keeper = kept.keeper().unwrap();
    assert_eq!(facts["parent"], keeper.as_raw());
    assert_eq!(facts["keeper"], keeper.to_string());
    assert_eq!(facts["cwd"], "/");
    assert_eq!(facts["umask"], 0o077);
    let environment = facts["environment"].as_object().unwrap();
    for name in ["NODE_OPTIONS", "LD_PRELOAD", "SECRET"] {
        assert!(!environment.contains_key(name), "{name}");
    }
    for name in [
        "PATH",
        "HRUN_ROOT",
        "HRUN_RUN",
        "HRUN_CONFIG",
        "HRUN_LIBEXEC",
        "HRUN_EXTRA",
        "http_proxy",
    ] {
        assert!(environment.contains_key(name), "{name}");
    }
    let stat = facts["stat"].as_str().unwrap().rsplit_once(") ").unwrap().1.to_owned();
    let stat: Vec<i32> = stat
        .split(' ')
        .skip(1)
        .take(4)
        .map(|field| field.parse().unwrap())
        .collect();
    let [_parent, group, session, terminal] = stat[..] else {
        panic!()
    };
    assert_ne!(session, nix::unistd::getsid(None).unwrap().as_raw());
    assert_eq!((group, terminal), (session, 0));
    assert_ne!(
        session,
        keeper.as_raw(),
        "a keeper that leads its session could gain a terminal"
    );
    let status = facts["status"].as_str().unwrap();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    assert_eq!(blocked.trim(), "0000000000000000");
    let limits = facts["limits"].as_str().unwrap();
    let files: Vec<_> = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(files[3], files[4]);
    let descriptors: Vec<_> = facts["descriptors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fd| fd.as_str().unwrap())
        .collect();
    assert!(descriptors.contains(&"0 /dev/null"), "{descriptors:?}");
    assert!(
        descriptors.iter().any(|fd| fd.starts_with("3 socket:")),
        "{descriptors:?}"
    );
    assert!(
        descriptors.iter().any(|fd| fd.starts_with("4 pipe:")),
        "{descriptors:?}"
    );
    assert!(
        !descriptors.iter().any(|fd| fd.contains("keeper.lock")),
        "{descriptors:?}"
    );
    let ours = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&inherited))).unwrap();
    assert!(
        !descriptors.iter().any(|fd| fd.ends_with(ours.to_str().unwrap())),
        "{descriptors:?}"
    );
}

#[test]
fn the_door_is_private() {
    let kept = Kept::new();
    fs::remove_dir(kept.0.run()).unwrap();
    kept.facts();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(kept.0.run()), 0o700);
    assert_eq!(mode(kept.0.socket()), 0o600);
    assert_eq!(mode(kept.0.run().join("keeper.lock")), 0o600);
    assert_eq!(mode(kept.0.run().join("hrund.log")), 0o600);
}

#[test]
fn twenty_commands_at_once_start_one_daemon() {
    let kept = Kept::new();
    let fronts: Vec<_> = (0..20).map(|_| Front::spawn(&mut kept.0.command(["facts"]))).collect();
    let pids: Vec<_> = fronts
        .into_iter()
        .map(|front| {
            let (code, out, said) = front.finish();
            assert_eq!(code, Some(0), "{said}");
            serde_json::from_str::<Value>(&out).unwrap()["pid"].as_u64().unwrap()
        })
        .collect();
    assert!(pids.iter().all(|&pid| pid == pids[0]), "{pids:?}");
    assert_eq!(kept.log().matches("hrund started").count(), 1);
}

#[test]
fn a_socket_of_the_dead_is_in_nobodys_way() {
    let kept = Kept::new();
    drop(std::os::unix::net::UnixListener::bind(kept.0.socket()).unwrap());
    fs::write(
        kept.0.run().join("keeper.lock"),
        r#"{"keeper":1,"daemon":1,"trouble":"long ago, in another boot of the host"}"#,
    )
    .unwrap();
    let facts = kept.facts();
    assert_eq!(kept.status().unwrap()["daemon"], facts["pid"]);
    assert_eq!(kept.status().unwrap()["trouble"], Value::Null);
}

#[test]
fn a_killed_daemon_is_replaced_and_its_children_live_on() {
    let kept = Kept::new();
    let first = kept.facts();
    let child = Pid::from_raw(kept.ask("orphan").parse().unwrap());
    // This one waits in the queue of the socket if it comes between the two daemons.
    let second = kept.facts();
    assert_ne!(first["pid"], second["pid"]);
    assert_eq!(first["parent"], second["parent"]);
    let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
    assert_eq!(
        stat.split(' ').nth(3).unwrap(),
        first["keeper"].as_str().unwrap(),
        "{stat}"
    );
    let gone = Gone::of(child);
    kill(child, Signal::SIGKILL).unwrap();
    gone.wait();
    // Reaped: a zombie would still be found. The keeper reaps it before it can start another daemon.
    kept.ask("crash");
    kept.facts();
    assert_eq!(kill(child, None), Err(Errno::ESRCH));
}

#[test]
fn a_daemon_that_was_asked_to_stop_takes_all_with_it() {
    let kept = Kept::new();
    kept.facts();
    let gone = Gone::of(kept.keeper().unwrap());
    kept.ask("stop");
    gone.wait();
    assert!(!kept.0.socket().exists());
    assert!(!kept.0.run().join("keeper.lock").exists());
    kept.facts();
}

#[test]
fn commands_during_stops_and_crashes_are_all_answered() {
    let kept = Kept::new();
    for round in 0..10 {
        kept.ask(if round % 3 == 2 { "crash" } else { "stop" });
        let fronts: Vec<_> = (0..4).map(|_| Front::spawn(&mut kept.0.command(["facts"]))).collect();
        for front in fronts {
            let (code, _, said) = front.finish();
            assert_eq!(code, Some(0), "round {round}: {said}");
        }
    }
}

#[test]
fn sigterm_to_the_keeper_ends_both() {
    let kept = Kept::new();
    let daemon = Pid::from_raw(kept.facts()["pid"].as_i64().unwrap() as i32);
    let keeper = kept.keeper().unwrap();
    let gone = [Gone::of(daemon), Gone::of(keeper)];
    kill(keeper, Signal::SIGTERM).unwrap();
    gone.iter().for_each(Gone::wait);
    assert!(!kept.0.socket().exists());
    assert!(!kept.0.run().join("keeper.lock").exists());
}

#[test]
fn a_daemon_notices_the_death_of_its_keeper_and_the_next_command_starts_both() {
    let kept = Kept::new();
    let first = kept.facts();
    let daemon = Gone::of(Pid::from_raw(first["pid"].as_i64().unwrap() as i32));
    kill(kept.keeper().unwrap(), Signal::SIGKILL).unwrap();
    daemon.wait();
    let second = kept.facts();
    assert_ne!(first["parent"], second["parent"]);
}

#[test]
fn a_command_goes_on_when_its_daemon_or_even_the_keeper_was_killed() {
    for deed in ["attach", "attachAlone"] {
        let kept = Kept::new();
        let front = Front::spawn(&mut kept.0.command([deed]));
        assert_eq!(front.finish(), (Some(7), "one two".into(), "".into()), "{deed}");
    }
}

#[test]
fn two_places_have_two_daemons() {
    let (one, other) = (Kept::new(), Kept::new());
    let (first, second) = (one.facts(), other.facts());
    assert_ne!(first["pid"], second["pid"]);
    assert_ne!(first["environment"]["HRUN_RUN"], second["environment"]["HRUN_RUN"]);
    drop(one);
    assert_eq!(other.facts()["pid"], second["pid"]);
}

#[test]
fn a_daemon_that_keeps_dying_is_told_with_the_end_of_its_log() {
    let (kept, mut starts) = Kept::with_script("echo the kernel is missing >&2; exit 3");
    let output = kept.0.command(["ps"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let said = stderr_of(&output);
    assert!(
        said.starts_with("hrun: hrund does not stay up: it keeps ending, the last time it (pid "),
        "{said}"
    );
    assert!(said.contains("exit status: 3"), "{said}");
    assert!(said.contains("the kernel is missing"), "{said}");
    for _ in 0..5 {
        starts.read_line(&mut String::new()).unwrap();
    }
    // It is not given up: another start comes, later.
    starts.read_line(&mut String::new()).unwrap();
    assert!(
        kept.log()
            .contains("it does so too often; another is started in 250 ms")
    );
}

#[test]
fn a_daemon_that_cannot_be_executed_is_told_too() {
    let kept = Kept::with_node(&PathBuf::from("/nonexistent/node"));
    let output = kept.0.command(["ps"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(
        stderr_of(&output).contains("No such file or directory"),
        "{}",
        stderr_of(&output)
    );
}

#[test]
fn a_hung_daemon_is_told_with_its_pid() {
    let (kept, mut starts) = Kept::with_script("while :; do sleep 1000; done");
    let output = kept
        .0
        .command(["ps"])
        .env("HRUN_DAEMON_TIMEOUT_MS", "1000")
        .output()
        .unwrap();
    let mut pid = String::new();
    starts.read_line(&mut pid).unwrap();
    assert_eq!(output.status.code(), Some(125));
    let expected = format!("hrun: hrund (pid {}) does not answer", pid.trim());
    assert!(stderr_of(&output).starts_with(&expected), "{}", stderr_of(&output));
}

#[test]
fn a_chattering_daemon_cannot_fill_the_memory_of_the_host() {
    let kept = Kept::new();
    kept.ask("chatter");
    let gone = Gone::of(kept.keeper().unwrap());
    kept.ask("stop");
    gone.wait();
    let size: u64 = ["hrund.log", "hrund.log.1"]
        .map(|name| fs::metadata(kept.0.run().join(name)).unwrap().len())
        .iter()
        .sum();
    assert!(size <= 2 << 20, "{size}");
}

#[test]
fn serves_callers_elsewhere_when_it_was_started_from_other_namespaces() {
    let kept = Kept::new();
    let inner = kept.0.command(["facts"]);
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount"])
        .arg(inner.get_program())
        .args(inner.get_args());
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap());
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(kept.facts()["pid"], facts["pid"]);
}

#[test]
fn leaves_nothing_of_the_caller_open() {
    let kept = Kept::new();
    let (mut read, write) = std::io::pipe().unwrap();
    fcntl(&write, FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let mut command = kept.0.command(["facts"]);
    command.stderr(write);
    assert!(command.status().unwrap().success());
    drop(command);
    // Ends only if neither keeper nor daemon holds the other end.
    assert_eq!(read.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert!(fs::metadata(kept.0.socket()).unwrap().file_type().is_socket());
    let probe = UnixStream::connect(kept.0.socket()).unwrap();
    assert!(!OFlag::from_bits_retain(fcntl(&probe, FcntlArg::F_GETFL).unwrap()).contains(OFlag::O_NONBLOCK));
}
