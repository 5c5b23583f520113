use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use hrun_front::frame::{Body, kind};
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::support::{Connection, Daemon, Front, Place, written};

pub struct Lent {
    pub connection: Connection,
    pub front: Front,
    pub place: Place,
    pub last: u32,
}

pub struct Done {
    id: u32,
    pub errno: Errno,
    pub result: Value,
    bytes: Vec<u8>,
}

impl Lent {
    pub fn new() -> Lent {
        let place = Place::new();
        let daemon = Daemon::listen(&place);
        let front = Front::spawn(place.command(["run"]).current_dir(place.path()));
        let (connection, _) = daemon.accept_command();
        Lent {
            connection,
            front,
            place,
            last: 0,
        }
    }

    fn ask(&mut self, request: Value, bytes: &[u8]) -> u32 {
        self.last += 1;
        let json = request.to_string();
        let head = [self.last.to_le_bytes(), (json.len() as u32).to_le_bytes()].concat();
        self.connection.send(kind::HAND, &[&head, json.as_bytes(), bytes]);
        self.last
    }

    fn done(&mut self) -> Done {
        let body = self.connection.until(kind::HAND_DONE);
        let mut body = Body(&body);
        let (id, errno) = (body.u32().unwrap(), body.u32().unwrap());
        let result = serde_json::from_slice(body.sized().unwrap()).unwrap();
        Done {
            id,
            errno: Errno::from_raw(errno as i32),
            result,
            bytes: body.0.to_vec(),
        }
    }

    pub fn call(&mut self, request: Value, bytes: &[u8]) -> Done {
        let id = self.ask(request, bytes);
        let done = self.done();
        assert_eq!(done.id, id);
        done
    }

    fn open(&mut self, path: &str, flags: &[&str]) -> Value {
        let done = self.call(
            json!({ "op": "open", "path": path, "flags": flags, "mode": 0o640 }),
            b"",
        );
        assert_eq!(done.errno, Errno::UnknownErrno, "open {path}");
        done.result["handle"].clone()
    }

    pub fn end(self) {
        self.connection.exit(0);
        assert_eq!(self.front.finish().0, Some(0));
    }
}

pub const FINE: Errno = Errno::UnknownErrno;

#[test]
fn writes_reads_renames_and_removes_files_of_the_caller() {
    let mut lent = Lent::new();
    let handle = lent.open("new.txt", &["write", "create", "exclusive"]);
    let big = vec![b'b'; 512 << 10];
    assert_eq!(lent.call(json!({ "op": "write", "handle": handle }), &big).errno, FINE);
    assert_eq!(
        lent.call(json!({ "op": "write", "handle": handle }), b"end").errno,
        FINE
    );
    assert_eq!(lent.call(json!({ "op": "close", "handle": handle }), b"").errno, FINE);
    assert_eq!(
        lent.call(json!({ "op": "close", "handle": handle }), b"").errno,
        Errno::EBADF
    );
    assert_eq!(
        lent.call(json!({ "op": "rename", "from": "new.txt", "to": "kept.txt" }), b"")
            .errno,
        FINE
    );
    let path = lent.place.path().join("kept.txt");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);

    let opened = lent.call(
        json!({ "op": "open", "path": "kept.txt", "flags": ["read"], "mode": 0 }),
        b"",
    );
    assert_eq!(opened.result["size"], big.len() + 3);
    assert_eq!(opened.result["isDirectory"], false);
    let inode = fs::metadata(&path).unwrap().ino();
    assert_eq!(opened.result["inode"], inode.to_string());
    let descriptor = format!("/proc/{}/fd/{}", lent.front.pid(), opened.result["fd"]);
    assert_eq!(fs::metadata(descriptor).unwrap().ino(), inode);
    let handle = &opened.result["handle"];
    let read = json!({ "op": "read", "handle": handle, "length": 512 << 10 });
    assert_eq!(lent.call(read.clone(), b"").bytes, big);
    assert_eq!(lent.call(read.clone(), b"").bytes, b"end");
    assert_eq!(lent.call(read, b"").bytes, b"");
    let too_much = json!({ "op": "read", "handle": handle, "length": (512 << 10) + 1 });
    assert_eq!(lent.call(too_much, b"").errno, Errno::EINVAL);

    assert_eq!(
        lent.call(json!({ "op": "unlink", "path": "kept.txt" }), b"").errno,
        FINE
    );
    assert!(!path.exists());
    lent.end();
}

