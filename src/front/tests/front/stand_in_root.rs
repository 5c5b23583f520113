//! A stand-in whose root is that of a container: what managers look at through its pid.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Pid, Uid};
use serde_json::{Value, json};

use hrun_front::frame::kind;

use crate::hands::Lent;
use crate::stand_in::{Standing, script};

/// A root file system with little in it, and two things to bind into it.
fn prepared() -> Lent {
    let lent = Lent::new();
    let place = lent.place.path();
    for directory in ["root/etc", "root/proc", "data"] {
        fs::create_dir_all(place.join(directory)).unwrap();
    }
    fs::write(place.join("root/etc/hosts"), "of the image\n").unwrap();
    fs::write(place.join("hosts"), "of the manager\n").unwrap();
    fs::write(place.join("data/file"), "data\n").unwrap();
    symlink("/", place.join("root/up")).unwrap();
    lent
}

fn request(server: Value) -> Value {
    json!({
        "root": "root",
        "shares": [
            { "name": "root", "path": "root", "readonly": true },
            { "name": "0", "path": "hosts", "readonly": true, "at": "/etc/hosts" },
            { "name": "1", "path": "data", "readonly": false, "at": "/up/made/data" },
        ],
        "mountPoints": [
            { "path": "/dev/pts", "directory": true },
            { "path": "/etc/hosts", "share": "0" },
            { "path": "/up/made/data", "share": "1" },
        ],
        "server": server,
        "title": ["/bin/workload", "--with", "an argument"],
        "namespaces": { "new": ["pid", "network", "ipc", "uts"], "join": [] },
    })
}

fn standing(request: Value) -> Standing {
    let asked = Standing::ask_with(prepared(), request).map_err(|refusal| refusal.1);
    asked.unwrap()
}

fn inside(pid: Pid, command: &[&str]) -> String {
    let output = Command::new("nsenter")
        .args(["-t", &pid.to_string(), "-n"])
        .args(command)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn is_the_container_to_whoever_looks_through_its_pid() {
    let standing = standing(request(script("exec sleep 1000")));
    let (mut connection, hello) = standing.dial_any();
    assert_eq!(hello["pid"], 1);
    let root = format!("/proc/{}/root", standing.pid);
    let read = |path: &str| fs::read_to_string(Path::new(&root).join(path)).unwrap();
    assert_eq!(read("etc/hosts"), "of the manager\n");
    assert_eq!(read("made/data/file"), "data\n");
    assert!(Path::new(&root).join("dev/pts").is_dir());
    assert!(read("proc/1/status").contains("Name:\tworkload"));
    let error = fs::write(Path::new(&root).join("etc/new"), "").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    fs::write(Path::new(&root).join("made/data/new"), "").unwrap();
    assert!(standing.path().join("data/new").exists());

    let command = fs::read_to_string(format!("/proc/{}/cmdline", standing.pid)).unwrap();
    assert_eq!(command.trim_end_matches('\0'), "/bin/workload\0--with\0an argument");
    let own = |name: &str| fs::metadata(format!("/proc/self/ns/{name}")).unwrap().ino();
    let its = |name: &str| fs::metadata(format!("/proc/{}/ns/{name}", standing.pid)).unwrap().ino();
    for name in ["net", "ipc", "uts", "mnt", "pid"] {
        assert_ne!(own(name), its(name), "{name}");
    }
    let links = inside(standing.pid, &["ip", "-o", "link"]);
    assert!(links.lines().count() == 1 && links.contains("LOOPBACK,UP"), "{links}");

    connection.send(kind::CLOSE_SHARES, &[]);
    connection.until(kind::SHARES_CLOSED);
    assert_eq!(standing.mounts(), ["/"]);
    standing.exit(connection, 7);
}

#[test]
fn shows_its_server_nothing_of_its_own() {
    let lent = prepared();
    let out = lent.place.path().join("data/report");
    nix::unistd::mkfifo(&out, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let server = script(
        "cd \"$0\"; { ls; cat root/etc/hosts; ls root/proc root/made/data | wc -l; } > 1/report 2>&1; exec sleep 1000",
    );
    let standing = Standing::ask_with(lent, request(server)).map_err(|refusal| refusal.1);
    let standing = standing.unwrap();
    let report = fs::read_to_string(out).unwrap();
    // Two names of directories and a blank line.
    assert_eq!(report, "0\n1\nroot\nof the image\n3\n");
    let (connection, _) = standing.dial_any();
    standing.exit(connection, 0);
}

/// Of every thread: what is permitted, effective, inheritable, ambient and the bound.
fn assert_rights(pid: Pid, permitted: u64) {
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            u64::from_str_radix(line.unwrap().trim_start_matches([':', '\t']), 16).unwrap()
        };
        let sets = ["CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs"].map(field);
        assert_eq!(sets, [permitted, permitted, permitted, 0, 0, 1], "{status}");
    }
}

