//! Copies in and out of a container's root.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use common::{Fields, Scratch, Tar, assert_fails, look, names, run};
use hrun_archive::{ArchiveFailure, base_name, pack_content, pack_path, stat_path};

fn pack(scratch: &Scratch, path: &str, follow: bool) -> Vec<u8> {
    let mut archive = Vec::new();
    let root = scratch.directory("root");
    let length = pack_path(&root, Path::new(path), follow, &mut archive).unwrap();
    assert_eq!(length, archive.len() as u64);
    archive
}

/// The names in an archive as GNU tar lists them.
fn list(scratch: &Scratch, archive: &[u8]) -> Vec<String> {
    fs::write(scratch.path("list.tar"), archive).unwrap();
    let output = Command::new("tar")
        .arg("-tf")
        .arg(scratch.path("list.tar"))
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_string).collect()
}

#[test]
fn entries_are_named_after_the_last_component() {
    let scratch = Scratch::new();
    scratch.directory("root/d/e");
    fs::write(scratch.path("root/d/f"), b"x").unwrap();
    fs::write(scratch.path("root/d/e/g"), b"x").unwrap();
    symlink("d", scratch.path("root/link")).unwrap();
    let listed = |path: &str, follow| list(&scratch, &pack(&scratch, path, follow));
    assert_eq!(listed("/d", false), ["d/", "d/e/", "d/e/g", "d/f"]);
    assert_eq!(listed("d/.", false), ["d/", "d/e/", "d/e/g", "d/f"]);
    assert_eq!(listed("/d/f", false), ["f"]);
    assert_eq!(listed("/link", false), ["link"]);
    assert_eq!(listed("/link", true), ["link/", "link/e/", "link/e/g", "link/f"]);
    assert_eq!(listed("/link/", false), ["link/", "link/e/", "link/e/g", "link/f"]);
    assert_eq!(listed("/link/f", false), ["f"]);
    assert_eq!(listed("/", false)[..2], ["./", "./d/"]);
    assert_eq!(base_name(b"/a/b/./"), b"b");
    assert_eq!(base_name(b"a/.."), b".");
}

#[test]
fn the_content_of_a_directory_has_no_name() {
    let scratch = Scratch::new();
    scratch.directory("root/d/e");
    fs::write(scratch.path("root/d/f"), b"x").unwrap();
    let mut archive = Vec::new();
    let root = scratch.directory("root");
    let length = pack_content(&root, Path::new("/d"), &mut archive).unwrap();
    assert_eq!(length, archive.len() as u64);
    assert_eq!(list(&scratch, &archive), ["./", "./e/", "./f"]);
}

#[test]
fn a_path_that_is_not_there_is_told_by_its_name() {
    let scratch = Scratch::new();
    let root = scratch.directory("root");
    fs::write(scratch.path("root/f"), b"").unwrap();
    symlink("/etc/passwd", scratch.path("root/out")).unwrap();
    symlink("loop", scratch.path("root/loop")).unwrap();
    let packed = |path: &str| pack_path(&root, Path::new(path), true, &mut Vec::new());
    assert_fails(
        packed("/no/such"),
        ArchiveFailure::NoSuchPath,
        "\"/no/such\": no such file",
    );
    assert_fails(packed("/f/x"), ArchiveFailure::NotADirectory, "\"/f/x\"");
    assert_fails(packed("/out"), ArchiveFailure::NoSuchPath, "\"/out\"");
    assert_fails(packed("/loop"), ArchiveFailure::UnsafePath, "\"/loop\"");
    assert_fails(packed("../../etc/hostname"), ArchiveFailure::NoSuchPath, "hostname");
    assert_fails(packed(""), ArchiveFailure::InvalidRequest, "");
    assert_fails(packed("a\0b"), ArchiveFailure::InvalidRequest, "");
    assert_fails(
        stat_path(&root, Path::new("/no"), false),
        ArchiveFailure::NoSuchPath,
        "\"/no\"",
    );
}

#[test]
fn stat_tells_the_object_and_how_much_room_its_tar_takes() {
    let scratch = Scratch::new();
    let root = scratch.directory("root");
    scratch.directory("root/d/e");
    fs::write(scratch.path("root/d/f"), vec![1; 100_000]).unwrap();
    fs::hard_link(scratch.path("root/d/f"), scratch.path("root/d/g")).unwrap();
    symlink("/etc/x", scratch.path("root/d/l")).unwrap();
    let stat = |path: &str, follow| stat_path(&root, Path::new(path), follow).unwrap();
    let file = stat("/d/f", false);
    assert_eq!((file.name.as_str(), file.size), ("f", 100_000));
    assert_eq!(file.mode, fs::metadata(scratch.path("root/d/f")).unwrap().mode());
    assert_eq!(stat("/d/l", false).link_target, "/etc/x");
    assert_eq!(stat("/", false).name, ".");
    for path in ["/d", "/d/f", "/d/l", "/"] {
        let length = pack(&scratch, path, false).len() as u64;
        assert_eq!(stat(path, false).tar_size_estimate, length, "{path}");
    }
}

