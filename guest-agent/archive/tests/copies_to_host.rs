//! Copies from an untrusted container onto the host.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use common::{Fields, Scratch, Tar, assert_fails, look, names};
use hrun_archive::{ArchiveError, ArchiveFailure, HostRules, extract_untrusted};

/// A directory with links in it that lead elsewhere.
fn stage() -> Scratch {
    let scratch = Scratch::new();
    scratch.directory("outside");
    fs::write(scratch.path("outside/secret"), b"untouched").unwrap();
    scratch.directory("root/etc");
    symlink(scratch.path("outside"), scratch.path("root/absolute")).unwrap();
    symlink("../outside", scratch.path("root/climbing")).unwrap();
    symlink("/proc/self/root/etc", scratch.path("root/magic")).unwrap();
    symlink("b-loop", scratch.path("root/a-loop")).unwrap();
    symlink("a-loop", scratch.path("root/b-loop")).unwrap();
    scratch
}

/// Extracts `archive` below `root/` of `scratch`.
fn to_host(scratch: &Scratch, archive: &[u8], owners: bool) -> Result<u64, ArchiveError> {
    let directory = scratch.directory("root");
    let rules = HostRules { name: b".", owners };
    extract_untrusted(&mut &archive[..], archive.len() as u64, &directory, &rules)
}

#[test]
fn a_copy_to_the_host_follows_no_link_at_all() {
    for name in ["climbing/secret", "absolute/secret", "magic/evil", "a-loop/evil"] {
        let scratch = stage();
        let archive = Tar::new().dir("./").file(name, b"x").end();
        let copied = to_host(&scratch, &archive, true);
        assert_fails(copied, ArchiveFailure::UnsafePath, "leads through a link");
    }
    let scratch = stage();
    let archive = Tar::new().dir("./").hard_link("h", "climbing/secret").end();
    assert_fails(
        to_host(&scratch, &archive, true),
        ArchiveFailure::UnsafePath,
        "hard link",
    );
}

#[test]
fn a_copy_to_the_host_brings_no_device_no_set_id_and_no_owner_unasked() {
    let archive = Tar::new()
        .dir("./")
        .add(
            &Fields {
                name: b"null",
                kind: b'3',
                device: (1, 3),
                ..Fields::default()
            },
            b"",
        )
        .pax(&[
            (
                b"SCHILY.xattr.security.capability",
                b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ),
            (b"SCHILY.xattr.user.mine", b"1"),
            (b"SCHILY.xattr.trusted.t", b"1"),
        ])
        .add(
            &Fields {
                name: b"suid",
                mode: 0o6755,
                owner: (1000, 1000),
                ..Fields::default()
            },
            b"program",
        )
        .end();
    let scratch = stage();
    assert_eq!(to_host(&scratch, &archive, false).unwrap(), 1);
    let seen = look(&scratch.path("root"));
    assert!(!seen.contains_key("null"));
    assert_eq!(seen["suid"].mode, 0o100_755);
    assert_eq!(seen["suid"].owner, (0, 0));
    assert_eq!(seen["suid"].xattrs.len(), 1);

    let scratch = stage();
    assert_eq!(to_host(&scratch, &archive, true).unwrap(), 1);
    let seen = look(&scratch.path("root"));
    assert!(!seen.contains_key("null"));
    assert_eq!(seen["suid"].mode, 0o106_755);
    assert_eq!(seen["suid"].owner, (1000, 1000));
    assert_eq!(seen["suid"].xattrs.len(), 2);
}

#[test]
fn a_copy_to_the_host_writes_nothing_beside_what_was_asked_for() {
    let rules = HostRules {
        name: b"wanted",
        owners: false,
    };
    let extract = |scratch: &Scratch, archive: &[u8]| {
        let directory = scratch.directory("host");
        extract_untrusted(&mut &archive[..], archive.len() as u64, &directory, &rules)
    };
    let scratch = Scratch::new();
    let archive = Tar::new().dir("d").file("d/f", b"").file("d2", b"").end();
    assert_fails(extract(&scratch, &archive), ArchiveFailure::UnsafePath, "entry \"d2\"");
    assert_eq!(names(&scratch.path("host")), ["wanted", "wanted/f"]);

    let scratch = Scratch::new();
    let archive = Tar::new().file("f", b"x").hard_link("g", "f").end();
    assert_fails(
        extract(&scratch, &archive),
        ArchiveFailure::UnsafePath,
        "not below \"f\"",
    );

    let scratch = Scratch::new();
    let archive = Tar::new().dir("./").file("./f", b"x").hard_link("./g", "./f").end();
    extract(&scratch, &archive).unwrap();
    assert_eq!(names(&scratch.path("host")), ["wanted", "wanted/f", "wanted/g"]);
}

#[test]
fn a_caller_who_is_not_root_gets_everything_as_its_own() {
    const CHILD: &str = "HRUN_ARCHIVE_TEST_DIRECTORY";
    const NAME: &str = "a_caller_who_is_not_root_gets_everything_as_its_own";
    if let Some(directory) = std::env::var_os(CHILD) {
        let archive = Tar::new()
            .dir("./")
            .add(
                &Fields {
                    name: b"closed",
                    kind: b'5',
                    mode: 0o555,
                    owner: (1000, 1000),
                    ..Fields::default()
                },
                b"",
            )
            .add(
                &Fields {
                    name: b"closed/suid",
                    mode: 0o6755,
                    owner: (1000, 1000),
                    ..Fields::default()
                },
                b"program",
            )
            .end();
        let directory = File::open(directory).unwrap();
        let rules = HostRules {
            name: b".",
            owners: true,
        };
        extract_untrusted(&mut archive.as_slice(), archive.len() as u64, &directory, &rules).unwrap();
        return;
    }
    let scratch = Scratch::new();
    scratch.directory("root");
    std::os::unix::fs::chown(scratch.path("root"), Some(65534), Some(65534)).unwrap();
    // Where the test was built nobody else may be allowed to look.
    fs::copy(std::env::current_exe().unwrap(), scratch.path("test")).unwrap();
    let mut child = std::process::Command::new("setpriv");
    child.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    child.arg(scratch.path("test")).args(["--exact", NAME]);
    common::run(child.env(CHILD, scratch.path("root")));
    let seen = look(&scratch.path("root"));
    assert_eq!(seen["closed"].mode, 0o040_555);
    assert_eq!(seen["closed"].mtime, (1_000_000_000, 0));
    assert_eq!(seen["closed/suid"].mode, 0o100_755);
    assert_eq!(seen["closed/suid"].owner, (65534, 65534));
}
