use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hrun_front::frame::{Body, FrameReader, LIMIT, kind};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::pty::Winsize;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, getsockopt, recvmsg, sockopt};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, mkfifo};
use serde_json::{Value, json};

use crate::hands::{FINE, Lent};
use crate::keeper::Gone;
use crate::support::{Connection, Daemon, Front, PATIENCE, Place, at, written};

/// A stand-in asked for through the hands of a front door; this process is its reaper, so its code can be seen.
pub struct Standing {
    lent: Lent,
    pub pid: Pid,
    control: PathBuf,
    ended: bool,
}

impl Standing {
    fn ask(request: Value) -> Result<Standing, Box<(Errno, String, Lent)>> {
        Standing::ask_with(Lent::new(), request)
    }

    pub fn ask_with(mut lent: Lent, mut request: Value) -> Result<Standing, Box<(Errno, String, Lent)>> {
        set_child_subreaper(true).unwrap();
        let vm = lent.place.path().join("vm");
        fs::create_dir_all(&vm).unwrap();
        let control = vm.join("control.sock");
        request["op"] = "standIn".into();
        request["controlPath"] = control.to_str().into();
        request["socketPath"] = vm.join("share.sock").to_str().into();
        let done = lent.call(request, b"");
        if done.errno != FINE {
            let message = done.result["message"].as_str().unwrap().to_owned();
            return Err(Box::new((done.errno, message, lent)));
        }
        let pid = Pid::from_raw(done.result["pid"].as_i64().unwrap() as i32);
        Ok(Standing {
            lent,
            pid,
            control,
            ended: false,
        })
    }

    pub fn new(request: Value) -> Standing {
        Standing::ask(request).map_err(|refusal| refusal.1).unwrap()
    }

    pub fn path(&self) -> &Path {
        self.lent.place.path()
    }

    pub fn dial(&self) -> (Connection, Value) {
        let (connection, hello) = self.dial_any();
        assert_eq!(hello["pid"], self.pid.as_raw());
        (connection, hello)
    }

    /// Also one that has another number in a pid namespace of its own.
    pub fn dial_any(&self) -> (Connection, Value) {
        let stream = UnixStream::connect(&self.control).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let peer = getsockopt(&stream, sockopt::PeerCredentials).unwrap();
        assert_eq!(peer.pid(), self.pid.as_raw());
        let mut connection = Connection {
            stream,
            frames: FrameReader::new(LIMIT),
        };
        let body = connection.expect(kind::HELLO);
        let hello: Value = serde_json::from_slice(Body(&body).sized().unwrap()).unwrap();
        assert_eq!(hello["version"], 1);
        connection.expect(kind::WRITTEN);
        connection.expect(kind::WRITTEN);
        (connection, hello)
    }

    pub fn exit(mut self, connection: Connection, code: u8) {
        connection.exit(code);
        assert_eq!(
            waitpid(self.pid, None).unwrap(),
            WaitStatus::Exited(self.pid, code.into())
        );
        self.ended = true;
    }