#[test]
fn tells_what_lies_at_a_path() {
    let mut lent = Lent::new();
    let root = lent.place.path().canonicalize().unwrap();
    fs::write(root.join("file"), "12345").unwrap();
    std::os::unix::fs::symlink("file", root.join("link")).unwrap();
    let link = lent
        .call(json!({ "op": "stat", "path": "link", "follow": false }), b"")
        .result;
    assert_eq!(link["linkTarget"], "file");
    assert_eq!(link["mode"].as_u64().unwrap() & 0o170000, 0o120000);
    let file = lent
        .call(json!({ "op": "stat", "path": "link", "follow": true }), b"")
        .result;
    let found = fs::metadata(root.join("file")).unwrap();
    assert_eq!(file["size"], 5);
    assert_eq!(file["realPath"].as_str(), root.join("file").to_str());
    assert_eq!(file["inode"], found.ino().to_string());
    assert_eq!(file["device"], found.dev().to_string());
    assert_eq!(file["uid"], found.uid());
    assert_eq!(file["mtimeMs"], found.mtime() * 1000 + found.mtime_nsec() / 1_000_000);
    lent.end();
}

#[test]
fn says_why_not() {
    let mut lent = Lent::new();
    fs::write(lent.place.path().join("file"), "").unwrap();
    std::os::unix::fs::symlink("file", lent.place.path().join("link")).unwrap();
    let open = |path: &str, flags: &[&str]| json!({ "op": "open", "path": path, "flags": flags, "mode": 0o600 });
    let cases = [
        (open("missing", &["read"]), Errno::ENOENT),
        (open("file", &["write", "create", "exclusive"]), Errno::EEXIST),
        (open("link", &["read", "nofollow"]), Errno::ELOOP),
        (open("file/below", &["read"]), Errno::ENOTDIR),
        (open("a\0b", &["read"]), Errno::EINVAL),
        (open("file", &[]), Errno::EINVAL),
        (open("file", &["execute"]), Errno::EINVAL),
        (json!({ "op": "open", "path": "file" }), Errno::EINVAL),
        (
            json!({ "op": "open", "path": "file", "flags": ["read"], "mode": 1_u64 << 40 }),
            Errno::EINVAL,
        ),
        (json!({ "op": "read", "handle": 7, "length": 1 }), Errno::EBADF),
        (json!({ "op": "read", "handle": "x", "length": 1 }), Errno::EINVAL),
        (json!({ "op": "unlink", "path": "." }), Errno::EISDIR),
        (json!({ "op": "rename", "from": "missing", "to": "x" }), Errno::ENOENT),
        (
            json!({ "op": "stat", "path": "missing", "follow": true }),
            Errno::ENOENT,
        ),
        (json!({ "op": "dance" }), Errno::ENOSYS),
        (json!({}), Errno::EINVAL),
        (json!([]), Errno::EINVAL),
    ];
    for (request, errno) in cases {
        assert_eq!(lent.call(request.clone(), b"").errno, errno, "{request}");
    }
    lent.end();
}

#[test]
fn lends_a_bounded_number_of_handles() {
    let mut lent = Lent::new();
    fs::write(lent.place.path().join("file"), "").unwrap();
    let open = json!({ "op": "open", "path": "file", "flags": ["read"], "mode": 0 });
    let opened: Vec<Errno> = (0..65).map(|_| lent.call(open.clone(), b"").errno).collect();
    assert!(opened[..64].iter().all(|&errno| errno == FINE));
    assert_eq!(opened[64], Errno::EMFILE);
    lent.end();
}

