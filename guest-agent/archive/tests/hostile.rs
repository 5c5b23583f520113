//! Archives that try to reach beyond their root: as layers, as copies into a container and as copies to the host.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use common::{Fields, Scratch, Tar, assert_fails, look, names};
use hrun_archive::{ArchiveError, ArchiveFailure, HostRules, extract_untrusted};

/// A root beside something that nobody may touch, with traps inside.
struct Stage {
    scratch: Scratch,
    outside: String,
}

impl Stage {
    fn new() -> Self {
        let scratch = Scratch::new();
        scratch.directory("outside/dir");
        fs::write(scratch.path("outside/secret"), b"untouched").unwrap();
        scratch.directory("root/etc");
        fs::write(scratch.path("root/etc/passwd"), b"the container's own").unwrap();
        symlink(scratch.path("outside"), scratch.path("root/absolute")).unwrap();
        symlink("../outside", scratch.path("root/climbing")).unwrap();
        symlink("/proc/self/root/etc", scratch.path("root/magic")).unwrap();
        symlink("b-loop", scratch.path("root/a-loop")).unwrap();
        symlink("a-loop", scratch.path("root/b-loop")).unwrap();
        let outside = format!("{:?}", look(&scratch.path("outside")));
        Self { scratch, outside }
    }

    fn assert_outside_untouched(&self, text: &str) {
        let now = format!("{:?}", look(&self.scratch.path("outside")));
        assert_eq!(now, self.outside, "{text}");
        let mut beside = names(&self.scratch.path(""));
        beside.retain(|name| !name.contains('/'));
        let known = ["outside", "root"];
        assert!(
            beside.iter().all(|name| known.contains(&name.as_str())),
            "{text}: {beside:?}"
        );
    }

    fn to_host(&self, archive: &[u8], owners: bool) -> Result<u64, ArchiveError> {
        let directory = File::open(self.scratch.path("root")).unwrap();
        let rules = HostRules { name: b".", owners };
        extract_untrusted(&mut &archive[..], archive.len() as u64, &directory, &rules)
    }
}

fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let node = |name, kind| Fields {
        name,
        kind,
        device: (1, 5),
        ..Fields::default()
    };
    let up = "../".repeat(50);
    vec![
        ("parent", Tar::new().file("../evil", b"x").end()),
        ("hidden parent", Tar::new().file("a/../../evil", b"x").end()),
        ("absolute parent", Tar::new().file("/../evil", b"x").end()),
        ("many parents", Tar::new().file(&format!("{up}evil")[..99], b"x").end()),
        ("only a parent", Tar::new().dir("..").end()),
        ("parent directory", Tar::new().dir("../outside/").end()),
        ("parent whiteout", Tar::new().file("../outside/.wh.secret", b"").end()),
        ("parent marker", Tar::new().file("../outside/.wh..wh..opq", b"").end()),
        ("whiteout of the parent", Tar::new().file(".wh...", b"").end()),
        ("whiteout of itself", Tar::new().file("etc/.wh..", b"").end()),
        ("whiteout of nothing", Tar::new().file("etc/.wh.", b"").end()),
        ("whiteout of the root", Tar::new().file(".wh..", b"").end()),
        (
            "whiteout through a link",
            Tar::new().file("climbing/.wh.secret", b"").end(),
        ),
        (
            "whiteout through an absolute link",
            Tar::new().file("absolute/.wh.secret", b"").end(),
        ),
        (
            "marker through a link",
            Tar::new().file("climbing/.wh..wh..opq", b"").end(),
        ),
        (
            "marker through an absolute link",
            Tar::new().file("absolute/.wh..wh..opq", b"").end(),
        ),
        ("through a link", Tar::new().file("climbing/secret", b"x").end()),
        (
            "through an absolute link",
            Tar::new().file("absolute/secret", b"x").end(),
        ),
        (
            "through an own link",
            Tar::new().link("l", "../outside").file("l/secret", b"x").end(),
        ),
        (
            "through a deep own link",
            Tar::new().link("l", &up).file("l/evil", b"x").end(),
        ),
        (
            "over an own link",
            Tar::new().link("l", "../outside/secret").file("l", b"x").end(),
        ),
        (
            "link target too long",
            Tar::new().pax(&[(b"linkpath", &[b'x'; 5000])]).link("l", "x").end(),
        ),
        (
            "directory over an own link",
            Tar::new().link("l", "../outside").dir("l").file("l/secret", b"x").end(),
        ),
        (
            "parent becomes a link",
            Tar::new()
                .dir("p")
                .file("p/a", b"")
                .link("p", "../outside")
                .file("p/secret", b"x")
                .end(),
        ),
        ("through a magic link", Tar::new().file("magic/evil", b"x").end()),
        ("through a loop", Tar::new().file("a-loop/evil", b"x").end()),
        (
            "links in circles",
            Tar::new().link("x", "y/z").link("y", "x/z").file("x/evil", b"x").end(),
        ),
        (
            "hard link to the outside",
            Tar::new().hard_link("h", "../outside/secret").end(),
        ),
        (
            "hard link through a link",
            Tar::new().hard_link("h", "climbing/secret").file("h", b"x").end(),
        ),
        (
            "hard link through an own link",
            Tar::new()
                .link("l", "../outside")
                .hard_link("h", "l/secret")
                .file("h", b"x")
                .end(),
        ),
        ("hard link to a directory", Tar::new().hard_link("h", "etc").end()),
        ("hard link to nothing", Tar::new().hard_link("h", "").end()),
        ("hard link to itself", Tar::new().hard_link("h", "h").end()),
        ("hard link to the root", Tar::new().hard_link("h", "/").end()),
        (
            "hard link in place of the root",
            Tar::new().hard_link("./", "etc/passwd").end(),
        ),
        ("file in place of the root", Tar::new().file(".", b"x").end()),
        ("link in place of the root", Tar::new().link("./", "../outside").end()),
        ("link in place of the root, absolute", Tar::new().link("/", "/").end()),
        ("link to nothing", Tar::new().link("l", "").end()),
        (
            "device as a parent",
            Tar::new().add(&node(b"d", b'3'), b"").file("d/f", b"x").end(),
        ),
        (
            "pipe as a parent",
            Tar::new().add(&node(b"p", b'6'), b"").file("p/f", b"x").end(),
        ),
        ("file as a parent", Tar::new().file("f", b"").file("f/f/f", b"x").end()),
        (
            "pipe that would block",
            Tar::new().add(&node(b"p", b'6'), b"").file("p", b"x").end(),
        ),
        (
            "data into a device",
            Tar::new().add(&node(b"d", b'4'), b"").file("d", b"x").end(),
        ),
        (
            "NUL in a name",
            Tar::new().pax(&[(b"path", b"etc\0/../evil")]).file("f", b"").end(),
        ),
        (
            "NUL in a link",
            Tar::new().pax(&[(b"linkpath", b"a\0b")]).link("l", "x").end(),
        ),
        ("no name", Tar::new().file("", b"x").end()),
        (
            "component too long",
            Tar::new().pax(&[(b"path", &[b'x'; 300])]).file("f", b"").end(),
        ),
        (
            "path too long",
            Tar::new().pax(&[(b"path", &b"x/".repeat(3000))]).file("f", b"").end(),
        ),
        (
            "extended header too long",
            Tar::new()
                .pax(&[(b"comment", &vec![b'x'; 2 << 20])])
                .file("f", b"")
                .end(),
        ),
        (
            "long name too long",
            Tar::new().extension(b'L', &vec![b'x'; 2 << 20]).file("f", b"").end(),
        ),
        (
            "negative size",
            Tar::new()
                .add(
                    &Fields {
                        name: b"f",
                        size: Some(&[0xff; 12]),
                        ..Fields::default()
                    },
                    b"",
                )
                .end(),
        ),
        (
            "huge size",
            Tar::new()
                .add(
                    &Fields {
                        name: b"f",
                        size: Some(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"),
                        ..Fields::default()
                    },
                    b"",
                )
                .end(),
        ),
        (
            "huge size in pax",
            Tar::new()
                .pax(&[(b"size", b"18446744073709551615")])
                .file("f", b"")
                .end(),
        ),
        (
            "sparse file of all bytes",
            Tar::new()
                .pax(&[
                    (b"GNU.sparse.size", b"18446744073709551615"),
                    (b"GNU.sparse.map", b"0,1"),
                ])
                .file("f", b"x")
                .end(),
        ),
        (
            "sparse map that wraps",
            Tar::new()
                .pax(&[
                    (b"GNU.sparse.size", b"10"),
                    (b"GNU.sparse.map", b"18446744073709551615,2"),
                ])
                .file("f", b"xx")
                .end(),
        ),
        (
            "sparse map without end",
            Tar::new()
                .pax(&[(b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"10")])
                .file("f", &b"9\n".repeat(10))
                .end(),
        ),
        (
            "bad capability",
            Tar::new()
                .pax(&[(b"SCHILY.xattr.security.capability", b"x")])
                .file("f", b"")
                .end(),
        ),
        (
            "nameless attribute",
            Tar::new().pax(&[(b"SCHILY.xattr.", b"x")]).file("f", b"").end(),
        ),
        (
            "owner beyond 32 bits",
            Tar::new().pax(&[(b"uid", b"4294967296")]).file("f", b"").end(),
        ),
        (
            "owner that means nobody",
            Tar::new().pax(&[(b"gid", b"4294967295")]).file("f", b"").end(),
        ),
        ("only extended headers", Tar::new().pax(&[(b"path", b"x")]).end()),
        (
            "extended headers without end",
            Tar((0..99).fold(Tar::new(), |tar, _| tar.pax(&[(b"uid", b"1")])).0)
                .file("f", b"")
                .end(),
        ),
        ("many volumes", Tar::new().extension(b'M', b"x").end()),
    ]
}