    pub fn children(&self) -> Vec<Pid> {
        let text = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).unwrap();
        text.split_whitespace()
            .map(|pid| Pid::from_raw(pid.parse().unwrap()))
            .collect()
    }

    pub fn mounts(&self) -> Vec<String> {
        let table = fs::read_to_string(format!("/proc/{}/mountinfo", self.pid)).unwrap();
        table
            .lines()
            .map(|line| line.split(' ').nth(4).unwrap().to_owned())
            .collect()
    }

    fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        if !self.ended {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// In place of a share server: a shell, with the tree as `$0`.
pub fn script(text: &str) -> Value {
    json!(["/bin/sh", "-c", text, "{tree}"])
}

fn fifo(path: &Path) -> PathBuf {
    mkfifo(path, Mode::from_bits_truncate(0o600)).unwrap();
    path.to_owned()
}

#[test]
fn serves_one_tree_of_all_shares() {
    let beside = tempfile::tempdir().unwrap();
    let root = beside.path();
    // Own mounts below a share, seen by this thread and what it starts only.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .unwrap();
    for name in ["ro/nested", "rw/nested"] {
        let path = root.join(name);
        fs::create_dir_all(&path).unwrap();
        mount(Some("nested"), &path, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        fs::write(path.join("file"), "nested\n").unwrap();
    }
    fs::write(root.join("ro/file"), "in a directory\n").unwrap();
    fs::write(root.join("single"), "alone\n").unwrap();
    fs::write(root.join("single.rw"), "").unwrap();
    let lent = Lent::new();
    let out = lent.place.path().join("out");
    fs::create_dir(&out).unwrap();
    let done = fifo(&out.join("done"));
    let server = script(
        "cd \"$0\"
         { ls; cat ro/file ro/nested/file rw/nested/file single
           for target in top ro/new ro/nested/new single; do (: > $target) 2>/dev/null && echo \"$target was written\"; done
           mknod rw/device c 1 3 && cat rw/device 2>/dev/null && echo 'a device was opened'
           echo changed > rw/new; echo changed > rw/nested/new; echo changed > single.rw; echo $$ $#; } > out/report 2>&1
         echo > out/done",
    );
    let share = |name: &str, readonly: bool| json!({ "name": name, "path": root.join(name), "readonly": readonly });
    let shares = [
        share("ro", true),
        share("rw", false),
        share("single", true),
        share("single.rw", false),
        json!({ "name": "out", "path": "out", "readonly": false }),
    ];
    let request = json!({ "shares": shares, "server": server });
    let standing = Standing::ask_with(lent, request).map_err(|refusal| refusal.1).unwrap();
    let waited = fs::read_to_string(done).unwrap();
    assert_eq!(waited, "\n");
    let report = fs::read_to_string(out.join("report")).unwrap();
    let expected = "out\nro\nrw\nsingle\nsingle.rw\nin a directory\nnested\nnested\nalone\n1 0\n";
    // The shell is process 1 of its namespace.
    assert_eq!(report, expected);
    for name in ["rw/new", "rw/nested/new", "single.rw"] {
        assert_eq!(fs::read_to_string(root.join(name)).unwrap(), "changed\n", "{name}");
    }
    // Nothing of the caller but the shares: these file systems can be unmounted as soon as they are closed.
    let mut mounts = standing.mounts();
    mounts.sort();
    let expected = [
        "/",
        "/out",
        "/ro",
        "/ro/nested",
        "/rw",
        "/rw/nested",
        "/single",
        "/single.rw",
    ];
    assert_eq!(mounts, expected);
    let (mut connection, _) = standing.dial();
    connection.send(kind::CLOSE_SHARES, &[]);
    // The shell may have ended meanwhile.
    connection.until(kind::SHARES_CLOSED);
    assert_eq!(standing.mounts(), ["/"]);
    standing.exit(connection, 0);
    for name in ["ro/nested", "rw/nested"] {
        umount2(&root.join(name), MntFlags::empty()).unwrap();
    }
}

#[test]
fn serves_with_virtiofsd() {
    let server = json!([
        "/usr/lib/qemu/virtiofsd",
        "--fd={fd}",
        "-o",
        "source={tree},cache=auto",
        "--rlimit-nofile=0"
    ]);
    let shares = json!([{ "name": "0", "path": ".", "readonly": true }]);
    let mut standing = Standing::new(json!({ "shares": shares, "server": server }));
    let (connection, hello) = standing.dial();
    assert_eq!(hello["server"], "running");
    let path = standing.path().join("vm/share.sock");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut vhost = UnixStream::connect(path).unwrap();
    vhost.set_read_timeout(Some(PATIENCE)).unwrap();
    // VHOST_USER_GET_FEATURES, version 1, no payload.
    vhost.write_all(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    let mut reply = [0; 20];
    vhost.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..4], [1, 0, 0, 0]);
    assert_eq!(reply[8..12], [8, 0, 0, 0]);
    let gone: Vec<_> = standing.children().into_iter().map(Gone::of).collect();
    assert!(!gone.is_empty());
    // However the stand-in goes, its server goes too.
    kill(standing.pid, Signal::SIGKILL).unwrap();
    gone.iter().for_each(Gone::wait);
    assert_eq!(vhost.read(&mut reply).unwrap_or(0), 0);
    assert_eq!(
        waitpid(standing.pid, None).unwrap(),
        WaitStatus::Signaled(standing.pid, Signal::SIGKILL, false)
    );
    standing.ended = true;
    drop(connection);
}

#[test]
fn exits_only_when_told_and_waits_for_the_next_daemon() {
    let standing = Standing::new(json!({}));
    let (connection, hello) = standing.dial();
    assert_eq!(hello["server"], "none");
    drop(connection);
    let (mut connection, _) = standing.dial();
    // Not a frame that it knows: as good as lost.
    connection.send(0xee, &[]);
    assert_eq!(connection.next(), None);
    kill(standing.pid, Signal::SIGTERM).unwrap();
    kill(standing.pid, Signal::SIGUSR1).unwrap();
    let (mut connection, _) = standing.dial();
    let mut seen = [connection.expect(kind::SIGNAL), connection.expect(kind::SIGNAL)];
    seen.sort_by_key(|body| body[0]);
    assert_eq!(
        seen,
        [Signal::SIGUSR1, Signal::SIGTERM].map(|signal| (signal as u32).to_le_bytes().to_vec())
    );
    // The newest daemon is the one that counts.
    let (newest, _) = standing.dial();
    assert_eq!(connection.next(), None);
    standing.exit(newest, 143);
}

#[test]
fn holds_little_memory() {
    let shares = json!([{ "name": "a", "path": ".", "readonly": false }]);
    let standing = Standing::new(json!({ "shares": shares, "server": script("exec sleep 1000") }));
    let (connection, _) = standing.dial();
    assert!(standing.status("RssAnon:") <= 512, "{} kB", standing.status("RssAnon:"));
    standing.exit(connection, 0);
}

#[test]
fn tells_how_its_server_ended() {
    let server = script("echo the disk is on fire >&2; read line < \"$0/a/go\"; exit 3");
    let lent = Lent::new();
    let go = fifo(&lent.place.path().join("go"));
    let shares = json!([{ "name": "a", "path": ".", "readonly": true }]);
    let request = json!({ "shares": shares, "server": server });
    let standing = Standing::ask_with(lent, request).map_err(|refusal| refusal.1).unwrap();
    let (mut connection, hello) = standing.dial();
    assert_eq!(hello["server"], "running");
    fs::write(go, "\n").unwrap();
    assert_eq!(
        connection.expect(kind::SERVER_ENDED),
        b"exit code 3: the disk is on fire"
    );
    drop(connection);
    let (connection, hello) = standing.dial();
    assert_eq!(hello["server"], "exit code 3: the disk is on fire");
    standing.exit(connection, 1);
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let share = |path: &str| json!([{ "name": "a", "path": path, "readonly": true }]);
    let cases = [
        (
            json!({ "shares": share("missing") }),
            Errno::ENOENT,
            "cannot share missing: ",
        ),
        (
            json!({ "shares": share("/dev/null") }),
            Errno::EINVAL,
            "neither a directory nor a regular file",
        ),
        (
            json!({ "shares": share(".."), "server": ["/nonexistent"] }),
            Errno::ENOENT,
            "/nonexistent",
        ),
        (
            json!({ "shares": [{ "name": "../a", "path": ".", "readonly": true }] }),
            Errno::EINVAL,
            "../a",
        ),
        (
            json!({ "stdio": "terminal", "consoleSocket": "missing" }),
            Errno::ENOENT,
            "cannot connect to missing",
        ),
        (
            json!({ "server": script("exit 0"), "shares": share("file/below") }),
            Errno::ENOTDIR,
            "file/below",
        ),
    ];
    for (request, expected, part) in cases {
        let lent = Lent::new();
        fs::write(lent.place.path().join("file"), "").unwrap();
        let Err(refusal) = Standing::ask_with(lent, request.clone()) else {
            panic!("{request}")
        };
        let (errno, message, lent) = *refusal;
        assert_eq!(errno, expected, "{request}: {message}");
        assert!(message.contains(part), "{request}: {message}");
        assert_eq!(
            fs::read_dir(lent.place.path().join("vm")).unwrap().count(),
            0,
            "{request}"
        );
        lent.end();
    }
}

#[test]
fn does_not_take_a_socket_that_is_there() {
    let lent = Lent::new();
    fs::create_dir(lent.place.path().join("vm")).unwrap();
    let _other = UnixListener::bind(lent.place.path().join("vm/control.sock")).unwrap();
    let Err(refusal) = Standing::ask_with(lent, json!({})) else {
        panic!()
    };
    let (errno, _, lent) = *refusal;
    assert_eq!(errno, Errno::EADDRINUSE);
    assert!(lent.place.path().join("vm/control.sock").exists());
    lent.end();
}

#[test]
fn creates_a_missing_directory_if_asked() {
    let shares = json!([{ "name": "a", "path": "new/er/est", "readonly": false, "create": true }]);
    let standing = Standing::new(json!({ "shares": shares }));
    assert!(standing.path().join("new/er/est").is_dir());
    assert_eq!(standing.mounts(), ["/", "/a"]);
    let (connection, _) = standing.dial();
    standing.exit(connection, 0);
}

#[test]
fn outlives_the_front_door_and_holds_none_of_its_descriptors() {
    let mut standing = Standing::new(json!({}));
    let mut stdout = standing.lent.front.0.stdout.take().unwrap();
    standing.lent.front.signal(Signal::SIGKILL);
    standing.lent.front.wait();
    let mut nothing = Vec::new();
    stdout.read_to_end(&mut nothing).unwrap();
    let (connection, _) = standing.dial();
    standing.exit(connection, 6);
}

#[test]
fn relays_the_stdio_that_it_inherits() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let mut front = Front::spawn(
        place
            .command(["run", "-i"])
            .current_dir(place.path())
            .stdin(Stdio::piped()),
    );
    let (stdin, mut stdout) = (front.0.stdin.take().unwrap(), front.0.stdout.take().unwrap());
    let mut stderr = front.0.stderr.take().unwrap();
    let (connection, _) = daemon.accept_command();
    let lent = Lent {
        connection,
        front,
        place,
        last: 0,
    };
    let standing = Standing::ask_with(lent, json!({ "stdio": "inherit" }))
        .map_err(|refusal| refusal.1)
        .unwrap();
    let (mut connection, _) = standing.dial();
    connection.output(1, 0, b"out ");
    assert_eq!(written(&connection.expect(kind::WRITTEN)), (1, 4));
    connection.stdin_open(0, 100);
    (&stdin).write_all(b"in").unwrap();
    assert_eq!(at(&connection.expect(kind::STDIN)), (0, &b"in"[..]));
    drop(connection);
    let stream = UnixStream::connect(&standing.control).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut connection = Connection {
        stream,
        frames: FrameReader::new(LIMIT),
    };
    let body = connection.expect(kind::HELLO);
    let hello: Value = serde_json::from_slice(Body(&body).sized().unwrap()).unwrap();
    assert_eq!(
        (hello["stdoutReceived"].as_u64(), hello["stderrReceived"].as_u64()),
        (Some(4), Some(0))
    );
    assert_eq!(written(&connection.expect(kind::WRITTEN)), (1, 4));
    assert_eq!(written(&connection.expect(kind::WRITTEN)), (2, 0));
    connection.output(1, 0, b"out again");
    connection.output(2, 0, b"err");
    connection.stdin_open(0, 100);
    assert_eq!(at(&connection.until(kind::STDIN)), (0, &b"in"[..]));
    drop(stdin);
    assert_eq!(at(&connection.until(kind::STDIN_END)).0, 2);
    connection.send(kind::EXIT, &[&[77]]);
    connection.until(kind::EXIT_ACK);
    assert_eq!(
        waitpid(standing.pid, None).unwrap(),
        WaitStatus::Exited(standing.pid, 77)
    );
    let Standing { lent, .. } = &standing;
    kill(lent.front.pid(), Signal::SIGKILL).unwrap();
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    stderr.read_to_string(&mut text).unwrap();
    assert_eq!(text, "out againerr");
}

nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, Winsize);