#[test]
fn a_fifo_that_waits_holds_up_neither_output_nor_other_hands() {
    let mut lent = Lent::new();
    let fifo = lent.place.path().join("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    let waiting = lent.ask(
        json!({ "op": "open", "path": "fifo", "flags": ["read"], "mode": 0 }),
        b"",
    );
    lent.connection.output(1, 0, b"goes on");
    assert_eq!(written(&lent.connection.expect(kind::WRITTEN)), (1, 7));
    assert_eq!(
        lent.call(json!({ "op": "stat", "path": "fifo", "follow": true }), b"")
            .errno,
        FINE
    );
    let writer = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    let opened = lent.done();
    assert_eq!((opened.id, opened.errno), (waiting, FINE));
    let read = lent.ask(
        json!({ "op": "read", "handle": opened.result["handle"], "length": 100 }),
        b"",
    );
    assert_eq!(
        lent.call(json!({ "op": "stat", "path": "fifo", "follow": true }), b"")
            .errno,
        FINE
    );
    std::io::Write::write_all(&mut &writer, b"now").unwrap();
    let done = lent.done();
    assert_eq!((done.id, &done.bytes[..]), (read, &b"now"[..]));
    lent.end();
}

#[test]
fn requests_of_one_handle_keep_their_order() {
    let mut lent = Lent::new();
    let handle = lent.open("ordered", &["write", "create"]);
    let mut expected = String::new();
    for number in 0..200 {
        let line = format!("line {number}\n");
        lent.ask(json!({ "op": "write", "handle": handle }), line.as_bytes());
        expected += &line;
    }
    lent.ask(json!({ "op": "close", "handle": handle }), b"");
    for _ in 0..201 {
        assert_eq!(lent.done().errno, FINE);
    }
    assert_eq!(fs::read_to_string(lent.place.path().join("ordered")).unwrap(), expected);
    lent.end();
}

#[test]
fn becomes_another_program_with_all_that_it_has() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let front = Front::spawn(
        place
            .command(["run"])
            .current_dir(place.path())
            .env("GREETING", "hello"),
    );
    let pid = front.pid();
    let (connection, _) = daemon.accept_command();
    let mut lent = Lent {
        connection,
        front,
        place,
        last: 0,
    };
    let missing = lent.call(json!({ "op": "become", "path": "/nope", "args": ["nope"] }), b"");
    assert_eq!(missing.errno, Errno::ENOENT);
    let script = "echo $$ $GREETING $0 $1; grep SigBlk /proc/self/status; exit 7";
    let args = ["name", "-c", script, "first", "second"];
    lent.ask(json!({ "op": "become", "path": "sh", "args": args }), b"");
    let (code, stdout, _) = lent.front.finish();
    assert_eq!(code, Some(7));
    assert_eq!(stdout, format!("{pid} hello first second\nSigBlk:\t0000000000000000\n"));
    assert!(lent.connection.next().is_none());
}

#[test]
fn handles_die_with_their_connection() {
    let place = Place::new();
    let daemon = Daemon::listen(&place);
    let front = Front::spawn(place.command(["run"]).current_dir(place.path()));
    let (connection, _) = daemon.accept_command();
    let mut lent = Lent {
        connection,
        front,
        place,
        last: 0,
    };
    lent.connection.send(kind::TOKEN, &[&[1; 32]]);
    let handle = lent.open("file", &["write", "create"]);
    let mut next = {
        lent.connection.stream.shutdown(std::net::Shutdown::Both).unwrap();
        daemon.accept()
    };
    next.expect(kind::RESUME);
    next.send(kind::ACCEPTED, &[&1_u32.to_le_bytes()]);
    lent.connection = next;
    assert_eq!(
        lent.call(json!({ "op": "write", "handle": handle }), b"x").errno,
        Errno::EBADF
    );
    lent.end();
}
