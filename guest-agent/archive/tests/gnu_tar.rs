//! GNU tar as the judge, in both directions and in all its formats.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use common::{Fields, Scratch, Seen, Tar, look, names, run};
use hrun_archive::pack_path;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// A tree with one of everything.
fn plant(root: &Path, with_long_names: bool) {
    let at = |name: &str| root.join(name);
    fs::create_dir_all(at("dir/nested/empty")).unwrap();
    fs::write(at("file"), b"content").unwrap();
    fs::write(at("empty"), b"").unwrap();
    fs::write(at("block"), vec![7; 512]).unwrap();
    fs::write(
        at("dir/large"),
        (0..3_000_001u32).map(|n| (n % 251) as u8).collect::<Vec<_>>(),
    )
    .unwrap();
    fs::write(at("dir/nested/é漢字 \u{1f600}"), b"named").unwrap();
    fs::write(at("dir/line\nbreak"), b"named").unwrap();
    if with_long_names {
        let long = "n".repeat(200);
        fs::create_dir_all(at(&long).join(&long)).unwrap();
        fs::write(at(&long).join(&long).join("f"), b"deep").unwrap();
        symlink(format!("{long}/{long}/f"), at("long-link")).unwrap();
        fs::hard_link(at(&long).join(&long).join("f"), at("z-hard")).unwrap();
    }
    symlink("/absolute/target", at("link")).unwrap();
    fs::hard_link(at("file"), at("dir/hard")).unwrap();
    fs::hard_link(at("file"), at("hard")).unwrap();
    for (name, kind) in [
        ("char", FileType::CharacterDevice),
        ("node", FileType::BlockDevice),
        ("fifo", FileType::Fifo),
    ] {
        let device = match kind {
            FileType::Fifo => 0,
            _ => rustix::fs::makedev(10, 200),
        };
        rustix::fs::mknodat(CWD, at(name), kind, Mode::RUSR, device).unwrap();
    }
    for (name, uid, mode) in [("file", 1000, 0o4755), ("dir", 33, 0o2750), ("block", 65534, 0o000)] {
        std::os::unix::fs::chown(at(name), Some(uid), Some(uid + 1)).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let binary: Vec<u8> = (0..=255).collect();
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    for (name, key, value) in [
        ("file", "security.capability", capability.as_slice()),
        ("file", "user.binary", &binary),
        ("file", "user.with=equals%25", b"\n\0="),
        ("dir", "trusted.t", b"trusted"),
        ("dir", "user.empty", b""),
    ] {
        rustix::fs::setxattr(at(name), key, value, XattrFlags::empty()).unwrap();
    }
    let names: Vec<_> = look(root).into_keys().collect();
    for (number, name) in (0i64..).zip(names.iter().rev()) {
        let time = Timespec {
            tv_sec: 1_500_000_000 + number,
            tv_nsec: 100_000_001 * (number % 9),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        let path = if name.is_empty() { root.to_path_buf() } else { at(name) };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// `seen` as far as a format keeps it.
fn kept(mut seen: BTreeMap<String, Seen>, fractions: bool, with_xattrs: bool) -> BTreeMap<String, Seen> {
    for entry in seen.values_mut() {
        if !fractions {
            entry.mtime.1 = 0;
        }
        if !with_xattrs {
            entry.xattrs.clear();
        }
    }
    seen
}

fn tar(arguments: &[&str], directory: &Path) {
    run(Command::new("tar").args(arguments).current_dir(directory));
}

#[test]
fn what_gnu_tar_writes_is_unpacked_whole() {
    for (format, long_names) in [
        ("pax", true),
        ("gnu", true),
        ("oldgnu", true),
        ("ustar", false),
        ("v7", false),
    ] {
        let scratch = Scratch::new();
        plant(&scratch.path("").join("source"), long_names);
        let source = scratch.path("source");
        if format == "v7" {
            // The old format knows no device nodes and no owners beyond 21 bits.
            for name in ["char", "node", "fifo"] {
                fs::remove_file(source.join(name)).unwrap();
            }
        }
        let before = look(&source);
        let with_xattrs = format == "pax";
        let xattrs: &[&str] = match with_xattrs {
            true => &["--xattrs", "--xattrs-include=*"],
            false => &[],
        };
        let option = format!("--format={format}");
        tar(
            &[&["-cf", "../a.tar", option.as_str()], xattrs, &["."]].concat(),
            &source,
        );
        let archive = fs::read(scratch.path("a.tar")).unwrap();
        scratch.unpack("root", &[archive]).unwrap();
        let after = kept(look(&scratch.path("root")), with_xattrs, true);
        let before = kept(before, with_xattrs, with_xattrs);
        for (name, entry) in &before {
            let mut entry = entry.clone();
            if name.is_empty() {
                // Removing nodes for v7 changed it after its time was set.
                entry.mtime = after[name].mtime;
            }
            assert_eq!(Some(&entry), after.get(name), "{format}: {name}");
        }
        assert_eq!(before.len(), after.len(), "{format}");
    }
}

#[test]
fn sparse_files_of_gnu_tar_arrive_whole() {
    for format in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let scratch = Scratch::new();
        let source = scratch.path("source");
        fs::create_dir_all(&source).unwrap();
        let file = File::create(source.join("sparse")).unwrap();
        for piece in 0..60u64 {
            let at = piece * 65536 + 100 * piece;
            std::os::unix::fs::FileExt::write_all_at(&file, &[piece as u8 + 1; 3000], at).unwrap();
        }
        file.set_len(20_000_000).unwrap();
        fs::write(source.join("tail"), b"after").unwrap();
        tar(&[&["-S", "-cf", "../a.tar"], format, &["."]].concat(), &source);
        let archive = fs::read(scratch.path("a.tar")).unwrap();
        assert!(archive.len() < 1_000_000);
        scratch.unpack("root", &[archive]).unwrap();
        let expected = kept(look(&source), false, true);
        assert_eq!(kept(look(&scratch.path("root")), false, true), expected, "{format:?}");
    }
}

#[test]
fn gnu_tar_extracts_what_is_packed_here() {
    let scratch = Scratch::new();
    plant(&scratch.path("").join("source"), true);
    let root = scratch.directory("");
    let mut archive = Vec::new();
    let length = pack_path(&root, Path::new("/source"), false, &mut archive).unwrap();
    assert_eq!(length, archive.len() as u64);
    fs::write(scratch.path("a.tar"), &archive).unwrap();
    fs::create_dir(scratch.path("theirs")).unwrap();
    let options = [
        "-xpf",
        "../a.tar",
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "--same-owner",
    ];
    tar(&options, &scratch.path("theirs"));
    let expected = look(&scratch.path("source"));
    assert_eq!(look(&scratch.path("theirs/source")), expected);

    scratch.extract("ours", "/", &archive).unwrap();
    assert_eq!(look(&scratch.path("ours/source")), expected);
}

#[test]
fn layers_look_as_gnu_tar_extracts_them() {
    let scratch = Scratch::new();
    plant(&scratch.path("").join("source"), true);
    tar(
        &["-cf", "../a.tar", "--format=pax", "--xattrs", "--xattrs-include=*", "."],
        &scratch.path("source"),
    );
    fs::create_dir(scratch.path("theirs")).unwrap();
    let options = ["-xpf", "../a.tar", "--xattrs", "--xattrs-include=*", "--numeric-owner"];
    tar(&options, &scratch.path("theirs"));
    scratch
        .unpack("root", &[fs::read(scratch.path("a.tar")).unwrap()])
        .unwrap();
    assert_eq!(look(&scratch.path("root")), look(&scratch.path("theirs")));
}

#[test]
fn names_are_bytes_and_not_text() {
    let scratch = Scratch::new();
    let name = std::ffi::OsStr::from_bytes(b"latin-\xe9");
    fs::create_dir(scratch.path("source")).unwrap();
    fs::write(scratch.path("source").join(name), b"x").unwrap();
    let mut archive = Vec::new();
    pack_path(&scratch.directory(""), Path::new("source"), false, &mut archive).unwrap();
    scratch.extract("root", "/", &archive).unwrap();
    assert_eq!(fs::read(scratch.path("root/source").join(name)).unwrap(), b"x");
}

#[test]
fn sparse_files_of_all_generations_have_their_holes() {
    let old = {
        let mut tar = Tar::new().add(
            &Fields {
                name: b"old",
                kind: b'S',
                ..Fields::default()
            },
            b"headtail",
        );
        let block = &mut tar.0[..512];
        block[386..398].copy_from_slice(b"00000000000\0");
        block[398..410].copy_from_slice(b"00000000004\0");
        block[410..422].copy_from_slice(b"00000100000\0");
        block[422..434].copy_from_slice(b"00000000004\0");
        block[483..495].copy_from_slice(b"00004000000\0");
        common::seal(block);
        tar
    };
    let mut map = b"2\n0\n4\n32768\n4\n".to_vec();
    map.resize(512, 0);
    let layer = old
        .pax(&[
            (b"GNU.sparse.size", b"1048576"),
            (b"GNU.sparse.numblocks", b"2"),
            (b"GNU.sparse.offset", b"0"),
            (b"GNU.sparse.numbytes", b"4"),
            (b"GNU.sparse.offset", b"32768"),
            (b"GNU.sparse.numbytes", b"4"),
        ])
        .file("first", b"headtail")
        .pax(&[
            (b"GNU.sparse.size", b"1048576"),
            (b"GNU.sparse.name", b"second"),
            (b"GNU.sparse.map", b"0,4,32768,4"),
        ])
        .file("GNUSparseFile.0/second", b"headtail")
        .pax(&[
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", b"third"),
            (b"GNU.sparse.realsize", b"1048576"),
        ])
        .file("GNUSparseFile.0/third", &[map.as_slice(), b"headtail"].concat())
        .file("after", b"x")
        .end();
    let scratch = Scratch::new();
    scratch.unpack("root", &[layer]).unwrap();
    assert_eq!(
        names(&scratch.path("root")),
        ["after", "first", "old", "second", "third"]
    );
    for name in ["old", "first", "second", "third"] {
        let path = scratch.path("root").join(name);
        let content = fs::read(&path).unwrap();
        assert_eq!(content.len(), 1 << 20, "{name}");
        assert_eq!(&content[..4], b"head", "{name}");
        assert_eq!(&content[32768..32772], b"tail", "{name}");
        assert!(content[4..32768].iter().all(|&byte| byte == 0), "{name}");
        assert!(fs::metadata(&path).unwrap().blocks() < 100, "{name} has no holes");
    }
}