#[test]
fn owns_a_terminal_whose_master_the_manager_gets() {
    let lent = Lent::new();
    let console = UnixListener::bind(lent.place.path().join("console.sock")).unwrap();
    let manager = std::thread::spawn(move || {
        let (stream, _) = console.accept().unwrap();
        receive_fd(&stream)
    });
    let request = json!({ "stdio": "terminal", "consoleSocket": "console.sock" });
    let standing = Standing::ask_with(lent, request).map_err(|refusal| refusal.1).unwrap();
    let (master, name) = manager.join().unwrap();
    assert!(name.starts_with("/dev/pts/"), "{name}");
    let mut master = File::from(master);
    let (mut connection, hello) = standing.dial();
    assert_eq!(hello["rows"], 0);
    connection.stdin_open(0, 100);
    // Raw: neither echo nor signal, and no newline becomes two bytes.
    master.write_all(b"\x03\r").unwrap();
    assert_eq!(at(&connection.expect(kind::STDIN)), (0, &b"\x03\r"[..]));
    connection.output(1, 0, b"a\nb");
    let mut out = [0; 3];
    master.read_exact(&mut out).unwrap();
    assert_eq!(&out, b"a\nb");
    connection.expect(kind::WRITTEN);
    for (rows, columns) in [(0, 0), (40, 120)] {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the winsize lives through the call.
        unsafe { set_size(master.as_raw_fd(), &size) }.unwrap();
    }
    assert_eq!(connection.expect(kind::WINDOW), [40, 0, 120, 0]);
    drop(master);
    assert_eq!(connection.until(kind::SIGNAL), (Signal::SIGHUP as u32).to_le_bytes());
    standing.exit(connection, 129);
}