#[test]
fn sockets_and_views_of_the_kernel_are_left_out() {
    let scratch = Scratch::new();
    scratch.directory("root/proc");
    let listener = UnixListener::bind(scratch.path("root/socket")).unwrap();
    let mut mount = Command::new("mount");
    run(mount.args(["-t", "proc", "none"]).arg(scratch.path("root/proc")));
    let archive = pack(&scratch, "/", false);
    run(Command::new("umount").arg(scratch.path("root/proc")));
    drop(listener);
    assert_eq!(list(&scratch, &archive), ["./", "./proc/"]);
}

#[test]
fn trees_are_packed_in_one_order_at_any_depth() {
    let scratch = Scratch::new();
    let deep = "d/".repeat(1200);
    scratch.directory("root/b");
    run(Command::new("mkdir").arg("-p").arg(scratch.path("root").join(&deep)));
    fs::write(scratch.path("root").join(&deep).join("leaf"), b"x").unwrap();
    fs::write(scratch.path("root/z"), b"last").unwrap();
    let archive = pack(&scratch, "/", false);
    assert_eq!(archive, pack(&scratch, "/", false));
    let listed = list(&scratch, &archive);
    assert_eq!(listed.len(), 1 + 1 + 1200 + 1 + 1);
    assert_eq!(listed[1], "./b/");
    assert_eq!(listed.last().unwrap(), "./z");
    scratch.extract("copy", "/", &archive).unwrap();
    assert!(scratch.path("copy").join(&deep).join("leaf").exists());
}

#[test]
fn a_file_that_changes_while_it_is_packed_keeps_the_archive_whole() {
    struct Shrinking<'a>(&'a Path, Vec<u8>);
    impl Write for Shrinking<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            // The first megabyte is out: the rest of the file goes away.
            fs::OpenOptions::new().write(true).open(self.0)?.set_len(0)?;
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let scratch = Scratch::new();
    let root = scratch.directory("root");
    let path = scratch.path("root/f");
    fs::write(&path, vec![1; 5_000_000]).unwrap();
    let mut output = Shrinking(&path, Vec::new());
    pack_path(&root, Path::new("f"), false, &mut output).unwrap();
    scratch.extract("copy", "/", &output.1).unwrap();
    let copy = fs::read(scratch.path("copy/f")).unwrap();
    assert_eq!(copy.len(), 5_000_000);
    assert_eq!((copy[0], copy[4_999_999]), (1, 0));
}

#[test]
fn an_output_without_room_is_a_full_disk() {
    let scratch = Scratch::new();
    let root = scratch.directory("root");
    fs::write(scratch.path("root/f"), vec![1; 5_000_000]).unwrap();
    let mut small = [0; 4096];
    let packed = pack_path(&root, Path::new("f"), false, &mut small.as_mut_slice());
    assert_fails(packed, ArchiveFailure::DiskFull, "of the archive");
    let mut full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let packed = pack_path(&root, Path::new("f"), false, &mut full);
    assert_fails(packed, ArchiveFailure::DiskFull, "no space left");
}

#[test]
fn a_copy_goes_below_the_directory_the_container_would_see() {
    let scratch = Scratch::new();
    scratch.directory("root/real/dst");
    symlink("/real", scratch.path("root/alias")).unwrap();
    let archive = Tar::new().dir("./").file("./f", b"1").hard_link("./g", "f").end();
    scratch.extract("root", "/alias/dst", &archive).unwrap();
    assert_eq!(names(&scratch.path("root/real/dst")), ["f", "g"]);
    assert_fails(
        scratch.extract("root", "/nowhere", &archive),
        ArchiveFailure::NoSuchPath,
        "\"/nowhere\"",
    );
    assert_fails(
        scratch.extract("root", "/real/dst/f", &archive),
        ArchiveFailure::NotADirectory,
        "\"/real/dst/f\"",
    );
    let up = Tar::new().file("../f", b"1").end();
    assert_fails(
        scratch.extract("root", "/real", &up),
        ArchiveFailure::UnsafePath,
        "\"../f\"",
    );
}

#[test]
fn a_copy_replaces_files_but_never_changes_types_unasked() {
    let scratch = Scratch::new();
    scratch.directory("root/d");
    fs::write(scratch.path("root/f"), b"old").unwrap();
    fs::hard_link(scratch.path("root/f"), scratch.path("root/other")).unwrap();
    let archive = Tar::new().file("f", b"new").end();
    scratch.extract("root", "/", &archive).unwrap();
    assert_eq!(fs::read(scratch.path("root/f")).unwrap(), b"new");
    assert_eq!(fs::read(scratch.path("root/other")).unwrap(), b"old");
    let archive = Tar::new().dir("f").end();
    assert_fails(
        scratch.extract("root", "/", &archive),
        ArchiveFailure::NotADirectory,
        "entry \"f\"",
    );
    let archive = Tar::new().file("d", b"").end();
    assert_fails(
        scratch.extract("root", "/", &archive),
        ArchiveFailure::NotADirectory,
        "entry \"d\"",
    );
}

#[test]
fn a_copy_leaves_the_directory_it_goes_into_as_it_was() {
    let scratch = Scratch::new();
    scratch.directory("root");
    let before = look(&scratch.path("root"));
    let archive = Tar::new()
        .add(
            &Fields {
                name: b"./",
                kind: b'5',
                mode: 0o700,
                owner: (7, 7),
                ..Fields::default()
            },
            b"",
        )
        .end();
    scratch.extract("root", "/", &archive).unwrap();
    assert_eq!(look(&scratch.path("root")), before);
}
