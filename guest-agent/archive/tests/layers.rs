//! Image layers on a real file system. Needs root, as the agent has it.

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::{Fields, Scratch, Tar, look, names, xattrs};

#[test]
fn every_kind_of_entry_arrives_as_it_was_stored() {
    let scratch = Scratch::new();
    let node = |name, kind, device| Fields {
        name,
        kind,
        device,
        mode: 0o640,
        owner: (5, 6),
        ..Fields::default()
    };
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let binary: Vec<u8> = (0..=255).collect();
    let layer = Tar::new()
        .dir("./")
        .dir("dir/")
        .add(
            &Fields {
                name: b"dir/suid",
                mode: 0o6755,
                owner: (1000, 50),
                ..Fields::default()
            },
            b"program",
        )
        .add(&node(b"dir/char", b'3', (1, 3)), b"")
        .add(&node(b"dir/block", b'4', (259, 4095)), b"")
        .add(&node(b"dir/fifo", b'6', (0, 0)), b"")
        .link("dir/absolute", "/etc/passwd")
        .link("dir/dangling", "../../nowhere")
        .hard_link("dir/same", "dir/suid")
        .hard_link("dir/same2", "/dir/suid")
        .pax(&[
            (b"SCHILY.xattr.security.capability", capability),
            (b"SCHILY.xattr.user.binary", &binary),
            (b"SCHILY.xattr.trusted.t", b""),
            (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
            (b"mtime", b"1234567890.123456789"),
            (b"path", "dir/é漢字".as_bytes()),
            (b"uid", b"4000000000"),
        ])
        .file("short", b"x")
        .add(
            &Fields {
                name: b"sticky",
                kind: b'5',
                mode: 0o1777,
                mtime: 77,
                ..Fields::default()
            },
            b"",
        )
        .file("sticky/child", b"later than its parent")
        .end();
    let totals = scratch.unpack("root", std::slice::from_ref(&layer)).unwrap();
    assert_eq!(totals.bytes_read, layer.len() as u64);
    assert_eq!(totals.entries, 13);

    let seen = look(&scratch.path("root"));
    let of = |name: &str| &seen[name];
    assert_eq!(of("dir/suid").mode, 0o106_755);
    assert_eq!(of("dir/suid").owner, (1000, 50));
    assert_eq!(of("dir/suid").content, b"program");
    assert_eq!(of("dir/suid").links, 3);
    assert_eq!(of("dir/same2"), of("dir/suid"));
    assert_eq!(of("dir/char").mode, 0o020_640);
    assert_eq!(of("dir/char").device, rustix::fs::makedev(1, 3));
    assert_eq!(of("dir/block").device, rustix::fs::makedev(259, 4095));
    assert_eq!(of("dir/block").owner, (5, 6));
    assert_eq!(of("dir/fifo").mode, 0o010_640);
    assert_eq!(of("dir/fifo").mtime, (1_000_000_000, 0));
    assert_eq!(of("dir/absolute").content, b"/etc/passwd");
    assert_eq!(of("dir/dangling").content, b"../../nowhere");
    assert_eq!(of("dir/dangling").mtime, (1_000_000_000, 0));
    let named = of("dir/é漢字");
    assert_eq!(named.mtime, (1_234_567_890, 123_456_789));
    assert_eq!(named.owner.0, 4_000_000_000);
    assert_eq!(named.xattrs[b"security.capability".as_slice()], capability);
    assert_eq!(named.xattrs[b"user.binary".as_slice()], binary);
    assert_eq!(named.xattrs[b"trusted.t".as_slice()], b"");
    assert_eq!(named.xattrs.len(), 3);
    assert_eq!(of("sticky").mtime, (77, 0));
    assert_eq!(of("sticky").mode, 0o041_777);
    assert_eq!(of("").mtime, (1_000_000_000, 0));
}

#[test]
fn later_layers_replace_merge_and_hide() {
    let scratch = Scratch::new();
    let lower = Tar::new()
        .dir("a")
        .file("a/kept", b"1")
        .file("a/gone", b"1")
        .dir("a/tree")
        .dir("a/tree/deep")
        .file("a/tree/deep/leaf", b"1")
        .file("becomes-dir", b"1")
        .dir("becomes-file")
        .file("becomes-file/inside", b"1")
        .link("link", "a")
        .file("shared", b"old")
        .hard_link("other-name", "shared")
        .end();
    let upper = Tar::new()
        .add(
            &Fields {
                name: b"a",
                kind: b'5',
                mode: 0o700,
                mtime: 5,
                ..Fields::default()
            },
            b"",
        )
        .file("a/.wh.gone", b"")
        .file("a/.wh.tree", b"")
        .file("a/.wh.never-was", b"")
        .file("no/such/.wh.place", b"")
        .dir("becomes-dir")
        .file("becomes-dir/inside", b"2")
        .file("becomes-file", b"2")
        .dir("link")
        .file("link/own", b"2")
        .file("shared", b"new")
        .hard_link("to-lower", "a/kept")
        .file(".wh..wh.aufs", b"")
        .dir(".wh..wh.plnk")
        .file(".wh..wh.plnk/1.2", b"x")
        .end();
    scratch.unpack("root", &[lower, upper]).unwrap();
    let root = scratch.path("root");
    assert_eq!(
        names(&root),
        [
            "a",
            "a/kept",
            "becomes-dir",
            "becomes-dir/inside",
            "becomes-file",
            "link",
            "link/own",
            "other-name",
            "shared",
            "to-lower",
        ]
    );
    let seen = look(&root);
    assert_eq!(seen["a"].mode, 0o040_700);
    assert_eq!(seen["a"].mtime, (5, 0));
    assert_eq!(seen["shared"].content, b"new");
    assert_eq!(seen["other-name"].content, b"old");
    assert_eq!(seen["to-lower"].links, 2);
}

#[test]
fn a_marker_hides_only_what_lies_below_its_layer() {
    let lower = Tar::new()
        .dir("d")
        .file("d/old", b"1")
        .dir("d/sub")
        .file("d/sub/old", b"1")
        .dir("d/sub/deep")
        .file("d/sub/deep/old", b"1")
        .dir("d/kept-name")
        .file("d/kept-name/old", b"1")
        .end();
    let marker = |tar: Tar| tar.file("d/.wh..wh..opq", b"");
    let own = |tar: Tar| {
        tar.dir("d")
            .file("d/new", b"2")
            .file("d/sub/deep/new", b"2")
            .file("d/kept-name", b"2")
    };
    let expected = ["d", "d/kept-name", "d/new", "d/sub", "d/sub/deep", "d/sub/deep/new"];
    for upper in [own(marker(Tar::new())), marker(own(Tar::new()))] {
        let scratch = Scratch::new();
        scratch.unpack("root", &[lower.clone(), upper.end()]).unwrap();
        assert_eq!(names(&scratch.path("root")), expected);
    }
}

#[test]
fn a_whiteout_never_hides_what_its_own_layer_brings() {
    let lower = Tar::new().dir("d").file("d/old", b"1").file("f", b"1").end();
    let whiteouts = |tar: Tar| tar.file(".wh.d", b"").file(".wh.f", b"");
    let own = |tar: Tar| tar.file("d/new", b"2").file("f", b"2");
    for upper in [own(whiteouts(Tar::new())), whiteouts(own(Tar::new()))] {
        let scratch = Scratch::new();
        scratch.unpack("root", &[lower.clone(), upper.end()]).unwrap();
        assert_eq!(names(&scratch.path("root")), ["d", "d/new", "f"]);
        assert_eq!(fs::read(scratch.path("root/f")).unwrap(), b"2");
    }
}

#[test]
fn a_marker_at_the_root_clears_all_lower_layers() {
    let scratch = Scratch::new();
    let lower = Tar::new().file("a/b/c", b"1").file("d", b"1").end();
    let upper = Tar::new().file(".wh..wh..opq", b"").file("e", b"2").end();
    scratch.unpack("root", &[lower, upper]).unwrap();
    assert_eq!(names(&scratch.path("root")), ["e"]);
}

#[test]
fn directories_that_a_layer_does_not_name_keep_their_times() {
    let scratch = Scratch::new();
    let lower = Tar::new().dir("d").file("d/a", b"1").dir("e").file("e/a", b"1").end();
    let upper = Tar::new().file("d/b", b"2").file("e/.wh.a", b"").end();
    scratch.unpack("root", &[lower, upper]).unwrap();
    let seen = look(&scratch.path("root"));
    assert_eq!(seen["d"].mtime, (1_000_000_000, 0));
    assert_eq!(seen["e"].mtime, (1_000_000_000, 0));
}

#[test]
fn a_directory_entry_describes_the_whole_directory() {
    let scratch = Scratch::new();
    let lower = Tar::new()
        .pax(&[(b"SCHILY.xattr.user.old", b"1"), (b"SCHILY.xattr.user.both", b"1")])
        .dir("d")
        .end();
    let upper = Tar::new().pax(&[(b"SCHILY.xattr.user.both", b"2")]).dir("d").end();
    scratch.unpack("root", &[lower, upper]).unwrap();
    let left = xattrs(&scratch.path("root/d"));
    assert_eq!(
        left.into_iter().collect::<Vec<_>>(),
        [(b"user.both".to_vec(), b"2".to_vec())]
    );
}

#[test]
fn links_inside_the_tree_lead_where_they_would_in_a_container() {
    let scratch = Scratch::new();
    let layer = Tar::new()
        .dir("usr/lib")
        .link("lib", "/usr/lib")
        .file("lib/a", b"through an absolute link")
        .link("up", "../../../../usr")
        .file("up/lib/b", b"a link cannot climb over the root")
        .link("var", "real/var")
        .file("var/run/c", b"a link that led nowhere yet")
        .end();
    scratch.unpack("root", &[layer]).unwrap();
    let expected = [
        "lib",
        "real",
        "real/var",
        "real/var/run",
        "real/var/run/c",
        "up",
        "usr",
        "usr/lib",
        "usr/lib/a",
        "usr/lib/b",
        "var",
    ];
    assert_eq!(names(&scratch.path("root")), expected);
    assert_eq!(
        names(&scratch.path(""))
            .iter()
            .filter(|name| name.ends_with("/b"))
            .count(),
        1
    );
}

#[test]
fn owners_do_not_leak_from_a_set_gid_parent() {
    let scratch = Scratch::new();
    let layer = Tar::new()
        .add(
            &Fields {
                name: b"d",
                kind: b'5',
                mode: 0o2775,
                owner: (0, 50),
                ..Fields::default()
            },
            b"",
        )
        .file("d/f", b"")
        .dir("d/sub")
        .link("d/l", "f")
        .end();
    scratch.unpack("root", &[layer]).unwrap();
    let seen = look(&scratch.path("root"));
    for name in ["d/f", "d/sub", "d/l"] {
        assert_eq!(seen[name].owner, (0, 0), "{name}");
    }
    assert_eq!(seen["d"].mode, 0o042_775);
    assert_eq!(seen["d/sub"].mode, 0o040_755);
}

#[test]
fn names_may_be_longer_than_a_header_has_room_for() {
    let scratch = Scratch::new();
    let component = "c".repeat(255);
    let long = [component.as_str(); 15].join("/");
    let gnu = format!("{long}/gnu\0");
    let target = "t/".repeat(2000);
    let layer = Tar::new()
        .extension(b'L', gnu.as_bytes())
        .file("cut", b"1")
        .pax(&[(b"path", format!("{long}/pax").as_bytes())])
        .file("cut", b"2")
        .extension(b'K', target.as_bytes())
        .link("link", "cut")
        .end();
    scratch.unpack("root", &[layer]).unwrap();
    assert_eq!(fs::read(scratch.path("root").join(&long).join("gnu")).unwrap(), b"1");
    assert_eq!(fs::read(scratch.path("root").join(&long).join("pax")).unwrap(), b"2");
    let link = fs::read_link(scratch.path("root/link")).unwrap();
    assert_eq!(link.to_str().unwrap(), target);
}

#[test]
fn trees_deeper_than_a_path_are_removed() {
    let scratch = Scratch::new();
    let root = scratch.directory("root");
    // Links chain directories of 250 bytes each far beyond what one path can name.
    let mut directory = root.try_clone().unwrap();
    let name = "d".repeat(250);
    for _ in 0..200 {
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mkdirat(&directory, &name, mode).unwrap();
        let flags = rustix::fs::OFlags::RDONLY;
        directory = rustix::fs::openat(&directory, &name, flags, mode).unwrap().into();
    }
    symlink("nowhere", scratch.path("root").join(&name).join("link")).unwrap();
    let layer = Tar::new().file(&format!(".wh.{}", &name[..96]), b"").end();
    scratch.unpack("root", &[layer]).unwrap();
    let path = format!(".wh.{name}");
    let layer = Tar::new().pax(&[(b"path", path.as_bytes())]).file("cut", b"").end();
    scratch.unpack("root", &[layer]).unwrap();
    assert_eq!(names(&scratch.path("root")), [""; 0]);
}