fn receive_fd(stream: &UnixStream) -> (OwnedFd, String) {
    let mut name = [0; 64];
    let mut space = nix::cmsg_space!(RawFd);
    let mut parts = [std::io::IoSliceMut::new(&mut name)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
    let length = message.bytes;
    let fd = message.cmsgs().unwrap().find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just made it for this message.
    let fd = unsafe { OwnedFd::from_raw_fd(fd.expect("a descriptor")) };
    (fd, String::from_utf8_lossy(&name[..length]).into_owned())
}

#[test]
fn works_for_a_user_who_is_not_root() {
    const USER: u32 = 65534;
    // The system calls, because those of libc change all threads.
    // SAFETY: they take numbers.
    unsafe {
        libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>());
        libc::syscall(libc::SYS_setresgid, USER, USER, USER);
        libc::syscall(libc::SYS_setresuid, USER, USER, USER);
    }
    let lent = Lent::new();
    let shared = lent.place.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let done = fifo(&shared.join("done"));
    let server = script("(: > \"$0/ro/new\") 2>/dev/null && echo wrote > \"$0/rw/done\"; id -u > \"$0/rw/done\"");
    let share = |name: &str, readonly: bool| json!({ "name": name, "path": "shared", "readonly": readonly });
    let request = json!({ "shares": [share("ro", true), share("rw", false)], "server": server });
    let standing = Standing::ask_with(lent, request).map_err(|refusal| refusal.1).unwrap();
    assert_eq!(fs::read_to_string(done).unwrap(), format!("{USER}\n"));
    let (connection, _) = standing.dial();
    standing.exit(connection, 8);
}