#[test]
fn nothing_outside_the_root_changes() {
    for (text, archive) in hostile() {
        let stage = Stage::new();
        let _ = stage.scratch.unpack("root", std::slice::from_ref(&archive));
        stage.assert_outside_untouched(text);

        for directory in ["/", "/etc", "climbing", "absolute"] {
            let stage = Stage::new();
            let _ = stage.scratch.extract("root", directory, &archive);
            stage.assert_outside_untouched(text);
        }

        for owners in [true, false] {
            let stage = Stage::new();
            let _ = stage.to_host(&archive, owners);
            stage.assert_outside_untouched(text);
        }
    }
}

#[test]
fn names_that_leave_the_root_are_told_as_unsafe() {
    let unsafe_ones = [
        "parent",
        "hidden parent",
        "absolute parent",
        "many parents",
        "only a parent",
        "parent directory",
        "parent whiteout",
        "parent marker",
        "whiteout of the parent",
        "whiteout of itself",
        "whiteout of nothing",
        "whiteout of the root",
        "hard link to the outside",
        "hard link in place of the root",
        "file in place of the root",
        "link in place of the root",
        "link in place of the root, absolute",
        "through a loop",
    ];
    for (text, archive) in hostile() {
        let stage = Stage::new();
        let unpacked = stage.scratch.unpack("root", &[archive]);
        if unsafe_ones.contains(&text) {
            assert_fails(unpacked, ArchiveFailure::UnsafePath, "layer sha256:0: entry ");
        } else if let Err(error) = unpacked {
            let reason = error.reason();
            let expected = matches!(reason, ArchiveFailure::CorruptArchive | ArchiveFailure::DiskFull);
            assert!(expected || text == "links in circles", "{text}: {reason:?} {error}");
        }
    }
}

#[test]
fn links_of_the_root_stay_inside_it() {
    let stage = Stage::new();
    let layer = Tar::new()
        .file("climbing/a", b"in the root's own outside")
        .file("absolute/b", b"below the whole path inside the root")
        .end();
    stage.scratch.unpack("root", &[layer]).unwrap();
    stage.assert_outside_untouched("links of the root");
    let inside = stage.scratch.path("root/outside/a");
    assert_eq!(fs::read(inside).unwrap(), b"in the root's own outside");
    let absolute = stage.scratch.path("outside").join("b");
    let below = PathBuf::from(absolute.to_str().unwrap().trim_start_matches('/'));
    assert!(stage.scratch.path("root").join(below).exists());
}