const SYS_ADMIN: u64 = 1 << 21;
const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_CHROOT: u64 = 1 << 18;

#[test]
fn takes_the_mounts_away_from_a_root_that_is_somebody_elses() {
    let lent = prepared();
    let root = lent.place.path().join("root");
    nix::unistd::chown(&root, Some(Uid::from_raw(4321)), None).unwrap();
    fs::set_permissions(&root, Permissions::from_mode(0o700)).unwrap();
    let standing = Standing::ask_with(lent, request(script("exec sleep 1000"))).map_err(|refusal| refusal.1);
    let standing = standing.unwrap();
    assert_rights(standing.pid, SYS_ADMIN | DAC_READ_SEARCH);
    let (mut connection, _) = standing.dial_any();
    connection.send(kind::CLOSE_SHARES, &[]);
    connection.until(kind::SHARES_CLOSED);
    assert_eq!(standing.mounts(), ["/"]);
    standing.exit(connection, 0);
}

#[test]
fn has_an_exec_beside_it_in_all_its_namespaces() {
    let first = standing(request(script("exec sleep 1000")));
    let (connection, _) = first.dial_any();
    let of = json!({ "title": ["second"], "namespaces": { "of": first.pid.as_raw() } });
    let second = Standing::new(of);
    let (its, _) = second.dial_any();
    assert_rights(second.pid, 0);
    for name in ["net", "ipc", "uts", "mnt", "pid"] {
        let of = |pid: Pid| fs::metadata(format!("/proc/{pid}/ns/{name}")).unwrap().ino();
        assert_eq!(of(first.pid), of(second.pid), "{name}");
    }
    let seen = fs::read_to_string(format!("/proc/{}/root/proc/1/comm", second.pid)).unwrap();
    assert_eq!(seen, "workload\n");
    second.exit(its, 3);
    first.exit(connection, 0);
}

#[test]
fn lends_its_shares_to_the_server_of_another() {
    let virtiofsd = json!([
        "/usr/lib/qemu/virtiofsd",
        "--fd={fd}",
        "-o",
        "source={tree}",
        "--rlimit-nofile=0"
    ]);
    let first = standing(request(virtiofsd));
    let (connection, _) = first.dial_any();
    // It answers once its tree is its root.
    let mut vhost = UnixStream::connect(first.path().join("vm/share.sock")).unwrap();
    vhost.write_all(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    vhost.read_exact(&mut [0; 20]).unwrap();
    let server = first.children()[0];
    let mut second = request(Value::Null);
    second["servedBy"] = first.pid.as_raw().into();
    second["root"] = "b-root".into();
    for (share, name) in ["b-root", "b-0", "b-1"].into_iter().enumerate() {
        second["shares"][share]["name"] = name.into();
    }
    second["mountPoints"] = json!([]);
    let second = standing(second);
    let (mut its, hello) = second.dial_any();
    assert_eq!(hello["server"], "none");
    assert_rights(second.pid, SYS_ADMIN | DAC_READ_SEARCH | SYS_CHROOT);
    let table = fs::read_to_string(format!("/proc/{server}/mountinfo")).unwrap();
    let served = |name: &str| {
        table
            .lines()
            .filter(|line| line.split(' ').nth(4).is_some_and(|at| at == format!("/{name}")))
            .count()
    };
    assert_eq!(["b-root", "b-0", "b-1"].map(served), [1, 1, 1]);
    its.send(kind::CLOSE_SHARES, &[]);
    its.until(kind::SHARES_CLOSED);
    let table = fs::read_to_string(format!("/proc/{server}/mountinfo")).unwrap();
    assert!(!table.contains(" /b-"), "{table}");
    second.exit(its, 0);
    first.exit(connection, 0);
}

#[test]
fn shows_owners_as_they_are_mapped() {
    let mut wanted = request(script("exec sleep 1000"));
    let map = json!({ "uids": [[0, 100_000, 10]], "gids": [[0, 200_000, 10]], "recursive": false });
    wanted["shares"][2]["idMap"] = map;
    let standing = standing(wanted);
    let (mut connection, _) = standing.dial_any();
    let inside = |path: &str| format!("/proc/{}/root/{path}", standing.pid);
    let found = fs::metadata(inside("made/data/file")).unwrap();
    assert_eq!((found.uid(), found.gid()), (100_000, 200_000));
    std::os::unix::fs::chown(inside("made/data/file"), Some(100_007), Some(200_008)).unwrap();
    let found = fs::metadata(standing.path().join("data/file")).unwrap();
    assert_eq!((found.uid(), found.gid()), (7, 8));
    let other = fs::metadata(inside("etc/hosts")).unwrap();
    assert_eq!((other.uid(), other.gid()), (0, 0));
    connection.send(kind::EXIT, &[&[0]]);
    connection.until(kind::EXIT_ACK);
}
